//! An IoT Hub: device registry and twins over HTTPS, devices over HTTPS and MQTT, events routed into
//! Event Hubs.

mod api;
mod condition;
mod config;
mod device;
mod error;
mod events;
mod hub;
mod registry;
mod routing;
mod server;
mod service;
mod session;
mod twin;

pub use config::{IotHubConfig, Permission, SharedAccessPolicy, Sku, Tier};
pub use routing::{Enrichment, Route, RouteSource, Routing};
pub use server::{IotHub, IotHubEmulator};

pub(crate) use device::Authentication;
pub(crate) use service::Provision;
pub(crate) use twin::Change;
