//! How long a pause is, and the one place of the program that sleeps.
//!
//! The growing intervals come from `backon`, without its jitter: that jitter is added on top of
//! the longest interval, so it would break `pause-max`. Ours is drawn below the interval and from
//! a generator the caller seeds.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::policy::RetryPolicy;

/// Draws of one peer. The same seed and the same peer name give the same draws.
#[derive(Debug)]
pub struct Jitter(StdRng);

impl Jitter {
    /// Draws from this seed and the name of the peer.
    #[must_use]
    pub fn seeded(seed: u64, name: &str) -> Self {
        Self(StdRng::seed_from_u64(seed ^ fnv1a(name)))
    }

    /// Uniform from `span.least` to `span.most`, both included, to the nanosecond.
    pub fn draw(&mut self, span: Span) -> Duration {
        let width = span.most.saturating_sub(span.least);
        let width_ns = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX);
        span.least + Duration::from_nanos(self.0.random_range(0..=width_ns))
    }
}

/// FNV-1a, 64 bits: peers that share a seed must still differ, on every machine alike.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Between what bounds a pause is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The shortest pause.
    pub least: Duration,
    /// The longest pause, not below `least`.
    pub most: Duration,
}

impl Span {
    /// From nothing to `most`, for the start-up spread.
    #[must_use]
    pub fn up_to(most: Duration) -> Self {
        Self {
            least: Duration::ZERO,
            most,
        }
    }

    /// The share `jitter` of `interval` is random, the rest is certain.
    ///
    /// `jitter` is 0 to 1.
    #[must_use]
    pub fn below(interval: Duration, jitter: f64) -> Self {
        Self {
            least: interval - interval.mul_f64(jitter),
            most: interval,
        }
    }

    /// Moves the whole span up so that nothing of it is below `least`.
    #[must_use]
    pub fn not_below(self, least: Duration) -> Self {
        let up = least.saturating_sub(self.least);
        Self {
            least: self.least + up,
            most: self.most + up,
        }
    }
}

/// Intervals that double from `first` to `max`, each with its jitter.
#[derive(Debug)]
pub(crate) struct Growing {
    intervals: <ExponentialBuilder as BackoffBuilder>::Backoff,
    max: Duration,
    jitter: f64,
}

impl Growing {
    pub(crate) fn new(first: Duration, max: Duration, jitter: f64) -> Self {
        let intervals = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(max)
            .without_max_times()
            .build();
        Self {
            intervals,
            max,
            jitter,
        }
    }

    pub(crate) fn next(&mut self) -> Span {
        // `without_max_times` makes the sequence endless; its attempts are limited elsewhere.
        let interval = self.intervals.next().unwrap_or(self.max).min(self.max);
        Span::below(interval, self.jitter)
    }
}

/// The pauses of one operation: one sequence after faults, a slower one after throttling.
#[derive(Debug)]
pub struct Pauses {
    ordinary: Growing,
    throttled: Growing,
    immediate_left: bool,
}

impl Pauses {
    /// The pauses of one operation under this policy.
    #[must_use]
    pub fn new(policy: &RetryPolicy) -> Self {
        let jitter = policy.jitter;
        Self {
            ordinary: Growing::new(policy.first_pause, policy.pause_max, jitter),
            throttled: Growing::new(
                policy.throttled_first_pause,
                policy.throttled_pause_max,
                jitter,
            ),
            immediate_left: policy.immediate_retry,
        }
    }

    /// Whether the next retry may come at once; true once at most.
    pub(crate) fn take_immediate(&mut self) -> bool {
        std::mem::take(&mut self.immediate_left)
    }

    /// After a fault that passes.
    pub fn next_ordinary(&mut self) -> Span {
        self.ordinary.next()
    }

    /// After throttling; all of it at or above the peer's hint.
    pub fn next_throttled(&mut self, retry_after: Option<Duration>) -> Span {
        self.throttled
            .next()
            .not_below(retry_after.unwrap_or(Duration::ZERO))
    }
}

/// Waits for `length`, or until `cancel`; says whether the pause was completed.
///
/// Cancel-safe: dropping it only ends the pause.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that sleeps: everything that waits for a fault to pass comes here"
)]
pub(crate) async fn wait(length: Duration, cancel: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = cancel.cancelled() => false,
        () = tokio::time::sleep(length) => true,
    }
}
