//! What the retry layer tells, as metrics and log lines.

use std::error::Error;
use std::fmt::Write;

use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec};
use stamp_model::{StampId, Text};
use stamp_resilience::{BreakerState, Observer, Outcome, RetryEvent};

use crate::catalogue::retry as catalogue;
use crate::labels::CappedLabels;
use crate::{Registry, TelemetryError};

/// Peers with a label of their own: the hub, the stamp's store, and stores of tenants' own.
const PEER_LABELS_MAX: usize = 100;

/// The metrics of one stamp's retry layer: give it to every peer as its observer.
///
/// It also logs what no caller sees: faults that will be repeated, breakers that change, and
/// operations run inside others. A give-up is not logged: its caller has the error.
#[derive(Debug)]
pub struct RetryMetrics {
    peers: CappedLabels,
    attempts: IntCounterVec,
    attempt_duration: HistogramVec,
    pause: HistogramVec,
    give_ups: IntCounterVec,
    budget_tokens: GaugeVec,
    budget_limit: GaugeVec,
    breaker_state: GaugeVec,
    nested: IntCounter,
}

impl RetryMetrics {
    /// Registers the metrics of `stamp`.
    ///
    /// # Errors
    /// [`TelemetryError::Registered`] when this stamp's are in the registry already.
    pub fn new(registry: &Registry, stamp: &StampId) -> Result<Self, TelemetryError> {
        let registration = registry.of(stamp);
        Ok(Self {
            peers: CappedLabels::new(PEER_LABELS_MAX),
            attempts: registration.counters(&catalogue::ATTEMPTS)?,
            attempt_duration: registration.histograms(&catalogue::ATTEMPT_DURATION)?,
            pause: registration.histograms(&catalogue::PAUSE)?,
            give_ups: registration.counters(&catalogue::GIVE_UPS)?,
            budget_tokens: registration.gauges(&catalogue::BUDGET_TOKENS)?,
            budget_limit: registration.gauges(&catalogue::BUDGET_LIMIT)?,
            breaker_state: registration.gauges(&catalogue::BREAKER_STATE)?,
            nested: registration.counter(&catalogue::NESTED)?,
        })
    }

    /// The peer's label. Its breaker starts closed and says so only when it changes, so the first
    /// sight of a peer sets it.
    fn peer(&self, name: &str) -> Text {
        let (label, is_new) = self.peers.label(name);
        if is_new {
            self.breaker(&label, BreakerState::Closed);
        }
        label
    }

    fn breaker(&self, peer: &str, state: BreakerState) {
        for each in BreakerState::ALL {
            let is = if each == state { 1.0 } else { 0.0 };
            self.breaker_state
                .with_label_values(&[peer, each.as_str()])
                .set(is);
        }
    }
}

impl Observer for RetryMetrics {
    fn event(&self, event: &RetryEvent<'_>) {
        log(event);
        match *event {
            RetryEvent::Attempt {
                peer,
                operation,
                took,
                outcome,
                ..
            } => {
                let peer = self.peer(peer);
                self.attempts
                    .with_label_values(&[&*peer, operation, outcome.as_str()])
                    .inc();
                self.attempt_duration
                    .with_label_values(&[&*peer, operation])
                    .observe(took.as_secs_f64());
            }
            RetryEvent::Pause {
                peer,
                length,
                cause,
                ..
            } => self
                .pause
                .with_label_values(&[&*self.peer(peer), cause.as_str()])
                .observe(length.as_secs_f64()),
            RetryEvent::GaveUp { peer, reason, .. } => {
                self.give_ups
                    .with_label_values(&[&*self.peer(peer), reason.as_str()])
                    .inc();
            }
            RetryEvent::Budget {
                peer,
                tokens,
                tokens_max,
            } => {
                let peer = self.peer(peer);
                self.budget_tokens.with_label_values(&[&*peer]).set(tokens);
                self.budget_limit
                    .with_label_values(&[&*peer])
                    .set(f64::from(tokens_max));
            }
            RetryEvent::Breaker { peer, state, .. } => self.breaker(&self.peer(peer), state),
            RetryEvent::Nested { .. } => self.nested.inc(),
        }
    }
}

fn log(event: &RetryEvent<'_>) {
    match *event {
        RetryEvent::Attempt {
            peer,
            operation,
            number,
            outcome,
            error,
            ..
        } => {
            if !matches!(outcome, Outcome::Success | Outcome::Permanent) {
                tracing::warn!(
                    peer,
                    operation,
                    attempt = number,
                    outcome = outcome.as_str(),
                    error = error.map(causes),
                    "attempt failed"
                );
            }
        }
        RetryEvent::Breaker {
            peer,
            state: BreakerState::Closed,
            ..
        } => {
            tracing::info!(peer, "breaker closed");
        }
        RetryEvent::Breaker {
            peer,
            state,
            open_for,
        } => {
            tracing::warn!(
                peer,
                state = state.as_str(),
                open_s = open_for.map(|time| time.as_secs_f64()),
                "breaker not closed"
            );
        }
        RetryEvent::Nested {
            peer,
            operation,
            outer_peer,
            outer_operation,
        } => {
            tracing::error!(peer, operation, outer_peer, outer_operation, "nested retry");
        }
        RetryEvent::Pause { .. } | RetryEvent::GaveUp { .. } | RetryEvent::Budget { .. } => {}
    }
}

/// An error with its causes on one line, outermost first.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a String cannot fail.
        let _written = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}
