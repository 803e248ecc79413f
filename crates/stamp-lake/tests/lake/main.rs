//! The lake's tests through its public API.

mod conformance;
mod layout;
mod one_request;
mod round_trip;
mod suite;
