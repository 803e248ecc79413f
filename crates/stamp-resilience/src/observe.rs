//! What an observer is told: enough for every metric and log line about retries.
//!
//! This crate knows no metrics or logging library.

use std::error::Error;
use std::time::Duration;

use crate::breaker::BreakerState;

/// Listens to the peers it was given to.
///
/// Called in line with the operation, so it must be quick and must not block. It may ask the peer
/// for its breaker's state.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &RetryEvent<'_>);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn event(&self, _event: &RetryEvent<'_>) {}
}

/// One thing that happened. `peer` and `operation` are the names the program gave.
#[derive(Debug)]
pub enum RetryEvent<'a> {
    /// An attempt ended.
    Attempt {
        /// The peer.
        peer: &'a str,
        /// The operation.
        operation: &'static str,
        /// 1 for the first attempt of the operation, and for its first read-back.
        number: u32,
        /// Whether it was the read-back of an unknown outcome, not the operation itself.
        read_back: bool,
        /// How long it took.
        took: Duration,
        /// How it ended.
        outcome: Outcome,
        /// The door's error with its causes, when it reported one.
        error: Option<&'a (dyn Error + 'static)>,
    },
    /// A pause begins.
    Pause {
        /// The peer.
        peer: &'a str,
        /// The operation; `start-up` and `rest` for pauses outside of one.
        operation: &'static str,
        /// How long it lasts if it is not cut by cancellation.
        length: Duration,
        /// Why it is made.
        cause: PauseCause,
    },
    /// An operation gave up. Its caller has the error.
    GaveUp {
        /// The peer.
        peer: &'a str,
        /// The operation.
        operation: &'static str,
        /// Attempts made, read-backs not included.
        attempts: u32,
        /// From the first attempt to now, pauses included.
        took: Duration,
        /// Why.
        reason: GiveUpReason,
        /// Whether an attempt may have been done after all.
        may_have_happened: bool,
        /// The last error with its causes, when there was one.
        error: Option<&'a (dyn Error + 'static)>,
    },
    /// The retry budget changed: an operation began, or a retry was granted or refused.
    Budget {
        /// The peer.
        peer: &'a str,
        /// Retries that could be made right now, 0 to `tokens_max`.
        tokens: f64,
        /// What the bucket holds at most.
        tokens_max: u32,
    },
    /// The breaker changed its state.
    Breaker {
        /// The peer.
        peer: &'a str,
        /// The new state.
        state: BreakerState,
        /// How long it stays open; `None` when it is not open, or held open by a person.
        open_for: Option<Duration>,
    },
    /// An operation was run inside an attempt of another. In production it gets one attempt.
    Nested {
        /// The peer of the inner operation.
        peer: &'a str,
        /// The inner operation.
        operation: &'static str,
        /// The peer of the outer operation.
        outer_peer: &'a str,
        /// The outer operation.
        outer_operation: &'static str,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With a result.
    Success,
    /// With a fault that passes.
    Transient,
    /// The peer asked for fewer requests.
    Throttled,
    /// With a failure that repeating cannot cure.
    Permanent,
    /// Without an answer.
    Unknown,
    /// Not within `attempt-timeout` or the deadline.
    TimedOut,
}

impl Outcome {
    /// All of them, for a metric's label values.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Transient,
        Self::Throttled,
        Self::Permanent,
        Self::Unknown,
        Self::TimedOut,
    ];

    /// The label value in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Permanent => "permanent",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Why a pause is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseCause {
    /// The one retry that comes at once; its length is zero.
    Immediate,
    /// After a fault or a lost answer.
    BackOff,
    /// After throttling without a hint.
    Throttled,
    /// After throttling with a hint; the pause is no shorter than the hint.
    RetryAfter,
    /// Before the first operation, so that instances do not start in phase.
    StartUp,
    /// After giving up, before the program tries the same work again.
    Rest,
}

impl PauseCause {
    /// All of them, for a metric's label values.
    pub const ALL: [Self; 6] = [
        Self::Immediate,
        Self::BackOff,
        Self::Throttled,
        Self::RetryAfter,
        Self::StartUp,
        Self::Rest,
    ];

    /// The label value in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::BackOff => "back_off",
            Self::Throttled => "throttled",
            Self::RetryAfter => "retry_after",
            Self::StartUp => "start_up",
            Self::Rest => "rest",
        }
    }
}

/// Why an operation gave up; one for each variant of [`GaveUp`](crate::GaveUp).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GiveUpReason {
    /// The failure is permanent.
    Permanent,
    /// The outcome is unknown and the operation is not idempotent.
    Unknown,
    /// An attempt timed out and the operation is not idempotent.
    TimedOut,
    /// `attempts-max` is reached.
    Exhausted,
    /// `total-deadline` leaves no time for another attempt.
    Deadline,
    /// The retry budget is empty.
    Budget,
    /// The peer wants to be left alone for longer than there is time.
    RetryAfterTooLong,
    /// The breaker is open.
    BreakerOpen,
    /// The program is stopping.
    Cancelled,
}

impl GiveUpReason {
    /// All of them, for a metric's label values.
    pub const ALL: [Self; 9] = [
        Self::Permanent,
        Self::Unknown,
        Self::TimedOut,
        Self::Exhausted,
        Self::Deadline,
        Self::Budget,
        Self::RetryAfterTooLong,
        Self::BreakerOpen,
        Self::Cancelled,
    ];

    /// The label value in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed_out",
            Self::Exhausted => "exhausted",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::RetryAfterTooLong => "retry_after_too_long",
            Self::BreakerOpen => "breaker_open",
            Self::Cancelled => "cancelled",
        }
    }
}
