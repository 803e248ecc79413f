//! Why an operation was given up, for the program that decides what comes next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::classify::Failure;
use crate::observe::GiveUpReason;

/// An operation that was given up.
///
/// The data stays where it was: nothing is dropped here. The program keeps it at the source,
/// pauses the work with [`Peer::rest`](crate::Peer::rest) and says so. `last` is the last failure
/// of this operation; where it may be missing, no attempt was made.
#[derive(Debug, thiserror::Error)]
pub enum GaveUp<E> {
    /// Repeating cannot help.
    #[error("{call}: the failure is permanent")]
    Permanent {
        /// What was tried.
        call: Box<Call>,
        /// The door's error.
        #[source]
        last: E,
    },
    /// The answer is lost and the operation is not idempotent: read before doing it again.
    #[error("{call}: the answer is lost")]
    Unknown {
        /// What was tried.
        call: Box<Call>,
        /// The door's error.
        #[source]
        last: E,
    },
    /// As [`GaveUp::Unknown`], because the attempt took longer than `attempt-timeout`.
    #[error("{call}: the attempt timed out after {}", text(*after))]
    TimedOut {
        /// What was tried.
        call: Box<Call>,
        /// How long the attempt ran.
        after: Duration,
    },
    /// `attempts-max` is reached.
    #[error("{call}: attempts-max is reached")]
    Exhausted {
        /// What was tried.
        call: Box<Call>,
        /// The last failure.
        #[source]
        last: Option<Failure<E>>,
    },
    /// `total-deadline` leaves no time for the next pause and an attempt after it.
    #[error("{call}: total-deadline leaves no time for another attempt")]
    Deadline {
        /// What was tried.
        call: Box<Call>,
        /// The last failure.
        #[source]
        last: Option<Failure<E>>,
    },
    /// Too many of the requests to this peer are retries already.
    #[error("{call}: the peer's retry budget is empty")]
    Budget {
        /// What was tried.
        call: Box<Call>,
        /// The last failure.
        #[source]
        last: Option<Failure<E>>,
    },
    /// The peer wants to be left alone for longer than there is time. Its breaker is open until
    /// then.
    #[error(
        "{call}: the peer asks to be left alone for {}, and {} are left",
        text(*retry_after),
        text(*left)
    )]
    RetryAfterTooLong {
        /// What was tried.
        call: Box<Call>,
        /// What the peer asked for.
        retry_after: Duration,
        /// What was left of `total-deadline`.
        left: Duration,
        /// The door's error.
        #[source]
        last: E,
    },
    /// The peer's breaker is open.
    #[error("{call}: the peer's breaker is open for {} more", text(*reopens_in))]
    BreakerOpen {
        /// What was tried.
        call: Box<Call>,
        /// How long no attempt is let out. `open-max` when a person holds the breaker open.
        reopens_in: Duration,
        /// The last failure.
        #[source]
        last: Option<Failure<E>>,
    },
    /// The program is stopping.
    #[error("{call}: cancelled")]
    Cancelled {
        /// What was tried.
        call: Box<Call>,
        /// The last failure.
        #[source]
        last: Option<Failure<E>>,
    },
}

/// What was tried before giving up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The peer's name.
    pub peer: Arc<str>,
    /// The operation's name.
    pub operation: &'static str,
    /// Attempts made, read-backs not included.
    pub attempts: u32,
    /// Read-backs made.
    pub read_backs: u32,
    /// From the start to giving up.
    pub took: Duration,
    /// The part of `took` that was spent in pauses.
    pub waited: Duration,
    /// Whether an attempt may have been done although no result came.
    pub may_have_happened: bool,
}

impl<E> GaveUp<E> {
    /// What was tried.
    pub fn call(&self) -> &Call {
        match self {
            Self::Permanent { call, .. }
            | Self::Unknown { call, .. }
            | Self::TimedOut { call, .. }
            | Self::Exhausted { call, .. }
            | Self::Deadline { call, .. }
            | Self::Budget { call, .. }
            | Self::RetryAfterTooLong { call, .. }
            | Self::BreakerOpen { call, .. }
            | Self::Cancelled { call, .. } => call,
        }
    }

    /// The last error a door reported, if the last attempt ended with one.
    pub fn last(&self) -> Option<&E> {
        match self {
            Self::Permanent { last, .. }
            | Self::Unknown { last, .. }
            | Self::RetryAfterTooLong { last, .. } => Some(last),
            Self::TimedOut { .. } => None,
            Self::Exhausted { last, .. }
            | Self::Deadline { last, .. }
            | Self::Budget { last, .. }
            | Self::BreakerOpen { last, .. }
            | Self::Cancelled { last, .. } => last.as_ref().and_then(Failure::error),
        }
    }

    /// As [`GaveUp::last`], by value.
    pub fn into_last(self) -> Option<E> {
        match self {
            Self::Permanent { last, .. }
            | Self::Unknown { last, .. }
            | Self::RetryAfterTooLong { last, .. } => Some(last),
            Self::TimedOut { .. } => None,
            Self::Exhausted { last, .. }
            | Self::Deadline { last, .. }
            | Self::Budget { last, .. }
            | Self::BreakerOpen { last, .. }
            | Self::Cancelled { last, .. } => match last {
                Some(Failure::Error(error)) => Some(error),
                Some(Failure::TimedOut { .. }) | None => None,
            },
        }
    }

    /// Whether an attempt may have been done although no result came: read before doing it again.
    pub fn may_have_happened(&self) -> bool {
        self.call().may_have_happened
    }

    /// Whether the program is stopping, so that nobody needs to be told.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// The reason without its values, for a metric's label.
    pub fn reason(&self) -> GiveUpReason {
        match self {
            Self::Permanent { .. } => GiveUpReason::Permanent,
            Self::Unknown { .. } => GiveUpReason::Unknown,
            Self::TimedOut { .. } => GiveUpReason::TimedOut,
            Self::Exhausted { .. } => GiveUpReason::Exhausted,
            Self::Deadline { .. } => GiveUpReason::Deadline,
            Self::Budget { .. } => GiveUpReason::Budget,
            Self::RetryAfterTooLong { .. } => GiveUpReason::RetryAfterTooLong,
            Self::BreakerOpen { .. } => GiveUpReason::BreakerOpen,
            Self::Cancelled { .. } => GiveUpReason::Cancelled,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peer,
            operation,
            attempts,
            ..
        } = self;
        let plural = if *attempts == 1 { "" } else { "s" };
        let took = text(self.took);
        write!(
            f,
            "{peer}: {operation} gave up after {attempts} attempt{plural} in {took}"
        )?;
        if self.may_have_happened {
            f.write_str(" and may have been done")?;
        }
        Ok(())
    }
}

/// To the millisecond: what is below says nothing about a request.
pub(crate) fn text(duration: Duration) -> humantime::FormattedDuration {
    let subsec = Duration::from_millis(u64::from(duration.subsec_millis()));
    humantime::format_duration(Duration::from_secs(duration.as_secs()) + subsec)
}
