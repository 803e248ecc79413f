//! The only retry, per-attempt timeout, deadline, retry budget, circuit breaker and pace.
//!
//! Programs call [`Peer::run`]; doors never do. A door makes one attempt and says through
//! [`Classify`] what happened. Everything that waits for a fault to pass waits here, so that two
//! layers never multiply their attempts and no instance calls at a regular interval.
//!
//! This crate does no I/O, reads no wall clock (time is `tokio::time`), draws only from the seed
//! it was given, and writes no logs or metrics: an [`Observer`] is told everything.
//! `docs/resilience.md` has the rules and the configuration.

mod breaker;
mod budget;
mod classify;
mod gave_up;
mod guard;
mod observe;
mod operation;
mod pace;
mod pause;
mod peer;
mod policy;
mod reconnect;
mod tries;

/// The parts that [`Peer`] is made of, for a simulation that keeps its own time. A program uses
/// [`Peer`]: it is the only thing that repeats.
pub mod pieces {
    pub use crate::breaker::{Breaker, Change, Ticket};
    pub use crate::budget::Budget;
    pub use crate::pause::{Jitter, Pauses, Span};
}

pub use breaker::BreakerState;
pub use classify::{Classify, Failure, FailureKind};
pub use gave_up::{Call, GaveUp};
pub use observe::{GiveUpReason, NoObserver, Observer, Outcome, PauseCause, RetryEvent};
pub use operation::{Operation, idempotent};
pub use pace::{Bucket, Pace};
pub use peer::Peer;
pub use policy::{BreakerPolicy, BudgetPolicy, PolicyError, RetryPolicy};
pub use reconnect::Reconnect;
pub use tries::{Attempt, Next, Tries};
