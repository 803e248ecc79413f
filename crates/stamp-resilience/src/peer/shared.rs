//! The state that all users of a peer share, and what the tries of an operation ask of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Peer;
use crate::breaker::{Breaker, Change, Ticket};
use crate::budget::Budget;
use crate::guard::Nesting;
use crate::observe::{Observer, Outcome, RetryEvent};
use crate::pause::{Jitter, Span};
use crate::policy::RetryPolicy;

pub(super) struct Inner {
    pub(super) name: Arc<str>,
    pub(super) policy: RetryPolicy,
    nesting: Nesting,
    jitter: Mutex<Jitter>,
    budget: Mutex<Budget>,
    breaker: Mutex<Breaker>,
    observer: Arc<dyn Observer>,
}

impl Inner {
    pub(super) fn new(
        nesting: Nesting,
        name: Arc<str>,
        policy: RetryPolicy,
        seed: u64,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let now = Instant::now();
        Self {
            nesting,
            jitter: Mutex::new(Jitter::seeded(seed, &name)),
            budget: Mutex::new(Budget::new(&policy.budget, now)),
            breaker: Mutex::new(Breaker::new(&policy, now)),
            name,
            policy,
            observer,
        }
    }
}

impl Peer {
    pub(crate) fn name_shared(&self) -> Arc<str> {
        Arc::clone(&self.inner.name)
    }

    pub(crate) fn nesting(&self) -> Nesting {
        self.inner.nesting
    }

    pub(crate) fn draw(&self, span: Span) -> Duration {
        self.jitter().draw(span)
    }

    pub(crate) fn deposit(&self, now: Instant) {
        let tokens = self.budget().deposit(now);
        self.tell_budget(tokens);
    }

    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let (granted, tokens) = self.budget().withdraw(now);
        self.tell_budget(tokens);
        granted
    }

    pub(crate) fn closed_off(&self, now: Instant) -> Option<Duration> {
        self.breaker().closed_off(now)
    }

    pub(crate) fn admit(&self, now: Instant, timeout_at: Instant) -> Result<Ticket, Duration> {
        let (ticket, change) = self.breaker().admit(now, timeout_at)?;
        self.tell_change(change);
        Ok(ticket)
    }

    pub(crate) fn record(&self, ticket: Ticket, outcome: Outcome) {
        let now = Instant::now();
        let change = match outcome {
            Outcome::Success | Outcome::Permanent => self.breaker().record_answer(ticket, now),
            Outcome::Transient | Outcome::Throttled | Outcome::Unknown | Outcome::TimedOut => self
                .breaker()
                .record_failure(ticket, now, &mut self.jitter()),
        };
        self.tell_change(change);
    }

    pub(crate) fn abandon(&self, ticket: Ticket) {
        let change = self.breaker().abandon(ticket, Instant::now());
        self.tell_change(change);
    }

    pub(crate) fn leave_alone(&self, length: Duration) {
        let change = self.breaker().leave_alone(length, Instant::now());
        self.tell_change(change);
    }

    pub(crate) fn tell(&self, event: &RetryEvent<'_>) {
        self.inner.observer.event(event);
    }

    pub(super) fn tell_change(&self, change: Option<Change>) {
        if let Some(Change { state, open_for }) = change {
            self.tell(&RetryEvent::Breaker {
                peer: self.name(),
                state,
                open_for,
            });
        }
    }

    fn tell_budget(&self, tokens: f64) {
        let tokens_max = self.policy().budget.burst_max;
        self.tell(&RetryEvent::Budget {
            peer: self.name(),
            tokens,
            tokens_max,
        });
    }

    fn jitter(&self) -> MutexGuard<'_, Jitter> {
        lock(&self.inner.jitter)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        lock(&self.inner.budget)
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.inner.breaker)
    }
}

/// Every state behind these locks is whole between two statements, so a panic elsewhere in the
/// holder leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
