//! Metrics of the one retry layer.

use super::{Definition, Kind, Label, PEER, Unit};

/// In the order of the document.
pub(crate) const ALL: &[&Definition] = &[
    &ATTEMPTS,
    &ATTEMPT_DURATION,
    &PAUSE,
    &GIVE_UPS,
    &BUDGET_TOKENS,
    &BUDGET_LIMIT,
    &BREAKER_STATE,
    &NESTED,
];

const OPERATION: Label = Label {
    name: "operation",
    values: "the operation, as the program names it, such as `commit`",
};

pub(crate) const ATTEMPTS: Definition = Definition {
    name: "stamp_retry_attempts_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        PEER,
        OPERATION,
        Label {
            name: "outcome",
            values: "`success`, `transient`, `throttled`, `permanent`, `unknown`: no answer, or `timed_out`",
        },
    ],
    help: "Attempts of operations, first ones and read-backs included, by outcome.",
    reading: "All but `success` and `permanent` may be repeated. `throttled` rises first when a peer is at its limit.",
};

pub(crate) const ATTEMPT_DURATION: Definition = Definition {
    name: "stamp_retry_attempt_duration_seconds",
    kind: Kind::Histogram {
        buckets: &[
            0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ],
        reason: "a local file takes a millisecond, a request to a store tens, a timeout tens of seconds",
    },
    unit: Unit::Seconds,
    labels: &[PEER, OPERATION],
    help: "How long attempts took, whatever their outcome.",
    reading: "The latency of the peer as the stamp sees it.",
};

pub(crate) const PAUSE: Definition = Definition {
    name: "stamp_retry_pause_seconds",
    kind: Kind::Histogram {
        buckets: &[0.0, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0],
        reason: "0 is the one retry at once; policies double from tenths of a second to a minute or so",
    },
    unit: Unit::Seconds,
    labels: &[
        PEER,
        Label {
            name: "cause",
            values: "`immediate`, `back_off`, `throttled`, `retry_after`: as long as the peer asked, `start_up` or `rest`: after giving up",
        },
    ],
    help: "Planned pauses before an attempt.",
    reading: "The rate of the sum is the time spent waiting for the peer.",
};

pub(crate) const GIVE_UPS: Definition = Definition {
    name: "stamp_retry_give_ups_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        PEER,
        Label {
            name: "reason",
            values: "`permanent`, `unknown`, `timed_out`, `exhausted`, `deadline`, `budget`, `retry_after_too_long`, `breaker_open` or `cancelled`",
        },
    ],
    help: "Operations that were given up; the data stays where it was.",
    reading: "`exhausted`, `deadline` and `breaker_open` are an outage of the peer; `permanent` is an answer that repeating cannot change.",
};

pub(crate) const BUDGET_TOKENS: Definition = Definition {
    name: "stamp_retry_budget_tokens",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[PEER],
    help: "Retries that could be made right now.",
    reading: "Near 0: most operations fail, and repeating them would only add load.",
};

pub(crate) const BUDGET_LIMIT: Definition = Definition {
    name: "stamp_retry_budget_limit_tokens",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[PEER],
    help: "What the retry budget holds at most.",
    reading: "The ceiling of `stamp_retry_budget_tokens`.",
};

pub(crate) const BREAKER_STATE: Definition = Definition {
    name: "stamp_breaker_state",
    kind: Kind::Gauge,
    unit: Unit::State,
    labels: &[
        PEER,
        Label {
            name: "state",
            values: "`closed`: operations pass, `open`: none does, or `half_open`: one probe does",
        },
    ],
    help: "1 for the state the peer's circuit breaker is in, 0 for the others.",
    reading: "`open` means that nothing is asked of the peer for now; the next probe closes it.",
};

pub(crate) const NESTED: Definition = Definition {
    name: "stamp_retry_nested_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Operations that were run inside an attempt of another; each got one attempt.",
    reading: "Must be 0: a second retry layer multiplies the load. The log has both operations.",
};
