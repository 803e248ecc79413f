//! Token buckets on the emulator's own clock.

/// As many requests as are allowed in a period; what is used comes back evenly over it.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_period: u64,
    period_us: i64,
    /// Microseconds of the period that are used up.
    used_us: i64,
    at_us: i64,
}

impl Bucket {
    pub(crate) fn per_second(count: u64, now_us: i64) -> Self {
        Self::new(count, 1_000_000, now_us)
    }

    pub(crate) fn per_minute(count: u64, now_us: i64) -> Self {
        Self::new(count, 60_000_000, now_us)
    }

    fn new(count: u64, period_us: i64, now_us: i64) -> Self {
        Self {
            per_period: count.max(1),
            period_us,
            used_us: 0,
            at_us: now_us,
        }
    }

    /// Takes one, or says in how many seconds one will be there, at least 1.
    pub(crate) fn take(&mut self, now_us: i64) -> Result<(), u64> {
        let passed = (now_us - self.at_us).max(0);
        self.at_us = now_us;
        self.used_us = (self.used_us - passed).max(0);
        let cost = self.period_us / i64::try_from(self.per_period).unwrap_or(i64::MAX);
        if self.used_us + cost <= self.period_us {
            self.used_us += cost;
            return Ok(());
        }
        let missing_us = self.used_us + cost - self.period_us;
        Err(u64::try_from(missing_us)
            .unwrap_or_default()
            .div_ceil(1_000_000)
            .max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_requests_come_back_evenly() {
        let mut bucket = Bucket::per_minute(100, 0);
        assert!((0..100).all(|_| bucket.take(0).is_ok()));
        assert_eq!(bucket.take(0), Err(1));
        // 100 a minute is one in 600 ms.
        assert_eq!(bucket.take(600_000), Ok(()));
        assert_eq!(bucket.take(600_000), Err(1));
        let mut slow = Bucket::per_minute(1, 0);
        assert_eq!((slow.take(0), slow.take(0)), (Ok(()), Err(60)));
    }
}
