//! Whether a tenant keeps its quota, by the hub's clock and never by the moment of reading.
//!
//! Events and bytes count in the minute the hub took them in, so a tenant that kept its rate is
//! within its quota however late or fast its events are read. Devices count in their UTC day. What
//! is over does not count, so a minute never has less room because of a flood in it. Pure logic: no
//! clock, no I/O.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use stamp_status::QuotaUse;

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

/// What was counted in the newest minute and day: for whoever looks, without the lock of the meter.
#[derive(Debug)]
struct Newest {
    minute: AtomicI64,
    events: AtomicU64,
    bytes: AtomicU64,
    day: AtomicI64,
    devices: AtomicU64,
}

impl Default for Newest {
    fn default() -> Self {
        Self {
            minute: AtomicI64::new(i64::MIN),
            events: AtomicU64::default(),
            bytes: AtomicU64::default(),
            day: AtomicI64::new(i64::MIN),
            devices: AtomicU64::default(),
        }
    }
}

impl Newest {
    /// One writer at a time; events of older minutes change nothing.
    fn minute_has(&self, number: i64, minute: &Minute) {
        if number >= self.minute.load(Relaxed) {
            self.minute.store(number, Relaxed);
            self.events.store(minute.events, Relaxed);
            self.bytes.store(minute.bytes, Relaxed);
        }
    }

    fn day_has(&self, number: i64, devices: usize) {
        if number >= self.day.load(Relaxed) {
            self.day.store(number, Relaxed);
            self.devices.store(devices as u64, Relaxed);
        }
    }
}

/// A tenant's meter, shared by the partitions of a process.
#[derive(Debug)]
pub(crate) struct SharedMeter {
    meter: Mutex<Meter>,
    newest: Arc<Newest>,
    quota: QuotaConfig,
}

impl SharedMeter {
    pub(crate) fn new(quota: QuotaConfig) -> Self {
        let meter = Meter::new(quota.clone());
        Self {
            newest: Arc::clone(&meter.newest),
            meter: Mutex::new(meter),
            quota,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is used of each quota there is. Takes no lock.
    pub(crate) fn uses(&self, share: Share) -> Vec<QuotaUse> {
        let a_minute = |rate: u64| rate.saturating_mul(MINUTE_S);
        let (quota, newest) = (&self.quota, &self.newest);
        [
            (
                "events",
                quota.events_per_second.map(a_minute),
                &newest.events,
            ),
            (
                "bytes",
                quota.bytes_per_second.map(|rate| a_minute(rate.as_u64())),
                &newest.bytes,
            ),
            ("devices", quota.devices_max.map(u64::from), &newest.devices),
        ]
        .into_iter()
        .filter_map(|(quota, whole, used)| {
            Some(QuotaUse {
                quota,
                used: used.load(Relaxed),
                limit: share.of(whole?),
            })
        })
        .collect()
    }
}

/// Counts what one tenant sent, over all partitions of the process.
#[derive(Debug)]
pub(crate) struct Meter {
    quota: QuotaConfig,
    minutes: BTreeMap<i64, Minute>,
    /// Hashes of the device ids by day. Two ids of one hash count as one device: too few, never
    /// too many.
    days: BTreeMap<i64, HashSet<u64, FixedState>>,
    newest: Arc<Newest>,
}

const HASHER: FixedState = FixedState::with_seed(0x7175_6f74);

impl Meter {
    pub(crate) fn new(quota: QuotaConfig) -> Self {
        Self {
            quota,
            minutes: BTreeMap::new(),
            days: BTreeMap::new(),
            newest: Arc::default(),
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
        self.newest.minute_has(number, minute);
        forget_farthest(&mut self.minutes, number, MINUTES_MAX);
        if self.quota.devices_max.is_some() {
            let number = load.enqueued_at_us.div_euclid(DAY_US);
            let devices = self.days.entry(number).or_default();
            devices.insert(HASHER.hash_one(load.device_id));
            self.newest.day_has(number, devices.len());
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
