//! What is shown, what is cut, and what a hostile name can do: nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::Duration;

use proptest::prelude::*;
use stamp_status::{
    AxisUse, CONTENT_SECURITY_POLICY, Cell, ConsumerFacts, Facts, Figure, History, ICON, Input,
    Level, OwnerFacts, ProvisionerFacts, QuotaUse, ROWS_MAX, Row, SCRIPT, STYLE, Sample, Samples,
    Section, Service, StampFacts, Status, TENANTS_MAX, TableFacts, TenantFacts, Value, html,
    status,
};

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;";
const MINUTE: Duration = Duration::from_secs(60);
const NOW_US: i64 = 1_795_943_467_000_000;

fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()));
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value,
    }
}

/// A stamp with one of everything, called `name` wherever there is a name.
fn stamp(name: &str) -> (Samples, Facts) {
    let labels = [("tenant", name), ("stamp", name)];
    let with = |more: (&'static str, &'static str)| [labels[0], labels[1], more];
    let samples = [
        sample(
            "stamp_events_received_total",
            &[("partition", "0")],
            1_100.0,
        ),
        sample("stamp_events_total", &with(("outcome", "reading")), 1_000.0),
        sample("stamp_events_total", &with(("outcome", "rejected")), 60.0),
        sample(
            "stamp_events_total",
            &with(("outcome", "quarantined")),
            40.0,
        ),
        sample(
            "stamp_rejected_events_total",
            &[labels[0], ("reason", name)],
            50.0,
        ),
        sample(
            "stamp_rejected_events_total",
            &with(("reason", "too_deep")),
            10.0,
        ),
        sample(
            "stamp_quarantined_events_total",
            &[("reason", "over_quota")],
            40.0,
        ),
        sample(
            "stamp_over_quota_events_total",
            &with(("quota", "events")),
            40.0,
        ),
        sample(
            "stamp_rows_written_total",
            &with(("table", "readings")),
            1_000.0,
        ),
        sample(
            "stamp_written_bytes_total",
            &with(("table", "readings")),
            2_048.0,
        ),
        sample("stamp_oldest_unflushed_age_seconds", &labels, 2.0),
        sample("stamp_lag_events", &[("partition", "0")], 7.0),
        sample("stamp_lag_seconds", &[("partition", "0")], 1.5),
        sample(
            "stamp_retention_headroom_seconds",
            &[("partition", "0")],
            36_000.0,
        ),
        sample("stamp_checkpoint_sequence", &[("partition", "0")], 1_092.0),
        sample(
            "stamp_partition_state",
            &[("partition", "0"), ("state", "paused")],
            1.0,
        ),
        sample("stamp_partitions_owned", &[], 1.0),
        sample(
            "stamp_breaker_state",
            &[("peer", name), ("state", "open")],
            1.0,
        ),
        sample(
            "stamp_breaker_state",
            &[("peer", name), ("state", "closed")],
            0.0,
        ),
        sample("stamp_retry_budget_tokens", &[("peer", name)], 1.0),
        sample("stamp_retry_budget_limit_tokens", &[("peer", name)], 10.0),
        sample(
            "stamp_retry_attempts_total",
            &[("peer", name), ("outcome", "transient")],
            3.0,
        ),
    ];
    let quota = |quota, used, limit| QuotaUse { quota, used, limit };
    let facts = ConsumerFacts {
        partitions: 2,
        owners: vec![
            OwnerFacts {
                partition: 0,
                owner: Some(name.to_owned()),
                is_here: true,
            },
            OwnerFacts {
                partition: 1,
                owner: Some(name.to_owned()),
                is_here: false,
            },
        ],
        tenants: vec![TenantFacts {
            id: name.to_owned(),
            store: "closed",
            quotas: vec![quota("events", 90, 100), quota("bytes", 1_024, 10_240)],
        }],
        tables: vec![TableFacts {
            tenant: Some(name.to_owned()),
            table: "readings",
            version: 12,
            rows: 400,
            at_us: NOW_US - 5_000_000,
        }],
    };
    (samples.into_iter().collect(), Facts::Consumer(facts))
}

fn shown(
    service: Service,
    name: &str,
    (samples, facts): &(Samples, Facts),
    tenant: Option<&str>,
) -> Status {
    let mut history = History::default();
    let (lines, recent) = (service.lines(), service.recent());
    history.note(Duration::ZERO, &Samples::default(), lines, recent);
    history.note(MINUTE, samples, lines, recent);
    status(&Input {
        service,
        name,
        program: "1.2.3",
        now_us: NOW_US,
        uptime: MINUTE,
        waiting_for: Vec::new(),
        samples,
        history: &history,
        facts: Some(facts),
        tenant,
    })
}

fn section<'a>(status: &'a Status, id: &str) -> &'a Section {
    let found = status.sections.iter().find(|section| section.id == id);
    found.unwrap()
}

fn cell<'a>(row: &'a Row, column: &str) -> &'a Cell {
    let found = row.cells.iter().find(|(id, _)| *id == column);
    &found.unwrap().1
}

fn figure<'a>(status: &'a Status, id: &str) -> &'a Figure {
    let found = status.figures.iter().find(|figure| figure.id == id);
    found.unwrap()
}

#[test]
fn a_stamp_is_shown_with_its_numbers_and_what_is_alarming() {
    let status = shown(Service::Consumer, "eu-1", &stamp("contoso"), None);

    let events = figure(&status, "events_in");
    assert_eq!(events.text, "18/s");
    assert_eq!(events.note, "1,100 events since start");
    assert_eq!(events.series.len(), 1);
    assert_eq!(figure(&status, "headroom").text, "10 h");
    assert_eq!(figure(&status, "headroom").level, Level::Warn);
    let tenant = &section(&status, "tenants").rows[0];
    for (column, text) in [
        ("tenant", "contoso"),
        ("store", "taking rows"),
        ("readings", "1,000"),
        ("rejected", "60"),
        ("quarantined", "40"),
        ("rows", "1,000"),
        ("bytes", "2.0 KiB"),
        ("oldest_seconds", "2 s"),
        ("quota_events", "90 / 100"),
        ("quota_bytes", "1.0 KiB / 10.0 KiB"),
        ("quota_devices", "–"),
        ("over_quota", "40"),
    ] {
        assert_eq!(cell(tenant, column).text, text, "{column}");
    }
    assert_eq!(cell(tenant, "quota_events").level, Level::Warn);
    assert_eq!(cell(tenant, "quota_events").limit, Some(100.0));
    let partitions = section(&status, "partitions");
    assert_eq!(cell(&partitions.rows[0], "owner").text, "this process");
    assert_eq!(cell(&partitions.rows[1], "owner").text, "contoso");
    assert_eq!(cell(&partitions.rows[0], "state").level, Level::Warn);
    let table = &section(&status, "tables").rows[0];
    assert_eq!(cell(table, "version").value, Value::Number(12.0));
    assert_eq!(cell(table, "committed").text, "09:11:02 (5 s ago)");
    let peer = &section(&status, "peers").rows[0];
    assert_eq!(cell(peer, "breaker").level, Level::Bad);
    assert_eq!(cell(peer, "budget").level, Level::Warn);
    assert_eq!(cell(peer, "failed").text, "3");
    assert_eq!((status.attention, status.level), (4, Level::Bad));
    assert_eq!(status.summary, "Ready, 4 things need a look");
}

#[test]
fn a_reason_that_is_a_code_links_to_its_page_and_what_came_of_late_is_told() {
    let status = shown(Service::Consumer, "eu-1", &stamp("contoso"), None);
    let refused = section(&status, "refused");
    let row = |id: &str| refused.rows.iter().find(|row| row.id == id).unwrap();
    let deep = row("rejected/contoso/too_deep");
    let link = cell(deep, "reason").link.as_deref().unwrap();
    assert!(
        link.starts_with("https://") && link.ends_with("/docs/errors/too_deep.md"),
        "{link}"
    );
    assert_eq!(cell(deep, "recent").text, "10");
    let utf8 = shown(Service::Consumer, "eu-1", &stamp("not_utf8"), None);
    let linked = section(&utf8, "refused").rows.iter();
    let linked = linked
        .filter(|row| cell(row, "reason").link.is_some())
        .count();
    assert_eq!(linked, 3, "the code with a digit, too");
    assert!(
        refused.about.contains("the last 1 min"),
        "{}",
        refused.about
    );

    let status = shown(Service::Consumer, "eu-1", &stamp("javascript:x"), None);
    let links = section(&status, "refused").rows.iter();
    let odd = links.filter_map(|row| cell(row, "reason").link.as_deref());
    assert!(odd.into_iter().all(|link| link.starts_with("https://")));
}

#[test]
fn a_filter_leaves_tenants_that_match_and_nothing_of_nobody() {
    let of = |filter| shown(Service::Consumer, "eu-1", &stamp("contoso"), Some(filter));
    for filter in ["contoso", "TOS", " con "] {
        let status = of(filter);
        assert_eq!(section(&status, "tenants").rows.len(), 1, "{filter}");
        let refused = section(&status, "refused");
        assert_eq!(refused.rows.len(), 2, "only a tenant's own: {filter}");
        assert_eq!(section(&status, "partitions").rows.len(), 2, "{filter}");
    }
    let status = of("fabrikam");
    for id in ["tenants", "refused", "tables"] {
        assert!(section(&status, id).rows.is_empty(), "{id}");
    }
    assert!(html(&status).contains("No tenant matches the filter."));
}

#[test]
fn an_empty_process_has_a_page_that_says_so() {
    for service in [Service::Consumer, Service::Provisioner, Service::Mover] {
        let status = status(&Input {
            service,
            name: "eu-1",
            program: "1.2.3",
            now_us: NOW_US,
            uptime: Duration::ZERO,
            waiting_for: vec!["hub was not reached yet"],
            samples: &Samples::default(),
            history: &History::default(),
            facts: None,
            tenant: None,
        });
        let page = html(&status);
        assert_eq!(
            status.summary.split(';').next(),
            Some("Not ready: hub was not reached yet")
        );
        assert!(status.level >= Level::Warn && !status.ready);
        for section in &status.sections {
            assert!(
                section.rows.is_empty() && page.contains(section.empty),
                "{}",
                section.id
            );
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        let parsed: serde_json::Value = serde_json::from_str(&status.json()).unwrap();
        assert_eq!(parsed["version"], 1);
    }
}

#[test]
fn a_list_is_cut_and_the_alarming_rows_stay() {
    let late = "t777";
    let tenants = (0..1_000).map(|number| format!("t{number}"));
    let tenants: Vec<String> = tenants.collect();
    let samples = tenants
        .iter()
        .map(|tenant| {
            let age = if tenant == late { 900.0 } else { 1.0 };
            sample(
                "stamp_oldest_unflushed_age_seconds",
                &[("tenant", tenant)],
                age,
            )
        })
        .collect();
    let facts = ConsumerFacts {
        tenants: tenants
            .into_iter()
            .map(|id| TenantFacts {
                id,
                store: "closed",
                quotas: Vec::new(),
            })
            .collect(),
        ..ConsumerFacts::default()
    };
    let stamp = (samples, Facts::Consumer(facts));

    let status = shown(Service::Consumer, "eu-1", &stamp, None);

    let rows = section(&status, "tenants");
    assert_eq!((rows.rows.len(), rows.more), (ROWS_MAX, 1_000 - ROWS_MAX));
    let ids: Vec<&str> = rows.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!((ids[0], ids[ROWS_MAX - 1]), ("t0", late));
    assert_eq!(status.tenants.len(), TENANTS_MAX);
    let page = html(&status);
    assert!(page.contains("and 950 more"), "{page}");
    assert!(page.len() < 200_000 && status.json().len() < 200_000);
    // The filter looks at all of them, not at the ones that are shown.
    let status = shown(Service::Consumer, "eu-1", &stamp, Some("t999"));
    assert_eq!(section(&status, "tenants").rows.len(), 1);
}

#[test]
fn a_very_long_name_is_cut() {
    let name = "n".repeat(100_000);
    let status = shown(Service::Consumer, &name, &stamp(&name), None);
    assert_eq!(status.name.chars().count(), 129);
    let row = &section(&status, "peers").rows[0];
    assert_eq!(cell(row, "peer").text.chars().count(), 129);
}

#[test]
fn every_row_has_a_cell_for_each_column() {
    let provisioner = Facts::Provisioner(ProvisionerFacts {
        stamps: vec![StampFacts {
            id: "eu-1".to_owned(),
            axes: vec![AxisUse {
                axis: "devices",
                booked: 90,
                soft: 80,
                hard: 100,
                reserve: 2,
            }],
        }],
    });
    let answered = sample(
        "stamp_provision_requests_total",
        &[("route", "allocate"), ("outcome", "reserve")],
        2.0,
    );
    let moved = [
        sample("stamp_move_devices", &[("stage", "verified")], 3.0),
        sample("stamp_move_devices", &[("stage", "erased")], 1.0),
        sample("stamp_move_stragglers", &[], 2.0),
        sample(
            "stamp_move_acts_total",
            &[("act", "erase-source"), ("outcome", "refused")],
            1.0,
        ),
    ];
    let statuses = [
        shown(Service::Consumer, "eu-1", &stamp("contoso"), None),
        shown(
            Service::Provisioner,
            "p-1",
            &(std::iter::once(answered).collect(), provisioner),
            None,
        ),
        shown(
            Service::Mover,
            "eu-1",
            &(
                moved.into_iter().collect(),
                Facts::Provisioner(ProvisionerFacts::default()),
            ),
            None,
        ),
    ];
    for status in &statuses {
        for section in &status.sections {
            for row in &section.rows {
                let columns: Vec<&str> = section.columns.iter().map(|column| column.id).collect();
                let cells: Vec<&str> = row.cells.iter().map(|(column, _)| *column).collect();
                assert_eq!(columns, cells, "{}", section.id);
            }
        }
    }
    let stamps = &section(&statuses[1], "stamps").rows[0];
    assert_eq!(cell(stamps, "devices").text, "90 / 100");
    assert_eq!(cell(stamps, "devices").level, Level::Warn);
    assert_eq!(cell(stamps, "reserve").text, "2");
    assert_eq!(figure(&statuses[1], "database").text, "away");
    assert_eq!(figure(&statuses[2], "devices").note, "of 4");
    assert_eq!(figure(&statuses[2], "late").level, Level::Warn);
    let stage = &section(&statuses[2], "stages").rows[0];
    assert_eq!(cell(stage, "devices").share, Some(0.75));
}

/// The names of the tags of a document, and of their attributes, as a reader of HTML sees them: outside
/// of quotes.
fn skeleton(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let mut tag = String::new();
        let mut quoted = false;
        let mut end = rest.len();
        for (at, letter) in rest[start..].char_indices() {
            match letter {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = start + at + 1;
                    break;
                }
                letter if !quoted => tag.push(letter),
                _ => {}
            }
        }
        tags.push(tag);
        rest = &rest[end..];
    }
    tags
}

#[test]
fn a_hostile_name_is_text_wherever_it_stands() {
    let page = |name: &str| html(&shown(Service::Consumer, name, &stamp(name), Some(name)));

    let hostile = page(HOSTILE);

    assert_eq!(skeleton(&hostile), skeleton(&page("Plain")));
    assert!(!hostile.contains("<script>") && !hostile.contains("<img"));
    // In the title, the heading, the filter, and the cells of six tables.
    assert!(hostile.matches("&lt;script&gt;").count() >= 9, "{hostile}");
}

proptest! {
    #[test]
    fn no_name_changes_the_document(name in "[<>\"'&=/ a-zA-Z\\PC]{0,60}") {
        // With a capital it is no code: those have a link, which is a tag of its own.
        let name = format!("X{name}");
        let of = |name: &str| shown(Service::Consumer, name, &stamp(name), None);
        let status = of(&name);
        prop_assert_eq!(skeleton(&html(&status)), skeleton(&html(&of("Plain"))));
        let parsed: serde_json::Value = serde_json::from_str(&status.json()).unwrap();
        prop_assert_eq!(parsed["name"].as_str(), Some(name.as_str()));
    }
}

#[test]
fn the_files_of_the_page_load_nothing_from_elsewhere_and_write_no_html() {
    for (name, text) in [("css", STYLE), ("js", SCRIPT)] {
        let without = text.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "url(",
            "@import",
            "innerHTML",
            "eval(",
            "insertAdjacent",
        ] {
            assert!(!without.contains(word), "{word} in {name}");
        }
    }
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    let page = html(&shown(Service::Consumer, "eu-1", &stamp("contoso"), None));
    let ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    for word in [" style=", " onclick=", "<style", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    let files = STYLE.len() + SCRIPT.len() + ICON.len();
    assert!(files < 40_000, "{files} bytes");
}

#[test]
fn a_service_of_moves_shows_each_move_that_has_not_ended_and_who_waits() {
    let moves = [
        sample("stamp_mover_moves", &[("state", "running")], 1.0),
        sample("stamp_mover_moves", &[("state", "held")], 1.0),
        sample("stamp_mover_moves", &[("state", "ended")], 4.0),
        sample(
            "stamp_mover_move_state",
            &[("move", "line-7"), ("state", "held")],
            1.0,
        ),
        sample(
            "stamp_mover_move_state",
            &[("move", "line-7"), ("state", "running")],
            0.0,
        ),
        sample("stamp_mover_open_devices", &[("move", "line-7")], 12.0),
    ];
    let facts = Facts::Provisioner(ProvisionerFacts::default());

    let status = shown(
        Service::Mover,
        "mover",
        &(moves.into_iter().collect(), facts),
        None,
    );

    assert_eq!(figure(&status, "open").text, "12");
    assert_eq!(figure(&status, "running").note, "6 kept");
    assert_eq!(figure(&status, "held").level, Level::Bad);
    let moves = section(&status, "moves");
    assert_eq!(moves.rows.len(), 1);
    assert_eq!(cell(&moves.rows[0], "move").text, "line-7");
    assert_eq!(cell(&moves.rows[0], "state").level, Level::Bad);
    assert_eq!(cell(&moves.rows[0], "devices").text, "12");
}
