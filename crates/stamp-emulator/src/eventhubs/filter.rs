//! The selector of a receiver: where in a partition it starts.

use crate::amqp::decode::Value;

/// The filter's key in a source's filter set. Descriptors differ from client to client, the key
/// does not.
const SELECTOR: &str = "apache.org:selector-filter:string";

/// A position and whether the event at it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Where.
    pub value: i64,
    /// Whether the event at it is wanted.
    pub inclusive: bool,
}

/// Where a receiver starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the oldest event that is there.
    Earliest,
    /// After the newest event.
    Latest,
    /// By sequence number.
    Sequence(Bound),
    /// By offset.
    Offset(Bound),
    /// Milliseconds since 1970.
    EnqueuedMs(Bound),
}

/// A filter that Event Hubs does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The filter '{0}' is not a valid amqp filter for EventHub entities")]
pub struct BadFilter(String);

impl BadFilter {
    fn new(text: &str) -> Self {
        Self(text.chars().take(200).collect())
    }
}

/// Reads the position from a source's filter set. Without a selector a receiver starts at the
/// earliest event.
pub(crate) fn position(filters: Option<&Value>) -> Result<Position, BadFilter> {
    let Some(filter) = filters.and_then(|set| set.get(SELECTOR)) else {
        return Ok(Position::Earliest);
    };
    let inner = match filter {
        Value::Described(_, inner) => inner,
        plain => plain,
    };
    match inner.as_text() {
        Some(text) => parse(text),
        None => Err(BadFilter::new("(not a text)")),
    }
}

/// Parses `amqp.annotation.x-opt-{offset|sequence-number|enqueued-time} {>|>=} value`, the value
/// quoted or not.
///
/// # Errors
/// [`BadFilter`] with the text when it is anything else.
pub fn parse(text: &str) -> Result<Position, BadFilter> {
    let bad = || BadFilter::new(text);
    let rest = text
        .trim()
        .strip_prefix("amqp.annotation.x-opt-")
        .ok_or_else(bad)?;
    let (name, rest) = rest.split_once('>').ok_or_else(bad)?;
    let (inclusive, value) = match rest.strip_prefix('=') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let value = unquote(value.trim()).ok_or_else(bad)?;
    let make: fn(Bound) -> Position = match name.trim() {
        "offset" => Position::Offset,
        "sequence-number" => Position::Sequence,
        "enqueued-time" | "enqueuedtimeutc" => Position::EnqueuedMs,
        _ => return Err(bad()),
    };
    match value {
        "@latest" => Ok(Position::Latest),
        "-1" => Ok(Position::Earliest),
        _ => {
            let value = value.parse().map_err(|_| bad())?;
            Ok(make(Bound { value, inclusive }))
        }
    }
}

fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('\'') {
        Some(rest) => rest.strip_suffix('\''),
        None => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(value: i64, inclusive: bool) -> Bound {
        Bound { value, inclusive }
    }

    #[test]
    fn every_clients_spelling_is_read() {
        let cases = [
            ("amqp.annotation.x-opt-offset > '-1'", Position::Earliest),
            (
                "amqp.annotation.x-opt-offset >'10'",
                Position::Offset(bound(10, false)),
            ),
            (
                "amqp.annotation.x-opt-offset>=10",
                Position::Offset(bound(10, true)),
            ),
            ("amqp.annotation.x-opt-offset > '@latest'", Position::Latest),
            (
                "amqp.annotation.x-opt-offset >= '@latest'",
                Position::Latest,
            ),
            (
                "amqp.annotation.x-opt-sequence-number > '5'",
                Position::Sequence(bound(5, false)),
            ),
            (
                "amqp.annotation.x-opt-sequence-number >= 5",
                Position::Sequence(bound(5, true)),
            ),
            (
                "amqp.annotation.x-opt-enqueued-time > '1700000000123'",
                Position::EnqueuedMs(bound(1_700_000_000_123, false)),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_position_is_refused_by_name() {
        for text in [
            "",
            "amqp.annotation.x-opt-offset",
            "amqp.annotation.x-opt-offset < '3'",
            "amqp.annotation.x-opt-offset > no offset",
            "amqp.annotation.x-opt-offset > '3",
            "amqp.annotation.x-opt-partition-key > '3'",
            "offset > 3",
            "amqp.annotation.x-opt-sequence-number > '99999999999999999999'",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn the_descriptor_of_the_filter_does_not_matter() {
        let text = Value::String("amqp.annotation.x-opt-offset > '7'".into());
        for filter in [
            text.clone(),
            Value::Described(
                Box::new(Value::Symbol(SELECTOR.into())),
                Box::new(text.clone()),
            ),
            Value::Described(Box::new(Value::Ulong(0x4_68c0_0000_0004)), Box::new(text)),
        ] {
            let set = Value::Map(vec![(Value::Symbol(SELECTOR.into()), filter)]);
            assert_eq!(position(Some(&set)), Ok(Position::Offset(bound(7, false))));
        }
        assert_eq!(position(None), Ok(Position::Earliest));
    }
}
