//! The real binary, from its arguments to its exit code and the tables it leaves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(
    clippy::print_stdout,
    reason = "what a test measured, and the log of a process when it fails"
)]

mod boards;
mod bookings;
mod cli;
mod clock;
mod device;
mod disk;
mod doctor;
mod emulate;
mod fleet;
mod image;
mod inspect;
mod kill;
mod moves;
mod network;
mod outage;
mod ownership;
mod peers;
mod process;
mod provision;
mod provisioning;
mod readers;
mod render;
mod replay;
mod replies;
mod soak;
mod stamp;
mod status_page;
mod stop;
mod support;
mod traces;
mod tutorial;
mod verify;
mod zombie;
