//! What a status consists of: figures, sections of rows and cells, and how alarming each is.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::history::History;
use crate::text;

/// Most rows of one section.
pub const ROWS_MAX: usize = 50;
/// Longest name that is shown whole, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 128;

/// How alarming something is. The bounds are those of the alerts in deploy/prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing to do.
    #[default]
    Fine,
    /// Worth a look.
    Warn,
    /// Somebody has to do something.
    Bad,
}

impl Level {
    /// As in the JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    /// `Bad` from one bound on, `Warn` from another.
    pub(crate) fn above(value: f64, warn: f64, bad: f64) -> Self {
        match value {
            value if value >= bad => Self::Bad,
            value if value >= warn => Self::Warn,
            _ => Self::Fine,
        }
    }

    pub(crate) fn bad_if(is_bad: bool) -> Self {
        if is_bad { Self::Bad } else { Self::Fine }
    }

    pub(crate) fn warn_if(is_worth_a_look: bool) -> Self {
        if is_worth_a_look {
            Self::Warn
        } else {
            Self::Fine
        }
    }
}

/// The raw value behind a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, in the unit that the document says.
    Number(f64),
    /// A name or a code.
    Text(String),
    /// Not known, or not there.
    Nothing,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(value) => as_number(value, serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Nothing => serializer.serialize_none(),
        }
    }
}

/// A whole number without a point, so that a counter reads like one; what is no number is `null`.
#[expect(clippy::cast_possible_truncation, reason = "below 2^53 it is exact")]
fn as_number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        serializer.serialize_i64(*value as i64)
    } else if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_none()
    }
}

/// A number at the top of the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Stable.
    pub id: &'static str,
    /// What it is.
    pub label: &'static str,
    /// The raw value.
    pub value: Value,
    /// The value with its unit.
    pub text: String,
    /// What goes with it.
    pub note: String,
    /// How alarming it is.
    pub level: Level,
    /// 0 to 1, for what has a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The last minutes, a value each [`EVERY`](crate::EVERY), oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<f64>,
    /// `series` as the points of a line, in a box of 120 by 28.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub spark: String,
}

impl Figure {
    pub(crate) fn new(id: &'static str, label: &'static str, text: String) -> Self {
        Self {
            id,
            label,
            value: Value::Nothing,
            text,
            note: String::new(),
            level: Level::Fine,
            share: None,
            series: Vec::new(),
            spark: String::new(),
        }
    }

    pub(crate) fn of(self, value: f64) -> Self {
        Self {
            value: Value::Number(value),
            ..self
        }
    }

    pub(crate) fn noted(self, note: String) -> Self {
        Self { note, ..self }
    }

    pub(crate) fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    pub(crate) fn sharing(self, share: f64) -> Self {
        Self {
            share: Some(share.clamp(0.0, 1.0)),
            ..self
        }
    }

    /// With a line of what a counter did. A line without a point is none.
    pub(crate) fn drawn(self, history: &History, counter: &str) -> Self {
        let series = history.line(counter);
        Self {
            spark: spark(&series),
            series,
            ..self
        }
    }
}

/// Points from the left to the right of a box of 120 by 28, the highest value at its top.
fn spark(series: &[f64]) -> String {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 28.0;
    /// Half the line's width, so that nothing of it is cut off.
    const EDGE: f64 = 1.0;
    let highest = series.iter().copied().fold(0.0, f64::max);
    let step = WIDTH / (series.len().max(2) - 1) as f64;
    let point = |(at, value): (usize, &f64)| {
        let part = if highest > 0.0 { value / highest } else { 0.0 };
        let x = step * at as f64;
        let y = HEIGHT - EDGE - part * (HEIGHT - 2.0 * EDGE);
        format!("{x:.1},{y:.1}")
    };
    let points: Vec<String> = series.iter().enumerate().map(point).collect();
    points.join(" ")
}

/// A table of the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// Stable.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// One sentence on how to read it.
    pub about: String,
    /// In order.
    pub columns: Vec<Column>,
    /// At most [`ROWS_MAX`].
    pub rows: Vec<Row>,
    /// How many rows are left out.
    pub more: usize,
    /// What stands there when there is no row.
    pub empty: &'static str,
}

/// A column of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Stable: the key of its cells.
    pub id: &'static str,
    /// Its heading.
    pub label: &'static str,
    /// Whether its texts are set to the right.
    pub is_number: bool,
}

/// A column of texts.
pub(crate) fn words(id: &'static str, label: &'static str) -> Column {
    Column {
        id,
        label,
        is_number: false,
    }
}

/// A column of numbers.
pub(crate) fn numbers(id: &'static str, label: &'static str) -> Column {
    Column {
        id,
        label,
        is_number: true,
    }
}

/// A row of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Unique in its section, and stable.
    pub id: String,
    /// Whose it is, where rows belong to tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The highest of its cells.
    pub level: Level,
    /// A cell for each column, in their order.
    #[serde(serialize_with = "by_column")]
    pub cells: Vec<(&'static str, Cell)>,
}

fn by_column<S: Serializer>(
    cells: &[(&'static str, Cell)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(cells.len()))?;
    for (column, cell) in cells {
        map.serialize_entry(column, cell)?;
    }
    map.end()
}

impl Row {
    /// A row of cells in the order of their columns.
    pub(crate) fn new(id: String, columns: &[Column], cells: Vec<Cell>) -> Self {
        let level = cells.iter().map(|cell| cell.level).max();
        Self {
            id,
            tenant: None,
            level: level.unwrap_or_default(),
            cells: columns.iter().map(|column| column.id).zip(cells).collect(),
        }
    }

    /// The same row, which is there only while the filter lets this tenant through.
    pub(crate) fn of_tenant(self, tenant: &str) -> Self {
        Self {
            tenant: Some(tenant.to_owned()),
            ..self
        }
    }
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The raw value.
    pub value: Value,
    /// As it is shown.
    pub text: String,
    /// How alarming it is.
    #[serde(skip_serializing_if = "is_fine")]
    pub level: Level,
    /// What the value is compared with.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "limit_as_number"
    )]
    pub limit: Option<f64>,
    /// The value's share of the limit, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Where it is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

fn is_fine(level: &Level) -> bool {
    *level == Level::Fine
}

fn limit_as_number<S: Serializer>(limit: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match limit {
        Some(limit) => as_number(limit, serializer),
        None => serializer.serialize_none(),
    }
}

impl Cell {
    fn new(value: Value, text: String) -> Self {
        Self {
            value,
            text,
            level: Level::Fine,
            limit: None,
            share: None,
            link: None,
        }
    }

    /// Nothing to say here.
    pub(crate) fn none() -> Self {
        Self::new(Value::Nothing, "–".to_owned())
    }

    /// A name or a code, cut when it is very long.
    pub(crate) fn name(name: &str) -> Self {
        let short = cut(name, NAME_CHARS_MAX);
        Self::new(Value::Text(short.clone()), short)
    }

    /// A code, shown as words.
    pub(crate) fn code(code: &str) -> Self {
        let short = cut(code, NAME_CHARS_MAX);
        let words = text::words(&short);
        Self::new(Value::Text(short), words)
    }

    pub(crate) fn number(value: f64) -> Self {
        Self::new(Value::Number(value), text::number(value))
    }

    pub(crate) fn bytes(value: f64) -> Self {
        Self::new(Value::Number(value), text::bytes(value))
    }

    pub(crate) fn span(seconds: f64) -> Self {
        Self::new(Value::Number(seconds), text::span(seconds))
    }

    /// A moment; the raw value is in seconds since 1970 UTC.
    pub(crate) fn moment(at_us: i64, now_us: i64) -> Self {
        let seconds = at_us.div_euclid(1_000_000) as f64;
        Self::new(Value::Number(seconds), text::ago(at_us, now_us))
    }

    /// `text` of `value`, out of `limit`.
    pub(crate) fn of(value: f64, limit: f64, text: impl Fn(f64) -> String) -> Self {
        let share = if limit > 0.0 { value / limit } else { 0.0 };
        let both = format!("{} / {}", text(value), text(limit));
        Self {
            limit: Some(limit),
            share: Some(share.clamp(0.0, 1.0)),
            ..Self::new(Value::Number(value), both)
        }
    }

    pub(crate) fn shown_as(self, text: String) -> Self {
        Self { text, ..self }
    }

    pub(crate) fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    pub(crate) fn linked(self, link: Option<String>) -> Self {
        Self { link, ..self }
    }

    /// With a bar of this share.
    pub(crate) fn sharing(self, share: f64) -> Self {
        Self {
            share: Some(share.clamp(0.0, 1.0)),
            ..self
        }
    }
}

/// The first so many characters.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Section {
    /// A section of rows that are in the order of the page. When there are too many, the alarming
    /// ones stay first of all.
    pub(crate) fn new(
        (id, title): (&'static str, &'static str),
        about: String,
        columns: Vec<Column>,
        rows: Vec<Row>,
        empty: &'static str,
    ) -> Self {
        let more = rows.len().saturating_sub(ROWS_MAX);
        Self {
            id,
            title,
            about,
            columns,
            rows: worst(rows),
            more,
            empty,
        }
    }
}

/// The [`ROWS_MAX`] most alarming rows, in the order they came in.
fn worst(rows: Vec<Row>) -> Vec<Row> {
    if rows.len() <= ROWS_MAX {
        return rows;
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    // Stable: among equals the first ones stay.
    order.sort_by_key(|&at| std::cmp::Reverse(rows[at].level));
    let kept: std::collections::BTreeSet<usize> = order.into_iter().take(ROWS_MAX).collect();
    let numbered = rows.into_iter().enumerate();
    numbered
        .filter(|(at, _)| kept.contains(at))
        .map(|(_, row)| row)
        .collect()
}
