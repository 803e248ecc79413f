//! The real binary, from its arguments to its exit code and the tables it leaves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cli;
mod fleet;
mod inspect;
mod kill;
mod ownership;
mod readers;
mod replay;
mod support;
mod verify;
