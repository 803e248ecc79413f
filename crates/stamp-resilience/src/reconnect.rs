//! When a device that lost its hub comes back: the reconnect guidance, as a function.
//!
//! A device alone cannot know whether its hub is away, or whether a million others lost it too. So it
//! always behaves as if they had. Knows no clock; the caller draws from the [`Span`]s.

use std::time::Duration;

use crate::pause::{Growing, Span};

/// How much longer than the outage to ride out the first reconnects are spread: of attempts spread
/// evenly over 15 outages, one in 15 is made during the outage and lost.
const SPREAD_PER_OUTAGE: u32 = 15;
/// The random share of the pauses after a failed attempt. High: even when every device failed, their
/// next attempts are spread over nearly the whole of [`Reconnect::spread`].
const JITTER: f64 = 0.9;
/// Pauses after failed attempts grow up to so many spreads. No more: a device whose own attempts failed
/// by chance is to be back within hours.
const SPREADS_MAX: u32 = 2;

/// When the devices of one hub reconnect.
///
/// The first attempt comes after a time drawn from [`Reconnect::first`], each further one after a
/// time from [`Reconnect::after`]. Every attempt before the hub's return is lost and nobody can tell a
/// device alone that the hub is back, so a fleet that wastes little spreads over many times the outage.
///
/// ```
/// # use std::time::Duration;
/// # use stamp_resilience::Reconnect;
/// let minute = Duration::from_secs(60);
/// // 500,000 devices, 360 connections a second, at half of that: 46 min. The outage asks for more.
/// let reconnect = Reconnect::new(500_000, 360, 0.5, 5 * minute);
/// assert_eq!(reconnect.spread(), 75 * minute);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    spread: Duration,
}

impl Reconnect {
    /// For `devices` on a hub that takes `per_second` (at least 1) new connections a second, of which
    /// the share `load` (0.1 to 1) is to be used, and outages up to `ride_out` that are to cost few
    /// attempts.
    #[must_use]
    pub fn new(devices: u64, per_second: u64, load: f64, ride_out: Duration) -> Self {
        let by_limit = as_f64(devices) / (as_f64(per_second.max(1)) * load.clamp(0.1, 1.0));
        let by_outage = ride_out.saturating_mul(SPREAD_PER_OUTAGE);
        Self {
            spread: Duration::try_from_secs_f64(by_limit)
                .unwrap_or(Duration::MAX)
                .max(by_outage),
        }
    }

    /// Over how long the first attempts of all devices are spread.
    #[must_use]
    pub fn spread(&self) -> Duration {
        self.spread
    }

    /// The longest pause there is, unless a `Retry-After` asks for more.
    #[must_use]
    pub fn pause_max(&self) -> Duration {
        self.spread.saturating_mul(SPREADS_MAX)
    }

    /// From the loss of the connection to the first attempt.
    #[must_use]
    pub fn first(&self) -> Span {
        Span::up_to(self.spread)
    }

    /// After that many failed attempts, at least 1. All of it at or above the hub's `Retry-After`.
    #[must_use]
    pub fn after(&self, failures: u32, retry_after: Option<Duration>) -> Span {
        let mut growing = Growing::new(self.spread, self.pause_max(), JITTER);
        let mut span = growing.next();
        // Longest after one doubling; further ones change nothing.
        for _ in 1..failures.min(SPREADS_MAX) {
            span = growing.next();
        }
        span.not_below(retry_after.unwrap_or(Duration::ZERO))
    }
}

#[expect(clippy::cast_precision_loss, reason = "no hub has 2^53 devices")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_large_population_is_spread_by_the_limit_of_its_hub() {
        let reconnect = Reconnect::new(1_000_000, 100, 0.5, MINUTE);
        assert_eq!(reconnect.spread(), Duration::from_secs(20_000));
    }

    #[test]
    fn pauses_double_to_two_spreads_and_are_never_below_a_tenth_of_one() {
        let reconnect = Reconnect::new(1, 100, 0.5, MINUTE);
        let most: Vec<u64> = (1..6)
            .map(|failures| reconnect.after(failures, None).most.as_secs() / 60)
            .collect();
        assert_eq!(most, [15, 30, 30, 30, 30]);
        let least = reconnect.after(1, None).least;
        assert!(least >= Duration::from_secs(89) && least <= Duration::from_secs(91));
    }

    #[test]
    fn rule_06_no_pause_is_shorter_than_the_hub_asked_for() {
        let reconnect = Reconnect::new(1, 100, 0.5, Duration::from_secs(1));
        let span = reconnect.after(1, Some(10 * MINUTE));
        assert_eq!(span.least, 10 * MINUTE);
        assert!(span.most > span.least);
    }
}
