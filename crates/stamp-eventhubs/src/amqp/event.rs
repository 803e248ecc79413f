//! From an encoded message of Event Hubs to an [`Event`].
//!
//! Nothing is left out silently. A body that is not bytes or text, and a message that is not whole,
//! become an event whose body is the message as it was encoded, with a note in its first property.

use bytes::Bytes;
use stamp_model::{Event, HubStamp, MessageSource, Properties, Text};

use super::message::{Body, Message};
use super::text::{share, to_text};
use super::wire::{Malformed, Value};

/// Name of the property that says why an event's body is the message as it was encoded in AMQP. It
/// is the event's first property then. A device may set a property of this name; nothing but
/// reports may depend on it.
pub const UNDECODABLE_PROPERTY: &str = "stampworks-undecodable";

/// What must be there for an event to have a position, and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Name of the message annotation.
    pub annotation: &'static str,
}

/// The annotations of a message.
#[derive(Debug, Default)]
struct Annotations {
    sequence: Option<i64>,
    enqueued_at_us: Option<i64>,
    offset: Text,
    hub: HubStamp,
}

/// Reads one delivered message. The event shares the buffer of `encoded`.
///
/// # Errors
/// [`Missing`] only when the sequence number or the enqueued time is missing or not a number: such
/// an event has no place in the partition, and the peer is not Event Hubs.
pub fn read_event(encoded: &Bytes) -> Result<Event, Missing> {
    let message = Message::parse(encoded);
    let mut malformed = message.malformed;
    let found = read_annotations(&message, encoded, &mut malformed);
    let sequence = found.sequence.ok_or(Missing {
        annotation: "x-opt-sequence-number",
    })?;
    let enqueued_at_us = found.enqueued_at_us.ok_or(Missing {
        annotation: "x-opt-enqueued-time",
    })?;
    let mut event = Event {
        sequence,
        offset: found.offset,
        enqueued_at_us,
        hub: found.hub,
        ..Event::default()
    };
    read_properties(&message, encoded, &mut event, &mut malformed);
    event.properties = read_application_properties(&message, encoded, &mut malformed);
    let body = match malformed {
        None => message.body.bytes(encoded),
        Some(_) => None,
    };
    match body {
        Some(body) => event.body = body,
        None => {
            let note = explain(&message.body, malformed);
            let property = (Text::from_static(UNDECODABLE_PROPERTY), note.into());
            event.properties.insert(0, property);
            event.body = encoded.clone();
        }
    }
    Ok(event)
}

fn explain(body: &Body<'_>, malformed: Option<Malformed>) -> String {
    match (malformed, body) {
        (Some(Malformed(what)), _) => format!("malformed AMQP message: {what}"),
        (None, Body::Sequence) => "the body is an AMQP sequence, not bytes or text".to_owned(),
        (None, _) => "the body is an AMQP value that is not bytes or text".to_owned(),
    }
}

fn read_annotations(
    message: &Message<'_>,
    encoded: &Bytes,
    malformed: &mut Option<Malformed>,
) -> Annotations {
    let mut found = Annotations::default();
    for entry in Message::entries(message.annotations) {
        match entry {
            Ok((Value::Text(key), value)) => found.set(key, value, encoded),
            Ok(_) => {}
            Err(error) => *malformed = malformed.or(Some(error)),
        }
    }
    found
}

impl Annotations {
    fn set(&mut self, key: &[u8], value: Value<'_>, encoded: &Bytes) {
        let text = || to_text(value, encoded);
        match key {
            b"x-opt-sequence-number" => self.sequence = integer(value),
            b"x-opt-offset" => self.offset = text().unwrap_or_default(),
            b"x-opt-enqueued-time" => self.enqueued_at_us = time_us(value),
            b"iothub-connection-device-id" => self.hub.device_id = text(),
            b"iothub-connection-module-id" => self.hub.module_id = text(),
            b"iothub-connection-auth-generation-id" => self.hub.generation_id = text(),
            b"iothub-connection-auth-method" => self.hub.auth_method = text(),
            b"iothub-enqueuedtime" => self.hub.enqueued_at_us = time_us(value),
            b"iothub-message-source" => {
                self.hub.source = text().map_or(MessageSource::Absent, |source| {
                    MessageSource::parse(&source)
                });
            }
            _ => {}
        }
    }
}

/// Position of the fields that are of use in the properties section (AMQP 1.0 part 3.2.4).
const MESSAGE_ID: usize = 0;
const CONTENT_TYPE: usize = 6;
const CONTENT_ENCODING: usize = 7;

fn read_properties(
    message: &Message<'_>,
    encoded: &Bytes,
    event: &mut Event,
    malformed: &mut Option<Malformed>,
) {
    let Some(mut list) = message.properties else {
        return;
    };
    for field in MESSAGE_ID..=CONTENT_ENCODING {
        if list.is_empty() {
            return;
        }
        match list.value() {
            Ok(value) => match field {
                MESSAGE_ID => event.message_id = to_text(value, encoded),
                CONTENT_TYPE => event.content_type = to_text(value, encoded),
                CONTENT_ENCODING => event.content_encoding = to_text(value, encoded),
                _ => {}
            },
            Err(error) => {
                *malformed = malformed.or(Some(error));
                return;
            }
        }
    }
}

fn read_application_properties(
    message: &Message<'_>,
    encoded: &Bytes,
    malformed: &mut Option<Malformed>,
) -> Properties {
    let mut properties = Properties::new();
    for entry in Message::entries(message.application_properties) {
        match entry {
            Ok((Value::Text(key), value)) => {
                properties.push((
                    share(key, encoded),
                    to_text(value, encoded).unwrap_or_default(),
                ));
            }
            Ok((key, value)) => properties.push((
                to_text(key, encoded).unwrap_or_default(),
                to_text(value, encoded).unwrap_or_default(),
            )),
            Err(error) => *malformed = malformed.or(Some(error)),
        }
    }
    properties
}

fn integer(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Uint(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

/// Times come as timestamps; a plain number of milliseconds is taken as well.
fn time_us(value: Value<'_>) -> Option<i64> {
    match value {
        Value::TimestampMs(ms) => Some(ms.saturating_mul(1_000)),
        value => integer(value).map(|ms| ms.saturating_mul(1_000)),
    }
}

#[cfg(test)]
mod tests;
