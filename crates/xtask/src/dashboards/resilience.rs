//! How the peers behave, and what the one retry layer does about it.

use super::{Board, Subject, lines, row, stack, states};

pub(super) fn board() -> Board {
    Board {
        uid: "stampworks-resilience",
        title: "Stampworks / Resilience",
        description: "How hub and stores behave as the stamps see them, and what the retry layer does about it.",
        subject: Subject::Stamp,
        rows: vec![peers(), retries()],
    }
}

fn peers() -> super::Row {
    row(
        "Peers",
        vec![
            states("Breakers", "The least closed of each peer. Open: nothing is asked of it but probes.")
                .query(
                    "{{stamp}} {{peer}}",
                    r#"2 * max by (stamp, peer) (stamp_breaker_state{stamp=~"$stamp",state="open"}) + max by (stamp, peer) (stamp_breaker_state{stamp=~"$stamp",state="half_open"})"#,
                )
                .runbook("breaker-open")
                .width(24),
            stack("Attempts by outcome", "ops", "All but `success` and `permanent` may be repeated.")
                .query("{{outcome}}", r#"sum by (outcome) (rate(stamp_retry_attempts_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("breaker-open"),
            lines("Attempts that did not succeed", "percentunit", "Share by peer.")
                .query(
                    "{{peer}}",
                    r#"sum by (peer) (rate(stamp_retry_attempts_total{stamp=~"$stamp",outcome!="success"}[$__rate_interval])) / sum by (peer) (rate(stamp_retry_attempts_total{stamp=~"$stamp"}[$__rate_interval]))"#,
                )
                .limits(0.05, 0.5)
                .runbook("breaker-open"),
            stack("Attempts by operation", "ops", "What is asked of the peers.")
                .query("{{peer}} {{operation}}", r#"sum by (peer, operation) (rate(stamp_retry_attempts_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Duration, median", "s", "Of attempts, whatever their outcome.")
                .query("{{peer}}", r#"histogram_quantile(0.5, sum by (le, peer) (rate(stamp_retry_attempt_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#),
            lines("Duration, 99 %", "s", "Near `attempt-timeout`: the peer hangs.")
                .query("{{peer}}", r#"histogram_quantile(0.99, sum by (le, peer) (rate(stamp_retry_attempt_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .limits(5.0, 30.0)
                .runbook("commits-failing"),
            lines("Duration by operation, 99 %", "s", "Which operation is slow.")
                .query("{{peer}} {{operation}}", r#"histogram_quantile(0.99, sum by (le, peer, operation) (rate(stamp_retry_attempt_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#),
        ],
    )
}

fn retries() -> super::Row {
    row(
        "Retries",
        vec![
            lines("Pauses", "ops", "Planned pauses by cause; `rest` is after giving up.")
                .query("{{peer}} {{cause}}", r#"sum by (peer, cause) (rate(stamp_retry_pause_seconds_count{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Time spent waiting", "s", "Seconds of pause in each second, over all operations.")
                .query("{{peer}}", r#"sum by (peer) (rate(stamp_retry_pause_seconds_sum{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("Given up", "ops", "The data stays where it was. `permanent` needs a person.")
                .query("{{peer}} {{reason}}", r#"sum by (peer, reason) (rate(stamp_retry_give_ups_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("commits-failing"),
            lines("Retry budget left", "percentunit", "Near 0: most operations fail, and repeating them would only add load.")
                .query("{{peer}}", r#"min by (peer) (stamp_retry_budget_tokens{stamp=~"$stamp"} / stamp_retry_budget_limit_tokens{stamp=~"$stamp"})"#)
                .limits(0.5, 0.1)
                .runbook("breaker-open"),
            lines("Commits given up", "ops", "The rows stay in memory and at the hub.")
                .query("{{table}}", r#"sum by (table) (rate(stamp_commits_total{stamp=~"$stamp",outcome="failed"}[$__rate_interval]))"#)
                .runbook("commits-failing"),
            lines("Nested retries", "short", "Operations inside an attempt of another. Must be 0.")
                .query("{{stamp}}", r#"sum by (stamp) (stamp_retry_nested_total{stamp=~"$stamp"})"#)
                .limits(1.0, 1.0)
                .runbook("nested-retry"),
        ],
    )
}
