//! Where telemetry of a device has arrived: the tables of a stamp, or a list in memory.
//!
//! A hub's own `lastActivityTime` and `connectionState` are minutes late, say nothing about
//! routing and nothing about the stamp's service. A row in the stamp's table does: the device
//! reached the hub, the hub routed it, the service took it for its tenant's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stamp_lake::{Columns, Filter, Lake, LakeError};
use stamp_model::{Shape, StampId, TenantId};
use stamp_placement::device_move::Evidence;
use stamp_resilience::Classify;

/// What a stamp has of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The earliest row.
    pub first: Evidence,
    /// When the hub took in the latest, microseconds since 1970 UTC.
    pub last_us: i64,
    /// How many.
    pub rows: u64,
}

impl Seen {
    fn add(seen: &mut BTreeMap<String, Self>, device: &str, evidence: Evidence) {
        let at_us = evidence.enqueued_at_us;
        match seen.get_mut(device) {
            None => {
                let first = Self {
                    first: evidence,
                    last_us: at_us,
                    rows: 1,
                };
                seen.insert(device.to_owned(), first);
            }
            Some(known) => {
                known.rows += 1;
                known.last_us = known.last_us.max(at_us);
                if at_us < known.first.enqueued_at_us {
                    known.first = evidence;
                }
            }
        }
    }
}

/// Says what telemetry a stamp has of devices. One call is one attempt.
pub trait Sightings: Send + Sync + 'static {
    /// Why it could not be found out.
    type Error: Classify + Send + Sync;

    /// What `stamp` has of each of `devices` that the hub took in at the time given with it, in
    /// microseconds since 1970 UTC, or later. Devices without any are left out.
    fn look(
        &self,
        stamp: &StampId,
        devices: &BTreeMap<String, i64>,
    ) -> impl Future<Output = Result<BTreeMap<String, Seen>, Self::Error>> + Send;
}

/// The tables of one stamp that are looked at.
#[derive(Debug, Clone)]
pub struct StampTables {
    /// Where its tenants' tables are.
    pub lake: Lake,
    /// The tenants that have devices in the move.
    pub tenants: Vec<TenantId>,
}

/// Sightings in the `readings` of the stamps' tenants.
#[derive(Debug, Clone)]
pub struct TableSightings {
    stamps: BTreeMap<StampId, StampTables>,
}

impl TableSightings {
    /// Looks at these. A stamp that is not among them has nothing.
    #[must_use]
    pub fn new(stamps: BTreeMap<StampId, StampTables>) -> Self {
        Self { stamps }
    }
}

impl Sightings for TableSightings {
    type Error = LakeError;

    async fn look(
        &self,
        stamp: &StampId,
        devices: &BTreeMap<String, i64>,
    ) -> Result<BTreeMap<String, Seen>, LakeError> {
        let mut seen = BTreeMap::new();
        let (Some(tables), Some(since_us)) = (self.stamps.get(stamp), devices.values().min())
        else {
            return Ok(seen);
        };
        let columns = ["device_id", "enqueued_at", "partition", "sequence"];
        // One device is looked up by its statistics, many by the time.
        let filter = match devices.first_key_value() {
            Some((device, _)) if devices.len() == 1 => Filter::Device(device.clone()),
            _ => Filter::EnqueuedSince(*since_us),
        };
        // The fields of a tenant's schema are not read.
        let shape = Shape { fields: Vec::new() };
        for tenant in &tables.tenants {
            let table = tables.lake.tenant(tenant).readings(&shape);
            let visit = |rows: &Columns| take(rows, devices, &mut seen);
            table.scan_where(&columns, &filter, visit).await?;
        }
        Ok(seen)
    }
}

fn take(rows: &Columns, devices: &BTreeMap<String, i64>, seen: &mut BTreeMap<String, Seen>) {
    for row in 0..rows.rows() {
        let (Some(device), Some(enqueued_at_us)) = (rows.text(0, row), rows.timestamp_us(1, row))
        else {
            continue;
        };
        if devices
            .get(device)
            .is_none_or(|since_us| enqueued_at_us < *since_us)
        {
            continue;
        }
        let partition = rows.i64(2, row).and_then(|number| number.try_into().ok());
        let evidence = Evidence {
            enqueued_at_us,
            partition: partition.unwrap_or_default(),
            sequence: rows.i64(3, row).unwrap_or_default(),
        };
        Seen::add(seen, device, evidence);
    }
}

/// Sightings that a test tells. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemorySightings {
    rows: Arc<Mutex<Vec<(StampId, String, Evidence)>>>,
}

impl MemorySightings {
    /// A row arrives.
    pub fn tell(&self, stamp: &StampId, device: &str, enqueued_at_us: i64) {
        let mut rows = self.rows();
        let sequence = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let evidence = Evidence {
            enqueued_at_us,
            partition: 0,
            sequence,
        };
        rows.push((stamp.clone(), device.to_owned(), evidence));
    }

    fn rows(&self) -> MutexGuard<'_, Vec<(StampId, String, Evidence)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sightings for MemorySightings {
    type Error = LakeError;

    async fn look(
        &self,
        stamp: &StampId,
        devices: &BTreeMap<String, i64>,
    ) -> Result<BTreeMap<String, Seen>, LakeError> {
        let mut seen = BTreeMap::new();
        for (at, device, evidence) in self.rows().iter() {
            let since_us = devices.get(device);
            if at == stamp && since_us.is_some_and(|since| evidence.enqueued_at_us >= *since) {
                Seen::add(&mut seen, device, *evidence);
            }
        }
        Ok(seen)
    }
}
