//! One peer with its policy, budget, breaker and draws, shared by all that talk to it.

mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::breaker::BreakerState;
use crate::classify::Classify;
use crate::gave_up::GaveUp;
use crate::guard::Nesting;
use crate::observe::{Observer, PauseCause, RetryEvent};
use crate::operation::Operation;
use crate::pause::{self, Span};
use crate::policy::{PolicyError, RetryPolicy};
use crate::tries::{Attempt, Next, Tries};
use shared::Inner;

/// A service this program talks to, such as an Event Hubs namespace or one tenant's store.
///
/// Clones share one budget and one breaker. Make one per peer and stamp, so that a broken tenant
/// store does not close off the others.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

impl Peer {
    /// A peer with a full budget and a closed breaker.
    ///
    /// `name` is a label in metrics: one of few. The same `seed` and `name` give the same pauses,
    /// so instances need different seeds, and so do peers that share a name.
    ///
    /// # Errors
    /// [`PolicyError`] when the policy breaks a rule, with `name` before the keys. Validate with
    /// the configuration's own key first, see [`RetryPolicy::validate`].
    pub fn new(
        name: impl Into<Arc<str>>,
        policy: RetryPolicy,
        seed: u64,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, PolicyError> {
        Self::nesting_as(Nesting::HERE, name.into(), policy, seed, observer)
    }

    pub(crate) fn nesting_as(
        nesting: Nesting,
        name: Arc<str>,
        policy: RetryPolicy,
        seed: u64,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, PolicyError> {
        policy.validate(&name)?;
        let inner = Inner::new(nesting, name, policy, seed, observer);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs `op` until it succeeds or is given up.
    ///
    /// ```
    /// # use stamp_resilience::{Classify, GaveUp, Peer, idempotent};
    /// # use tokio_util::sync::CancellationToken;
    /// # async fn example<E: Classify>(
    /// #     store: Peer, shutdown: CancellationToken,
    /// #     head: impl AsyncFn() -> Result<u64, E> + Copy,
    /// # ) -> Result<u64, GaveUp<E>> {
    /// let length = store.run(idempotent("store.head"), &shutdown, |_| head()).await?;
    /// # Ok(length) }
    /// ```
    ///
    /// `op` makes one attempt. It may borrow by shared reference; one that needs `&mut` goes
    /// through [`Peer::begin`]. The future is `Send` when those of `op` are.
    ///
    /// Cancellation cuts a pause at once and lets no attempt begin; it never stops an attempt that
    /// runs, only `attempt-timeout` and the total deadline do. Not cancel-safe: dropping it drops
    /// the attempt, with an unknown outcome.
    ///
    /// # Errors
    /// [`GaveUp`], by reason. An unknown outcome of an operation that is not
    /// [`idempotent`](crate::idempotent) is returned at once.
    ///
    /// # Panics
    /// With debug assertions, inside an attempt of another operation: two layers multiply.
    pub async fn run<T, E, F, Fut>(
        &self,
        operation: impl Into<Operation>,
        cancel: &CancellationToken,
        mut op: F,
    ) -> Result<T, GaveUp<E>>
    where
        E: Classify,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut tries = self.begin(operation, cancel);
        loop {
            if let Some(value) = tries.attempt(&mut op).await? {
                return Ok(value);
            }
        }
    }

    /// As [`Peer::run`], but an unknown outcome is resolved by reading, never by repeating.
    ///
    /// `read_back` says `Some` result when the operation was done, `None` when it was not. It is
    /// called after a pause, so that a request that is still under way has time to land. Up to
    /// `attempts-max` read-backs are made besides as many attempts.
    ///
    /// # Errors
    /// [`GaveUp`]; where [`GaveUp::may_have_happened`] is true, no read-back got an answer.
    ///
    /// # Panics
    /// As [`Peer::run`].
    pub async fn run_reading_back<T, E, F, Fut, R, Back>(
        &self,
        operation: impl Into<Operation>,
        cancel: &CancellationToken,
        mut op: F,
        mut read_back: R,
    ) -> Result<T, GaveUp<E>>
    where
        E: Classify,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        R: FnMut(Attempt) -> Back,
        Back: Future<Output = Result<Option<T>, E>>,
    {
        let mut tries = self.begin_reading_back(operation, cancel);
        loop {
            let done = match tries.next() {
                Next::Attempt => tries.attempt(&mut op).await?,
                Next::ReadBack => tries.read_back(&mut read_back).await?,
            };
            if let Some(value) = done {
                return Ok(value);
            }
        }
    }

    /// The same as [`Peer::run`] in steps, for an operation that needs `&mut`:
    ///
    /// ```
    /// # use stamp_resilience::{Classify, GaveUp, Peer};
    /// # use tokio_util::sync::CancellationToken;
    /// # struct Table;
    /// # impl Table { async fn append<E>(&mut self) -> Result<u64, E> { Ok(1) } }
    /// # async fn example<E: Classify>(
    /// #     store: Peer, shutdown: CancellationToken, mut table: Table,
    /// # ) -> Result<u64, GaveUp<E>> {
    /// let mut tries = store.begin("table.append", &shutdown);
    /// let version = loop {
    ///     if let Some(version) = tries.attempt(|_| table.append()).await? {
    ///         break version;
    ///     }
    /// };
    /// # Ok(version) }
    /// ```
    #[must_use]
    pub fn begin<'a, E: Classify>(
        &'a self,
        operation: impl Into<Operation>,
        cancel: &'a CancellationToken,
    ) -> Tries<'a, E> {
        Tries::begin(self, operation.into(), false, cancel)
    }

    /// The same as [`Peer::run_reading_back`] in steps: do what [`Tries::next`] says.
    #[must_use]
    pub fn begin_reading_back<'a, E: Classify>(
        &'a self,
        operation: impl Into<Operation>,
        cancel: &'a CancellationToken,
    ) -> Tries<'a, E> {
        Tries::begin(self, operation.into(), true, cancel)
    }

    /// Waits before the first operation, so that instances that start together do not call
    /// together: uniform from nothing to `longest`. Returns early when cancelled. Cancel-safe.
    pub async fn spread(&self, longest: Duration, cancel: &CancellationToken) {
        let length = self.draw(Span::up_to(longest));
        self.pause("start-up", length, PauseCause::StartUp, cancel)
            .await;
    }

    /// Waits after giving up, before the program tries the same work again: for `pause-max` less
    /// its jitter, and no less than until the breaker lets a probe out and what the peer asked
    /// for. Returns early, or at once, when cancelled. Cancel-safe.
    pub async fn rest(&self, cancel: &CancellationToken) {
        let closed_off = self.closed_off(Instant::now()).unwrap_or(Duration::ZERO);
        let span = Span::below(self.policy().pause_max, self.policy().jitter).not_below(closed_off);
        let length = self.draw(span);
        self.pause("rest", length, PauseCause::Rest, cancel).await;
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker().state()
    }

    /// Opens the breaker until [`Peer::close_breaker`]: no attempt goes out, no probe either.
    pub fn hold_breaker_open(&self) {
        let change = self.breaker().hold_open();
        self.tell_change(Some(change));
    }

    /// Closes the breaker and forgets the failures that were counted.
    pub fn close_breaker(&self) {
        let change = self.breaker().close(Instant::now());
        self.tell_change(Some(change));
    }

    /// The name given to [`Peer::new`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The policy given to [`Peer::new`].
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.inner.policy
    }

    async fn pause(
        &self,
        operation: &'static str,
        length: Duration,
        cause: PauseCause,
        cancel: &CancellationToken,
    ) {
        self.tell(&RetryEvent::Pause {
            peer: self.name(),
            operation,
            length,
            cause,
        });
        let _cut_short = !pause::wait(length, cancel).await;
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.inner.name)
            .field("policy", &self.inner.policy)
            .field("breaker", &self.breaker_state())
            .finish_non_exhaustive()
    }
}
