//! The part of the AMQP 1.0 wire format that the emulator speaks, without I/O.
//!
//! Written by hand for three reasons. Python's client indexes performative fields by position, so
//! every list must have its full length. Stored events go out as the bytes they were stored in. And
//! bytes of an unknown peer must cost neither unbounded memory nor stack.

pub mod decode;
pub mod encode;
pub mod frame;
pub mod performative;
pub mod serial;

/// Descriptor codes (AMQP 1.0 core, parts 2, 3 and 5).
pub mod code {
    pub const OPEN: u8 = 0x10;
    pub const BEGIN: u8 = 0x11;
    pub const ATTACH: u8 = 0x12;
    pub const FLOW: u8 = 0x13;
    pub const TRANSFER: u8 = 0x14;
    pub const DISPOSITION: u8 = 0x15;
    pub const DETACH: u8 = 0x16;
    pub const END: u8 = 0x17;
    pub const CLOSE: u8 = 0x18;
    pub const ERROR: u8 = 0x1d;
    pub const ACCEPTED: u8 = 0x24;
    pub const REJECTED: u8 = 0x25;
    pub const SOURCE: u8 = 0x28;
    pub const TARGET: u8 = 0x29;
    pub const SASL_MECHANISMS: u8 = 0x40;
    pub const SASL_INIT: u8 = 0x41;
    pub const SASL_OUTCOME: u8 = 0x44;
    pub const HEADER: u8 = 0x70;
    pub const DELIVERY_ANNOTATIONS: u8 = 0x71;
    pub const MESSAGE_ANNOTATIONS: u8 = 0x72;
    pub const PROPERTIES: u8 = 0x73;
    pub const APPLICATION_PROPERTIES: u8 = 0x74;
    pub const DATA: u8 = 0x75;
    pub const SEQUENCE: u8 = 0x76;
    pub const VALUE: u8 = 0x77;
    pub const FOOTER: u8 = 0x78;
}

/// A code no type has: what an unknown symbolic descriptor becomes.
const UNKNOWN: u64 = u64::MAX;

/// The numeric code of a symbolic descriptor. Both forms are legal; no known client sends symbols.
fn code_of(name: &str) -> u64 {
    const NAMES: [(&str, u8); 22] = [
        ("amqp:open:list", code::OPEN),
        ("amqp:begin:list", code::BEGIN),
        ("amqp:attach:list", code::ATTACH),
        ("amqp:flow:list", code::FLOW),
        ("amqp:transfer:list", code::TRANSFER),
        ("amqp:disposition:list", code::DISPOSITION),
        ("amqp:detach:list", code::DETACH),
        ("amqp:end:list", code::END),
        ("amqp:close:list", code::CLOSE),
        ("amqp:error:list", code::ERROR),
        ("amqp:source:list", code::SOURCE),
        ("amqp:target:list", code::TARGET),
        ("amqp:sasl-init:list", code::SASL_INIT),
        ("amqp:header:list", code::HEADER),
        ("amqp:delivery-annotations:map", code::DELIVERY_ANNOTATIONS),
        ("amqp:message-annotations:map", code::MESSAGE_ANNOTATIONS),
        ("amqp:properties:list", code::PROPERTIES),
        (
            "amqp:application-properties:map",
            code::APPLICATION_PROPERTIES,
        ),
        ("amqp:data:binary", code::DATA),
        ("amqp:amqp-sequence:list", code::SEQUENCE),
        ("amqp:amqp-value:*", code::VALUE),
        ("amqp:footer:map", code::FOOTER),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(UNKNOWN, |(_, code)| u64::from(*code))
}

#[cfg(test)]
mod tests;
