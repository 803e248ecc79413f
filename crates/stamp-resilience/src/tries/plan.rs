//! What a failure leads to: the next pause, or one of the reasons to give up.

use std::time::Duration;

use tokio::time::Instant;

use super::{Next, Tries};
use crate::classify::{Classify, Failure, FailureKind};
use crate::gave_up::GaveUp;
use crate::observe::PauseCause;
use crate::pause::Span;

impl<E: Classify> Tries<'_, E> {
    /// Gives up where the failure alone says so, else remembers it.
    pub(super) fn classify(&mut self, failure: Failure<E>) -> Result<FailureKind, GaveUp<E>> {
        let repeatable = self.reads_back || self.operation.is_idempotent();
        let left = self.left(Instant::now());
        let kind = failure.kind();
        let call = self.call();
        match (kind, failure) {
            (FailureKind::Permanent, Failure::Error(last)) => Err(GaveUp::Permanent { call, last }),
            (FailureKind::Unknown, Failure::Error(last)) if !repeatable => {
                Err(GaveUp::Unknown { call, last })
            }
            (FailureKind::Unknown, Failure::TimedOut { after }) if !repeatable => {
                Err(GaveUp::TimedOut { call, after })
            }
            (
                FailureKind::Throttled {
                    retry_after: Some(hint),
                },
                Failure::Error(last),
            ) if hint >= left => Err(GaveUp::RetryAfterTooLong {
                call,
                retry_after: hint,
                left,
                last,
            }),
            (kind, failure) => {
                self.last = Some(failure);
                Ok(kind)
            }
        }
    }

    /// The next pause and why, within every limit.
    pub(super) fn plan(&mut self, kind: FailureKind) -> Result<(Duration, PauseCause), GaveUp<E>> {
        let now = Instant::now();
        self.check_limit()?;
        self.check_cancelled()?;
        if let Some(reopens_in) = self.peer.closed_off(now) {
            return Err(self.breaker_open(reopens_in));
        }
        let (length, cause) = self.choose_pause(kind);
        if length >= self.left(now) {
            return Err(GaveUp::Deadline {
                call: self.call(),
                last: self.last.take(),
            });
        }
        self.spend(now)?;
        Ok((length, cause))
    }

    fn choose_pause(&mut self, kind: FailureKind) -> (Duration, PauseCause) {
        let (span, cause) = match kind {
            FailureKind::Throttled { retry_after } => {
                let cause = match retry_after {
                    Some(_) => PauseCause::RetryAfter,
                    None => PauseCause::Throttled,
                };
                (self.pauses.next_throttled(retry_after), cause)
            }
            FailureKind::Transient if self.pauses.take_immediate() => {
                (Span::up_to(Duration::ZERO), PauseCause::Immediate)
            }
            FailureKind::Transient | FailureKind::Unknown | FailureKind::Permanent => {
                (self.pauses.next_ordinary(), PauseCause::BackOff)
            }
        };
        (self.peer.draw(span), cause)
    }

    pub(super) fn check_limit(&mut self) -> Result<(), GaveUp<E>> {
        let made = match self.next() {
            Next::Attempt => self.attempts,
            Next::ReadBack => self.read_backs,
        };
        if made < self.attempts_max {
            return Ok(());
        }
        Err(GaveUp::Exhausted {
            call: self.call(),
            last: self.last.take(),
        })
    }

    pub(super) fn check_cancelled(&mut self) -> Result<(), GaveUp<E>> {
        if !self.cancel.is_cancelled() {
            return Ok(());
        }
        Err(GaveUp::Cancelled {
            call: self.call(),
            last: self.last.take(),
        })
    }

    pub(super) fn spend(&mut self, now: Instant) -> Result<(), GaveUp<E>> {
        if self.peer.withdraw(now) {
            return Ok(());
        }
        Err(GaveUp::Budget {
            call: self.call(),
            last: self.last.take(),
        })
    }

    pub(super) fn breaker_open(&mut self, reopens_in: Duration) -> GaveUp<E> {
        GaveUp::BreakerOpen {
            call: self.call(),
            reopens_in,
            last: self.last.take(),
        }
    }
}
