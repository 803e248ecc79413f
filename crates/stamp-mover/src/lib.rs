//! Takes devices from one stamp to another: test to production, or stamp to stamp.
//!
//! [`plan`] says which device goes where, or why it may not. A [`Journal`] keeps the plan and how far
//! each device is; it is written before each act and after it. [`Mover`] runs what is in a journal
//! against [`Doors`] until nothing is due, and gives a [`Report`]. A mover that was killed anywhere is
//! started again with the same journal.
//!
//! The order of acts and what may follow what is decided by `stamp_placement::device_move`; every
//! request goes through the retry layer at the pace of the hub's tier. This crate asks nobody how
//! to go on: a [`Request`] is left beside the journal, and a running mover takes it in. [`service`] runs
//! many moves and takes orders over HTTP.

mod act;
mod audit;
mod doors;
mod journal;
mod kept;
mod metrics;
mod mover;
mod plan;
mod report;
mod request;
mod schedule;
mod select;
pub mod service;
mod sighting;
mod step;

pub use act::ActError;
pub use doors::{Doors, DoorsError, Lanes, Open, PeerPolicy};
pub use journal::{Journal, JournalError, Moving};
pub use kept::Kept;
pub use metrics::Observed;
pub use mover::{Clock, Glimpse, Mover, MoverError, MoverOptions, Progress};
pub use plan::{Destination, Plan, PlanProblem, PlannedDevice, Side, Wanted, plan};
pub use report::{DeviceReport, Report, ReportOptions, Telemetry, Verdict};
pub use request::{Request, RequestError, Requests, What};
pub use select::{Answer, SelectError, select};
pub use sighting::{MemorySightings, Seen, Sightings, StampTables, TableSightings};
