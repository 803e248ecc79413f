//! A Device Provisioning Service: devices over HTTPS and MQTT, service programs over HTTPS, hubs
//! chosen by policy or webhook.

mod allocation;
mod api;
mod caller;
mod config;
mod enrollment;
mod error;
mod registration;
mod server;
mod service;
mod session;
mod webhook;

pub use caller::WebhookCaller;
pub use config::{Allocation, DpsConfig, LinkedHub, WebhookSpelling};
pub use server::DpsEmulator;
