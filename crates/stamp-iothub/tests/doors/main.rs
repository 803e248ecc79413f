//! One conformance suite on every implementation of the two doors: in memory, and over TLS against
//! the emulated services. Then what only a real connection can show.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod conformance;
mod emulated;
mod faults;
