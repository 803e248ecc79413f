//! The lake's tests through its public API.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod conformance;
mod layout;
mod one_request;
mod read_back;
mod round_trip;
mod suite;
