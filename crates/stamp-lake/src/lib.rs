//! The lake door: Parquet encoding, Delta tables with marks, checkpoints, read-back.
//!
//! The only crate that knows Arrow, Parquet, the Delta library and the object store. Every
//! `async fn` is **one attempt** that reports what happened; nothing here repeats a request,
//! sleeps or swallows a failure. What a failure means for the caller is its
//! [`FailureKind`](stamp_resilience::FailureKind).
//!
//! The road of a flush: [`encode_readings`] on a blocking thread, [`Table::put`] for each file, and one [`Table::append`] for all files and marks together. The
//! protocol and its numbered invariants are in docs/adr/0003-table-format-and-marks.md, the
//! tables' columns in docs/tables.md.

mod block_on;
mod checkpoint;
mod commit;
mod config;
mod encode;
mod error;
#[cfg(feature = "faults")]
pub mod faults;
mod file;
mod flight;
mod history;
mod http;
mod lake;
mod load;
mod ownership;
mod reader;
mod scan;
mod schema;
mod store;
mod table;

pub use checkpoint::{Advanced, Checkpoint, Checkpoints};
pub use config::StoreConfig;
pub use encode::{
    EncodeOptions, RawKind, encode_gaps, encode_raw, encode_readings, encode_replays,
    encode_rollups,
};
pub use error::{Cause, LakeError};
pub use file::{DataFile, EncodedFile, Origin};
pub use history::{CommitInfo, FileInfo};
pub use lake::{Lake, StampRoot, TenantRoot};
pub use ownership::{Claim, Ownership, Ownerships};
pub use reader::RowReader;
pub use scan::{Columns, FILE_COLUMN, Filter, ROW_COLUMN, ReadingsPage, SequenceRange, Value};
pub use table::{ColumnInfo, Snapshot, Table};
