//! The data path's handles: methods named after what happened, labels from closed sets.

mod unflushed;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounterVec};
use stamp_model::{Invariant, MessageSource, PartitionId, QuarantineReason, StampId, TenantId};

use crate::catalogue::consumer as catalogue;
use crate::labels::TenantLabels;
use crate::{Registry, TelemetryError};
use unflushed::UnflushedAges;

/// How a table commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// A new version with these rows.
    Committed,
    /// The reply was lost; reading back found the rows committed.
    Found,
    /// Every row was in the table already.
    Empty,
    /// Given up; the rows are still buffered or still at the source.
    Failed,
}

impl CommitOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Found => "found",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

/// What became of a claim on a partition's ownership, or of its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The partition was claimed.
    Won,
    /// Another owner has it: it was first, or it took what was held.
    Lost,
    /// The store of the ownership blobs did not answer. What is held is kept.
    Failed,
}

impl ClaimOutcome {
    const ALL: [Self; 3] = [Self::Won, Self::Lost, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// What the worker of a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Finding its position and opening its receiver.
    Opening,
    /// Reading; also while it waits for memory.
    Reading,
    /// Given up for now: the hub or the store does not answer. Nothing is lost.
    Paused,
    /// Stopping: flushing what it has.
    Draining,
    /// Not reading any more.
    Stopped,
}

impl PartitionState {
    const ALL: [Self; 5] = [
        Self::Opening,
        Self::Reading,
        Self::Paused,
        Self::Draining,
        Self::Stopped,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Reading => "reading",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// The metrics of one stamp's data path. Cloning is cheap and gives the same metrics.
///
/// Call these once a batch, not once an event: each call looks up its series. Counts are what
/// happened since the last call. A `table` is a table's name, a `reason` a stable code.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tenants: TenantLabels,
    unflushed: UnflushedAges,
    events_received: IntCounterVec,
    received_bytes: IntCounterVec,
    events: IntCounterVec,
    rejected: IntCounterVec,
    quarantined: IntCounterVec,
    over_quota: IntCounterVec,
    duplicate_rows_dropped: IntCounterVec,
    late_rows: IntCounterVec,
    clock_suspect_rows: IntCounterVec,
    notifications: IntCounterVec,
    gap_events: IntCounterVec,
    redelivered_events: IntCounterVec,
    checkpoints_unusable: IntCounterVec,
    rows_written: IntCounterVec,
    written_bytes: IntCounterVec,
    freshness: HistogramVec,
    commits: IntCounterVec,
    commit_conflicts: IntCounterVec,
    flush_duration: Histogram,
    flush_rows: Histogram,
    flush_bytes: Histogram,
    lag_events: GaugeVec,
    lag_seconds: GaugeVec,
    buffered_bytes: Gauge,
    buffer_limit_bytes: Gauge,
    checkpoint_sequence: GaugeVec,
    retention_headroom: GaugeVec,
    partition_state: GaugeVec,
    partitions_owned: Gauge,
    ownership_claims: IntCounterVec,
    decoded_bodies: IntCounterVec,
    invariant_violations: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics of `stamp`.
    ///
    /// # Errors
    /// [`TelemetryError::Registered`] when this stamp's metrics are in the registry already.
    pub fn new(registry: &Registry, stamp: &StampId) -> Result<Self, TelemetryError> {
        let registration = registry.of(stamp);
        let build_info = registration.gauges(&catalogue::BUILD_INFO)?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let metrics = Self(Arc::new(Inner {
            tenants: TenantLabels::new(),
            unflushed: UnflushedAges::new(registration.gauges(&catalogue::OLDEST_UNFLUSHED_AGE)?),
            events_received: registration.counters(&catalogue::EVENTS_RECEIVED)?,
            received_bytes: registration.counters(&catalogue::RECEIVED_BYTES)?,
            events: registration.counters(&catalogue::EVENTS)?,
            rejected: registration.counters(&catalogue::REJECTED_EVENTS)?,
            quarantined: registration.counters(&catalogue::QUARANTINED_EVENTS)?,
            over_quota: registration.counters(&catalogue::OVER_QUOTA_EVENTS)?,
            duplicate_rows_dropped: registration.counters(&catalogue::DUPLICATE_ROWS_DROPPED)?,
            late_rows: registration.counters(&catalogue::LATE_ROWS)?,
            clock_suspect_rows: registration.counters(&catalogue::CLOCK_SUSPECT_ROWS)?,
            notifications: registration.counters(&catalogue::NOTIFICATIONS)?,
            gap_events: registration.counters(&catalogue::GAP_EVENTS)?,
            redelivered_events: registration.counters(&catalogue::REDELIVERED_EVENTS)?,
            checkpoints_unusable: registration.counters(&catalogue::CHECKPOINTS_UNUSABLE)?,
            rows_written: registration.counters(&catalogue::ROWS_WRITTEN)?,
            written_bytes: registration.counters(&catalogue::WRITTEN_BYTES)?,
            freshness: registration.histograms(&catalogue::FRESHNESS)?,
            commits: registration.counters(&catalogue::COMMITS)?,
            commit_conflicts: registration.counters(&catalogue::COMMIT_CONFLICTS)?,
            flush_duration: registration.histogram(&catalogue::FLUSH_DURATION)?,
            flush_rows: registration.histogram(&catalogue::FLUSH_ROWS)?,
            flush_bytes: registration.histogram(&catalogue::FLUSH_BYTES)?,
            lag_events: registration.gauges(&catalogue::LAG_EVENTS)?,
            lag_seconds: registration.gauges(&catalogue::LAG_SECONDS)?,
            buffered_bytes: registration.gauge(&catalogue::BUFFERED_BYTES)?,
            buffer_limit_bytes: registration.gauge(&catalogue::BUFFER_LIMIT_BYTES)?,
            checkpoint_sequence: registration.gauges(&catalogue::CHECKPOINT_SEQUENCE)?,
            retention_headroom: registration.gauges(&catalogue::RETENTION_HEADROOM)?,
            partition_state: registration.gauges(&catalogue::PARTITION_STATE)?,
            partitions_owned: registration.gauge(&catalogue::PARTITIONS_OWNED)?,
            ownership_claims: registration.counters(&catalogue::OWNERSHIP_CLAIMS)?,
            decoded_bodies: registration.counters(&catalogue::DECODED_BODIES)?,
            invariant_violations: registration.counters(&catalogue::INVARIANT_VIOLATIONS)?,
        }));
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Counters whose label values are known beforehand exist from the start: a rate sees the
    /// first event only when the series was there before it.
    fn start_at_zero(&self) {
        for invariant in Invariant::ALL {
            self.count(&self.0.invariant_violations, &[invariant.id()], 0);
        }
        for reason in QuarantineReason::ALL {
            self.count(&self.0.quarantined, &[reason.code()], 0);
        }
        for outcome in ClaimOutcome::ALL {
            self.count(&self.0.ownership_claims, &[outcome.label()], 0);
        }
        for path in ["shape", "general"] {
            self.count(&self.0.decoded_bodies, &[path], 0);
        }
    }

    fn count(&self, counters: &IntCounterVec, labels: &[&str], by: u64) {
        counters.with_label_values(labels).inc_by(by);
    }

    /// Events that were read from a partition, and the bytes of their bodies.
    pub fn received(&self, partition: PartitionId, events: u64, bytes: u64) {
        let partition = partition.to_string();
        self.count(&self.0.events_received, &[&partition], events);
        self.count(&self.0.received_bytes, &[&partition], bytes);
    }

    /// Events that became readings.
    pub fn readings(&self, tenant: &TenantId, events: u64) {
        self.count(
            &self.0.events,
            &[&self.0.tenants.label(Some(tenant)), "reading"],
            events,
        );
    }

    /// Events that are not valid, for one reason.
    pub fn rejected(&self, tenant: &TenantId, reason: &'static str, events: u64) {
        let tenant = self.0.tenants.label(Some(tenant));
        self.count(&self.0.events, &[&tenant, "rejected"], events);
        self.count(&self.0.rejected, &[&tenant, reason], events);
    }

    /// Events that went to the stamp's quarantine; `tenant` when the directory knows one.
    pub fn quarantined(&self, tenant: Option<&TenantId>, reason: QuarantineReason, events: u64) {
        self.count(
            &self.0.events,
            &[&self.0.tenants.label(tenant), "quarantined"],
            events,
        );
        self.count(&self.0.quarantined, &[reason.code()], events);
    }

    /// Events that went to quarantine because their tenant was over a quota: `events`, `bytes` or
    /// `devices`. They count as quarantined besides.
    pub fn over_quota(&self, tenant: &TenantId, quota: &'static str, events: u64) {
        let tenant = self.0.tenants.label(Some(tenant));
        self.count(&self.0.over_quota, &[&tenant, quota], events);
    }

    /// Rows that a table's mark said it has, and that were not written again.
    pub fn dropped_by_mark(&self, table: &'static str, rows: u64) {
        self.count(&self.0.duplicate_rows_dropped, &[table], rows);
    }

    /// Rows after their window's lateness.
    pub fn late(&self, tenant: &TenantId, rows: u64) {
        self.count(
            &self.0.late_rows,
            &[&self.0.tenants.label(Some(tenant))],
            rows,
        );
    }

    /// Rows with a device time that cannot be right.
    pub fn clock_suspect(&self, tenant: &TenantId, rows: u64) {
        self.count(
            &self.0.clock_suspect_rows,
            &[&self.0.tenants.label(Some(tenant))],
            rows,
        );
    }

    /// Events the hub itself produced.
    pub fn notifications(&self, source: &MessageSource, events: u64) {
        self.count(&self.0.notifications, &[source.label()], events);
    }

    /// Sequence numbers the hub no longer had.
    pub fn gap(&self, partition: PartitionId, events: u64) {
        self.count(&self.0.gap_events, &[&partition.to_string()], events);
    }

    /// Events that came again and were dropped by their position.
    pub fn redelivered(&self, partition: PartitionId, events: u64) {
        let tenant = self.0.tenants.label(None);
        self.count(&self.0.events, &[&tenant, "duplicate"], events);
        let partition = partition.to_string();
        self.count(&self.0.redelivered_events, &[&partition], events);
    }

    /// A partition starts without a usable checkpoint: `corrupt`, `foreign` or `lost`.
    pub fn checkpoint_unusable(&self, partition: PartitionId, reason: &'static str) {
        let partition = partition.to_string();
        self.count(&self.0.checkpoints_unusable, &[&partition, reason], 1);
    }

    /// Rows in a committed version and their Parquet bytes; no tenant for the stamp's own tables.
    pub fn written(&self, tenant: Option<&TenantId>, table: &'static str, rows: u64, bytes: u64) {
        let tenant = self.0.tenants.label(tenant);
        self.count(&self.0.rows_written, &[&tenant, table], rows);
        self.count(&self.0.written_bytes, &[&tenant, table], bytes);
    }

    /// How long each row of a commit to `readings` took, in microseconds since its event was
    /// enqueued. Below 0, as by two clocks, counts as 0.
    pub fn fresh(&self, tenant: &TenantId, ages_us: impl IntoIterator<Item = i64>) {
        let tenant = self.0.tenants.label(Some(tenant));
        // Local: one update of the shared series for all rows.
        let ages = self.0.freshness.with_label_values(&[&*tenant]).local();
        for age_us in ages_us {
            ages.observe(age_us.max(0) as f64 / 1e6);
        }
    }

    /// A commit that ended.
    pub fn commit(&self, table: &'static str, outcome: CommitOutcome) {
        self.count(&self.0.commits, &[table, outcome.label()], 1);
    }

    /// Commit attempts that another writer's commit overtook.
    pub fn commit_conflicts(&self, table: &'static str, attempts: u64) {
        self.count(&self.0.commit_conflicts, &[table], attempts);
    }

    /// A tenant's flush that ended: its time, its readings, its encoded bytes.
    pub fn flushed(&self, duration: Duration, rows: u64, bytes: u64) {
        self.0.flush_duration.observe(duration.as_secs_f64());
        self.0.flush_rows.observe(rows as f64);
        self.0.flush_bytes.observe(bytes as f64);
    }

    /// How far a partition is behind: events after the last one read, and that one's age.
    pub fn lag(&self, partition: PartitionId, events: u64, age: Duration) {
        let partition = partition.to_string();
        self.0
            .lag_events
            .with_label_values(&[&partition])
            .set(events as f64);
        self.0
            .lag_seconds
            .with_label_values(&[&partition])
            .set(age.as_secs_f64());
    }

    /// The age of the oldest buffered row of each tenant in one partition; tenants that are not
    /// named have none. Replaces what was last said for this partition.
    pub fn unflushed<'a>(
        &self,
        partition: PartitionId,
        ages: impl IntoIterator<Item = (&'a TenantId, Duration)>,
    ) {
        let labelled = ages
            .into_iter()
            .map(|(tenant, age)| (self.0.tenants.label(Some(tenant)), age.as_secs_f64()));
        self.0.unflushed.set(partition, labelled);
    }

    /// Bytes in flight now.
    pub fn buffered(&self, bytes: u64) {
        self.0.buffered_bytes.set(bytes as f64);
    }

    /// The configured most bytes in flight.
    pub fn buffer_limit(&self, bytes: u64) {
        self.0.buffer_limit_bytes.set(bytes as f64);
    }

    /// Where a partition's checkpoint is.
    pub fn checkpoint(&self, partition: PartitionId, sequence: i64) {
        let partition = partition.to_string();
        self.0
            .checkpoint_sequence
            .with_label_values(&[&partition])
            .set(sequence as f64);
    }

    /// How long until the hub drops what is not yet in a table.
    pub fn retention_headroom(&self, partition: PartitionId, headroom: Duration) {
        let partition = partition.to_string();
        self.0
            .retention_headroom
            .with_label_values(&[&partition])
            .set(headroom.as_secs_f64());
    }

    /// What a partition's worker does from now on.
    pub fn partition_state(&self, partition: PartitionId, state: PartitionState) {
        let partition = partition.to_string();
        // There before its first loss, so that a rate sees that one.
        self.count(&self.0.gap_events, &[&partition], 0);
        for each in PartitionState::ALL {
            let is = if each == state { 1.0 } else { 0.0 };
            self.0
                .partition_state
                .with_label_values(&[&partition, each.label()])
                .set(is);
        }
    }

    /// A partition that this process no longer reads: others report how far it is.
    pub fn partition_left(&self, partition: PartitionId) {
        self.partition_state(partition, PartitionState::Stopped);
        self.unflushed(partition, []);
        let partition = partition.to_string();
        for gauges in [
            &self.0.lag_events,
            &self.0.lag_seconds,
            &self.0.checkpoint_sequence,
            &self.0.retention_headroom,
        ] {
            // An error only says that the series was never there.
            let _ = gauges.remove_label_values(&[&partition]);
        }
    }

    /// How many partitions this process owns.
    pub fn partitions_owned(&self, partitions: usize) {
        self.0.partitions_owned.set(partitions as f64);
    }

    /// A claim on a partition, or a renewal that was not simply done.
    pub fn ownership_claim(&self, outcome: ClaimOutcome) {
        self.count(&self.0.ownership_claims, &[outcome.label()], 1);
    }

    /// Bodies by decoder: by a learned shape, and by the general one.
    pub fn decoded(&self, by_shape: u64, general: u64) {
        self.count(&self.0.decoded_bodies, &["shape"], by_shape);
        self.count(&self.0.decoded_bodies, &["general"], general);
    }

    /// A promise was seen broken.
    pub fn violated(&self, invariant: Invariant) {
        self.count(&self.0.invariant_violations, &[invariant.id()], 1);
    }
}
