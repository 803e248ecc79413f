//! The Event Hubs door: one partition as pulled batches.
//!
//! [`EventHub`] is one hub of one namespace, [`PartitionSource`] one open partition of it. Both are
//! implemented twice: [`AmqpHub`] speaks AMQP 1.0 to Event Hubs (or to an emulator of it), and
//! [`memory::MemoryHub`] is a hub inside the process for tests, simulations and benches.
//!
//! Every call is **one attempt**. This crate never retries, reconnects, pauses or runs a task that
//! does; it reports what happened as a [`HubError`], which knows its own failure kind, and the
//! program decides. It never reads a property that a device sets in order to decide anything, and
//! it never drops an event: one that cannot be understood is delivered with a note
//! ([`UNDECODABLE_PROPERTY`]).

mod amqp;
mod config;
mod error;
mod hub;
pub mod memory;

pub use amqp::{AmqpHub, AmqpSource, UNDECODABLE_PROPERTY};
#[doc(hidden)]
pub use amqp::{EngineHub, EngineSource};
pub use config::{AmqpConfig, TlsConfig};
pub use error::{HubError, THROTTLED_PAUSE};
pub use hub::{EventHub, HubProperties, PartitionProperties, PartitionSource, StartPosition};

/// What reads a peer's and an operator's bytes, for the fuzz targets only: programs get events from
/// a [`PartitionSource`] and give an [`AmqpConfig`].
#[doc(hidden)]
pub mod wire {
    pub use crate::amqp::event::{Missing, read_event};
    pub use crate::amqp::receiver::listener::Listener;
    pub use crate::amqp::tap::{Inbox, Tap};
    pub use crate::config::ConnectionString;
}
