//! One tenant: what it sends, what of it is good, and when it can be read.

use super::{Board, Subject, lines, row, stack, stat};

pub(super) fn board() -> Board {
    Board {
        uid: "stampworks-tenant",
        title: "Stampworks / Tenant",
        description: "One tenant: what it sends, what of it is good, and when it can be read. A process shows its first 100 tenants by name.",
        subject: Subject::Tenant,
        rows: vec![now(), quality(), tables()],
    }
}

fn now() -> super::Row {
    row(
        "Now",
        vec![
            stat("Events", "eps", "All that its devices send.")
                .query("events", r#"sum(rate(stamp_events_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#)
                .width(6),
            stat("Longest wait", "s", "The longest that one of its events can have waited so far.")
                .query("wait", r#"max(stamp_tenant:oldest_waiting_seconds:max{stamp=~"$stamp",tenant=~"$tenant"})"#)
                .limits(120.0, 300.0)
                .runbook("freshness")
                .width(6),
            stat("Fresh", "percentunit", "Share of the time shown in which its tables were at most five minutes behind.")
                .query("fresh", r#"avg(avg_over_time(stamp_tenant:fresh:bool{stamp=~"$stamp",tenant=~"$tenant"}[$__range]))"#)
                .limits(0.999, 0.99)
                .runbook("freshness")
                .width(6),
            stat("Not valid", "percentunit", "Share of its telemetry that its schema refuses. What the hub itself sends does not count.")
                .query(
                    "rejected",
                    r#"sum(rate(stamp_rejected_events_total{stamp=~"$stamp",tenant=~"$tenant",reason!="not_telemetry"}[5m])) / sum(rate(stamp_events_total{stamp=~"$stamp",tenant=~"$tenant",outcome="reading"}[5m]) or rate(stamp_rejected_events_total{stamp=~"$stamp",tenant=~"$tenant",reason!="not_telemetry"}[5m]))"#,
                )
                .limits(0.01, 0.05)
                .runbook("rejected-ratio")
                .width(6),
        ],
    )
}

fn quality() -> super::Row {
    row(
        "Quality",
        vec![
            stack("What became of its events", "eps", "Readings, rejected, or kept in the stamp's quarantine.")
                .query("{{outcome}}", r#"sum by (outcome) (rate(stamp_events_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#),
            stack("Rejected by reason", "eps", "Each reason has a page in docs/errors.")
                .query("{{reason}}", r#"sum by (reason) (rate(stamp_rejected_events_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#)
                .runbook("rejected-ratio"),
            stack("Over its quota", "eps", "By the part of the quota. These are in quarantine, not lost.")
                .query("{{quota}}", r#"sum by (quota) (rate(stamp_over_quota_events_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#)
                .runbook("over-quota"),
            lines("Late rows", "rowsps", "A burst is a population of devices that was offline.")
                .query("{{tenant}}", r#"sum by (tenant) (rate(stamp_late_rows_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#),
            lines("Clock suspect", "rowsps", "A steady share is a device model with a wrong clock.")
                .query("{{tenant}}", r#"sum by (tenant) (rate(stamp_clock_suspect_rows_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#),
        ],
    )
}

fn tables() -> super::Row {
    row(
        "Tables",
        vec![
            lines("Freshness of rows", "s", "From the hub's enqueued time to the commit in `readings`.")
                .query("median", r#"histogram_quantile(0.5, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval])))"#)
                .query("95 %", r#"histogram_quantile(0.95, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval])))"#)
                .query("99 %", r#"histogram_quantile(0.99, sum by (le) (rate(stamp_freshness_seconds_bucket{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval])))"#)
                .limits(120.0, 300.0)
                .runbook("freshness"),
            stack("Rows written", "rowsps", "Rows of committed versions.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_rows_written_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#),
            stack("Bytes written", "Bps", "Parquet bytes of committed versions.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_written_bytes_total{stamp=~"$stamp",tenant=~"$tenant"}[$__rate_interval]))"#),
            lines("Bytes of a reading", "bytes", "Parquet bytes of `readings` for each of its rows.")
                .query(
                    "{{tenant}}",
                    r#"sum by (tenant) (rate(stamp_written_bytes_total{stamp=~"$stamp",tenant=~"$tenant",table="readings"}[$__rate_interval])) / sum by (tenant) (rate(stamp_rows_written_total{stamp=~"$stamp",tenant=~"$tenant",table="readings"}[$__rate_interval]))"#,
                ),
            lines("Oldest row in memory", "s", "Above `flush-age`: its store does not take rows.")
                .query("{{tenant}}", r#"max by (tenant) (stamp_oldest_unflushed_age_seconds{stamp=~"$stamp",tenant=~"$tenant"})"#)
                .limits(120.0, 300.0)
                .runbook("tenant-backlog"),
        ],
    )
}
