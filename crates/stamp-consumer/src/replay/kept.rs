//! A kept event, read back from `rejected` or `quarantine`.

use stamp_lake::{Columns, Value};
use stamp_model::{Event, PartitionId, Text};

use super::ReplaySource;
use crate::raw::event_of;

/// What [`Kept::read`] needs, in its order.
pub(super) const KEPT_COLUMNS: [&str; 9] = [
    "reason",
    "partition",
    "sequence",
    "offset",
    "enqueued_at",
    "device_id",
    "content_type",
    "properties",
    "body",
];

/// Names an event for good: a hub that was made again under the same name counts its sequence
/// numbers anew, and the enqueued time tells the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) partition: PartitionId,
    pub(super) sequence: i64,
    pub(super) enqueued_at_us: i64,
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Into the tenant's `readings` and `rollups`.
    Reading,
    /// From quarantine into the tenant's `rejected`.
    Rejected,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Rejected => "rejected",
        }
    }
}

/// An event that was kept as it came, and why.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) source: ReplaySource,
    pub(super) reason: String,
    pub(super) partition: PartitionId,
    pub(super) event: Event,
    /// What becomes of it, once that was decided.
    pub(super) outcome: Outcome,
}

impl Kept {
    /// The event in a row of [`KEPT_COLUMNS`]; `None` when the row has no position.
    pub(super) fn read(source: ReplaySource, rows: &Columns, row: usize) -> Option<Self> {
        let text = |column| rows.text(column, row).map(Text::from);
        let properties = match rows.value(7, row) {
            Value::Map(pairs) => pairs,
            _ => Vec::new(),
        };
        let body = match rows.value(8, row) {
            Value::Bytes(body) => body,
            _ => &[],
        };
        let event = Event {
            sequence: rows.i64(2, row)?,
            offset: text(3).unwrap_or_default(),
            enqueued_at_us: rows.timestamp_us(4, row)?,
            content_type: text(6),
            body: bytes::Bytes::copy_from_slice(body),
            ..Event::default()
        };
        Some(Self {
            source,
            reason: rows.text(0, row)?.to_owned(),
            partition: partition(rows.i64(1, row)?)?,
            event: event_of(event, text(5), properties),
            outcome: Outcome::Reading,
        })
    }

    pub(super) fn key(&self) -> Key {
        Key {
            partition: self.partition,
            sequence: self.event.sequence,
            enqueued_at_us: self.event.enqueued_at_us,
        }
    }
}

pub(super) fn partition(number: i64) -> Option<PartitionId> {
    u32::try_from(number).ok().and_then(PartitionId::new)
}
