//! Metrics of the data path: from a partition to the tables.

use super::{Definition, Kind, Label, PARTITION, TABLE, TENANT, Unit};

/// In the order of the document.
pub(crate) const ALL: &[&Definition] = &[
    &BUILD_INFO,
    &EVENTS_RECEIVED,
    &RECEIVED_BYTES,
    &EVENTS,
    &REJECTED_EVENTS,
    &QUARANTINED_EVENTS,
    &OVER_QUOTA_EVENTS,
    &DUPLICATE_ROWS_DROPPED,
    &LATE_ROWS,
    &CLOCK_SUSPECT_ROWS,
    &NOTIFICATIONS,
    &GAP_EVENTS,
    &REDELIVERED_EVENTS,
    &CHECKPOINTS_UNUSABLE,
    &ROWS_WRITTEN,
    &WRITTEN_BYTES,
    &FRESHNESS,
    &COMMITS,
    &COMMIT_CONFLICTS,
    &FLUSH_DURATION,
    &FLUSH_ROWS,
    &FLUSH_BYTES,
    &LAG_EVENTS,
    &LAG_SECONDS,
    &OLDEST_UNFLUSHED_AGE,
    &BUFFERED_BYTES,
    &BUFFER_LIMIT_BYTES,
    &CHECKPOINT_SEQUENCE,
    &RETENTION_HEADROOM,
    &PARTITION_STATE,
    &PARTITIONS_OWNED,
    &OWNERSHIP_CLAIMS,
    &DECODED_BODIES,
    &INVARIANT_VIOLATIONS,
    &TRACE_SPANS,
];

pub(crate) const BUILD_INFO: Definition = Definition {
    name: "stamp_build_info",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[Label {
        name: "version",
        values: "the version of the program",
    }],
    help: "The running version; always 1.",
    reading: "Join on it to see which version a change came with.",
};

pub(crate) const EVENTS_RECEIVED: Definition = Definition {
    name: "stamp_events_received_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[PARTITION],
    help: "Events read from the hub.",
    reading: "The load. Zero on a partition that has lag: it does not move.",
};

pub(crate) const RECEIVED_BYTES: Definition = Definition {
    name: "stamp_received_bytes_total",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &[PARTITION],
    help: "Bytes of the bodies of the events read from the hub, as they came.",
    reading: "Divide by the events for the size of a message. A hub bills and throttles by bytes, too.",
};

pub(crate) const EVENTS: Definition = Definition {
    name: "stamp_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[
        TENANT,
        Label {
            name: "outcome",
            values: "`reading`, `rejected`, `quarantined` or `duplicate`: delivered again, tenant `none`",
        },
    ],
    help: "Events by what became of them.",
    reading: "The outcomes add up to the events received, less those of the batch in hand.",
};

pub(crate) const REJECTED_EVENTS: Definition = Definition {
    name: "stamp_rejected_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[
        TENANT,
        Label {
            name: "reason",
            values: "a stable code with a page in docs/errors, such as `out_of_range`",
        },
    ],
    help: "Events that are not valid by their tenant's schema, by reason.",
    reading: "A rise for one tenant is a changed firmware or schema: query the tenant's `rejected` table. `decoder_panic` is a fault of this program.",
};

pub(crate) const QUARANTINED_EVENTS: Definition = Definition {
    name: "stamp_quarantined_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[Label {
        name: "reason",
        values: "`no_device`, `bad_device_id`, `unknown_tenant`, `tenant_mismatch`, `unknown_source`, `tenant_backlog`, `over_quota` or `behind_mark`",
    }],
    help: "Events kept in the stamp's quarantine, by reason.",
    reading: "`tenant_mismatch` is a device that claims another tenant; `tenant_backlog` a tenant whose store takes no rows; `over_quota` a tenant that sends more than agreed.",
};

pub(crate) const OVER_QUOTA_EVENTS: Definition = Definition {
    name: "stamp_over_quota_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[
        TENANT,
        Label {
            name: "quota",
            values: "`events`, `bytes` or `devices`",
        },
    ],
    help: "Events kept in quarantine because their tenant was over a quota.",
    reading: "A steady share is a quota that is too low; a burst a flood, which costs nobody else anything.",
};

pub(crate) const DUPLICATE_ROWS_DROPPED: Definition = Definition {
    name: "stamp_duplicate_rows_dropped_total",
    kind: Kind::Counter,
    unit: Unit::Rows,
    labels: &[TABLE],
    help: "Rows that a table already had, by its mark, and that were not written again.",
    reading: "Grows after a restart or when two processes read one partition: normal, and the reason no row is there twice.",
};

pub(crate) const LATE_ROWS: Definition = Definition {
    name: "stamp_late_rows_total",
    kind: Kind::Counter,
    unit: Unit::Rows,
    labels: &[TENANT],
    help: "Rows that came after their window's lateness; they are written and marked.",
    reading: "A burst is a population of devices that was offline.",
};

pub(crate) const CLOCK_SUSPECT_ROWS: Definition = Definition {
    name: "stamp_clock_suspect_rows_total",
    kind: Kind::Counter,
    unit: Unit::Rows,
    labels: &[TENANT],
    help: "Rows whose device time is outside the bound around the hub's enqueued time.",
    reading: "A steady share is a device model with a wrong clock.",
};

pub(crate) const NOTIFICATIONS: Definition = Definition {
    name: "stamp_notifications_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[Label {
        name: "source",
        values: "`twin_change`, `device_lifecycle`, `device_connection_state`, `digital_twin_change` or another source of the hub",
    }],
    help: "Events that the IoT Hub itself produced; they are rows of `rejected`, never readings.",
    reading: "Expected when the hub routes such events here.",
};

pub(crate) const GAP_EVENTS: Definition = Definition {
    name: "stamp_gap_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[PARTITION],
    help: "Sequence numbers that the hub no longer had when they were due.",
    reading: "Above 0 is data loss before it reached the stamp: the `gaps` table has the ranges.",
};

pub(crate) const REDELIVERED_EVENTS: Definition = Definition {
    name: "stamp_redelivered_events_total",
    kind: Kind::Counter,
    unit: Unit::Events,
    labels: &[PARTITION],
    help: "Events that were delivered again, or were settled by an earlier run, and were dropped by their position.",
    reading: "Grows after restarts and reconnects; steady growth means two readers of a partition.",
};

pub(crate) const CHECKPOINTS_UNUSABLE: Definition = Definition {
    name: "stamp_checkpoints_unusable_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        PARTITION,
        Label {
            name: "reason",
            values: "`corrupt`, `foreign` (of another hub of this name), `lost` (marks but no checkpoint)",
        },
    ],
    help: "Starts of a partition whose checkpoint was no use, so that it is read from the oldest event.",
    reading: "Above 0: nothing is lost or doubled, but look at who touches the checkpoints.",
};

pub(crate) const ROWS_WRITTEN: Definition = Definition {
    name: "stamp_rows_written_total",
    kind: Kind::Counter,
    unit: Unit::Rows,
    labels: &[TENANT, TABLE],
    help: "Rows in committed table versions.",
    reading: "What the reader of the tables got. `quarantine` and `gaps` belong to the stamp: tenant `none`.",
};

pub(crate) const WRITTEN_BYTES: Definition = Definition {
    name: "stamp_written_bytes_total",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &[TENANT, TABLE],
    help: "Parquet bytes of the files in committed table versions.",
    reading: "Divide by the rows written for bytes a row; a tenant's share of the storage grows by it.",
};

pub(crate) const FRESHNESS: Definition = Definition {
    name: "stamp_freshness_seconds",
    kind: Kind::Histogram {
        buckets: &[
            1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0,
            86_400.0,
        ],
        reason: "the default flush age is a minute and the promise five; the upper ones tell hours of catching up apart",
    },
    unit: Unit::Seconds,
    labels: &[TENANT],
    help: "Time of each row of `readings` from the hub's enqueued time to its commit.",
    reading: "What a reader waits for. There is nothing to observe while nothing is committed: in an outage look at `stamp_lag_seconds` and `stamp_oldest_unflushed_age_seconds`.",
};

pub(crate) const TRACE_SPANS: Definition = Definition {
    name: "stamp_trace_spans_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[Label {
        name: "outcome",
        values: "`begun`; `sent`: the collector took it; `failed`: it did not, and is not asked again",
    }],
    help: "Spans of traces by outcome; only with `[telemetry.traces]`.",
    reading: "Begun and neither sent nor failed: not kept by `sample-ratio`, waiting, or left out because the queue was full. Nothing else depends on it.",
};

pub(crate) const COMMITS: Definition = Definition {
    name: "stamp_commits_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        TABLE,
        Label {
            name: "outcome",
            values: "`committed`; `found`: the reply was lost and reading back found it; `empty`: every row was there already; `failed`: given up, the rows stay buffered",
        },
    ],
    help: "Table commits by outcome.",
    reading: "`failed` above 0 for minutes: the store. `found` is the protocol at work.",
};

pub(crate) const COMMIT_CONFLICTS: Definition = Definition {
    name: "stamp_commit_conflicts_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[TABLE],
    help: "Commit attempts that lost the race for a table version and were made again on the next.",
    reading: "Steady conflicts on one table: more than one process writes it.",
};

pub(crate) const FLUSH_DURATION: Definition = Definition {
    name: "stamp_flush_duration_seconds",
    kind: Kind::Histogram {
        buckets: &[
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ],
        reason: "a local flush takes tens of milliseconds, one to Blob Storage a few hundred; from 30 s a tenant counts as stalled",
    },
    unit: Unit::Seconds,
    labels: &[],
    help: "Time from the start of a tenant's flush to its last commit: sort, encode, write, commit.",
    reading: "Freshness is the flush age plus this.",
};

pub(crate) const FLUSH_ROWS: Definition = Definition {
    name: "stamp_flush_rows",
    kind: Kind::Histogram {
        buckets: &[10.0, 100.0, 1e3, 1e4, 5e4, 1e5, 2e5, 5e5, 1e6],
        reason: "the default flush is at 200,000 rows; most rows in small buckets mean that age makes the flush",
    },
    unit: Unit::Rows,
    labels: &[],
    help: "Readings in one flush of a tenant.",
    reading: "Small flushes of one tenant share a file; where that is small too, raise the flush age.",
};

pub(crate) const FLUSH_BYTES: Definition = Definition {
    name: "stamp_flush_bytes",
    kind: Kind::Histogram {
        buckets: &[
            4_096.0,
            16_384.0,
            65_536.0,
            262_144.0,
            1_048_576.0,
            4_194_304.0,
            16_777_216.0,
            67_108_864.0,
        ],
        reason: "powers of four from one page to 64 MiB, the largest file a fresh flush should make",
    },
    unit: Unit::Bytes,
    labels: &[],
    help: "Encoded bytes of one flush of a tenant, all tables.",
    reading: "Divide by the rows for bytes a row.",
};

pub(crate) const LAG_EVENTS: Definition = Definition {
    name: "stamp_lag_events",
    kind: Kind::Gauge,
    unit: Unit::Events,
    labels: &[PARTITION],
    help: "Events in the partition after the last one read.",
    reading: "Growing: the stamp is slower than its devices, or the partition is paused.",
};

pub(crate) const LAG_SECONDS: Definition = Definition {
    name: "stamp_lag_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &[PARTITION],
    help: "Age, by the hub's enqueued time, of the last event read; 0 when nothing is unread.",
    reading: "How far behind the tables start. While the hub does not say how far the partition reaches, the time since it last did: there may be unread events that nobody knows of.",
};

pub(crate) const OLDEST_UNFLUSHED_AGE: Definition = Definition {
    name: "stamp_oldest_unflushed_age_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &[TENANT],
    help: "Longest time that a row of the tenant has waited in memory, over all partitions; 0 when none waits.",
    reading: "Above the configured flush age plus a flush: this tenant's store does not take rows.",
};

pub(crate) const BUFFERED_BYTES: Definition = Definition {
    name: "stamp_buffered_bytes",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    labels: &[],
    help: "Bytes in flight between the hub and the store.",
    reading: "At the limit, reading waits: the store is the bottleneck.",
};

pub(crate) const BUFFER_LIMIT_BYTES: Definition = Definition {
    name: "stamp_buffer_limit_bytes",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    labels: &[],
    help: "The configured `buffer-max`.",
    reading: "The ceiling of `stamp_buffered_bytes`.",
};

pub(crate) const CHECKPOINT_SEQUENCE: Definition = Definition {
    name: "stamp_checkpoint_sequence",
    kind: Kind::Gauge,
    unit: Unit::Sequence,
    labels: &[PARTITION],
    help: "Sequence number of the partition's checkpoint.",
    reading: "Stands still while events arrive: a tenant holds it back.",
};

pub(crate) const RETENTION_HEADROOM: Definition = Definition {
    name: "stamp_retention_headroom_seconds",
    kind: Kind::Gauge,
    unit: Unit::Seconds,
    labels: &[PARTITION],
    help: "How long until the hub drops the oldest event that is not yet safe in a table.",
    reading: "The first number to look at in an outage: at 0 data is lost. While the hub does not answer, an event is assumed that came right after its last answer.",
};

pub(crate) const PARTITION_STATE: Definition = Definition {
    name: "stamp_partition_state",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[
        PARTITION,
        Label {
            name: "state",
            values: "`opening`, `reading`, `paused`: given up for now, `draining` or `stopped`",
        },
    ],
    help: "1 for the state the partition is in, 0 for the others.",
    reading: "`paused` for longer than the longest pause of the retry policy needs a person.",
};

pub(crate) const PARTITIONS_OWNED: Definition = Definition {
    name: "stamp_partitions_owned",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Partitions that this process owns: its share of the replicas', or its fixed ones.",
    reading: "Over all replicas the sum is the number of partitions; less for longer than `expire-after` means that some are read by nobody.",
};

pub(crate) const OWNERSHIP_CLAIMS: Definition = Definition {
    name: "stamp_ownership_claims_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[Label {
        name: "outcome",
        values: "`won`; `lost`: another replica has the partition now; `failed`: the store of the ownership blobs did not answer",
    }],
    help: "Claims on partitions by outcome, and renewals that were lost or failed.",
    reading: "`won` and `lost` move when replicas come and go and stand still else. `failed`: what is owned is kept, nothing new is taken.",
};

pub(crate) const DECODED_BODIES: Definition = Definition {
    name: "stamp_decoded_bodies_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[Label {
        name: "path",
        values: "`shape`: by a learned message shape; `general`: by the general decoder",
    }],
    help: "Bodies by the decoder that read them.",
    reading: "A falling share of `shape` costs CPU, never correctness.",
};

pub(crate) const INVARIANT_VIOLATIONS: Definition = Definition {
    name: "stamp_invariant_violations_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[Label {
        name: "id",
        values: "`I0` to `I12`, as stamp-model numbers them",
    }],
    help: "Times that a promise of the ingest protocol was seen broken.",
    reading: "Must be 0. Alert at 1 and keep the logs.",
};
