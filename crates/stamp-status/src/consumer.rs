//! The page of a stamp's consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::facts::{ConsumerFacts, Facts, QuotaUse, TenantFacts};
use crate::model::{Content, Filter, Input};
use crate::parts::{Cell, Column, Figure, Level, Row, Section, numbers, words};
use crate::peers::{self, of_late};
use crate::sample::Samples;
use crate::text;

/// The stamp's own label in place of a tenant.
const NONE: &str = "none";
/// Freshness objective: docs/adr/0014-service-levels.md.
const FRESH_SECONDS: f64 = 300.0;
/// The bounds of the two alerts on retention.
const HEADROOM_WARN_SECONDS: f64 = 12.0 * 3_600.0;
const HEADROOM_BAD_SECONDS: f64 = 6.0 * 3_600.0;
/// From here on reading waits for memory now and then.
const MEMORY_HIGH: f64 = 0.95;
const QUOTA_HIGH: f64 = 0.8;
/// Over how long the figures are averaged. Rows come a flush at a time, so theirs is longer.
const EVENTS_WINDOW: Duration = Duration::from_secs(10);
const ROWS_WINDOW: Duration = Duration::from_secs(60);

pub(crate) fn content(input: &Input<'_>, filter: &Filter) -> Content {
    let nothing = ConsumerFacts::default();
    let facts = match input.facts {
        Some(Facts::Consumer(facts)) => facts,
        _ => &nothing,
    };
    let names = tenants(input.samples, facts);
    Content {
        figures: figures(input, facts),
        sections: vec![
            tenant_section(input, facts, &names, filter),
            partition_section(input, facts),
            refused_section(input, filter),
            table_section(input, facts, filter),
            peers::section(input),
        ],
        tenants: names,
    }
}

/// The tenants of the configuration, and others that metrics know (`other`: those past the cap of
/// labels), each once.
fn tenants(samples: &Samples, facts: &ConsumerFacts) -> Vec<String> {
    let configured = facts.tenants.iter().map(|tenant| tenant.id.clone());
    let mut names: Vec<String> = configured.collect();
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let labelled = ["stamp_events_total", "stamp_rows_written_total"];
    let labelled = labelled
        .iter()
        .flat_map(|name| samples.by(name, "tenant").into_keys());
    let more: BTreeSet<&str> = labelled
        .filter(|name| *name != NONE && !known.contains(name))
        .collect();
    let more: Vec<String> = more.into_iter().map(str::to_owned).collect();
    names.extend(more);
    names
}

fn figures(input: &Input<'_>, facts: &ConsumerFacts) -> Vec<Figure> {
    let (samples, history) = (input.samples, input.history);
    let speed = |id, label, counter: &'static str, window, one, many| {
        let rate = history.rate(counter, window);
        let text = rate.map_or_else(
            || "–".to_owned(),
            |rate| format!("{}/s", text::number(rate)),
        );
        let total = samples.sum(counter);
        let figure = Figure::new(id, label, text)
            .noted(format!("{} since start", text::counted(total, one, many)))
            .drawn(history, counter);
        rate.map_or(figure.clone(), |rate| figure.of(rate))
    };
    let (received, written) = ("stamp_events_received_total", "stamp_rows_written_total");
    vec![
        speed(
            "events_in",
            "Events in",
            received,
            EVENTS_WINDOW,
            "event",
            "events",
        ),
        speed(
            "rows_written",
            "Rows written",
            written,
            ROWS_WINDOW,
            "row",
            "rows",
        ),
        lag(samples),
        headroom(samples),
        oldest(samples),
        memory(samples),
        lost(samples),
        owned(samples, facts),
    ]
}

fn lag(samples: &Samples) -> Figure {
    let behind = samples.highest("stamp_lag_seconds");
    let Some(behind) = behind else {
        return Figure::new("lag", "Lag", "–".to_owned())
            .noted("no partition is read yet".to_owned());
    };
    let events = text::counted(samples.sum("stamp_lag_events"), "event", "events");
    Figure::new("lag", "Lag", text::span(behind))
        .of(behind)
        .noted(format!("{events} not read yet"))
        .at(Level::warn_if(behind > FRESH_SECONDS))
}

fn headroom(samples: &Samples) -> Figure {
    let lowest = samples.lowest("stamp_retention_headroom_seconds");
    let figure =
        |text| Figure::new("headroom", "Retention headroom", text).at(headroom_level(lowest));
    match lowest {
        Some(lowest) => figure(text::span(lowest))
            .of(lowest)
            .noted("until the hub drops what is in no table".to_owned()),
        None => figure("–".to_owned())
            .noted("known once events are read, with hub-retention set".to_owned()),
    }
}

fn headroom_level(seconds: Option<f64>) -> Level {
    match seconds {
        Some(seconds) if seconds < HEADROOM_BAD_SECONDS => Level::Bad,
        Some(seconds) if seconds < HEADROOM_WARN_SECONDS => Level::Warn,
        _ => Level::Fine,
    }
}

fn oldest(samples: &Samples) -> Figure {
    let oldest = samples.highest("stamp_oldest_unflushed_age_seconds");
    let oldest = oldest.unwrap_or_default();
    Figure::new(
        "oldest_unwritten",
        "Oldest unwritten row",
        text::span(oldest),
    )
    .of(oldest)
    .noted("waiting in memory for its flush".to_owned())
    .at(Level::warn_if(oldest > FRESH_SECONDS))
}

fn memory(samples: &Samples) -> Figure {
    let held = samples.sum("stamp_buffered_bytes");
    let limit = samples.sum("stamp_buffer_limit_bytes");
    let share = if limit > 0.0 { held / limit } else { 0.0 };
    Figure::new("memory", "Memory in flight", text::bytes(held))
        .of(held)
        .noted(format!("of {}", text::bytes(limit)))
        .sharing(share)
        .at(Level::warn_if(share >= MEMORY_HIGH))
}

fn lost(samples: &Samples) -> Figure {
    let lost = samples.sum("stamp_gap_events_total");
    let broken = samples.sum("stamp_invariant_violations_total");
    let broken_text = text::counted(broken, "broken promise", "broken promises");
    Figure::new("lost", "Lost at the hub", text::number(lost))
        .of(lost)
        .noted(format!("events; {broken_text}"))
        .at(Level::bad_if(lost > 0.0 || broken > 0.0))
}

fn owned(samples: &Samples, facts: &ConsumerFacts) -> Figure {
    let owned = samples.sum("stamp_partitions_owned");
    let all = facts.partitions as f64;
    let figure = Figure::new("partitions", "Partitions read here", text::number(owned)).of(owned);
    if facts.partitions == 0 {
        return figure.noted("the hub was not asked yet".to_owned());
    }
    figure
        .noted(format!("of {} of the hub", text::number(all)))
        .sharing(owned / all)
}

fn partition_section(input: &Input<'_>, facts: &ConsumerFacts) -> Section {
    let samples = input.samples;
    let columns = vec![
        words("partition", "Partition"),
        words("state", "State"),
        words("owner", "Read by"),
        numbers("lag_events", "Lag, events"),
        numbers("lag_seconds", "Lag, time"),
        numbers("headroom_seconds", "Headroom"),
        numbers("checkpoint", "Checkpoint"),
        numbers("events", "Events in"),
    ];
    let states = samples.states("stamp_partition_state", "partition", "state");
    let lag_events = samples.by("stamp_lag_events", "partition");
    let lag_seconds = samples.by("stamp_lag_seconds", "partition");
    let headroom = samples.by("stamp_retention_headroom_seconds", "partition");
    let checkpoints = samples.by("stamp_checkpoint_sequence", "partition");
    let events = samples.by("stamp_events_received_total", "partition");
    let labelled = states.keys().filter_map(|label| label.parse().ok());
    let owners: BTreeMap<u32, &crate::facts::OwnerFacts> = facts
        .owners
        .iter()
        .map(|owner| (owner.partition, owner))
        .collect();
    let all: BTreeSet<u32> = labelled.chain(owners.keys().copied()).collect();
    let row = |partition: u32| {
        let label = partition.to_string();
        let of = |sums: &BTreeMap<&str, f64>| sums.get(label.as_str()).copied();
        let shown = |value: Option<f64>, cell: fn(f64) -> Cell| value.map_or_else(Cell::none, cell);
        let late = of(&lag_seconds).is_some_and(|seconds| seconds > FRESH_SECONDS);
        let cells = vec![
            Cell::number(partition.into()),
            state(states.get(label.as_str()).copied()),
            owner(owners.get(&partition).copied()),
            shown(of(&lag_events), Cell::number),
            shown(of(&lag_seconds), Cell::span).at(Level::warn_if(late)),
            shown(of(&headroom), Cell::span).at(headroom_level(of(&headroom))),
            shown(of(&checkpoints), Cell::number),
            shown(of(&events), Cell::number),
        ];
        Row::new(label, &columns, cells)
    };
    let rows = all.into_iter().map(row).collect();
    Section::new(
        ("partitions", "Partitions"),
        "Lag is what the hub has and this process has not read; what it has read is safe up to the \
         checkpoint."
            .to_owned(),
        columns,
        rows,
        "No partition is read here yet.",
    )
}

fn state(state: Option<&str>) -> Cell {
    match state {
        Some("paused") => Cell::code("paused").at(Level::Warn),
        Some(state) => Cell::code(state),
        None => Cell::none(),
    }
}

fn owner(owner: Option<&crate::facts::OwnerFacts>) -> Cell {
    let Some(owner) = owner else {
        return Cell::none();
    };
    match (owner.owner.as_deref(), owner.is_here) {
        (_, true) => Cell::name("this process"),
        (Some(name), false) if !name.is_empty() => Cell::name(name),
        (Some(_), false) => Cell::name("nobody").at(Level::Warn),
        (None, false) => Cell::none(),
    }
}

fn tenant_section(
    input: &Input<'_>,
    facts: &ConsumerFacts,
    names: &[String],
    filter: &Filter,
) -> Section {
    let samples = input.samples;
    let columns = vec![
        words("tenant", "Tenant"),
        words("store", "Store"),
        numbers("readings", "Readings"),
        numbers("rejected", "Rejected"),
        numbers("quarantined", "Quarantined"),
        numbers("rows", "Rows written"),
        numbers("bytes", "Bytes written"),
        numbers("oldest_seconds", "Oldest unwritten"),
        numbers("quota_events", "Quota: events"),
        numbers("quota_bytes", "Quota: bytes"),
        numbers("quota_devices", "Quota: devices"),
        numbers("over_quota", "Over quota"),
    ];
    let configured: BTreeMap<&str, &TenantFacts> = facts
        .tenants
        .iter()
        .map(|tenant| (tenant.id.as_str(), tenant))
        .collect();
    let outcome = |outcome: &str| {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for sample in samples.of("stamp_events_total") {
            if sample.label("outcome") == outcome {
                *sums.entry(sample.label("tenant")).or_default() += sample.value;
            }
        }
        sums
    };
    let (readings, rejected) = (outcome("reading"), outcome("rejected"));
    let quarantined = outcome("quarantined");
    let rows = samples.by("stamp_rows_written_total", "tenant");
    let bytes = samples.by("stamp_written_bytes_total", "tenant");
    let oldest = samples.by("stamp_oldest_unflushed_age_seconds", "tenant");
    let over = samples.by("stamp_over_quota_events_total", "tenant");
    let row = |name: &String| {
        let of = |sums: &BTreeMap<&str, f64>| sums.get(name.as_str()).copied().unwrap_or_default();
        let tenant = configured.get(name.as_str()).copied();
        let late = of(&oldest) > FRESH_SECONDS;
        let cells = vec![
            Cell::name(name),
            tenant.map_or_else(Cell::none, |tenant| store(tenant.store)),
            Cell::number(of(&readings)),
            Cell::number(of(&rejected)),
            Cell::number(of(&quarantined)),
            Cell::number(of(&rows)),
            Cell::bytes(of(&bytes)),
            Cell::span(of(&oldest)).at(Level::warn_if(late)),
            quota(tenant, "events"),
            quota(tenant, "bytes"),
            quota(tenant, "devices"),
            Cell::number(of(&over)),
        ];
        Row::new(name.clone(), &columns, cells).of_tenant(name)
    };
    let shown = names.iter().filter(|name| filter.shows(name));
    let rows = shown.map(row).collect();
    Section::new(
        ("tenants", "Tenants"),
        "Events by what became of them, since the start. Quotas are of the newest minute by the hub's \
         clock, devices of its day. What is over a quota, or finds no room because a store takes no rows, \
         goes to quarantine."
            .to_owned(),
        columns,
        rows,
        if filter.shows_all() { "No tenant is configured." } else { "No tenant matches the filter." },
    )
}

/// The state of a tenant's store, by its breaker.
fn store(breaker: &str) -> Cell {
    let (word, level) = match breaker {
        "closed" => ("taking rows", Level::Fine),
        "half_open" => ("being tried", Level::Warn),
        _ => ("not answering", Level::Bad),
    };
    Cell::name(breaker).shown_as(word.to_owned()).at(level)
}

fn quota(tenant: Option<&TenantFacts>, name: &str) -> Cell {
    let quotas = tenant.into_iter().flat_map(|tenant| &tenant.quotas);
    let Some(quota) = quotas.into_iter().find(|quota| quota.quota == name) else {
        return Cell::none();
    };
    let QuotaUse { used, limit, .. } = *quota;
    let (used, limit) = (used as f64, limit as f64);
    let text = if name == "bytes" {
        text::bytes
    } else {
        text::number
    };
    Cell::of(used, limit, text).at(Level::warn_if(used >= QUOTA_HIGH * limit))
}

fn refused_section(input: &Input<'_>, filter: &Filter) -> Section {
    let columns = vec![
        words("reason", "Reason"),
        words("kind", "Kept in"),
        words("tenant", "Tenant"),
        numbers("recent", "Of late"),
        numbers("total", "Since start"),
    ];
    let mut found: Vec<(f64, Row)> = Vec::new();
    for (metric, kept_in) in [
        ("stamp_rejected_events_total", "rejected"),
        ("stamp_quarantined_events_total", "quarantine"),
    ] {
        for sample in input.samples.of(metric).filter(|sample| sample.value > 0.0) {
            let (reason, tenant) = (sample.label("reason"), sample.label("tenant"));
            let is_shown = match tenant {
                "" => filter.shows_all(),
                tenant => filter.shows(tenant),
            };
            if !is_shown {
                continue;
            }
            let recent = input.history.recent(sample);
            let is_ours = reason == "decoder_panic";
            let cells = vec![
                Cell::name(reason)
                    .linked(explained(reason))
                    .at(Level::bad_if(is_ours)),
                Cell::name(kept_in),
                if tenant.is_empty() {
                    Cell::none()
                } else {
                    Cell::name(tenant)
                },
                Cell::number(recent),
                Cell::number(sample.value),
            ];
            let row = Row::new(format!("{kept_in}/{tenant}/{reason}"), &columns, cells);
            let row = if tenant.is_empty() {
                row
            } else {
                row.of_tenant(tenant)
            };
            found.push((recent, row));
        }
    }
    // The busiest of late first; then by name, so that rows do not dance.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    let about = format!(
        "Events that are no readings, by reason. \"Of late\" is the last {}. A reason links to what it \
         means and what to do.",
        of_late(input)
    );
    let rows = found.into_iter().map(|(_, row)| row).collect();
    Section::new(
        ("refused", "Rejected and quarantined"),
        about,
        columns,
        rows,
        "Nothing was rejected or quarantined.",
    )
}

/// The page of a reason. What is no code of ours has none.
fn explained(reason: &str) -> Option<String> {
    let is_code = !reason.is_empty()
        && reason
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_code.then(|| {
        format!(
            "{}/blob/main/docs/errors/{reason}.md",
            env!("CARGO_PKG_REPOSITORY")
        )
    })
}

fn table_section(input: &Input<'_>, facts: &ConsumerFacts, filter: &Filter) -> Section {
    let columns = table_columns();
    let by_table = |metric: &str| {
        let mut sums: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for sample in input.samples.of(metric) {
            let key = (sample.label("tenant"), sample.label("table"));
            *sums.entry(key).or_default() += sample.value;
        }
        sums
    };
    let rows = by_table("stamp_rows_written_total");
    let bytes = by_table("stamp_written_bytes_total");
    let mut shown = Vec::new();
    for table in &facts.tables {
        let tenant = table.tenant.as_deref();
        if !tenant.map_or(filter.shows_all(), |tenant| filter.shows(tenant)) {
            continue;
        }
        let key = (tenant.unwrap_or(NONE), table.table);
        let sum = |sums: &BTreeMap<(&str, &str), f64>| sums.get(&key).copied();
        // Past the cap of labels a tenant's rows are counted with others'.
        let cell = |sum: Option<f64>, cell: fn(f64) -> Cell| sum.map_or_else(Cell::none, cell);
        let cells = vec![
            tenant.map_or_else(|| Cell::name("(the stamp)"), Cell::name),
            Cell::name(table.table),
            Cell::number(table.version as f64),
            Cell::moment(table.at_us, input.now_us),
            Cell::number(table.rows as f64),
            cell(sum(&rows), Cell::number),
            cell(sum(&bytes), Cell::bytes),
        ];
        let id = format!("{}/{}", tenant.unwrap_or_default(), table.table);
        let row = Row::new(id, &columns, cells);
        shown.push(match tenant {
            Some(tenant) => row.of_tenant(tenant),
            None => row,
        });
    }
    Section::new(
        ("tables", "Tables"),
        "The last commit of this process to each table. Times are UTC.".to_owned(),
        columns,
        shown,
        if filter.shows_all() {
            "Nothing was committed yet."
        } else {
            "Nothing was committed yet for tenants that match the filter."
        },
    )
}

fn table_columns() -> Vec<Column> {
    vec![
        words("tenant", "Tenant"),
        words("table", "Table"),
        numbers("version", "Version"),
        numbers("committed", "Last commit"),
        numbers("rows", "Rows in it"),
        numbers("rows_total", "Rows since start"),
        numbers("bytes_total", "Bytes since start"),
    ]
}
