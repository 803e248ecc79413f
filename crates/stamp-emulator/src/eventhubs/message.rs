//! Messages: what a client sent taken apart, and the stored form that receivers get.
//!
//! The stored form is a whole encoded AMQP message with the hub's annotations in front, so that
//! sending it is copying bytes.

use bytes::Bytes;
use stamp_model::{HubStamp, MessageSource, Properties, Text};

use super::log::Place;
use crate::amqp::code;
use crate::amqp::decode::{DecodeError, Reader, Value};
use crate::amqp::encode as put;

/// The message format of a batch: each data section holds one encoded message.
pub(crate) const BATCH_FORMAT: u32 = 0x8001_3700;

const SEQUENCE: &str = "x-opt-sequence-number";
const OFFSET: &str = "x-opt-offset";
const ENQUEUED: &str = "x-opt-enqueued-time";
const PARTITION_KEY: &str = "x-opt-partition-key";

/// An event that a program publishes in process, in IoT Hub's place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutgoingEvent {
    /// The data section.
    pub body: Bytes,
    /// What IoT Hub would stamp on it. The default stamps nothing.
    pub hub: HubStamp,
    /// Application properties.
    pub properties: Properties,
    /// `content-type`
    pub content_type: Option<Text>,
    /// `content-encoding`
    pub content_encoding: Option<Text>,
    /// `message-id`
    pub message_id: Option<Text>,
    /// `x-opt-partition-key`
    pub partition_key: Option<Text>,
}

impl OutgoingEvent {
    /// What counts against the largest message: body, properties and texts.
    pub(crate) fn size(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |t| t.len());
        let properties: usize = self.properties.iter().map(|(k, v)| k.len() + v.len()).sum();
        let hub = &self.hub;
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.message_id,
            &self.partition_key,
            &hub.device_id,
            &hub.module_id,
            &hub.generation_id,
            &hub.auth_method,
        ];
        self.body.len() + properties + texts.into_iter().map(text).sum::<usize>()
    }

    /// Writes the stored form.
    pub(crate) fn store(&self, out: &mut Vec<u8>, place: Place) {
        let hub = &self.hub;
        let texts = [
            ("iothub-connection-device-id", hub.device_id.as_deref()),
            ("iothub-connection-module-id", hub.module_id.as_deref()),
            (
                "iothub-connection-auth-generation-id",
                hub.generation_id.as_deref(),
            ),
            ("iothub-connection-auth-method", hub.auth_method.as_deref()),
            ("iothub-message-source", source_text(&hub.source)),
        ];
        let stamped = texts.iter().filter(|(_, text)| text.is_some()).count();
        let pairs = count(stamped) + u32::from(hub.enqueued_at_us.is_some());
        put_annotations(out, place, self.partition_key.as_deref(), pairs, |out| {
            for (key, text) in texts {
                if let Some(text) = text {
                    put::symbol(out, key);
                    put::string(out, text);
                }
            }
            if let Some(at_us) = hub.enqueued_at_us {
                put::symbol(out, "iothub-enqueuedtime");
                put::timestamp(out, at_us.div_euclid(1_000));
            }
        });
        self.put_properties(out);
        put::descriptor(out, code::DATA);
        put::binary(out, &self.body);
    }

    fn put_properties(&self, out: &mut Vec<u8>) {
        let set = [&self.content_type, &self.content_encoding, &self.message_id];
        if set.iter().any(|text| text.is_some()) {
            put::descriptor(out, code::PROPERTIES);
            // message-id, user-id, to, subject, reply-to, correlation-id, content-type,
            // content-encoding
            put::list(out, 8, |out| {
                put::or_null(out, self.message_id.as_deref(), put::string);
                out.extend_from_slice(&[0x40; 5]);
                put::or_null(out, self.content_type.as_deref(), put::symbol);
                put::or_null(out, self.content_encoding.as_deref(), put::symbol);
            });
        }
        if !self.properties.is_empty() {
            put::descriptor(out, code::APPLICATION_PROPERTIES);
            put::map(out, count(self.properties.len()), |out| {
                for (key, value) in &self.properties {
                    put::string(out, key);
                    put::string(out, value);
                }
            });
        }
    }
}

/// The annotation's text as IoT Hub writes it.
fn source_text(source: &MessageSource) -> Option<&str> {
    Some(match source {
        MessageSource::Absent => return None,
        MessageSource::Telemetry => "Telemetry",
        MessageSource::TwinChange => "twinChangeEvents",
        MessageSource::DeviceLifecycle => "deviceLifecycleEvents",
        MessageSource::DeviceConnectionState => "deviceConnectionStateEvents",
        MessageSource::DigitalTwinChange => "digitalTwinChangeEvents",
        MessageSource::Unknown(text) => text,
    })
}

/// Writes the annotations section: the hub's own, then `pairs` more that `fill` writes.
fn put_annotations(
    out: &mut Vec<u8>,
    place: Place,
    key: Option<&str>,
    pairs: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    put::descriptor(out, code::MESSAGE_ANNOTATIONS);
    put::map(out, 3 + u32::from(key.is_some()) + pairs, |out| {
        put::symbol(out, SEQUENCE);
        put::long(out, place.sequence);
        put::symbol(out, OFFSET);
        put::string(out, &place.offset.to_string());
        put::symbol(out, ENQUEUED);
        put::timestamp(out, place.enqueued_ms);
        if let Some(key) = key {
            put::symbol(out, PARTITION_KEY);
            put::string(out, key);
        }
        fill(out);
    });
}

/// Sections of a message a client sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sections<'a> {
    header: &'a [u8],
    annotations: Vec<(Value, &'a [u8])>,
    /// Properties, application properties and body, as they came.
    rest: &'a [u8],
    /// The contents of the data sections.
    data: Vec<&'a [u8]>,
}

impl<'a> Sections<'a> {
    /// Takes an encoded message apart and checks its whole structure.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut sections = Self::default();
        let mut latest = 0;
        while !reader.is_empty() {
            let at = bytes.len() - reader.rest().len();
            let section = u8::try_from(reader.descriptor()?).unwrap_or(0);
            let repeats = matches!(section, code::DATA | code::SEQUENCE) && section == latest;
            if !(code::HEADER..=code::FOOTER).contains(&section) || (section <= latest && !repeats)
            {
                return Err(DecodeError::Type {
                    expected: "the next section",
                    found: section,
                });
            }
            latest = section;
            match section {
                code::MESSAGE_ANNOTATIONS => sections.annotations = annotations(&mut reader)?,
                code::DATA => sections.data.push(reader.binary()?),
                _ => {
                    reader.skip()?;
                }
            }
            let end = bytes.len() - reader.rest().len();
            match section {
                code::HEADER => sections.header = &bytes[at..end],
                code::PROPERTIES..=code::VALUE => {
                    let start = at - sections.rest.len();
                    sections.rest = &bytes[start..end];
                }
                _ => {}
            }
        }
        Ok(sections)
    }

    /// The partition key, if there is one.
    pub(crate) fn partition_key(&self) -> Option<&str> {
        self.annotations
            .iter()
            .find(|(key, _)| key.as_text() == Some(PARTITION_KEY))
            .and_then(|(_, raw)| {
                // A string of at most 255 bytes, or a long one: code, length, text.
                let text = match raw {
                    [0xa1 | 0xa3, _, text @ ..] | [0xb1 | 0xb3, _, _, _, _, text @ ..] => text,
                    _ => return None,
                };
                std::str::from_utf8(text).ok()
            })
    }

    /// The messages of a batch, each still encoded.
    pub(crate) fn batch(&self) -> &[&'a [u8]] {
        &self.data
    }

    /// Writes the stored form. Delivery annotations and footer are the sender's link's and go no
    /// further; annotations that only the hub may set are dropped.
    pub(crate) fn store(
        &self,
        out: &mut Vec<u8>,
        place: Place,
        key: Option<&str>,
        accept_iothub: bool,
    ) {
        out.extend_from_slice(self.header);
        let kept = |(key, _): &&(Value, &[u8])| is_kept(key, accept_iothub);
        let pairs = count(self.annotations.iter().filter(kept).count());
        put_annotations(out, place, key, pairs, |out| {
            for (key, raw) in self.annotations.iter().filter(kept) {
                if let Some(key) = key.as_text() {
                    put::symbol(out, key);
                    out.extend_from_slice(raw);
                }
            }
        });
        out.extend_from_slice(self.rest);
    }
}

fn annotations<'a>(reader: &mut Reader<'a>) -> Result<Vec<(Value, &'a [u8])>, DecodeError> {
    let mut items = reader.map()?;
    let mut annotations = Vec::new();
    while items.left() > 0 {
        let key = items.value()?.unwrap_or(Value::Null);
        annotations.push((key, items.raw()?.unwrap_or(&[0x40])));
    }
    Ok(annotations)
}

fn is_kept(key: &Value, accept_iothub: bool) -> bool {
    let Some(key) = key.as_text() else {
        return false;
    };
    let stamped = key.starts_with("iothub-") || matches!(key, "dt-dataschema" | "dt-subject");
    !matches!(key, SEQUENCE | OFFSET | ENQUEUED | PARTITION_KEY) && (accept_iothub || !stamped)
}

/// Counts of parts of one message: its size is bounded far below `u32::MAX`.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
