//! The provisioner: who asks, what is answered, and whether its database is there; and moves of devices.

use super::{Board, Subject, lines, row, stack, stat};

pub(super) fn board() -> Board {
    Board {
        uid: "stampworks-provisioning",
        title: "Stampworks / Provisioning",
        description: "The webhook that DPS asks for a device's hub, its database, and the moves of devices.",
        subject: Subject::Provisioner,
        rows: vec![now(), requests(), capacity(), database(), moves()],
    }
}

fn now() -> super::Row {
    row(
        "Now",
        vec![
            stat("Registrations", "reqps", "Asked of the webhook.")
                .query("registrations", r#"sum(rate(stamp_provision_requests_total{stamp=~"$stamp",route="allocate"}[$__rate_interval]))"#),
            stat("Refused", "percentunit", "Share of the registrations that got no hub.")
                .query(
                    "refused",
                    r#"sum(rate(stamp_provision_requests_total{stamp=~"$stamp",route="allocate",outcome!~"booked|kept|moved|memory|reserve"}[5m])) / sum(rate(stamp_provision_requests_total{stamp=~"$stamp",route="allocate"}[5m]))"#,
                )
                .limits(0.01, 0.05)
                .runbook("provision-refusing"),
            stat("Duration, 99 %", "s", "Of a registration. DPS gives up on a webhook that is too slow.")
                .query("99 %", r#"histogram_quantile(0.99, sum by (le) (rate(stamp_provision_request_duration_seconds_bucket{stamp=~"$stamp",route="allocate"}[5m])))"#)
                .limits(0.1, 0.5)
                .runbook("provision-slow"),
            stat("Database", "none", "1 while every provisioner reaches it.")
                .query("reached", r#"min(stamp_provision_database_reached{stamp=~"$stamp"})"#)
                .limits(1.0, 0.5)
                .runbook("provision-database"),
            stat("Reserve used", "percentunit", "Of the stamp where it is highest. At 100 % new devices are refused.")
                .query("used", r#"max(stamp_provision_reserve_used_ratio{stamp=~"$stamp"})"#)
                .limits(0.5, 0.8)
                .runbook("provision-reserve"),
            stat("Catalogue", "none", "1 while the catalogue in force is the one that is published.")
                .query("current", r#"min(stamp_catalogue_current{stamp=~"$stamp"})"#)
                .limits(1.0, 0.5)
                .runbook("catalogue-refused"),
        ],
    )
}

fn requests() -> super::Row {
    row(
        "Requests",
        vec![
            stack("Registrations by outcome", "reqps", "Origins of the answer, and codes of refusals (docs/provisioning.md).")
                .query("{{outcome}}", r#"sum by (outcome) (rate(stamp_provision_requests_total{stamp=~"$stamp",route="allocate"}[$__rate_interval]))"#)
                .runbook("provision-refusing"),
            lines("Requests by route", "reqps", "The webhook, look-ups, and what has no path here.")
                .query("{{route}}", r#"sum by (route) (rate(stamp_provision_requests_total{stamp=~"$stamp"}[$__rate_interval]))"#),
            lines("No room", "reqps", "Registrations that every fitting stamp is too full for.")
                .query("{{stamp}}", r#"sum by (stamp) (rate(stamp_provision_requests_total{stamp=~"$stamp",outcome="no-capacity"}[$__rate_interval]))"#)
                .runbook("capacity"),
            lines("Duration, median", "s", "From a whole request to its answer.")
                .query("{{route}}", r#"histogram_quantile(0.5, sum by (le, route) (rate(stamp_provision_request_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#),
            lines("Duration by route, 99 %", "s", "Above half a second the database hangs.")
                .query("{{route}}", r#"histogram_quantile(0.99, sum by (le, route) (rate(stamp_provision_request_duration_seconds_bucket{stamp=~"$stamp"}[$__rate_interval])))"#)
                .limits(0.1, 0.5)
                .runbook("provision-slow"),
            lines("Catalogue read again", "short", "`refused` has errors; the one before stays in force.")
                .query("{{outcome}}", r#"sum by (outcome) (increase(stamp_catalogue_reloads_total{stamp=~"$stamp"}[$__rate_interval]))"#)
                .runbook("catalogue-refused"),
        ],
    )
}

fn capacity() -> super::Row {
    row(
        "Capacity",
        vec![
            lines("Booked of the hard limit", "percentunit", "By stamp, on the axis where it is fullest.")
                .query("{{target_stamp}}", r#"max by (target_stamp) (max by (target_stamp, axis) (stamp_provision_booked{stamp=~"$stamp"}) / on (target_stamp, axis) max by (target_stamp, axis) (stamp_provision_capacity{stamp=~"$stamp",limit="hard"}))"#)
                .limits(0.8, 1.0)
                .runbook("capacity")
                .width(12),
            lines("Devices booked", "short", "By stamp.")
                .query("{{target_stamp}}", r#"max by (target_stamp) (stamp_provision_booked{stamp=~"$stamp",axis="devices"})"#)
                .runbook("capacity")
                .width(12),
        ],
    )
}

fn database() -> super::Row {
    row(
        "Database",
        vec![
            lines("Reached", "none", "Whether it answered the last time it was asked.")
                .query("{{stamp}} {{instance}}", r#"min by (stamp, instance) (stamp_provision_database_reached{stamp=~"$stamp"})"#)
                .runbook("provision-database"),
            lines("Given from the reserve", "short", "Devices with a place from the reserve that is not in the database yet.")
                .query("{{stamp}} {{instance}}", r#"sum by (stamp, instance) (stamp_provision_reserve_pending{stamp=~"$stamp"})"#)
                .runbook("provision-reserve"),
            lines("Written down afterwards", "short", "How many registrations an outage concerned.")
                .query("{{stamp}}", r#"sum by (stamp) (increase(stamp_provision_reserve_written_total{stamp=~"$stamp"}[$__rate_interval]))"#),
        ],
    )
}

/// Of all stamps: here the variable chooses provisioners.
fn moves() -> super::Row {
    row(
        "Moves of devices",
        vec![
            stack(
                "Devices by stage",
                "short",
                "Everything ends in `erased` or `rolled-back`.",
            )
            .query("{{stage}}", "sum by (stage) (stamp_move_devices)")
            .runbook("moving")
            .width(12),
            lines(
                "Acts",
                "ops",
                "At DPS and the hubs. `refused` waits for a person.",
            )
            .query(
                "{{act}} {{outcome}}",
                "sum by (act, outcome) (rate(stamp_move_acts_total[$__rate_interval]))",
            )
            .runbook("moving")
            .width(12),
            lines(
                "Late",
                "short",
                "Disabled at the source and not seen at the target for too long.",
            )
            .query("from {{stamp}}", "max by (stamp) (stamp_move_stragglers)")
            .limits(1.0, 20.0)
            .runbook("moving")
            .width(12),
            lines(
                "Waiting for a person",
                "short",
                "Their last act was refused.",
            )
            .query("from {{stamp}}", "max by (stamp) (stamp_move_persons)")
            .limits(1.0, 20.0)
            .runbook("moving")
            .width(12),
        ],
    )
}
