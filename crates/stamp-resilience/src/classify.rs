//! How a door's error says what the caller may do about it.
//!
//! Doors decide the kind; this module never looks at texts or codes.

use std::time::Duration;

use crate::gave_up::text;

/// What may be done about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A fault that passes by itself. The operation was **not** done.
    Transient,
    /// The peer asks for fewer requests. The operation was **not** done.
    Throttled {
        /// The earliest moment the peer wants to see us again, counted from the answer. `None`
        /// when it did not say.
        retry_after: Option<Duration>,
    },
    /// Repeating cannot help: a person or another branch of the program must act.
    Permanent,
    /// The answer is lost, so the operation may have been done.
    Unknown,
}

/// An error that knows its [`FailureKind`].
///
/// Every door's error enum implements it with a `match` that has no wildcard arm, so that a new
/// variant is a decision and not an accident. When a door cannot tell, the kind of a write is
/// [`FailureKind::Unknown`] and that of a refusal it does not understand is
/// [`FailureKind::Permanent`]: what is not known to pass is not retried.
pub trait Classify: std::error::Error + 'static {
    /// What may be done about this failure.
    fn kind(&self) -> FailureKind;
}

/// How the last attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E> {
    /// The door reported an error.
    #[error(transparent)]
    Error(E),
    /// The attempt had no result in time and was dropped, so its outcome is unknown.
    #[error("the attempt timed out after {}", text(*after))]
    TimedOut {
        /// How long it ran.
        after: Duration,
    },
}

impl<E> Failure<E> {
    /// The door's error, or `None` when the attempt timed out.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Error(error) => Some(error),
            Self::TimedOut { .. } => None,
        }
    }
}

impl<E: Classify> Failure<E> {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Error(error) => error.kind(),
            Self::TimedOut { .. } => FailureKind::Unknown,
        }
    }
}
