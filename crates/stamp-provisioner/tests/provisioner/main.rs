//! The real provisioner on real databases, asked over HTTP as DPS and routers ask it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod allocate;
mod away;
mod interface;
mod reload;
mod support;
mod together;
