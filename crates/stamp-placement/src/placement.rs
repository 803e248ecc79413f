//! Which stamp a tenant or a device gets, and why.
//!
//! Filters first: residency, kind, environment, ring, state, and room on every axis. What is left is
//! ranked: below all soft limits before above one; the tenant's preferred ring; how full the stamp
//! would be, in steps of a sixteenth; then a weighted rendezvous hash of tenant and stamp.
//!
//! What is placed stays: a tenant that has a stamp keeps it while that is allowed, and its devices
//! go where the tenant is. Nothing here is remembered; the caller says what is used and what is
//! where. Reserving capacity against others who ask at the same time is the caller's business.

mod answer;
mod plan;
mod planner;
mod usage;

pub use answer::{Answer, Objection, Outcome, Refusal, Rejected, Why};
pub use planner::{Planner, Request};
pub use usage::Usage;

/// Steps that fill is compared in. Among stamps with the same limits in proportion, the fullest and
/// the least full differ by at most one step and one request; see [`Planner::place`].
pub const FILL_STEPS: u32 = 16;
