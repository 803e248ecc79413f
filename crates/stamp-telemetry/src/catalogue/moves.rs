//! Metrics of a move of devices from stamp to stamp.

use super::{Definition, Kind, Label, Unit};

/// In the order of the document.
pub(crate) const ALL: &[&Definition] = &[&DEVICES, &ACTS, &STRAGGLERS, &PERSONS];

pub(crate) const DEVICES: Definition = Definition {
    name: "stamp_move_devices",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[Label {
        name: "stage",
        values: "how far a device is, such as `planned`, `disabled`, `verified`, `erased` or `rolled-back`",
    }],
    help: "Devices of the move that this process runs, by how far they are. `stamp` is the one they leave.",
    reading: "Everything ends in `erased` or `rolled-back`. A stage that does not empty is where to look.",
};

pub(crate) const ACTS: Definition = Definition {
    name: "stamp_move_acts_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        Label {
            name: "act",
            values: "what was done, such as `point-enrolment` or `disable-source`",
        },
        Label {
            name: "outcome",
            values: "`done`, `absent`, `not-done`, `unknown` or `refused`",
        },
    ],
    help: "Acts of the move at DPS and the hubs, retries not counted, by outcome.",
    reading: "`not-done` and `unknown` are tried again; `refused` waits for a person.",
};

pub(crate) const STRAGGLERS: Definition = Definition {
    name: "stamp_move_stragglers",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Devices that have not been seen at their target for too long.",
    reading: "They are rejected at the source and have not come: `stampworks device status` names them. Too many stop the move from beginning with others.",
};

pub(crate) const PERSONS: Definition = Definition {
    name: "stamp_move_persons",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Devices whose last act was refused and that wait for a person.",
    reading: "`stampworks device status` says why, by device; `device move --resume` tries again.",
};
