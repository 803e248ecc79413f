//! The page of a running move of devices, and of a service of many moves.

use std::time::Duration;

use crate::model::{Content, Input};
use crate::parts::{Cell, Figure, Level, Row, Section, numbers, words};
use crate::peers::{self, of_late};
use crate::text;

const DEVICES: &str = "stamp_move_devices";
const ACTS: &str = "stamp_move_acts_total";
/// Where a device's move ends.
const ENDS: [&str; 2] = ["erased", "rolled-back"];
const WINDOW: Duration = Duration::from_secs(60);

/// Only a service of moves has it.
const MOVES: &str = "stamp_mover_moves";

pub(crate) fn content(input: &Input<'_>) -> Content {
    if input.samples.of(MOVES).next().is_some() {
        return content_of_service(input);
    }
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

fn content_of_service(input: &Input<'_>) -> Content {
    let samples = input.samples;
    let open = samples.sum("stamp_mover_open_devices");
    let at = |state: &str| -> f64 {
        let moves = samples.of(MOVES);
        let moves = moves.filter(|sample| sample.label("state") == state);
        moves.map(|sample| sample.value).sum()
    };
    let (held, failed) = (at("held"), at("failed"));
    let figures = vec![
        Figure::new("open", "Devices under way", text::number(open))
            .of(open)
            .noted("neither moved nor taken back".to_owned()),
        Figure::new("running", "Moves running", text::number(at("running")))
            .of(at("running"))
            .noted(format!("{} kept", text::number(samples.sum(MOVES)))),
        Figure::new("held", "Waiting for a person", text::number(held))
            .of(held)
            .noted("moves whose devices are held up".to_owned())
            .at(Level::bad_if(held > 0.0)),
        Figure::new("failed", "Failed", text::number(failed))
            .of(failed)
            .noted("cannot use their journal or services".to_owned())
            .at(Level::bad_if(failed > 0.0)),
    ];
    Content {
        tenants: Vec::new(),
        figures,
        sections: vec![moves_section(input), peers::section(input)],
    }
}

fn moves_section(input: &Input<'_>) -> Section {
    let columns = vec![
        words("move", "Move"),
        words("state", "State"),
        numbers("devices", "Devices under way"),
    ];
    let open = |id: &str| -> f64 {
        let devices = input.samples.of("stamp_mover_open_devices");
        let devices = devices.filter(|sample| sample.label("move") == id);
        devices.map(|sample| sample.value).sum()
    };
    let states = input.samples.of("stamp_mover_move_state");
    let rows = states.filter(|sample| sample.value > 0.5).map(|sample| {
        let (id, state) = (sample.label("move"), sample.label("state"));
        let bad = matches!(state, "held" | "failed");
        let cells = vec![
            Cell::name(id),
            Cell::code(state).at(Level::bad_if(bad)),
            Cell::number(open(id)),
        ];
        Row::new(id.to_owned(), &columns, cells)
    });
    Section::new(
        ("moves", "Moves"),
        "Moves that have not ended. GET /v1/moves/ID says more of one.".to_owned(),
        columns.clone(),
        rows.collect(),
        "No move is under way.",
    )
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
