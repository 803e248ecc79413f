//! The service's own logs, metrics and health endpoints.
//!
//! [`catalogue`] is the one list of metrics: what is registered, documented in `docs/metrics.md`
//! and checked comes from it. [`Metrics`], [`RetryMetrics`] and [`ProvisionMetrics`] are the typed handles that programs
//! hold; a [`Registry`] is passed in, never global, so that two stamps in one process, or two
//! tests, do not meet. [`serve`] answers probes, scrapes and people, who get a [`StatusPage`]; [`logs::init`] writes to
//! stderr; [`Traces`] sends spans to a collector. [`scrape()`] reads the metrics of another process.
//!
//! This crate never retries, never decides anything about the data path, and never lets a device
//! id, a payload or a secret into a label.

pub mod catalogue;
mod error;
mod health;
mod labels;
pub mod logs;
mod metrics;
mod mover;
mod moves;
mod provision;
mod registry;
mod retry;
mod scrape;
mod server;
mod status;
mod traces;

pub use error::TelemetryError;
pub use health::{Condition, Health};
pub use labels::TENANT_LABELS_MAX;
pub use metrics::{ClaimOutcome, CommitOutcome, Metrics, PartitionState};
pub use mover::MoverMetrics;
pub use moves::MoveMetrics;
pub use provision::{AnswerOrigin, ProvisionMetrics, ProvisionRoute, StampFill};
pub use registry::Registry;
pub use retry::RetryMetrics;
pub use scrape::{ADDRESSES_MAX, SCRAPE_BYTES_MAX, Scrape, ScrapeError, addresses, scrape};
pub use server::{Served, serve};
pub use stamp_status::{Facts, Sample, Service};
pub use status::StatusPage;
pub use traces::{FlushAbout, FlushSpan, LINKS_MAX, TraceConfig, TraceContext, TracedHub, Traces};
