//! One stamp from its hub to its tables.

use super::{Board, Subject, lines, row, stack, stat};

pub(super) fn board() -> Board {
    Board {
        uid: "stampworks-stamp",
        title: "Stampworks / Stamp",
        description: "One stamp from its hub to its tables: what comes in, what becomes of it, and what holds it up.",
        subject: Subject::Stamp,
        rows: vec![now(), events(), hub(), tables(), process()],
    }
}

fn now() -> super::Row {
    row(
        "Now",
        vec![
            stat("Longest wait", "s", "The longest that an event of any tenant can have waited so far.")
                .query("wait", r#"max(stamp_tenant:oldest_waiting_seconds:max{stamp=~"$stamp"})"#)
                .limits(120.0, 300.0)
                .runbook("freshness"),
            stat("Unread events now", "short", "In the hub after the last one read.")
                .query("events", r#"sum(stamp_lag_events{stamp=~"$stamp"})"#)
                .runbook("freshness"),
            stat("Least headroom", "s", "Until the hub drops events that are in no table yet.")
                .query("headroom", r#"min(stamp_retention_headroom_seconds{stamp=~"$stamp"})"#)
                .limits(43_200.0, 21_600.0)
                .runbook("retention-headroom"),
            stat("Partitions read", "none", "Owned by the processes together; it should be all of the hub's.")
                .query("partitions", r#"sum(stamp_partitions_owned{stamp=~"$stamp"})"#)
                .runbook("partition-unowned"),
            stat("Fullest buffer", "percentunit", "Of the fullest process. Full means that reading waits for the store.")
                .query("buffer", r#"max(stamp_buffered_bytes{stamp=~"$stamp"} / stamp_buffer_limit_bytes{stamp=~"$stamp"})"#)
                .limits(0.8, 0.95)
                .runbook("buffer-full"),
            stat("Broken promises in all", "none", "Invariants of the protocol that were seen broken. Must be 0.")
                .query("violations", r#"sum(stamp_invariant_violations_total{stamp=~"$stamp"})"#)
                .limits(1.0, 1.0)
                .runbook("invariant-violated"),
        ],
    )
}

fn events() -> super::Row {
    row(
        "Events",
        vec![
            stack("What became of the events", "eps", "The outcomes add up to the events received.")
                .query("{{outcome}}", r#"sum by (outcome) (rate(stamp_events_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            stack("Received by tenant", "eps", "Events by the tenant of their device; `none` has no tenant.")
                .query("{{tenant}}", r#"topk(20, sum by (tenant) (rate(stamp_events_total{stamp=~"$stamp"}[$__rate_interval])))"#),
            lines("Body bytes", "Bps", "Bytes of the bodies that were read.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_received_bytes_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            stack("Rejected by reason", "eps", "Each reason has a page in docs/errors.")
                .query("{{reason}}", r#"sum by (reason) (rate(stamp_rejected_events_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("rejected-ratio"),
            stack("Quarantined by reason", "eps", "Kept by the stamp: nobody's, over a quota, or overflow.")
                .query("{{reason}}", r#"sum by (reason) (rate(stamp_quarantined_events_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("quarantine-ratio"),
            lines("Late and suspect", "rowsps", "Rows after their window's lateness, and with a clock that cannot be right.")
                .query("late", r#"sum(rate(stamp_late_rows_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .query("clock suspect", r#"sum(rate(stamp_clock_suspect_rows_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Delivered again", "eps", "Dropped by position, and rows dropped by a table's mark. Normal after a restart.")
                .query("by position", r#"sum(rate(stamp_redelivered_events_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .query("by mark, {{table}}", r#"sum by (table) (rate(stamp_duplicate_rows_dropped_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Lost at the hub", "short", "Sequence numbers that the hub no longer had, in the time shown.")
                .query("partition {{partition}}", r#"sum by (partition) (increase(stamp_gap_events_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .limits(1.0, 1.0)
                .runbook("gap"),
            lines("The hub's own events", "eps", "Twin changes, life cycle and the like; rows of `rejected`.")
                .query("{{source}}", r#"sum by (source) (rate(stamp_notifications_total{stamp=~"$stamp"}[$__rate_interval]))"#),
        ],
    )
}

fn hub() -> super::Row {
    row(
        "Partitions",
        vec![
            lines("Received by partition", "eps", "Uneven partitions are uneven devices.")
                .query("{{partition}}", r#"sum by (partition) (rate(stamp_events_received_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Unread events", "short", "After the last one read.")
                .query("{{partition}}", r#"max by (partition) (stamp_lag_events{stamp=~"$stamp"})"#)
                .runbook("partition-stuck"),
            lines("Lag", "s", "Age of the last event read, while others wait.")
                .query("{{partition}}", r#"max by (partition) (stamp_lag_seconds{stamp=~"$stamp"})"#)
                .limits(120.0, 300.0)
                .runbook("freshness"),
            lines("Headroom", "s", "Until the hub drops what is in no table yet.")
                .query("{{partition}}", r#"min by (partition) (stamp_retention_headroom_seconds{stamp=~"$stamp"})"#)
                .limits(43_200.0, 21_600.0)
                .runbook("retention-headroom"),
            stack("Partitions by state", "none", "`paused` is given up for now.")
                .query("{{state}}", r#"sum by (state) (stamp_partition_state{stamp=~"$stamp",state!="stopped"})"#)
                .runbook("partition-stuck"),
            lines("Checkpoint moves", "eps", "Sequence numbers a second. 0 while events come: a tenant holds it back.")
                .query("{{partition}}", r#"max by (partition) (deriv(stamp_checkpoint_sequence{stamp=~"$stamp"}[5m]))"#)
                .runbook("partition-stuck"),
            lines("Ownership", "short", "Claims on partitions, in the time of a point.")
                .query("{{outcome}}", r#"sum by (outcome) (increase(stamp_ownership_claims_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("ownership-failing"),
            lines("Checkpoints without use", "short", "Partitions that began at their oldest event.")
                .query("{{partition}} {{reason}}", r#"sum by (partition, reason) (increase(stamp_checkpoints_unusable_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("checkpoint-unusable"),
            lines("Partitions by process", "none", "Uneven for longer than `expire-after` means that claims fail.")
                .query("{{instance}}", r#"sum by (instance) (stamp_partitions_owned{stamp=~"$stamp"})"#),
        ],
    )
}

fn tables() -> super::Row {
    row(
        "Tables",
        vec![
            lines("Freshness of rows", "s", "From the hub's enqueued time to the commit in `readings`.")
                .query("median", r#"histogram_quantile(0.5, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .query("95 %", r#"histogram_quantile(0.95, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .query("99 %", r#"histogram_quantile(0.99, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .limits(120.0, 300.0)
                .runbook("freshness"),
            stack("Rows written", "rowsps", "Rows of committed versions.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_rows_written_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            stack("Bytes written", "Bps", "Parquet bytes of committed versions.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_written_bytes_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Commits", "ops", "`found` is a lost reply that was read back; `failed` was given up.")
                .query("{{outcome}}", r#"sum by (outcome) (rate(stamp_commits_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("commits-failing"),
            lines("Conflicts", "ops", "Attempts that lost the race for a version and were made again.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_commit_conflicts_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Duration of a flush", "s", "Sort, encode, write, commit.")
                .query("median", r#"histogram_quantile(0.5, sum by (le) (rate(stamp_flush_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .query("99 %", r#"histogram_quantile(0.99, sum by (le) (rate(stamp_flush_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .limits(10.0, 30.0)
                .runbook("buffer-full"),
            lines("Rows of a flush", "short", "Small flushes make small files.")
                .query("mean", r#"sum(rate(stamp_flush_rows_sum{stamp=~"$stamp"}[$__rate_interval])) / sum(rate(stamp_flush_rows_count{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Bytes of a flush", "bytes", "Encoded, all tables.")
                .query("mean", r#"sum(rate(stamp_flush_bytes_sum{stamp=~"$stamp"}[$__rate_interval])) / sum(rate(stamp_flush_bytes_count{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Oldest row in memory", "s", "By tenant. Above `flush-age`: its store does not take rows.")
                .query("{{tenant}}", r#"topk(20, max by (tenant) (stamp_oldest_unflushed_age_seconds{stamp=~"$stamp"}))"#)
                .limits(120.0, 300.0)
                .runbook("tenant-backlog"),
        ],
    )
}

fn process() -> super::Row {
    row(
        "Processes",
        vec![
            lines("Buffer", "bytes", "Bytes in flight between the hub and the store, and their limit.")
                .query("{{instance}}", r#"sum by (instance) (stamp_buffered_bytes{stamp=~"$stamp"})"#)
                .query("limit of {{instance}}", r#"sum by (instance) (stamp_buffer_limit_bytes{stamp=~"$stamp"})"#)
                .runbook("buffer-full"),
            lines("Decoded by a learned shape", "percentunit", "A falling share costs CPU, never correctness.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_decoded_bodies_total{stamp=~"$stamp",path="shape"}[$__rate_interval])) / sum by (stamp) (rate(stamp_decoded_bodies_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Broken promises", "none", "By number of the invariant.")
                .query("{{id}}", r#"sum by (id) (stamp_invariant_violations_total{stamp=~"$stamp"})"#)
                .limits(1.0, 1.0)
                .runbook("invariant-violated"),
        ],
    )
}
