//! `dashboards/*.json`: the Grafana boards, made from the short lists in this folder.
//!
//! A board in Grafana's JSON is two thousand lines of which sixty say something. Those sixty are here;
//! `cargo xtask docs` writes the rest, and fails where a committed board differs. What the queries answer is
//! checked by the tests of `stampworks` against a real Prometheus.

mod fleet;
mod json;
mod provisioning;
mod resilience;
mod stamp;
mod tenant;
#[cfg(test)]
mod tests;

use anyhow::Result;

/// A board, and the file it is written to.
pub(crate) struct File {
    pub(crate) path: &'static str,
    board: fn() -> Board,
}

impl File {
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(&json::board(&(self.board)()))?;
        text.push('\n');
        Ok(text)
    }
}

pub(crate) const FILES: &[File] = &[
    File {
        path: "dashboards/fleet.json",
        board: fleet::board,
    },
    File {
        path: "dashboards/stamp.json",
        board: stamp::board,
    },
    File {
        path: "dashboards/tenant.json",
        board: tenant::board,
    },
    File {
        path: "dashboards/resilience.json",
        board: resilience::board,
    },
    File {
        path: "dashboards/provisioning.json",
        board: provisioning::board,
    },
];

/// One board.
struct Board {
    /// Never changed: links and bookmarks hold it.
    uid: &'static str,
    title: &'static str,
    /// What question it answers.
    description: &'static str,
    subject: Subject,
    rows: Vec<Row>,
}

/// What the variables of a board choose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Stamps.
    Stamp,
    /// Tenants of stamps.
    Tenant,
    /// Provisioners, whose label `stamp` is their own name.
    Provisioner,
}

/// Panels below one heading.
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// How a panel shows its series.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The last value, large.
    Stat,
    /// Lines.
    Lines,
    /// Lines on top of each other.
    Stack,
    /// A band a series, coloured by value: 0 closed, 1 half open, 2 open.
    States,
    /// The last values, a row for each set of labels and a column for each query.
    Table,
}

struct Query {
    expr: &'static str,
    /// The legend's template; in a table the column's name.
    legend: &'static str,
}

struct Panel {
    title: &'static str,
    /// What a value means and what to do about it.
    description: &'static str,
    kind: Kind,
    /// One of Grafana's unit ids.
    unit: &'static str,
    queries: Vec<Query>,
    /// From which value on it is orange, and red.
    limits: Option<(f64, f64)>,
    /// A page of docs/operations, without `.md`.
    runbook: Option<&'static str>,
    /// Of the 24 columns of a board.
    width: u32,
}

impl Panel {
    fn new(kind: Kind, title: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self {
            title,
            description,
            kind,
            unit,
            queries: Vec::new(),
            limits: None,
            runbook: None,
            width: match kind {
                Kind::Stat => 4,
                Kind::Lines | Kind::Stack | Kind::States => 8,
                Kind::Table => 24,
            },
        }
    }

    fn query(mut self, legend: &'static str, expr: &'static str) -> Self {
        self.queries.push(Query { expr, legend });
        self
    }

    /// Orange and red; the second below the first means that small values are bad.
    fn limits(mut self, orange: f64, red: f64) -> Self {
        self.limits = Some((orange, red));
        self
    }

    fn runbook(mut self, page: &'static str) -> Self {
        self.runbook = Some(page);
        self
    }

    fn width(mut self, columns: u32) -> Self {
        self.width = columns;
        self
    }
}

fn stat(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Stat, title, unit, description)
}

fn lines(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Lines, title, unit, description)
}

fn stack(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Stack, title, unit, description)
}

fn states(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::States, title, "none", description)
}

fn table(title: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Table, title, "none", description)
}

fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}
