//! AMQP values as text, for properties of any type.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use stamp_model::Text;

use super::wire::Value;

/// Last millisecond of the year 9999, the last one that RFC 3339 can write.
const RFC3339_MS_MAX: u64 = 253_402_300_799_999;

/// The text of a string or symbol inside `encoded`, sharing its buffer. Bytes that are not UTF-8
/// are replaced by U+FFFD.
pub(crate) fn share(text: &[u8], encoded: &Bytes) -> Text {
    Text::try_from(encoded.slice_ref(text))
        .unwrap_or_else(|_| String::from_utf8_lossy(text).into_owned().into())
}

/// Any value as text; `None` for null. Numbers are decimal, timestamps RFC 3339 in UTC, UUIDs
/// hyphenated, binary base64; what has no simple form is the base64 of its encoded content.
pub(crate) fn to_text(value: Value<'_>, encoded: &Bytes) -> Option<Text> {
    let text = match value {
        Value::Null => return None,
        Value::Text(text) => return Some(share(text, encoded)),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Char(value) => char::from_u32(value).map_or(value.to_string(), String::from),
        Value::TimestampMs(ms) => timestamp(ms),
        Value::Uuid(bytes) => uuid::Uuid::from_slice(bytes)
            .map_or_else(|_| STANDARD.encode(bytes), |uuid| uuid.to_string()),
        Value::Binary(bytes) | Value::Other(bytes) => STANDARD.encode(bytes),
        Value::List(content) | Value::Map(content) => STANDARD.encode(content.rest()),
        Value::Array(array) => STANDARD.encode(array.rest()),
    };
    Some(text.into())
}

fn timestamp(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) if ms <= RFC3339_MS_MAX => {
            let time = UNIX_EPOCH + Duration::from_millis(ms);
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => ms.to_string(),
    }
}
