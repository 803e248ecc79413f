//! Durations as text with units, both ways.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|cause| {
        let hint = "write it with a unit, such as \"200ms\" or \"30s\"";
        D::Error::custom(format!("{text:?} is not a duration ({cause}): {hint}"))
    })
}

/// A duration on its own, for keys that may be missing.
pub(super) struct Text(pub(super) Duration);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from).map(Self)
    }
}
