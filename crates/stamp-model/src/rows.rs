//! Rows of the tables beside readings: rollups, rejected, quarantine and gaps.

use bytes::Bytes;

use crate::{Dictionary, PartitionId, Properties, Text};

/// Mergeable partial aggregates, one row per (device, metric, window), as columns.
#[derive(Debug, Clone, Default)]
pub struct RollupRows {
    /// Where the rows came from, unless [`Self::partitions`] says it for each.
    pub partition: u32,
    /// Where each row came from, after [`Self::append`].
    pub partitions: Option<Vec<u32>>,
    /// Length of every window in seconds.
    pub window_s: i32,
    /// Distinct device ids.
    pub devices: Dictionary,
    /// Distinct metric names.
    pub metrics: Dictionary,
    /// Key of the row's device.
    pub device: Vec<u32>,
    /// Key of the row's metric.
    pub metric: Vec<u32>,
    /// Start of the window, inclusive.
    pub window_start_us: Vec<i64>,
    /// Values in this partial, at least 1.
    pub count: Vec<i64>,
    /// Sum of the values.
    pub sum: Vec<f64>,
    /// Smallest value.
    pub min: Vec<f64>,
    /// Largest value.
    pub max: Vec<f64>,
    /// Value with the earliest time; the lowest sequence wins a tie.
    pub first: Vec<f64>,
    /// Its time.
    pub first_ts_us: Vec<i64>,
    /// Value with the latest time; the highest sequence wins a tie.
    pub last: Vec<f64>,
    /// Its time.
    pub last_ts_us: Vec<i64>,
    /// Sum of squared differences from the partial's own mean (Welford's M2).
    pub m2: Vec<f64>,
    /// How many of `count` were late.
    pub late_count: Vec<i64>,
    /// Lowest sequence number in the partial.
    pub sequence_first: Vec<i64>,
    /// Highest sequence number in the partial.
    pub sequence_last: Vec<i64>,
}

impl RollupRows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.is_empty()
    }

    /// Appends the rows of `other`, which has windows of the same length. Each row then has its own
    /// partition, if it had not.
    pub fn append(&mut self, mut other: Self) {
        let each = self
            .partitions
            .get_or_insert_with(|| vec![self.partition; self.count.len()]);
        match &mut other.partitions {
            Some(of_other) => each.append(of_other),
            None => each.resize(each.len() + other.count.len(), other.partition),
        }
        let devices = self.devices.adopt(&other.devices);
        let device = other.device.iter().map(|&key| devices[key as usize]);
        self.device.extend(device);
        let metrics = self.metrics.adopt(&other.metrics);
        let metric = other.metric.iter().map(|&key| metrics[key as usize]);
        self.metric.extend(metric);
        self.window_start_us.append(&mut other.window_start_us);
        self.count.append(&mut other.count);
        self.sum.append(&mut other.sum);
        self.min.append(&mut other.min);
        self.max.append(&mut other.max);
        self.first.append(&mut other.first);
        self.first_ts_us.append(&mut other.first_ts_us);
        self.last.append(&mut other.last);
        self.last_ts_us.append(&mut other.last_ts_us);
        self.m2.append(&mut other.m2);
        self.late_count.append(&mut other.late_count);
        self.sequence_first.append(&mut other.sequence_first);
        self.sequence_last.append(&mut other.sequence_last);
    }
}

/// An event kept as it came, with the reason: a row of `rejected` or of `quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// Stable code with a page in docs/errors.
    pub reason: &'static str,
    /// For a person: what exactly, where in the body.
    pub detail: String,
    /// The schema rule that was broken, such as `fields.temp.max`; empty when none applies.
    pub rule: String,
    /// In quarantine: the tenant the event belongs to or claims, when there is one.
    pub tenant: Option<String>,
    /// Hub-stamped device id, when there is one.
    pub device_id: Option<Text>,
    /// Where it came from.
    pub partition: PartitionId,
    /// Its position.
    pub sequence: i64,
    /// The broker's offset.
    pub offset: Text,
    /// The hub's enqueued time.
    pub enqueued_at_us: i64,
    /// As the device set it.
    pub content_type: Option<Text>,
    /// Application properties, and the other system properties under their own names.
    pub properties: Properties,
    /// The body as it came, compressed if it came compressed.
    pub body: Bytes,
}

impl RawRow {
    /// What this row counts for against byte limits.
    #[must_use]
    pub fn size(&self) -> usize {
        let properties: usize = self
            .properties
            .iter()
            .map(|(k, v)| k.len() + v.len() + 64)
            .sum();
        self.body.len() + self.detail.len() + self.rule.len() + properties + 384
    }
}

/// Why an event is in the stamp's quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuarantineReason {
    /// The hub stamped no device id, so no tenant can be known.
    NoDevice,
    /// The hub-stamped device id is not one IoT Hub could have given out.
    BadDeviceId,
    /// The device is in no tenant's directory.
    UnknownTenant,
    /// A property claims another tenant than the directory's.
    TenantMismatch,
    /// A message source this version does not know.
    UnknownSource,
    /// The tenant's buffer is full because its store does not take rows.
    TenantBacklog,
    /// The tenant sent more than its quota.
    OverQuota,
    /// The tenant's tables were past the event before it was in any: it was on its way elsewhere
    /// when the service was killed.
    BehindMark,
}

impl QuarantineReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoDevice,
        Self::BadDeviceId,
        Self::UnknownTenant,
        Self::TenantMismatch,
        Self::UnknownSource,
        Self::TenantBacklog,
        Self::OverQuota,
        Self::BehindMark,
    ];

    /// The stable code in the `reason` column, with a page in docs/errors.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoDevice => "no_device",
            Self::BadDeviceId => "bad_device_id",
            Self::UnknownTenant => "unknown_tenant",
            Self::TenantMismatch => "tenant_mismatch",
            Self::UnknownSource => "unknown_source",
            Self::TenantBacklog => "tenant_backlog",
            Self::OverQuota => "over_quota",
            Self::BehindMark => "behind_mark",
        }
    }

    /// The reason with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Whether it depends on the moment and not on the event alone: another owner of the partition
    /// may have written the event to its tenant's tables. The row in quarantine then counts as
    /// *returned*, and the one in the tenant's table holds (docs/adr/0004-tenancy.md).
    #[must_use]
    pub fn depends_on_moment(self) -> bool {
        matches!(
            self,
            Self::TenantBacklog | Self::OverQuota | Self::BehindMark
        )
    }
}

/// An event that a replay has decided to bring in: a row of `replays`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRow {
    /// Its number in the tenant's `replays`, from 1, without holes.
    pub number: i64,
    /// Where it was: `rejected` or `quarantine`.
    pub source: &'static str,
    /// The reason it was there for.
    pub reason: String,
    /// Where it came from.
    pub partition: PartitionId,
    /// Its position.
    pub sequence: i64,
    /// The hub's enqueued time.
    pub enqueued_at_us: i64,
    /// Where it goes: `reading` or `rejected`.
    pub outcome: &'static str,
    /// When that was decided, by the replaying machine's clock.
    pub replayed_at_us: i64,
}

/// Sequence numbers that the hub no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// Which partition.
    pub partition: PartitionId,
    /// First missing sequence number.
    pub sequence_first: i64,
    /// Last missing sequence number, at least `sequence_first`.
    pub sequence_last: i64,
    /// Enqueued time of the first event after the gap.
    pub next_enqueued_at_us: i64,
    /// Why, as far as it is known, such as `retention`.
    pub reason: &'static str,
}
