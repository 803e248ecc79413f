//! The page of a running move of devices.

use std::time::Duration;

use crate::model::{Cell, Content, Figure, Input, Level, Row, Section, numbers, words};
use crate::peers::{self, of_late};
use crate::text;

const DEVICES: &str = "stamp_move_devices";
const ACTS: &str = "stamp_move_acts_total";
/// Where a device's move ends.
const ENDS: [&str; 2] = ["erased", "rolled-back"];
const WINDOW: Duration = Duration::from_secs(60);

pub(crate) fn content(input: &Input<'_>) -> Content {
    Content {
        tenants: Vec::new(),
        figures: figures(input),
        sections: vec![
            stage_section(input),
            act_section(input),
            peers::section(input),
        ],
    }
}

fn figures(input: &Input<'_>) -> Vec<Figure> {
    let samples = input.samples;
    let all = samples.sum(DEVICES);
    let ended = samples
        .of(DEVICES)
        .filter(|sample| ENDS.contains(&sample.label("stage")));
    let ended: f64 = ended.map(|sample| sample.value).sum();
    let rate = input.history.rate(ACTS, WINDOW);
    let text = rate.map_or_else(
        || "–".to_owned(),
        |rate| format!("{}/s", text::number(rate)),
    );
    let total = text::counted(samples.sum(ACTS), "act", "acts");
    let acts = Figure::new("acts", "Acts", text)
        .noted(format!("{total} since start"))
        .drawn(input.history, ACTS);
    let late = samples.sum("stamp_move_stragglers");
    let persons = samples.sum("stamp_move_persons");
    vec![
        Figure::new("devices", "Devices at the end", text::number(ended))
            .of(ended)
            .noted(format!("of {}", text::number(all)))
            .sharing(if all > 0.0 { ended / all } else { 0.0 }),
        rate.map_or(acts.clone(), |rate| acts.of(rate)),
        Figure::new("late", "Late devices", text::number(late))
            .of(late)
            .noted("not seen at their target for too long".to_owned())
            .at(Level::warn_if(late > 0.0)),
        Figure::new("persons", "Waiting for a person", text::number(persons))
            .of(persons)
            .noted("devices whose last act was refused".to_owned())
            .at(Level::bad_if(persons > 0.0)),
    ]
}

fn stage_section(input: &Input<'_>) -> Section {
    let columns = vec![words("stage", "Stage"), numbers("devices", "Devices")];
    let all = input.samples.sum(DEVICES);
    let mut rows = Vec::new();
    for sample in input.samples.of(DEVICES) {
        let stage = sample.label("stage");
        let share = if all > 0.0 { sample.value / all } else { 0.0 };
        let cells = vec![Cell::code(stage), Cell::number(sample.value).sharing(share)];
        rows.push(Row::new(stage.to_owned(), &columns, cells));
    }
    Section::new(
        ("stages", "Stages"),
        "How far the devices are. All end in erased, or in rolled back.".to_owned(),
        columns,
        rows,
        "No device is counted yet.",
    )
}

fn act_section(input: &Input<'_>) -> Section {
    let columns = vec![
        words("act", "Act"),
        words("outcome", "Outcome"),
        numbers("recent", "Of late"),
        numbers("total", "Since start"),
    ];
    let mut rows = Vec::new();
    for sample in input.samples.of(ACTS) {
        let (act, outcome) = (sample.label("act"), sample.label("outcome"));
        let cells = vec![
            Cell::code(act),
            Cell::code(outcome).at(Level::warn_if(outcome == "refused")),
            Cell::number(input.history.recent(sample)),
            Cell::number(sample.value),
        ];
        rows.push(Row::new(format!("{act}/{outcome}"), &columns, cells));
    }
    let about = format!(
        "What was done at DPS and the hubs. \"Of late\" is the last {}. What is not done is tried again; \
         what is refused waits for a person.",
        of_late(input)
    );
    Section::new(
        ("acts", "Acts"),
        about,
        columns,
        rows,
        "Nothing was done yet.",
    )
}
