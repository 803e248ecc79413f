//! Whether a tenant keeps its quota, by the hub's clock and never by the moment of reading.
//!
//! Events and bytes count in the minute the hub took them in, so a tenant that kept its rate is
//! within its quota however late or fast its events are read. Devices count in their UTC day. What
//! is over does not count, so a minute never has less room because of a flood in it. Pure logic: no
//! clock, no I/O.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::config::QuotaConfig;

const MINUTE_S: u64 = 60;
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 86_400_000_000;
/// Minutes that are remembered of a tenant: two days, in which its partitions may be apart.
const MINUTES_MAX: usize = 2_880;
/// Days whose devices are remembered.
const DAYS_MAX: usize = 3;

/// Which part of the stamp's partitions this process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// This many.
    pub part: usize,
    /// Of this many.
    pub of: usize,
}

impl Share {
    /// The part of a whole, rounded up, so that no share is nothing.
    fn of(self, whole: u64) -> u64 {
        let of = u128::try_from(self.of.max(1)).unwrap_or(1);
        let part = u128::try_from(self.part.max(1)).unwrap_or(1).min(of);
        u64::try_from((u128::from(whole) * part).div_ceil(of)).unwrap_or(whole)
    }
}

/// Which quota an event is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excess {
    Events,
    Bytes,
    Devices,
}

impl Excess {
    /// For the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bytes => "bytes",
            Self::Devices => "devices",
        }
    }
}

/// What is asked about one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// The hub's enqueued time, microseconds since 1970 UTC.
    pub enqueued_at_us: i64,
    /// As the hub stamped it.
    pub device_id: &'a str,
    /// Of the body.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Minute {
    events: u64,
    bytes: u64,
}

/// Counts what one tenant sent, over all partitions of the process.
#[derive(Debug)]
pub(crate) struct Meter {
    quota: QuotaConfig,
    minutes: BTreeMap<i64, Minute>,
    /// Hashes of the device ids by day. Two ids of one hash count as one device: too few, never
    /// too many.
    days: BTreeMap<i64, HashSet<u64, FixedState>>,
}

const HASHER: FixedState = FixedState::with_seed(0x7175_6f74);

impl Meter {
    pub(crate) fn new(quota: QuotaConfig) -> Self {
        Self {
            quota,
            minutes: BTreeMap::new(),
            days: BTreeMap::new(),
        }
    }

    /// Which quota an event would be over; counts nothing.
    pub(crate) fn excess(&self, load: Load<'_>, share: Share) -> Option<Excess> {
        let minute = self.minutes.get(&load.enqueued_at_us.div_euclid(MINUTE_US));
        let (events, bytes) = minute.map_or((0, 0), |minute| (minute.events, minute.bytes));
        let room = |rate: u64| share.of(rate.saturating_mul(MINUTE_S));
        if let Some(rate) = self.quota.events_per_second
            && events >= room(rate)
        {
            return Some(Excess::Events);
        }
        if let Some(rate) = self.quota.bytes_per_second
            && bytes.saturating_add(load.bytes) > room(rate.as_u64())
        {
            return Some(Excess::Bytes);
        }
        let most = share.of(u64::from(self.quota.devices_max?));
        let is_full = self
            .days
            .get(&load.enqueued_at_us.div_euclid(DAY_US))
            .is_some_and(|devices| {
                devices.len() as u64 >= most && !devices.contains(&HASHER.hash_one(load.device_id))
            });
        is_full.then_some(Excess::Devices)
    }

    /// Counts an event, or says which quota it is over and counts nothing.
    pub(crate) fn admit(&mut self, load: Load<'_>, share: Share) -> Result<(), Excess> {
        if let Some(excess) = self.excess(load, share) {
            return Err(excess);
        }
        let number = load.enqueued_at_us.div_euclid(MINUTE_US);
        let minute = self.minutes.entry(number).or_default();
        minute.events += 1;
        minute.bytes = minute.bytes.saturating_add(load.bytes);
        forget_farthest(&mut self.minutes, number, MINUTES_MAX);
        if self.quota.devices_max.is_some() {
            let number = load.enqueued_at_us.div_euclid(DAY_US);
            let devices = self.days.entry(number).or_default();
            devices.insert(HASHER.hash_one(load.device_id));
            forget_farthest(&mut self.days, number, DAYS_MAX);
        }
        Ok(())
    }
}

/// Keeps at most `most` entries: the one at an end of time goes that is not `now`. A tenant whose
/// partitions are farther apart than that is counted too low there, never too high.
fn forget_farthest<T>(entries: &mut BTreeMap<i64, T>, now: i64, most: usize) {
    if entries.len() <= most {
        return;
    }
    if entries.first_key_value().is_some_and(|(&at, _)| at != now) {
        entries.pop_first();
    } else {
        entries.pop_last();
    }
}

#[cfg(test)]
mod tests;
