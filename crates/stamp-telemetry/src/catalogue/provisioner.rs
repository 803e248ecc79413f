//! Metrics of the provisioner: who asks, what is answered, and whether the database is there.

use super::{Definition, Kind, Label, Unit};

/// In the order of the document.
pub(crate) const ALL: &[&Definition] = &[
    &REQUESTS,
    &REQUEST_DURATION,
    &DATABASE_REACHED,
    &RESERVE_PENDING,
    &RESERVE_USED_RATIO,
    &RESERVE_WRITTEN,
    &BOOKED,
    &CAPACITY,
    &CATALOGUE_RELOADS,
    &CATALOGUE_CURRENT,
];

const ROUTE: Label = Label {
    name: "route",
    values: "`allocate`: the webhook; `tenant`, `device`: look-ups; `openapi`; `other`",
};

pub(crate) const REQUESTS: Definition = Definition {
    name: "stamp_provision_requests_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        ROUTE,
        Label {
            name: "outcome",
            values: "`booked`, `kept`, `moved`, `memory` or `reserve`: where the answer comes from; `unchanged`: the caller has it already; `served`; else the code of a refusal",
        },
    ],
    help: "Requests to the provisioner by outcome.",
    reading: "`memory` and `reserve` move only while the database is away. Codes of refusals are explained in provisioning.md.",
};

pub(crate) const REQUEST_DURATION: Definition = Definition {
    name: "stamp_provision_request_duration_seconds",
    kind: Kind::Histogram {
        buckets: &[
            0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        ],
        reason: "An answer takes single milliseconds; the database's deadline is at 1.6 s.",
    },
    unit: Unit::Seconds,
    labels: &[ROUTE],
    help: "Time from a whole request to its answer.",
    reading: "DPS fails a registration whose webhook is too slow. Above 0.5 s: the database hangs, and the breaker is not open yet.",
};

pub(crate) const DATABASE_REACHED: Definition = Definition {
    name: "stamp_provision_database_reached",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[],
    help: "Whether the database of reservations answered the last time it was asked.",
    reading: "0 for minutes: new tenants are refused, new devices live from the reserve. Alert.",
};

pub(crate) const RESERVE_PENDING: Definition = Definition {
    name: "stamp_provision_reserve_pending",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Devices that were given a place from the reserve and are not yet in the database.",
    reading: "Back to 0 seconds after the database is back. They are in the journal until then.",
};

pub(crate) const RESERVE_USED_RATIO: Definition = Definition {
    name: "stamp_provision_reserve_used_ratio",
    kind: Kind::Gauge,
    unit: Unit::Ratio,
    labels: &[],
    help: "The share of this provisioner's reserve that is given away, on the stamp where it is highest; 0 to 1.",
    reading: "At 1 new devices of that stamp are refused until the database is back.",
};

pub(crate) const RESERVE_WRITTEN: Definition = Definition {
    name: "stamp_provision_reserve_written_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Devices from the reserve that were written down in the database.",
    reading: "How many registrations an outage of the database concerned.",
};

const TARGET_STAMP: Label = Label {
    name: "target_stamp",
    values: "a stamp of the catalogue in force; `stamp` is the provisioner",
};
const AXIS: Label = Label {
    name: "axis",
    values: "`devices`, `messages-per-day`, `events-per-second`, `bytes-per-second` or `tenants`",
};

pub(crate) const BOOKED: Definition = Definition {
    name: "stamp_provision_booked",
    kind: Kind::Gauge,
    unit: Unit::Axis,
    labels: &[TARGET_STAMP, AXIS],
    help: "What is booked of each stamp, on each axis that it can be full on.",
    reading: "As the database of reservations said the last time it was asked. Above the soft limit the next stamp is due.",
};

pub(crate) const CAPACITY: Definition = Definition {
    name: "stamp_provision_capacity",
    kind: Kind::Gauge,
    unit: Unit::Axis,
    labels: &[
        TARGET_STAMP,
        AXIS,
        Label {
            name: "limit",
            values: "`soft` or `hard`: as the catalogue says; `bookable`: the hard one less the reserve for an outage of the database",
        },
    ],
    help: "The limits of each stamp, on each axis.",
    reading: "Compare with `stamp_provision_booked`. At `bookable`, new devices of the stamp's tenants are refused.",
};

pub(crate) const CATALOGUE_RELOADS: Definition = Definition {
    name: "stamp_catalogue_reloads_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[Label {
        name: "outcome",
        values: "`taken`, or `refused`: it has errors, and the one before stays in force",
    }],
    help: "Times that the catalogue was read again.",
    reading: "`refused`: the log has every error with its line.",
};

pub(crate) const CATALOGUE_CURRENT: Definition = Definition {
    name: "stamp_catalogue_current",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[],
    help: "Whether the catalogue in force is the one that is on the disk.",
    reading: "0: somebody published a catalogue that cannot be used. Alert.",
};
