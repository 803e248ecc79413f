//! What one place in a body may hold, and the checks that turn a JSON value into a cell.
//!
//! Both decoders call these functions, so that a rule means the same on either path.

use crate::number::{Integer, Number};
use crate::rejection::{Fault, RejectionCode, cut};
use crate::source::TimeFormat;
use crate::time::{self, DayCache};

/// A value that passed its checks, before the row is known to be whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    Missing,
    Bool(bool),
    I64(i64),
    F64(f64),
    /// Bytes of the body.
    Text {
        start: u32,
        end: u32,
    },
    /// Bytes of the scratch text: a string that had escapes.
    Unescaped {
        start: u32,
        end: u32,
    },
    TimestampUs(i64),
}

/// Rule prefix of the event time.
pub(crate) const EVENT_TIME: &str = "event-time";

/// A place in the body that the schema names: a field, or the event time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    /// `fields.temp` or `event-time`: the start of every rule name.
    pub(crate) rule: String,
    /// As the schema writes it.
    pub(crate) path: String,
    pub(crate) required: bool,
    pub(crate) check: Check,
}

/// The type of a place with the limits that this type can have. Lists are in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check {
    Bool,
    I64 {
        min: i64,
        max: i64,
        allowed: Vec<i64>,
    },
    F64 {
        min: f64,
        max: f64,
        allowed: Vec<f64>,
    },
    String {
        bytes_max: usize,
        allowed: Vec<String>,
    },
    Timestamp {
        format: TimeFormat,
    },
}

impl Check {
    /// What a value should have been.
    fn expected(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::I64 { .. } => "an integer",
            Self::F64 { .. } => "a number",
            Self::String { .. } => "a string",
            Self::Timestamp { format } => match format {
                TimeFormat::Rfc3339 => "an rfc3339 timestamp: date, time and `Z` or an offset",
                TimeFormat::UnixS => "a unix-s timestamp: seconds since 1970, up to year 9999",
                TimeFormat::UnixMs => {
                    "a unix-ms timestamp: milliseconds since 1970, up to year 9999"
                }
                TimeFormat::UnixUs => {
                    "a unix-us timestamp: microseconds since 1970, up to year 9999"
                }
            },
        }
    }

    fn min(&self) -> String {
        match self {
            Self::I64 { min, .. } => min.to_string(),
            Self::F64 { min, .. } => min.to_string(),
            _ => String::new(),
        }
    }

    fn max(&self) -> String {
        match self {
            Self::I64 { max, .. } => max.to_string(),
            Self::F64 { max, .. } => max.to_string(),
            _ => String::new(),
        }
    }
}

/// Which check a value failed. Small, because the decoder that learned shapes meets it too and
/// leaves the wording to the general one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breach {
    WrongType,
    BelowMin,
    AboveMax,
    /// An integer that `i64` cannot hold.
    Overflow,
    NotFinite,
    NotAllowed,
    TooLong,
    BadTimestamp,
}

impl Slot {
    /// Reads the number that `token` spells into `cell`. The cell is written in place, here and
    /// below: handing it back in a `Result` costs a stalled copy for every value.
    #[inline]
    pub(crate) fn read_number(
        &self,
        number: Number,
        token: &str,
        cell: &mut Cell,
    ) -> Result<(), Breach> {
        match &self.check {
            Check::F64 { min, max, allowed } => match number.to_f64(token) {
                Some(value) if value < *min => Err(Breach::BelowMin),
                Some(value) if value > *max => Err(Breach::AboveMax),
                Some(value) if !allowed.is_empty() && !lists_float(allowed, value) => {
                    Err(Breach::NotAllowed)
                }
                Some(value) => put(cell, Cell::F64(value)),
                None => Err(Breach::NotFinite),
            },
            Check::I64 { min, max, allowed } => match number.to_i64(token) {
                Integer::Value(value) if value < *min => Err(Breach::BelowMin),
                Integer::Value(value) if value > *max => Err(Breach::AboveMax),
                Integer::Value(value)
                    if !allowed.is_empty() && allowed.binary_search(&value).is_err() =>
                {
                    Err(Breach::NotAllowed)
                }
                Integer::Value(value) => put(cell, Cell::I64(value)),
                Integer::Overflow => Err(Breach::Overflow),
                Integer::NotIntegral => Err(Breach::WrongType),
            },
            Check::Timestamp { format } => {
                put(cell, Cell::TimestampUs(read_unix(*format, number, token)?))
            }
            Check::Bool | Check::String { .. } => Err(Breach::WrongType),
        }
    }

    /// Reads the string `text` that lies at `place`: [`Cell::Text`] or [`Cell::Unescaped`].
    #[inline]
    pub(crate) fn read_text(
        &self,
        text: &str,
        place: Cell,
        day: &mut DayCache,
        cell: &mut Cell,
    ) -> Result<(), Breach> {
        match &self.check {
            Check::String { bytes_max, allowed } => {
                let search = |a: &String| a.as_str().cmp(text);
                if text.len() > *bytes_max {
                    Err(Breach::TooLong)
                } else if allowed.is_empty() || allowed.binary_search_by(search).is_ok() {
                    put(cell, place)
                } else {
                    Err(Breach::NotAllowed)
                }
            }
            Check::Timestamp {
                format: TimeFormat::Rfc3339,
            } => match time::parse_rfc3339(text, day) {
                Some(us) => put(cell, Cell::TimestampUs(us)),
                None => Err(Breach::BadTimestamp),
            },
            _ => Err(Breach::WrongType),
        }
    }

    #[inline]
    pub(crate) fn read_bool(&self, value: bool, cell: &mut Cell) -> Result<(), Breach> {
        match self.check {
            Check::Bool => put(cell, Cell::Bool(value)),
            _ => Err(Breach::WrongType),
        }
    }

    /// Words for a check that `found` failed.
    #[cold]
    pub(crate) fn fault(&self, breach: Breach, found: &str) -> Box<Fault> {
        let shown = cut(found);
        let (code, key, message) = match (breach, &self.check) {
            (Breach::BelowMin, check) => (
                RejectionCode::OutOfRange,
                "min",
                format!("{shown} is below the minimum {}", check.min()),
            ),
            (Breach::AboveMax, check) => (
                RejectionCode::OutOfRange,
                "max",
                format!("{shown} is above the maximum {}", check.max()),
            ),
            (Breach::Overflow, _) => (
                RejectionCode::OutOfRange,
                "type",
                format!("{shown} does not fit a 64-bit integer"),
            ),
            (Breach::NotFinite, _) => (
                RejectionCode::NotFinite,
                "type",
                format!("{shown} is too large for a 64-bit float"),
            ),
            (Breach::NotAllowed, _) => (
                RejectionCode::NotAllowed,
                "allowed",
                format!("\"{shown}\" is not in the allowed list"),
            ),
            (Breach::TooLong, _) => (
                RejectionCode::TooLong,
                "max-length",
                format!("\"{shown}\" has {} bytes", found.len()),
            ),
            (Breach::BadTimestamp, check) => (
                RejectionCode::BadTimestamp,
                "format",
                format!("\"{shown}\" is not {}", check.expected()),
            ),
            (Breach::WrongType, check) => (
                RejectionCode::WrongType,
                "type",
                format!("expected {}, found {shown}", check.expected()),
            ),
        };
        Fault::new(code, message).rule(self.rule(key))
    }

    #[cold]
    pub(crate) fn missing(&self) -> Box<Fault> {
        Fault::new(RejectionCode::MissingField, "required, but absent or null")
            .inside(&self.path)
            .rule(self.rule("required"))
    }

    /// The name of a rule, as `rule` columns show it. The event time is always required and always
    /// a timestamp, so what a body breaks there is its path or its format.
    fn rule(&self, key: &str) -> String {
        let key = match (self.rule.as_str(), key) {
            (EVENT_TIME, "required") => "path",
            (EVENT_TIME, "type") => "format",
            _ => key,
        };
        format!("{}.{key}", self.rule)
    }
}

#[inline]
fn put(cell: &mut Cell, value: Cell) -> Result<(), Breach> {
    *cell = value;
    Ok(())
}

fn read_unix(format: TimeFormat, number: Number, token: &str) -> Result<i64, Breach> {
    let scale = match format {
        TimeFormat::Rfc3339 => return Err(Breach::WrongType),
        TimeFormat::UnixS => 6,
        TimeFormat::UnixMs => 3,
        TimeFormat::UnixUs => 0,
    };
    let us = number.to_us(token, scale).filter(|us| time::in_range(*us));
    us.ok_or(Breach::BadTimestamp)
}

/// Whether the ascending list has this value; `-0.0` and `0.0` are the same.
fn lists_float(allowed: &[f64], value: f64) -> bool {
    let at = allowed.partition_point(|a| *a < value);
    allowed.get(at).is_some_and(|a| *a == value)
}
