//! The words of Stampworks: ids, positions, events, column buffers, marks and invariants.
//!
//! Everything here is plain data that two or more crates need. This crate never does I/O, never
//! reads a clock, never draws a random number and knows nothing of async, Arrow or AMQP.
//! Times are microseconds since 1970-01-01T00:00:00Z in an `i64` unless a name says otherwise.

mod column;
mod dictionary;
mod event;
mod id;
mod invariant;
mod mark;
mod rows;
mod sequences;

pub use column::{Column, FieldDef, FieldKind, Readings, Shape, Values};
pub use dictionary::Dictionary;
pub use event::{BatchLimits, Event, EventBatch, HubStamp, MessageSource, Properties};
pub use id::{
    DEVICE_ID_CHARS_MAX, DeviceId, HubIdentity, IdError, PARTITION_MAX, PartitionId, StampId,
    TenantId,
};
pub use invariant::Invariant;
pub use mark::{AppId, HubApp, Mark, START};
pub use rows::{GapRow, QuarantineReason, RawRow, ReplayRow, RollupRows};
pub use sequences::Sequences;

/// Text that shares the buffer it came from; cloning it copies no bytes.
pub use bytestring::ByteString as Text;
