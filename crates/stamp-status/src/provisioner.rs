//! The page of a provisioner.

use std::time::Duration;

use crate::facts::{Facts, StampFacts};
use crate::model::{Content, Input};
use crate::parts::{Cell, Figure, Level, Row, Section, numbers, words};
use crate::peers::{self, of_late};
use crate::text;

const REQUESTS: &str = "stamp_provision_requests_total";
/// Outcomes that are an answer; every other one is the code of a refusal.
const ANSWERS: [&str; 7] = [
    "booked",
    "kept",
    "moved",
    "memory",
    "reserve",
    "unchanged",
    "served",
];
const WINDOW: Duration = Duration::from_secs(60);
const RESERVE_HIGH: f64 = 0.5;

pub(crate) fn content(input: &Input<'_>) -> Content {
    let stamps = match input.facts {
        Some(Facts::Provisioner(facts)) => facts.stamps.as_slice(),
        _ => &[],
    };
    Content {
        tenants: Vec::new(),
        figures: figures(input),
        sections: vec![
            answer_section(input),
            stamp_section(stamps),
            peers::section(input),
        ],
    }
}

fn figures(input: &Input<'_>) -> Vec<Figure> {
    let samples = input.samples;
    let rate = input.history.rate(REQUESTS, WINDOW);
    let text = rate.map_or_else(
        || "–".to_owned(),
        |rate| format!("{}/s", text::number(rate)),
    );
    let total = text::counted(samples.sum(REQUESTS), "request", "requests");
    let requests = Figure::new("requests", "Requests", text)
        .noted(format!("{total} since start"))
        .drawn(input.history, REQUESTS);
    let refused = samples.of(REQUESTS);
    let refused = refused.filter(|sample| !ANSWERS.contains(&sample.label("outcome")));
    let refused: f64 = refused.map(|sample| sample.value).sum();
    // Before the database was looked at there is no word on it: the service is not ready then.
    let is_reached = samples.sum("stamp_provision_database_reached") > 0.5;
    let is_away = !is_reached && input.waiting_for.is_empty();
    let database = match (is_reached, is_away) {
        (true, _) => "reached",
        (false, true) => "away",
        (false, false) => "not reached yet",
    };
    let pending = samples.sum("stamp_provision_reserve_pending");
    let used = samples.sum("stamp_provision_reserve_used_ratio");
    let is_current = samples.sum("stamp_catalogue_current") > 0.5;
    vec![
        rate.map_or(requests.clone(), |rate| requests.of(rate)),
        Figure::new("refused", "Refused", text::number(refused))
            .of(refused)
            .noted("requests since start".to_owned()),
        Figure::new("database", "Database", database.to_owned())
            .of(f64::from(u8::from(is_reached)))
            .noted("of reservations, at the last look".to_owned())
            .at(Level::bad_if(is_away)),
        Figure::new(
            "reserve_used",
            "Reserve given away",
            format!("{} %", text::number((used * 100.0).round())),
        )
        .of(used)
        .sharing(used)
        .noted("on the stamp where it is most".to_owned())
        .at(Level::above(used, RESERVE_HIGH, 1.0)),
        Figure::new(
            "reserve_pending",
            "To be written down",
            text::number(pending),
        )
        .of(pending)
        .noted("devices with a place from the reserve".to_owned())
        .at(Level::warn_if(pending > 0.0)),
        Figure::new(
            "catalogue",
            "Catalogue",
            if is_current { "current" } else { "refused" }.to_owned(),
        )
        .of(f64::from(u8::from(is_current)))
        .noted(if is_current {
            "in force as it is on the disk".to_owned()
        } else {
            "an older one is in force; the log has the errors".to_owned()
        })
        .at(Level::warn_if(!is_current)),
    ]
}

fn answer_section(input: &Input<'_>) -> Section {
    let columns = vec![
        words("route", "Asked for"),
        words("outcome", "Answer"),
        words("kind", "Kind"),
        numbers("recent", "Of late"),
        numbers("total", "Since start"),
    ];
    let mut rows = Vec::new();
    for sample in input.samples.of(REQUESTS) {
        let (route, outcome) = (sample.label("route"), sample.label("outcome"));
        let kind = match outcome {
            "memory" | "reserve" => "without the database",
            outcome if ANSWERS.contains(&outcome) => "answer",
            _ => "refusal",
        };
        let cells = vec![
            Cell::code(route),
            Cell::code(outcome),
            Cell::name(kind),
            Cell::number(input.history.recent(sample)),
            Cell::number(sample.value),
        ];
        rows.push(Row::new(format!("{route}/{outcome}"), &columns, cells));
    }
    let about = format!(
        "Requests by what was asked for and answered. \"Of late\" is the last {}.",
        of_late(input)
    );
    Section::new(
        ("answers", "Answers"),
        about,
        columns,
        rows,
        "Nobody has asked yet.",
    )
}

fn stamp_section(stamps: &[StampFacts]) -> Section {
    let mut columns = vec![words("stamp", "Stamp")];
    // The axes of the catalogue, by the first stamp: all have the same ones.
    let axes = stamps.first().map_or(&[][..], |stamp| &stamp.axes);
    columns.extend(axes.iter().map(|axis| numbers(axis.axis, label(axis.axis))));
    columns.push(numbers("reserve", "Devices from the reserve"));
    let row = |stamp: &StampFacts| {
        let mut cells = vec![Cell::name(&stamp.id)];
        for axis in &stamp.axes {
            let text = if axis.axis == "bytes-per-second" {
                text::bytes
            } else {
                text::number
            };
            let level = match axis.booked {
                booked if booked > axis.soft && booked >= axis.hard => Level::Bad,
                booked if booked > axis.soft => Level::Warn,
                _ => Level::Fine,
            };
            cells.push(Cell::of(axis.booked as f64, axis.hard as f64, text).at(level));
        }
        let devices = stamp.axes.iter().find(|axis| axis.axis == "devices");
        let reserve = devices.map_or(0, |axis| axis.reserve);
        cells.push(Cell::number(reserve as f64));
        Row::new(stamp.id.clone(), &columns, cells)
    };
    let rows = stamps.iter().map(row).collect();
    Section::new(
        ("stamps", "Stamps"),
        "Booked of the hard limit of each axis. Above the soft limit a stamp is avoided, at the hard one \
         it takes nobody."
            .to_owned(),
        columns,
        rows,
        "The catalogue was not read yet.",
    )
}

fn label(axis: &'static str) -> &'static str {
    match axis {
        "devices" => "Devices",
        "messages-per-day" => "Messages a day",
        "events-per-second" => "Events a second",
        "bytes-per-second" => "Bytes a second",
        "tenants" => "Tenants",
        other => other,
    }
}
