//! What the parsers promise about any bytes, as one function a fuzz target.
//!
//! Each function takes the bytes of one try and panics when a promise is broken; docs/fuzzing.md
//! lists the promises. The package in `fuzz/` runs them under libFuzzer, and this crate's own test
//! runs them over the files of `corpus/` and over seeded changes of these. Nothing here draws a
//! random number or reads a clock: a file that fails fails again.

mod amqp_codec;
mod amqp_event;
mod amqp_receiver;
mod amqp_stream;
mod body;
#[cfg(feature = "lake")]
mod config;
#[cfg(feature = "lake")]
mod directory;
mod emulator;
mod input;
mod other;
#[cfg(feature = "lake")]
mod positions;
mod same;
mod schema;
#[cfg(feature = "lake")]
mod webhook;

pub use amqp_codec::amqp_codec;
pub use amqp_event::amqp_event;
pub use amqp_receiver::{amqp_receiver, conversation, opened_conversation};
pub use amqp_stream::amqp_stream;
pub use body::{RULES, TELEMETRY, body};
#[cfg(feature = "lake")]
pub use config::config;
#[cfg(feature = "lake")]
pub use directory::directory;
pub use emulator::emulator;
#[cfg(feature = "lake")]
pub use positions::positions;
pub use schema::schema;
#[cfg(feature = "lake")]
pub use webhook::webhook;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its folder in `corpus/` and of its program in `fuzz/`.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
}

/// Every target.
#[cfg(feature = "lake")]
pub const TARGETS: [Target; 11] = [
    target("amqp_codec", amqp_codec),
    target("amqp_event", amqp_event),
    target("amqp_receiver", amqp_receiver),
    target("amqp_stream", amqp_stream),
    target("body", body),
    target("config", config),
    target("directory", directory),
    target("emulator", emulator),
    target("positions", positions),
    target("schema", schema),
    target("webhook", webhook),
];

#[cfg(feature = "lake")]
const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
