//! The provisioner of a fleet: the custom allocation webhook of DPS, and look-ups for routers and
//! gateways.
//!
//! [`Registration`] is what DPS asks. The catalogue says where a device may go, the database of
//! reservations who is where and how much room there is, and while that is away, memory and a bounded
//! reserve. Nothing here calls DPS or a hub, trusts what a device says of itself, or changes the
//! catalogue.

mod allocator;
mod api;
mod config;
mod decide;
mod error;
mod files;
mod journal;
mod memory;
mod refused;
mod reserve;
mod service;
mod webhook;

use std::sync::Arc;

pub use api::OPENAPI;
pub use config::{
    LogFormat, ProvisionConfig, ReserveConfig, ResilienceConfig, ServerConfig, TelemetryConfig,
};
pub use error::{CatalogueError, ConfigError, ProvisionError};
pub use files::{CatalogueFile, catalogue_files, read_catalogue};
pub use journal::JournalError;
pub use refused::{Reason, Refused};
pub use service::{Checked, ProvisionParts, Provisioner, check};
pub use stamp_http::AccessConfig;
pub use webhook::{LINKED_HUBS_MAX, Registration};

/// Microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's own time.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests;
