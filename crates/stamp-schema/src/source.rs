//! The schema file as TOML spells it, before its rules are checked.

use serde::Deserialize;
use toml::{Spanned, Value};

/// How a timestamp is written in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// Text such as `2026-03-01T12:00:00.5Z` with `Z` or an offset.
    #[default]
    Rfc3339,
    /// Number of seconds since 1970 UTC, fractions allowed.
    UnixS,
    /// Number of milliseconds since 1970 UTC, fractions allowed.
    UnixMs,
    /// Number of microseconds since 1970 UTC.
    UnixUs,
}

impl TimeFormat {
    /// As a schema spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::UnixS => "unix-s",
            Self::UnixMs => "unix-ms",
            Self::UnixUs => "unix-us",
        }
    }
}

/// What happens to a key that the schema does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownFields {
    /// It is skipped; its syntax is still checked.
    #[default]
    Ignore,
    /// The event is rejected with `unknown_field`.
    Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SchemaSource {
    pub(crate) version: Spanned<i64>,
    pub(crate) event_time: Spanned<EventTimeSource>,
    #[serde(default)]
    pub(crate) unknown_fields: UnknownFields,
    #[serde(default)]
    pub(crate) limits: LimitsSource,
    #[serde(default)]
    pub(crate) fields: Vec<Spanned<FieldSource>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EventTimeSource {
    pub(crate) path: Option<Spanned<String>>,
    pub(crate) format: Option<Spanned<TimeFormat>>,
    pub(crate) source: Option<Spanned<TimeSource>>,
    pub(crate) ahead_max: Option<Spanned<String>>,
    pub(crate) behind_max: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeSource {
    Enqueued,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LimitsSource {
    pub(crate) depth_max: Option<Spanned<i64>>,
    pub(crate) body_max: Option<Spanned<String>>,
    pub(crate) decompressed_max: Option<Spanned<String>>,
    pub(crate) batch_max: Option<Spanned<i64>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KindSource {
    Bool,
    I64,
    F64,
    String,
    Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FieldSource {
    pub(crate) name: Spanned<String>,
    pub(crate) path: Option<Spanned<String>>,
    pub(crate) r#type: KindSource,
    pub(crate) format: Option<Spanned<TimeFormat>>,
    pub(crate) unit: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) required: bool,
    pub(crate) min: Option<Spanned<Value>>,
    pub(crate) max: Option<Spanned<Value>>,
    pub(crate) allowed: Option<Spanned<Vec<Value>>>,
    pub(crate) max_length: Option<Spanned<i64>>,
    pub(crate) rollup: Option<Spanned<bool>>,
}
