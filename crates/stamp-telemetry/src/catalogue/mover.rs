//! Metrics of the service of moves: who asks, and where each move stands.

use super::{Definition, Kind, Label, Unit};

/// In the order of the document.
pub(crate) const ALL: &[&Definition] = &[&MOVES, &STATE, &OPEN, &REQUESTS];

const STATES: Label = Label {
    name: "state",
    values: "`running`, `waiting`, `paused`, `held`, `failed` or `ended`",
};

const MOVE: Label = Label {
    name: "move",
    values: "the id of a move that has not ended; no more than may be at once",
};

pub(crate) const MOVES: Definition = Definition {
    name: "stamp_mover_moves",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[STATES],
    help: "Moves that the service keeps, by where they stand.",
    reading: "`held` waits for a person, `paused` for a resume; `failed` cannot use its journal or its services. `ended` ones can be forgotten.",
};

pub(crate) const STATE: Definition = Definition {
    name: "stamp_mover_move_state",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[MOVE, STATES],
    help: "1 for where a move stands that has not ended.",
    reading: "The interface says why: `GET /v1/moves/ID`.",
};

pub(crate) const OPEN: Definition = Definition {
    name: "stamp_mover_open_devices",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[MOVE],
    help: "Devices of a move that are neither moved nor taken back.",
    reading: "Falls to 0, and is gone when the move has ended.",
};

pub(crate) const REQUESTS: Definition = Definition {
    name: "stamp_mover_requests_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        Label {
            name: "route",
            values: "`moves`, `move`, `ask`, `openapi` or `other`",
        },
        Label {
            name: "outcome",
            values: "`begun`, `known`, `dry-run`, `served`, `asked` or `forgotten`; else the code of a refusal",
        },
    ],
    help: "Requests to the service of moves by outcome.",
    reading: "Codes of refusals are explained in moving.md.",
};
