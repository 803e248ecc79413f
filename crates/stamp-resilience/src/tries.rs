//! The tries of one operation: attempts, read-backs and pauses up to success or giving up.
//!
//! The parent functions are [`Tries::attempt`] and [`Tries::read_back`]; they ask the breaker,
//! make the attempt, and hand a failure to `recover`, which pauses or gives up.

mod plan;

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::breaker::Ticket;
use crate::classify::{Classify, Failure, FailureKind};
use crate::gave_up::{Call, GaveUp};
use crate::guard::{self, Mark};
use crate::observe::{Outcome, PauseCause, RetryEvent};
use crate::operation::Operation;
use crate::pause::{self, Pauses};
use crate::peer::Peer;

/// One attempt, as the operation sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first attempt; read-backs count by themselves, from 1.
    pub number: u32,
    /// When the attempt is dropped: the earlier of `attempt-timeout` and the total deadline. A
    /// door that can bound its request on the server's side passes it on.
    pub timeout_at: Instant,
}

/// What an operation needs next, see [`Peer::begin_reading_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// [`Tries::attempt`].
    Attempt,
    /// [`Tries::read_back`]: whether an earlier attempt was done is not known.
    ReadBack,
}

/// The tries of one operation, from [`Peer::begin`] or [`Peer::begin_reading_back`].
pub struct Tries<'a, E> {
    peer: &'a Peer,
    cancel: &'a CancellationToken,
    operation: Operation,
    reads_back: bool,
    pauses: Pauses,
    attempts_max: u32,
    started_at: Instant,
    deadline: Instant,
    attempts: u32,
    read_backs: u32,
    waited: Duration,
    last: Option<Failure<E>>,
    may_have_happened: bool,
    nesting_checked: bool,
}

impl<'a, E: Classify> Tries<'a, E> {
    pub(crate) fn begin(
        peer: &'a Peer,
        operation: Operation,
        reads_back: bool,
        cancel: &'a CancellationToken,
    ) -> Self {
        let policy = peer.policy();
        let now = Instant::now();
        peer.deposit(now);
        Self {
            peer,
            cancel,
            operation,
            reads_back,
            pauses: Pauses::new(policy),
            attempts_max: policy.attempts_max,
            started_at: now,
            deadline: now + policy.total_deadline,
            attempts: 0,
            read_backs: 0,
            waited: Duration::ZERO,
            last: None,
            may_have_happened: false,
            nesting_checked: false,
        }
    }

    /// What comes next. Always [`Next::Attempt`] unless begun with [`Peer::begin_reading_back`].
    #[must_use]
    pub fn next(&self) -> Next {
        if self.reads_back && self.may_have_happened {
            Next::ReadBack
        } else {
            Next::Attempt
        }
    }

    /// Makes one attempt, and after a failure that may pass the pause before the next one.
    ///
    /// `Some` is the result; `None` means go on with [`Tries::next`].
    ///
    /// Cancellation cuts the pause at once and lets no attempt begin; it never stops an attempt
    /// that runs. Not cancel-safe: dropping it drops the attempt, with an unknown outcome.
    ///
    /// # Errors
    /// [`GaveUp`] when the operation is given up; it is not to be tried further then.
    ///
    /// # Panics
    /// When an unknown outcome has to be read back first, and, with debug assertions, inside an
    /// attempt of another operation.
    pub async fn attempt<T, F, Fut>(&mut self, op: F) -> Result<Option<T>, GaveUp<E>>
    where
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        assert_eq!(
            self.next(),
            Next::Attempt,
            "an unknown outcome is read back, never repeated"
        );
        match self.send(false, op).await? {
            Ok(value) => Ok(Some(value)),
            Err(failure) => self.recover(failure, false).await.map(|()| None),
        }
    }

    /// Asks the peer whether an earlier attempt was done.
    ///
    /// `read` says `Some` result when it was, `None` when it was not; the next step is then an
    /// attempt, without a pause between. Reading is idempotent, so its own failures are tried
    /// again like any other. Otherwise as [`Tries::attempt`].
    ///
    /// # Errors
    /// As [`Tries::attempt`]. [`GaveUp::may_have_happened`] is then still true.
    ///
    /// # Panics
    /// With debug assertions, inside an attempt of another operation.
    pub async fn read_back<T, F, Fut>(&mut self, read: F) -> Result<Option<T>, GaveUp<E>>
    where
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        match self.send(true, read).await? {
            Ok(Some(value)) => Ok(Some(value)),
            Ok(None) => self.was_not_done().map(|()| None),
            Err(failure) => self.recover(failure, true).await.map(|()| None),
        }
    }

    /// One request, if it may go out.
    async fn send<T, F, Fut>(
        &mut self,
        is_read_back: bool,
        op: F,
    ) -> Result<Result<T, Failure<E>>, GaveUp<E>>
    where
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.check_nesting();
        let now = Instant::now();
        let timeout_at = self.deadline.min(now + self.peer.policy().attempt_timeout);
        let permit = self
            .permit(now, timeout_at)
            .map_err(|gave_up| self.report(gave_up))?;
        let attempt = Attempt {
            number: self.count(is_read_back),
            timeout_at,
        };
        let running = guard::marked(self.mark(), op(attempt));
        let result = match tokio::time::timeout_at(timeout_at, running).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::Error(error)),
            Err(_elapsed) => Err(Failure::TimedOut {
                after: now.elapsed(),
            }),
        };
        let outcome = outcome(&result);
        permit.settle(outcome);
        self.peer.tell(&RetryEvent::Attempt {
            peer: self.peer.name(),
            operation: self.operation.name(),
            number: attempt.number,
            read_back: is_read_back,
            took: now.elapsed(),
            outcome,
            error: result.as_ref().err().and_then(Failure::error).map(as_dyn),
        });
        Ok(result)
    }

    /// After a failed request: the pause before the next one, or giving up.
    async fn recover(&mut self, failure: Failure<E>, was_read_back: bool) -> Result<(), GaveUp<E>> {
        if !was_read_back && failure.kind() == FailureKind::Unknown {
            self.may_have_happened = true;
        }
        let planned = self.classify(failure).and_then(|kind| self.plan(kind));
        let (length, cause) = planned.map_err(|gave_up| self.report(gave_up))?;
        if self.pause(length, cause).await {
            return Ok(());
        }
        let gave_up = GaveUp::Cancelled {
            call: self.call(),
            last: self.last.take(),
        };
        Err(self.report(gave_up))
    }

    /// The read-back found nothing: another attempt, if the limits allow one.
    fn was_not_done(&mut self) -> Result<(), GaveUp<E>> {
        self.may_have_happened = false;
        let checked = self.check_limit().and_then(|()| self.spend(Instant::now()));
        checked.map_err(|gave_up| self.report(gave_up))
    }

    /// Says whether the pause was completed.
    async fn pause(&mut self, length: Duration, cause: PauseCause) -> bool {
        self.peer.tell(&RetryEvent::Pause {
            peer: self.peer.name(),
            operation: self.operation.name(),
            length,
            cause,
        });
        if length.is_zero() {
            return true;
        }
        let began_at = Instant::now();
        let completed = pause::wait(length, self.cancel).await;
        self.waited += began_at.elapsed();
        completed
    }

    fn permit(&mut self, now: Instant, timeout_at: Instant) -> Result<Permit<'a>, GaveUp<E>> {
        self.check_cancelled()?;
        if now >= self.deadline {
            return Err(GaveUp::Deadline {
                call: self.call(),
                last: self.last.take(),
            });
        }
        match self.peer.admit(now, timeout_at) {
            Ok(ticket) => Ok(Permit {
                peer: self.peer,
                ticket: Some(ticket),
            }),
            Err(reopens_in) => Err(self.breaker_open(reopens_in)),
        }
    }

    /// Catches an operation inside an attempt of another; in production it gets one attempt.
    fn check_nesting(&mut self) {
        if std::mem::replace(&mut self.nesting_checked, true) {
            return;
        }
        if let Some(outer) = guard::outer(self.peer.nesting(), &self.mark()) {
            self.attempts_max = 1;
            self.reads_back = false;
            self.peer.tell(&RetryEvent::Nested {
                peer: self.peer.name(),
                operation: self.operation.name(),
                outer_peer: &outer.peer,
                outer_operation: outer.operation,
            });
        }
    }

    /// Tells the observer, and leaves the peer alone for as long as it asked.
    fn report(&self, gave_up: GaveUp<E>) -> GaveUp<E> {
        let kind = gave_up.last().map(Classify::kind);
        if let Some(FailureKind::Throttled {
            retry_after: Some(hint),
        }) = kind
            && !gave_up.is_cancelled()
        {
            self.peer.leave_alone(hint);
        }
        let call = gave_up.call();
        self.peer.tell(&RetryEvent::GaveUp {
            peer: self.peer.name(),
            operation: self.operation.name(),
            attempts: call.attempts,
            took: call.took,
            reason: gave_up.reason(),
            may_have_happened: call.may_have_happened,
            error: gave_up.last().map(as_dyn),
        });
        gave_up
    }

    fn count(&mut self, is_read_back: bool) -> u32 {
        let made = if is_read_back {
            &mut self.read_backs
        } else {
            &mut self.attempts
        };
        *made += 1;
        *made
    }

    fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    fn mark(&self) -> Mark {
        Mark {
            peer: self.peer.name_shared(),
            operation: self.operation.name(),
        }
    }

    fn call(&self) -> Box<Call> {
        Box::new(Call {
            peer: self.peer.name_shared(),
            operation: self.operation.name(),
            attempts: self.attempts,
            read_backs: self.read_backs,
            took: self.started_at.elapsed(),
            waited: self.waited,
            may_have_happened: self.may_have_happened,
        })
    }
}

/// Leave for one request; gives a probe back when the request is dropped before its outcome.
struct Permit<'a> {
    peer: &'a Peer,
    ticket: Option<Ticket>,
}

impl Permit<'_> {
    fn settle(mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.peer.record(ticket, outcome);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.peer.abandon(ticket);
        }
    }
}

fn as_dyn<E: Classify>(error: &E) -> &(dyn Error + 'static) {
    error
}

fn outcome<T, E: Classify>(result: &Result<T, Failure<E>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Failure::TimedOut { .. }) => Outcome::TimedOut,
        Err(Failure::Error(error)) => match error.kind() {
            FailureKind::Transient => Outcome::Transient,
            FailureKind::Throttled { .. } => Outcome::Throttled,
            FailureKind::Permanent => Outcome::Permanent,
            FailureKind::Unknown => Outcome::Unknown,
        },
    }
}
