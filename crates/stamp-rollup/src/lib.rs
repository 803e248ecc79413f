//! Event-time windows, lateness and mergeable partial aggregates.
//!
//! At a flush the rows above the table's mark are put in order ([`sorted_rows`]) and folded into
//! one partial per device, metric and window ([`partials()`]). Partials of many flushes add up to
//! the whole ([`merge()`]); docs/adr/0006-rollups-as-partials.md says why nothing is kept between
//! flushes. This crate never does I/O, never reads a clock: lateness is decided by the hub's
//! enqueued time, so that a replay gives the same answer.

mod fold;
mod merge;
mod order;
mod partials;
mod windows;

pub use merge::{PartialRow, merge, merge_all};
pub use order::sorted_rows;
pub use partials::partials;
pub use windows::{LATENESS_MAX, Windows, WindowsError, mark_late};
