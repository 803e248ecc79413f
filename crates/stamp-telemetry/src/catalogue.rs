//! Every metric of the service: name, kind, unit, labels and meaning, in one list.
//!
//! Names follow the Prometheus conventions: prefix `stamp_`, base units, counters end in `_total`.
//! Labels are closed sets, the partition number (at most 1,024) or the tenant (capped at
//! [`TENANT_LABELS_MAX`](crate::TENANT_LABELS_MAX)); never a device. Every series also carries the
//! constant label `stamp`; that of a provisioner or of a service of moves, which serve a fleet, is
//! its own name.

pub(crate) mod consumer;
mod markdown;
pub(crate) mod mover;
pub(crate) mod moves;
pub(crate) mod provisioner;
pub(crate) mod retry;

pub use markdown::markdown;

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// The name, unit included.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: Unit,
    /// The labels, in the order in which handles give their values.
    pub labels: &'static [Label],
    /// One sentence: the `# HELP` line of a scrape.
    pub help: &'static str,
    /// For the person who reads the board: what a value means and what to look at.
    pub reading: &'static str,
}

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows; ask for its rate.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram {
        /// Upper bounds, ascending, without the infinite one.
        buckets: &'static [f64],
        /// Why these bounds.
        reason: &'static str,
    },
}

impl Kind {
    /// As Prometheus writes it in a `# TYPE` line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }
}

/// What a metric counts or measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Messages of the hub.
    Events,
    /// Rows of a table.
    Rows,
    /// Bytes of memory or of files.
    Bytes,
    /// Seconds, with a fraction.
    Seconds,
    /// Positions in a partition.
    Sequence,
    /// Things the name says, such as commits or attempts.
    Count,
    /// What the axis of the series counts.
    Axis,
    /// A share, 0 to 1.
    Ratio,
    /// 1 for the state or version that is, 0 for the others.
    State,
}

impl Unit {
    /// As the document shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Sequence => "sequence number",
            Self::Count => "count",
            Self::Axis => "the axis's",
            Self::Ratio => "0 to 1",
            Self::State => "0 or 1",
        }
    }
}

/// A label and what its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The name.
    pub name: &'static str,
    /// The values it takes.
    pub values: &'static str,
}

const PARTITION: Label = Label {
    name: "partition",
    values: "the partition's number, 0 to 1023",
};
const TENANT: Label = Label {
    name: "tenant",
    values: "the tenant's id for the first 100 tenants of a process, `other` for the rest, `none` where no tenant is known",
};
const TABLE: Label = Label {
    name: "table",
    values: "`readings`, `rollups`, `rejected`, `quarantine` or `gaps`",
};
const PEER: Label = Label {
    name: "peer",
    values: "the service that is called, as the retry policy names it, such as `eventhubs` or `store`",
};

/// All metrics, in the order of the document.
#[must_use]
pub fn all() -> Vec<&'static Definition> {
    let all = consumer::ALL.iter().chain(retry::ALL);
    let all = all.chain(provisioner::ALL).chain(moves::ALL);
    let all = all.chain(mover::ALL);
    all.copied().collect()
}
