//! All stamps beside each other: which one needs a look.

use super::{Board, Subject, lines, row, stat, table};

pub(super) fn board() -> Board {
    Board {
        uid: "stampworks-fleet",
        title: "Stampworks / Fleet",
        description: "All stamps beside each other: which one needs a look, and which runs what.",
        subject: Subject::Stamp,
        rows: vec![now(), promises(), load()],
    }
}

fn now() -> super::Row {
    row(
        "Now",
        vec![
            stat("Stamps", "none", "Stamps of which at least one process answers.")
                .query("stamps", r#"count(group by (stamp) (stamp_partitions_owned{stamp=~"$stamp"}))"#)
                .runbook("absent"),
            stat("Processes", "none", "Processes that answer.")
                .query("processes", r#"count(stamp_partitions_owned{stamp=~"$stamp"})"#)
                .runbook("process-down"),
            stat("Events a second now", "eps", "Read from all hubs together.")
                .query("events", r#"sum(rate(stamp_events_received_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            stat("Longest wait", "s", "The longest that an event of any tenant can have waited so far.")
                .query("wait", r#"max(stamp_tenant:oldest_waiting_seconds:max{stamp=~"$stamp"})"#)
                .limits(120.0, 300.0)
                .runbook("freshness"),
            stat("Least headroom", "s", "Until the first hub drops events that are in no table yet.")
                .query("headroom", r#"min(stamp_retention_headroom_seconds{stamp=~"$stamp"})"#)
                .limits(43_200.0, 21_600.0)
                .runbook("retention-headroom"),
            stat("Events lost", "none", "In the time that the board shows. Above 0 is loss before the stamp.")
                .query("lost", r#"sum(increase(stamp_gap_events_total{stamp=~"$stamp"}[$__range]))"#)
                .limits(1.0, 1.0)
                .runbook("gap"),
            table("Each stamp", "A row for each stamp; the longest wait of an event first.")
                .query("Longest wait, s", r#"max by (stamp) (stamp_tenant:oldest_waiting_seconds:max{stamp=~"$stamp"})"#)
                .query("Events a second, eps", r#"sum by (stamp) (rate(stamp_events_received_total{stamp=~"$stamp"}[5m]))"#)
                .query("Unread events, short", r#"sum by (stamp) (stamp_lag_events{stamp=~"$stamp"})"#)
                .query("Headroom, s", r#"min by (stamp) (stamp_retention_headroom_seconds{stamp=~"$stamp"})"#)
                .query("Partitions, short", r#"sum by (stamp) (stamp_partitions_owned{stamp=~"$stamp"})"#)
                .query("Processes, short", r#"count by (stamp) (stamp_partitions_owned{stamp=~"$stamp"})"#),
            table("Alerts", "What fires now. Each alert has a page in docs/operations.")
                .query("Since, none", r#"max by (alertname, severity, stamp) (ALERTS{alertname=~"Stamp.*",alertstate="firing"})"#)
                .width(12),
            table("Versions", "Which stamp runs which version; two at once are a rollout.")
                .query("Processes, short", r#"count by (stamp, version) (stamp_build_info{stamp=~"$stamp"})"#)
                .width(12),
        ],
    )
}

fn promises() -> super::Row {
    row(
        "Promises",
        vec![
            lines("Freshness budget left", "percentunit", "Of the 1 % of tenant time in 30 days that may be more than five minutes behind.")
                .query("{{stamp}}", r#"1 - (1 - avg by (stamp) (avg_over_time(stamp_tenant:fresh:bool{stamp=~"$stamp"}[30d]))) / 0.01"#)
                .limits(0.5, 0.1)
                .runbook("freshness"),
            lines("Freshness burn rate", "none", "1 uses up the budget in exactly 30 days; 14.4 over an hour pages.")
                .query("{{stamp}}", r#"stamp:freshness_errors:ratio1h{stamp=~"$stamp"} / 0.01"#)
                .limits(6.0, 14.4)
                .runbook("freshness"),
            lines("Completeness burn rate", "none", "Of the 0.01 % of events that may be missing in their tables.")
                .query("{{stamp}}", r#"stamp:completeness_errors:ratio1h{stamp=~"$stamp"} / 0.0001"#)
                .limits(6.0, 14.4)
                .runbook("completeness"),
        ],
    )
}

fn load() -> super::Row {
    row(
        "Load",
        vec![
            lines("Events received", "eps", "Read from the hub.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_events_received_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Rows written", "rowsps", "Rows of committed versions, all tables.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_rows_written_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Bytes written", "Bps", "Parquet bytes of committed versions, all tables.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_written_bytes_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Unread events", "short", "In the hub after the last one read.")
                .query("{{stamp}}", r#"sum by (stamp) (stamp_lag_events{stamp=~"$stamp"})"#)
                .runbook("freshness"),
            lines("Not valid", "percentunit", "Share of the telemetry that its tenant's schema refuses. What the hub itself sends does not count.")
                .query(
                    "{{stamp}}",
                    r#"sum by (stamp) (rate(stamp_rejected_events_total{stamp=~"$stamp",reason!="not_telemetry"}[$__rate_interval])) / sum by (stamp) (rate(stamp_events_total{stamp=~"$stamp",outcome="reading"}[$__rate_interval]) or rate(stamp_rejected_events_total{stamp=~"$stamp",reason!="not_telemetry"}[$__rate_interval]))"#,
                )
                .runbook("rejected-ratio"),
            lines("In quarantine", "percentunit", "Share of the events that the stamp keeps for itself.")
                .query(
                    "{{stamp}}",
                    r#"sum by (stamp) (rate(stamp_quarantined_events_total{stamp=~"$stamp"}[$__rate_interval])) / sum by (stamp) (rate(stamp_events_received_total{stamp=~"$stamp"}[$__rate_interval]))"#,
                )
                .runbook("quarantine-ratio"),
        ],
    )
}
