//! How fast a peer is asked: a token bucket, and the one way to wait for its turn.
//!
//! Back-off answers a peer that has had too much. A pace keeps it from coming to that: a service
//! whose limit is published is not to be found out by its refusals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pause;

/// So many requests in a minute, spread evenly, with a burst. A function of the times it is given.
///
/// ```
/// # use std::time::Duration;
/// # use stamp_resilience::Bucket;
/// let mut bucket = Bucket::per_minute(60, 2);
/// let now = Duration::from_secs(5);
/// assert_eq!((bucket.take(now), bucket.take(now)), (Duration::ZERO, Duration::ZERO));
/// assert_eq!(bucket.take(now), Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Between two requests of a steady stream.
    interval: Duration,
    /// How far a request may come before its time: `burst - 1` intervals.
    early: Duration,
    /// When the next request is due if none comes early.
    due: Duration,
}

impl Bucket {
    /// `count` requests a minute, at least 1, of which `burst`, at least 1, may come at once after
    /// a calm time.
    #[must_use]
    pub fn per_minute(count: u64, burst: u32) -> Self {
        let interval = Duration::from_secs(60).div_f64(as_f64(count.max(1)));
        Self {
            interval,
            early: interval.saturating_mul(burst.max(1) - 1),
            due: Duration::ZERO,
        }
    }

    /// Takes the next turn and says how long after `now` it is. `now` counts from any moment that
    /// stays the same, and does not go back.
    pub fn take(&mut self, now: Duration) -> Duration {
        let due = self.due.max(now);
        self.due = due + self.interval;
        due.saturating_sub(self.early).saturating_sub(now)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate beyond 2^53 a minute has no interval"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A bucket that is waited for. Clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    bucket: Arc<Mutex<Bucket>>,
    began: Instant,
}

impl Pace {
    /// Begins now, with the whole burst. Inside a runtime only.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket: Arc::new(Mutex::new(bucket)),
            began: Instant::now(),
        }
    }

    /// Waits for the next turn; `false` when cancelled first. Those who wait go in the order in
    /// which they came.
    ///
    /// Cancel safe: a turn that was waited for and not used is lost, which makes the rest slower and
    /// never faster.
    pub async fn turn(&self, cancel: &CancellationToken) -> bool {
        let wait = self.bucket().take(self.began.elapsed());
        if wait.is_zero() {
            return !cancel.is_cancelled();
        }
        pause::wait(wait, cancel).await
    }

    /// Takes a turn without waiting for it: for a request that goes out anyway, such as a retry,
    /// which has had its pause. The next ones wait for longer.
    pub fn charge(&self) {
        let _later = self.bucket().take(self.began.elapsed());
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_minute_has_more_than_its_count_and_a_burst(
            count in 1_u64..10_000, burst in 1_u32..100, gaps_ms in prop::collection::vec(0_u64..2_000, 1..400),
        ) {
            let mut bucket = Bucket::per_minute(count, burst);
            let mut now = Duration::ZERO;
            let mut sent = Vec::new();
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                sent.push(now + bucket.take(now));
            }
            for (index, from) in sent.iter().enumerate() {
                let until = *from + Duration::from_secs(60);
                let within = sent[index..].iter().filter(|at| **at < until).count() as u64;
                // Intervals are rounded to the nanosecond, so one may fall on the edge.
                prop_assert!(within <= count + u64::from(burst) + 1, "{within} in a minute");
            }
            prop_assert!(sent.is_sorted());
        }
    }

    #[test]
    fn a_calm_time_gives_back_the_burst_and_no_more() {
        let mut bucket = Bucket::per_minute(60, 3);
        let late = Duration::from_secs(600);
        let waits: Vec<u64> = (0..5).map(|_| bucket.take(late).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_at_the_pace_and_a_charge_makes_the_next_wait() {
        let pace = Pace::new(Bucket::per_minute(60, 1));
        let cancel = CancellationToken::new();
        let began = Instant::now();
        assert!(pace.turn(&cancel).await);
        pace.charge();
        assert!(pace.turn(&cancel).await);
        // tokio's timer counts in milliseconds and rounds up.
        assert_eq!(began.elapsed().as_millis() / 10, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_after_the_stop() {
        let pace = Pace::new(Bucket::per_minute(1, 1));
        let cancel = CancellationToken::new();
        assert!(pace.turn(&cancel).await);
        cancel.cancel();
        let began = Instant::now();
        assert!(!pace.turn(&cancel).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
