//! What one place in a body may hold, and the checks that turn a JSON value into a cell.
//!
//! Both decoders call these functions, so that a rule means the same on either path.

use crate::number::{Integer, Number};
use crate::rejection::{Decoded, Fault, RejectionCode, cut};
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
    fn name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I64 { .. } => "i64",
            Self::F64 { .. } => "f64",
            Self::String { .. } => "string",
            Self::Timestamp { .. } => "timestamp",
        }
    }
}

impl Slot {
    #[inline]
    pub(crate) fn read_number(&self, number: Number, token: &str) -> Decoded<Cell> {
        match &self.check {
            Check::F64 { min, max, allowed } => match number.to_f64(token) {
                Some(value) if value < *min => Err(self.below(token, *min)),
                Some(value) if value > *max => Err(self.above(token, *max)),
                Some(value) if !allowed.is_empty() && !lists_float(allowed, value) => {
                    Err(self.not_allowed(token))
                }
                Some(value) => Ok(Cell::F64(value)),
                None => Err(self.not_finite(token)),
            },
            Check::I64 { min, max, allowed } => match number.to_i64(token) {
                Integer::Value(value) if value < *min => Err(self.below(token, *min)),
                Integer::Value(value) if value > *max => Err(self.above(token, *max)),
                Integer::Value(value)
                    if !allowed.is_empty() && allowed.binary_search(&value).is_err() =>
                {
                    Err(self.not_allowed(token))
                }
                Integer::Value(value) => Ok(Cell::I64(value)),
                Integer::Overflow => Err(self.overflow(token)),
                Integer::NotIntegral => Err(self.wrong_type(&cut(token))),
            },
            Check::Timestamp { format } if *format != TimeFormat::Rfc3339 => {
                let scale = match format {
                    TimeFormat::UnixS | TimeFormat::Rfc3339 => 6,
                    TimeFormat::UnixMs => 3,
                    TimeFormat::UnixUs => 0,
                };
                match number.to_us(token, scale).filter(|us| time::in_range(*us)) {
                    Some(us) => Ok(Cell::TimestampUs(us)),
                    None => Err(self.bad_timestamp(token, *format)),
                }
            }
            _ => Err(self.wrong_type(&format!("the number {}", cut(token)))),
        }
    }

    /// Reads a string that lies at `cell`, which is [`Cell::Text`] or [`Cell::Unescaped`].
    #[inline]
    pub(crate) fn read_text(&self, text: &str, cell: Cell, day: &mut DayCache) -> Decoded<Cell> {
        match &self.check {
            Check::String { bytes_max, .. } if text.len() > *bytes_max => Err(self.too_long(text)),
            Check::String { allowed, .. } => {
                let search = |a: &String| a.as_str().cmp(text);
                if allowed.is_empty() || allowed.binary_search_by(search).is_ok() {
                    Ok(cell)
                } else {
                    Err(self.not_allowed(text))
                }
            }
            Check::Timestamp {
                format: TimeFormat::Rfc3339,
            } => match time::parse_rfc3339(text, day) {
                Some(us) => Ok(Cell::TimestampUs(us)),
                None => Err(self.bad_timestamp(text, TimeFormat::Rfc3339)),
            },
            _ => Err(self.wrong_type(&format!("the string \"{}\"", cut(text)))),
        }
    }

    #[inline]
    pub(crate) fn read_bool(&self, value: bool) -> Decoded<Cell> {
        match self.check {
            Check::Bool => Ok(Cell::Bool(value)),
            _ => Err(self.wrong_type(if value { "true" } else { "false" })),
        }
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

    #[cold]
    pub(crate) fn wrong_type(&self, found: &str) -> Box<Fault> {
        let expected = match &self.check {
            Check::I64 { .. } => "an integer".to_owned(),
            Check::F64 { .. } => "a number".to_owned(),
            Check::Timestamp { format } => format!("a {} timestamp", format.name()),
            other => format!("a {}", other.name()),
        };
        Fault::new(
            RejectionCode::WrongType,
            format!("expected {expected}, found {found}"),
        )
        .rule(self.rule("type"))
    }

    #[cold]
    pub(crate) fn missing(&self) -> Box<Fault> {
        Fault::new(RejectionCode::MissingField, "required, but absent or null")
            .inside(&self.path)
            .rule(self.rule("required"))
    }

    #[cold]
    fn below(&self, token: &str, min: impl std::fmt::Display) -> Box<Fault> {
        let message = format!("{} is below the minimum {min}", cut(token));
        Fault::new(RejectionCode::OutOfRange, message).rule(self.rule("min"))
    }

    #[cold]
    fn above(&self, token: &str, max: impl std::fmt::Display) -> Box<Fault> {
        let message = format!("{} is above the maximum {max}", cut(token));
        Fault::new(RejectionCode::OutOfRange, message).rule(self.rule("max"))
    }

    #[cold]
    fn overflow(&self, token: &str) -> Box<Fault> {
        let message = format!("{} does not fit a 64-bit integer", cut(token));
        Fault::new(RejectionCode::OutOfRange, message).rule(self.rule("type"))
    }

    #[cold]
    fn not_finite(&self, token: &str) -> Box<Fault> {
        let message = format!("{} is too large for a 64-bit float", cut(token));
        Fault::new(RejectionCode::NotFinite, message).rule(self.rule("type"))
    }

    #[cold]
    fn not_allowed(&self, value: &str) -> Box<Fault> {
        let message = format!("\"{}\" is not in the allowed list", cut(value));
        Fault::new(RejectionCode::NotAllowed, message).rule(self.rule("allowed"))
    }

    #[cold]
    fn too_long(&self, text: &str) -> Box<Fault> {
        let message = format!("\"{}\" has {} bytes", cut(text), text.len());
        Fault::new(RejectionCode::TooLong, message).rule(self.rule("max-length"))
    }

    #[cold]
    fn bad_timestamp(&self, value: &str, format: TimeFormat) -> Box<Fault> {
        let hint = match format {
            TimeFormat::Rfc3339 => "a date and time with `Z` or an offset is expected",
            TimeFormat::UnixS => "seconds since 1970, up to the year 9999, are expected",
            TimeFormat::UnixMs => "milliseconds since 1970, up to the year 9999, are expected",
            TimeFormat::UnixUs => "microseconds since 1970, up to the year 9999, are expected",
        };
        let message = format!(
            "\"{}\" is not a {} timestamp: {hint}",
            cut(value),
            format.name()
        );
        Fault::new(RejectionCode::BadTimestamp, message).rule(self.rule("format"))
    }
}

/// Whether the ascending list has this value; `-0.0` and `0.0` are the same.
fn lists_float(allowed: &[f64], value: f64) -> bool {
    let at = allowed.partition_point(|a| *a < value);
    allowed.get(at).is_some_and(|a| *a == value)
}
