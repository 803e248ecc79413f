//! The mover against a hub, a DPS and tables in memory, with devices that live their lives, on a
//! paused clock: killed, cut off, paused, taken back.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod crashes;
mod operator;
mod service;
mod trouble;
mod whole;
mod world;
