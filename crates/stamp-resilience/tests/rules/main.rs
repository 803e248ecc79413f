//! The rules of `docs/resilience.md`, one or more tests each, through the public interface and on
//! a paused clock.
//!
//! Timers of the runtime fire on whole milliseconds, so measured times are at most [`TICK`] late.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod breaker;
mod budget;
mod documents;
mod limits;
mod nesting;
mod observer;
mod pauses;
mod phase;
mod policies;
mod properties;
mod rest;
mod retry_after;
mod support;
mod unknown;

use std::time::Duration;

/// How late a timer of the runtime may fire.
const TICK: Duration = Duration::from_millis(1);
