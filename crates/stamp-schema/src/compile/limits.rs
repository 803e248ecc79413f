//! The `[limits]` table. Every limit has a default that is safe for IoT Hub's messages and a cap
//! that no schema can lift.

use toml::Spanned;

use crate::error::{Places, SchemaError};
use crate::schema::Limits;
use crate::source::LimitsSource;
use crate::units::parse_bytes;

const DEPTH_DEFAULT: usize = 16;
/// The general decoder recurses once a level; this keeps its stack below 64 KiB.
const DEPTH_CAP: usize = 64;
/// IoT Hub's largest message.
const BODY_DEFAULT: usize = 256 << 10;
/// Event Hubs' largest message (Standard tier and above).
const BODY_CAP: usize = 1 << 20;
const DECOMPRESSED_DEFAULT: usize = 4 << 20;
const DECOMPRESSED_CAP: usize = 64 << 20;
const BATCH_DEFAULT: usize = 4_096;
const BATCH_CAP: usize = 65_536;

pub(super) fn compile(source: &LimitsSource, places: &Places<'_>) -> Result<Limits, SchemaError> {
    let limits = Limits {
        depth_max: count(
            source.depth_max.as_ref(),
            "depth-max",
            DEPTH_DEFAULT,
            DEPTH_CAP,
            places,
        )?,
        body_bytes_max: size(
            source.body_max.as_ref(),
            "body-max",
            BODY_DEFAULT,
            BODY_CAP,
            places,
        )?,
        decompressed_bytes_max: size(
            source.decompressed_max.as_ref(),
            "decompressed-max",
            DECOMPRESSED_DEFAULT,
            DECOMPRESSED_CAP,
            places,
        )?,
        batch_max: count(
            source.batch_max.as_ref(),
            "batch-max",
            BATCH_DEFAULT,
            BATCH_CAP,
            places,
        )?,
    };
    Ok(limits)
}

fn count(
    value: Option<&Spanned<i64>>,
    key: &str,
    default: usize,
    cap: usize,
    places: &Places<'_>,
) -> Result<usize, SchemaError> {
    let Some(value) = value else {
        return Ok(default);
    };
    usize::try_from(*value.get_ref())
        .ok()
        .filter(|n| (1..=cap).contains(n))
        .ok_or_else(|| {
            let message = format!("expected a number from 1 to {cap}");
            places.invalid(&value.span(), format!("limits.{key}"), message)
        })
}

fn size(
    value: Option<&Spanned<String>>,
    key: &str,
    default: usize,
    cap: usize,
    places: &Places<'_>,
) -> Result<usize, SchemaError> {
    let Some(value) = value else {
        return Ok(default);
    };
    parse_bytes(value.get_ref())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|n| (1..=cap).contains(n))
        .ok_or_else(|| {
            let message = format!(
                "expected a size such as \"64KiB\", from 1B to {}KiB",
                cap >> 10
            );
            places.invalid(&value.span(), format!("limits.{key}"), message)
        })
}
