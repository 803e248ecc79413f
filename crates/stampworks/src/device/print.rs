//! A move as text and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use stamp_mover::{DeviceReport, Journal, Plan, Report, Telemetry, Verdict};
use stamp_placement::device_move::Due;

use super::OutputFormat;
use super::watch::word;
use crate::exit::Failure;
use crate::fleet::table;
use crate::opened::{print_json, time};
use crate::output;

/// Devices that a text lists when all of them are well.
const LISTED_MAX: usize = 200;

/// What a dry run says.
pub(super) fn plan(plan: &Plan, share_of_limits: f64, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct Dry<'a> {
            source: &'a stamp_mover::Side,
            targets: Vec<&'a stamp_mover::Side>,
            devices: &'a [stamp_mover::PlannedDevice],
            minutes_at_least: u64,
        }
        return print_json(&Dry {
            source: &plan.source,
            targets: plan.targets.values().collect(),
            devices: &plan.devices,
            minutes_at_least: plan.minutes_at_least(share_of_limits),
        });
    }
    let mut rows = vec![
        ["device", "registration", "tenant", "to"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for device in plan.devices.iter().take(LISTED_MAX) {
        rows.push(vec![
            device.device.to_string(),
            device.registration.clone(),
            device.tenant.to_string(),
            device.target.to_string(),
        ]);
    }
    table(&rows).iter().for_each(|line| output::line(line));
    if plan.devices.len() > LISTED_MAX {
        output::line(&format!("... and {} more", plan.devices.len() - LISTED_MAX));
    }
    output::line(&format!(
        "{plan}; at least {} min by the hubs' limits",
        plan.minutes_at_least(share_of_limits)
    ));
    output::line("nothing was done");
    Ok(())
}

/// How far a move is, by its journal.
pub(super) fn status(journal: &Journal, now_us: i64, format: OutputFormat) -> Result<(), Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Status {
        from: String,
        began_us: i64,
        devices: usize,
        stages: BTreeMap<String, usize>,
        stragglers: Vec<String>,
        persons: BTreeMap<String, String>,
        paused: usize,
    }
    let mut status = Status {
        from: journal.source().to_string(),
        began_us: journal.began_us(),
        devices: journal.devices().len(),
        stages: BTreeMap::new(),
        stragglers: Vec::new(),
        persons: BTreeMap::new(),
        paused: 0,
    };
    for moving in journal.devices() {
        *status
            .stages
            .entry(word(&moving.state.stage()))
            .or_default() += 1;
        let name = moving.planned.device.to_string();
        match moving.state.next(now_us, journal.policy()) {
            Due::Telemetry { straggler: true } => status.stragglers.push(name),
            Due::Person(_) => {
                let why = moving.why.clone().unwrap_or_default();
                status.persons.insert(name, why);
            }
            Due::Paused => status.paused += 1,
            _ => {}
        }
    }
    if format == OutputFormat::Json {
        return print_json(&status);
    }
    output::line(&format!(
        "{} devices from {}, since {}",
        status.devices,
        status.from,
        time(status.began_us)
    ));
    for (stage, count) in &status.stages {
        output::line(&format!("{stage:<12} {count:>8}"));
    }
    if status.paused > 0 {
        output::line(&format!("paused       {:>8}", status.paused));
    }
    status
        .stragglers
        .iter()
        .for_each(|name| output::line(&format!("late: {name}")));
    for (name, why) in &status.persons {
        output::line(&format!("for a person: {name}: {why}"));
    }
    Ok(())
}

/// What a move has come to.
pub(super) fn report(report: &Report, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
        return print_json(report);
    }
    let is_well = |device: &DeviceReport| device.stage.is_end() && device.why.is_none();
    let all = report.list.len() <= LISTED_MAX;
    let mut rows = vec![
        [
            "device",
            "to",
            "stage",
            "source",
            "target",
            "last at source",
            "first at target",
            "last at target",
            "rows",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let listed = report.list.iter().filter(|device| all || !is_well(device));
    rows.extend(listed.map(row));
    table(&rows).iter().for_each(|line| output::line(line));
    for device in report.list.iter().filter(|device| device.why.is_some()) {
        let why = device.why.as_deref().unwrap_or_default();
        let kind = match (device.straggler, device.person) {
            (true, _) => "late",
            (_, true) => "for a person",
            _ => "not done",
        };
        output::line(&format!("{kind}: {}: {why}", device.device));
    }
    for (what, names) in [
        ("let in at both hubs", &report.in_both),
        ("let in nowhere", &report.nowhere),
        ("of these, made again when they register", &report.returning),
    ] {
        if !names.is_empty() {
            output::line(&format!("{what}: {}", names.join(" ")));
        }
    }
    report
        .problems
        .iter()
        .for_each(|problem| output::line(&format!("not known: {problem}")));
    output::line(&summary(report));
    Ok(())
}

fn summary(report: &Report) -> String {
    let count = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
    let verdict = match report.verdict {
        Verdict::Complete => "complete",
        Verdict::Differs => "NOT COMPLETE",
    };
    format!(
        "{verdict}: {} devices, {} moved, {} taken back, {} under way; let in before {}, after {}",
        report.devices,
        report.moved,
        report.taken_back,
        report.under_way,
        count(report.before),
        count(report.after)
    )
}

fn row(device: &DeviceReport) -> Vec<String> {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let at = |telemetry: Option<Telemetry>, pick: fn(Telemetry) -> i64| {
        telemetry.map_or("-".to_owned(), |telemetry| time(pick(telemetry)))
    };
    vec![
        device.device.clone(),
        device.target.to_string(),
        word(&device.stage),
        or(&device.at_source),
        or(&device.at_target),
        at(device.source, |telemetry| telemetry.last_us),
        at(device.telemetry, |telemetry| telemetry.first_us),
        at(device.telemetry, |telemetry| telemetry.last_us),
        device
            .telemetry
            .map_or("-".to_owned(), |telemetry| telemetry.rows.to_string()),
    ]
}
