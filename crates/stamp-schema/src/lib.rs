//! Tenant schemas, and message bodies to typed columns or a coded rejection.
//!
//! A schema is a TOML file (docs/schema.md). [`Schema::parse`] checks and compiles it;
//! a [`Decoder`] appends the readings of each event to the tenant's columns, or says in a
//! [`Rejection`] what is wrong and where. This crate never does I/O, never reads a clock, never
//! draws a random number; the same event gives the same answer at any time.

mod body;
mod compile;
mod decoder;
mod error;
mod field;
mod learned;
mod notification;
mod number;
mod rejection;
mod row;
mod scan;
mod schema;
mod source;
mod time;
mod units;
mod walk;

pub use decoder::Decoder;
pub use error::SchemaError;
pub use learned::DecoderStats;
pub use notification::notification;
pub use rejection::{Rejection, RejectionCode};
pub use schema::{EventTime, Fingerprint, Limits, SCHEMA_BYTES_MAX, Schema};
pub use source::{TimeFormat, UnknownFields};
