//! Event Hubs on loopback, good enough for the published Azure clients.
//!
//! [`EventHubsEmulator`] is a namespace in this process: anyone's client reaches it with
//! `UseDevelopmentEmulator=true`, a test plays IoT Hub with [`Hub::publish`], switches faults on
//! with [`Hub::faults`] and counts requests with [`Hub::counters`].
//!
//! For development only: it accepts every token, listens on loopback only, and keeps events in
//! memory only.

mod amqp;
mod eventhubs;

pub use eventhubs::{
    Clock, Counters, EmulatorConfig, EmulatorError, EventHubsEmulator, Faults, Hub, HubConfig,
    Limits, OutgoingEvent, Published, Refusal, Retention, serve, wall_clock,
};
