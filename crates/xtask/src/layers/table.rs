//! The layer table of ARCHITECTURE.md.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// How the table's first line begins.
const HEADER: &str = "| layer | crate |";

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// 0 is the lowest.
    Numbered(u8),
    /// For development: the emulator and the project's own commands.
    Dev,
    /// Tests of whole stamps.
    Tests,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(number) => write!(f, "layer {number}"),
            Self::Dev => f.write_str("dev"),
            Self::Tests => f.write_str("tests"),
        }
    }
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) layer: Layer,
    pub(super) name: String,
    /// Outside libraries that only this crate, and others whose rows name them, may import.
    pub(super) only_importer_of: Vec<String>,
}

/// Finds the table and reads its rows: layer, crate, what it does, only importer of.
pub(super) fn parse(document: &str) -> Result<Vec<Row>> {
    let mut lines = document
        .lines()
        .skip_while(|line| !line.starts_with(HEADER));
    lines
        .next()
        .with_context(|| format!("ARCHITECTURE.md has no table that starts with `{HEADER}`"))?;
    let rows: Result<Vec<Row>> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| row(line).with_context(|| format!("ARCHITECTURE.md, row {line:?}")))
        .collect();
    let rows = rows?;
    ensure!(
        !rows.is_empty(),
        "the layer table of ARCHITECTURE.md is empty"
    );
    Ok(rows)
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line
        .trim()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect();
    let [layer, name, _, libraries] = cells.as_slice() else {
        bail!("expected 4 cells, found {}", cells.len());
    };
    let [name] = quoted(name)[..] else {
        bail!("expected one crate in backticks, found {name:?}");
    };
    Ok(Row {
        layer: self::layer(layer)?,
        name: name.to_owned(),
        only_importer_of: quoted(libraries).into_iter().map(str::to_owned).collect(),
    })
}

fn layer(cell: &str) -> Result<Layer> {
    match cell.split(' ').next().unwrap_or_default() {
        "dev" => Ok(Layer::Dev),
        "tests" => Ok(Layer::Tests),
        number => number
            .parse()
            .map(Layer::Numbered)
            .with_context(|| format!("layer {cell:?} is neither a number, `dev` nor `tests`")),
    }
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}
