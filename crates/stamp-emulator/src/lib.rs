//! Event Hubs, IoT Hub and DPS on loopback, good enough for the published Azure clients.
//!
//! [`EventHubsEmulator`] is a namespace in this process: anyone's client reaches it with
//! `UseDevelopmentEmulator=true`, a test plays IoT Hub with [`Hub::publish`], switches faults on
//! with [`Hub::faults`] and counts requests with [`Hub::counters`].
//!
//! [`IotHubEmulator`] and [`DpsEmulator`] are the services in front of it: devices register, connect
//! and send as they do in production, over TLS with an [`Authority`] of their own, and what they send
//! is routed into its hubs.
//!
//! For development only: everything listens on loopback and lives in memory, and the namespace
//! accepts every token.
//!
//! ```
//! # use std::net::{Ipv4Addr, SocketAddr};
//! use stamp_emulator::{EmulatorConfig, EventHubsEmulator, HubConfig, OutgoingEvent};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = EventHubsEmulator::start(EmulatorConfig {
//!     listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
//!     hubs: vec![HubConfig { name: "telemetry".into(), partitions: 2, ..HubConfig::default() }],
//!     ..EmulatorConfig::default()
//! })
//! .await?;
//! let hub = emulator.hub("telemetry").ok_or("it is configured")?;
//! let event = OutgoingEvent { body: "{}".into(), ..OutgoingEvent::default() };
//! let published = hub.publish_keyed("device-1", event)?;
//! assert_eq!(published.sequence, 0);
//! // Any client: `emulator.connection_string("telemetry")`.
//! emulator.stop().await;
//! # Ok(())
//! # }
//! ```

// Public for the fuzz targets only: they read and write what a peer would, byte by byte.
#[doc(hidden)]
pub mod amqp;
mod dps;
mod eventhubs;
mod faults;
mod http;
mod iothub;
mod listen;
mod mqtt;
mod net;
mod sas;
mod throttle;
mod time;
mod tls;

pub use dps::{Allocation, DpsConfig, DpsEmulator, LinkedHub, WebhookCaller, WebhookSpelling};
#[doc(hidden)]
pub use eventhubs::{Bound, Offline, OfflineConnection, Position, parse_selector};
pub use eventhubs::{
    Clock, Counters, EmulatorConfig, EmulatorError, EventHubsEmulator, Faults, Hub, HubConfig,
    Limits, OutgoingEvent, Published, Refusal, Retention, TlsListen, serve, wall_clock,
};
pub use faults::{Operation, ServiceFaults, ServiceRefusal};
pub use iothub::{
    Enrichment, IotHub, IotHubConfig, IotHubEmulator, Permission, Route, RouteSource, Routing,
    SharedAccessPolicy, Sku, Tier,
};
pub use listen::{Addresses, Listen};
pub use sas::derive_device_key;
pub use tls::Authority;
