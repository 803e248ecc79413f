//! How devices that act alone come back: as shipped, and three ways they are found to do it.

use std::time::Duration;

use serde::Serialize;
use stamp_resilience::Reconnect;
use stamp_resilience::pieces::Span;

/// Interval of [`Strategy::Regular`]. That of the published Python device client.
const REGULAR: Duration = Duration::from_secs(10);
/// A naive device makes its first attempt when it notices the loss: within that time, by chance.
const NOTICED: Duration = Duration::from_secs(10);
/// Longest pause of the other naive ways.
const NAIVE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Failures beyond which no way changes its pause.
const FAILURES_MAX: usize = 8;

/// How a device that acts alone comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Strategy {
    /// [`Reconnect`], and the breaker and budget of a gateway for the devices behind one.
    Shipped,
    /// At once, and then every 10 s.
    Regular,
    /// At once, and then after 1 s, 2 s, 4 s up to 60 s, without jitter.
    Doubling,
    /// The same with full jitter: from nothing to the interval. No first spread.
    Jittered,
}

impl Strategy {
    pub(super) const ALL: [Self; 4] =
        [Self::Shipped, Self::Regular, Self::Doubling, Self::Jittered];

    /// For tables and plots.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Regular => "every 10 s",
            Self::Doubling => "doubling, no jitter",
            Self::Jittered => "doubling, jitter, no spread",
        }
    }

    pub(super) fn pauses(self, reconnect: &Reconnect) -> Pauses {
        let first = match self {
            Self::Shipped => reconnect.first(),
            Self::Regular | Self::Doubling | Self::Jittered => Span::up_to(NOTICED),
        };
        let after = std::array::from_fn(|index| self.after(reconnect, index as u32 + 1));
        let hints = self == Self::Shipped;
        Pauses {
            first,
            after,
            hints,
        }
    }

    fn after(self, reconnect: &Reconnect, failures: u32) -> Span {
        let doubled = Duration::from_secs(1 << (failures - 1)).min(NAIVE_PAUSE_MAX);
        match self {
            Self::Shipped => reconnect.after(failures, None),
            Self::Regular => exactly(REGULAR),
            Self::Doubling => exactly(doubled),
            Self::Jittered => Span::up_to(doubled),
        }
    }
}

fn exactly(pause: Duration) -> Span {
    Span {
        least: pause,
        most: pause,
    }
}

/// The pauses of one strategy, worked out once.
pub(super) struct Pauses {
    /// Before the first attempt.
    pub(super) first: Span,
    after: [Span; FAILURES_MAX],
    /// Whether a `Retry-After` is heeded.
    hints: bool,
}

impl Pauses {
    /// After that many failed attempts, at least 1.
    pub(super) fn after(&self, failures: u8, retry_after: Option<Duration>) -> Span {
        let span = self.after[usize::from(failures.max(1) - 1).min(FAILURES_MAX - 1)];
        let hint = retry_after.filter(|_| self.hints);
        span.not_below(hint.unwrap_or(Duration::ZERO))
    }

    /// The longest pause without a hint, in seconds.
    pub(super) fn longest_s(&self) -> u64 {
        let longest = self.after.iter().map(|span| span.most).max();
        longest.unwrap_or_default().max(self.first.most).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_pauses_is_what_the_policy_says() {
        let reconnect = Reconnect::new(500_000, 360, 0.5, Duration::from_secs(300));
        let pauses = Strategy::Shipped.pauses(&reconnect);
        assert_eq!(pauses.first, reconnect.first());
        let hint = Some(Duration::from_secs(20_000));
        for failures in 1..=20_u8 {
            for hint in [None, hint] {
                let expected = reconnect.after(u32::from(failures), hint);
                assert_eq!(pauses.after(failures, hint), expected);
            }
        }
    }
}
