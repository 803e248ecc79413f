//! An Event Hubs namespace: AMQP 1.0 in the service's dialect.

mod address;
mod config;
mod connection;
mod counters;
mod error;
mod faults;
mod filter;
mod hub;
mod key;
mod log;
mod message;
mod offline;
mod readers;
mod server;
mod signal;

pub use config::{Clock, EmulatorConfig, HubConfig, Limits, Retention, TlsListen, wall_clock};
pub use counters::Counters;
pub use error::EmulatorError;
pub use faults::{Faults, Refusal};
pub use filter::{Bound, Position, parse as parse_selector};
pub use hub::Hub;
pub use log::Published;
pub use message::OutgoingEvent;
pub use offline::{Offline, OfflineConnection};
pub use server::{EventHubsEmulator, serve};
