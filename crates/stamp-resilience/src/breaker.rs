//! The circuit breaker of one peer: closed, open, half-open by exactly one probe.
//!
//! Knows no clock: every call is told the time.

mod window;

use std::time::Duration;

use tokio::time::Instant;

use crate::pause::{Growing, Jitter};
use crate::policy::{BreakerPolicy, RetryPolicy};
use window::Window;

/// A peer is never left alone longer than this because of what it asked for. Longest hint in use:
/// an IoT Hub over its daily quota, which comes back at midnight.
const HINT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts go out.
    Closed,
    /// No attempt goes out: the peer failed too often, asked to be left alone, or a person opened
    /// the breaker.
    Open,
    /// One attempt, the probe, is out; its outcome decides.
    HalfOpen,
}

impl BreakerState {
    /// All of them, for a metric's label values.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The label value in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Leave to make one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// One of many.
    Ordinary,
    /// The one attempt that decides, with its number.
    Probe(u64),
}

/// A change of state to tell the observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state it has now.
    pub state: BreakerState,
    /// How long it stays open, if it opened by itself.
    pub open_for: Option<Duration>,
}

impl Change {
    fn to(state: BreakerState) -> Self {
        Self {
            state,
            open_for: None,
        }
    }
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        probe: u64,
        until: Instant,
    },
    /// Opened by a person, closed only by one.
    Held,
}

/// The circuit breaker of one peer.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    jitter: f64,
    phase: Phase,
    window: Window,
    openings: Growing,
    probes: u64,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(policy: &RetryPolicy, now: Instant) -> Self {
        let breaker = policy.breaker.clone();
        Self {
            window: Window::new(breaker.window, now),
            openings: openings(&breaker, policy.jitter),
            jitter: policy.jitter,
            policy: breaker,
            phase: Phase::Closed,
            probes: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } | Phase::Held => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How long no attempt is let out, or `None` when one would be.
    ///
    /// While a probe is out that is until its timeout; while a person holds the breaker open,
    /// nobody knows, and `open-max` is said.
    #[must_use]
    pub fn closed_off(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until } => {
                Some(until.saturating_duration_since(now)).filter(|d| !d.is_zero())
            }
            Phase::HalfOpen { until, .. } => Some(until.saturating_duration_since(now)),
            Phase::Held => Some(self.policy.open_max),
        }
    }

    /// Leave for one attempt that ends by `timeout_at`.
    ///
    /// # Errors
    /// How long to wait for it.
    pub fn admit(
        &mut self,
        now: Instant,
        timeout_at: Instant,
    ) -> Result<(Ticket, Option<Change>), Duration> {
        if let Some(reopens_in) = self.closed_off(now) {
            return Err(reopens_in);
        }
        if matches!(self.phase, Phase::Closed) {
            return Ok((Ticket::Ordinary, None));
        }
        self.probes += 1;
        self.phase = Phase::HalfOpen {
            probe: self.probes,
            until: timeout_at,
        };
        Ok((
            Ticket::Probe(self.probes),
            Some(Change::to(BreakerState::HalfOpen)),
        ))
    }

    /// The peer answered, be it with a refusal: it is there.
    pub fn record_answer(&mut self, ticket: Ticket, now: Instant) -> Option<Change> {
        if matches!(self.phase, Phase::Closed) {
            self.window.count_answer(now);
            return None;
        }
        self.is_probe(ticket).then(|| self.close(now))
    }

    /// The peer did not answer, or asked for fewer requests.
    pub fn record_failure(
        &mut self,
        ticket: Ticket,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Option<Change> {
        if matches!(self.phase, Phase::Closed) {
            self.window.count_failure(now);
            let trips = self.window.is_failing(now, self.policy.failures);
            return trips.then(|| self.open(now, jitter));
        }
        // Attempts that began before it opened say nothing new; only the probe decides.
        self.is_probe(ticket).then(|| self.open(now, jitter))
    }

    /// The probe was dropped before it had an outcome: the next attempt is the probe.
    pub(crate) fn abandon(&mut self, ticket: Ticket, now: Instant) -> Option<Change> {
        self.is_probe(ticket).then(|| {
            self.phase = Phase::Open { until: now };
            Change {
                state: BreakerState::Open,
                open_for: Some(Duration::ZERO),
            }
        })
    }

    /// The peer asked to be left alone for longer than the operation can wait.
    pub fn leave_alone(&mut self, length: Duration, now: Instant) -> Option<Change> {
        let until = now + length.min(HINT_MAX);
        let until = match self.phase {
            Phase::Held => return None,
            Phase::Open { until: standing } => until.max(standing),
            Phase::Closed | Phase::HalfOpen { .. } => until,
        };
        self.phase = Phase::Open { until };
        Some(Change {
            state: BreakerState::Open,
            open_for: Some(until - now),
        })
    }

    pub(crate) fn hold_open(&mut self) -> Change {
        self.phase = Phase::Held;
        Change::to(BreakerState::Open)
    }

    /// Closes and forgets all that was counted.
    pub(crate) fn close(&mut self, now: Instant) -> Change {
        self.phase = Phase::Closed;
        self.window = Window::new(self.policy.window, now);
        self.openings = openings(&self.policy, self.jitter);
        Change::to(BreakerState::Closed)
    }

    fn open(&mut self, now: Instant, jitter: &mut Jitter) -> Change {
        let length = jitter.draw(self.openings.next());
        self.phase = Phase::Open {
            until: now + length,
        };
        Change {
            state: BreakerState::Open,
            open_for: Some(length),
        }
    }

    fn is_probe(&self, ticket: Ticket) -> bool {
        match (&self.phase, ticket) {
            (Phase::HalfOpen { probe, .. }, Ticket::Probe(own)) => *probe == own,
            (Phase::HalfOpen { .. }, Ticket::Ordinary)
            | (Phase::Closed | Phase::Open { .. } | Phase::Held, _) => false,
        }
    }
}

fn openings(policy: &BreakerPolicy, jitter: f64) -> Growing {
    Growing::new(policy.open_first, policy.open_max, jitter)
}

#[cfg(test)]
mod tests;
