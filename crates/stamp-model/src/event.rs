//! One message as the hub delivered it, before anything is believed about it.

use std::time::Duration;

use bytes::Bytes;

use crate::Text;

/// Application properties in the order they came. The **device** sets these: nothing that decides
/// a tenant, a path or a quota may read them, unless the operator configured the key as an
/// enrichment of the hub's own.
pub type Properties = Vec<(Text, Text)>;

/// What produced a message, from the hub-stamped `iothub-message-source`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MessageSource {
    /// No such annotation: the event was sent to the Event Hub directly. Treated as telemetry.
    #[default]
    Absent,
    /// A device's own message.
    Telemetry,
    /// `twinChangeEvents`
    TwinChange,
    /// `deviceLifecycleEvents` (and the older `moduleLifecycleEvents`)
    DeviceLifecycle,
    /// `deviceConnectionStateEvents`
    DeviceConnectionState,
    /// `digitalTwinChangeEvents`
    DigitalTwinChange,
    /// A source this version does not know.
    Unknown(Text),
}

impl MessageSource {
    /// Reads the annotation's value; IoT Hub mixes `Telemetry` and camelCase, so case is ignored.
    #[must_use]
    pub fn parse(text: &Text) -> Self {
        Self::known(text).unwrap_or_else(|| Self::Unknown(text.clone()))
    }

    /// As [`MessageSource::parse`]; `None` for a source this version does not know.
    #[must_use]
    pub fn known(text: &str) -> Option<Self> {
        const KNOWN: [(&str, MessageSource); 6] = [
            ("telemetry", MessageSource::Telemetry),
            ("twinchangeevents", MessageSource::TwinChange),
            ("devicelifecycleevents", MessageSource::DeviceLifecycle),
            ("modulelifecycleevents", MessageSource::DeviceLifecycle),
            (
                "deviceconnectionstateevents",
                MessageSource::DeviceConnectionState,
            ),
            ("digitaltwinchangeevents", MessageSource::DigitalTwinChange),
        ];
        KNOWN
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
            .map(|(_, source)| source.clone())
    }

    /// Whether the body is a device's reading.
    #[must_use]
    pub fn is_telemetry(&self) -> bool {
        matches!(self, Self::Absent | Self::Telemetry)
    }

    /// A closed set of names for metrics and `detail` columns.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Telemetry => "telemetry",
            Self::TwinChange => "twin_change",
            Self::DeviceLifecycle => "device_lifecycle",
            Self::DeviceConnectionState => "device_connection_state",
            Self::DigitalTwinChange => "digital_twin_change",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What IoT Hub itself stamps on a message (AMQP message annotations). A device cannot set these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HubStamp {
    /// `iothub-connection-device-id`
    pub device_id: Option<Text>,
    /// `iothub-connection-module-id`
    pub module_id: Option<Text>,
    /// `iothub-connection-auth-generation-id`: changes when a device is deleted and made again.
    pub generation_id: Option<Text>,
    /// `iothub-connection-auth-method`, a small JSON text.
    pub auth_method: Option<Text>,
    /// `iothub-enqueuedtime`, microseconds since 1970 UTC.
    pub enqueued_at_us: Option<i64>,
    /// `iothub-message-source`
    pub source: MessageSource,
}

/// One message as received, with its position. The body shares the receive buffer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// `x-opt-sequence-number`: the position in the partition.
    pub sequence: i64,
    /// `x-opt-offset`: the broker's own offset, an opaque text.
    pub offset: Text,
    /// `x-opt-enqueued-time`, microseconds since 1970 UTC: the hub's clock, not the device's.
    pub enqueued_at_us: i64,
    /// Stamped by IoT Hub.
    pub hub: HubStamp,
    /// `content-type` as the device set it.
    pub content_type: Option<Text>,
    /// `content-encoding` as the device set it.
    pub content_encoding: Option<Text>,
    /// `message-id` as the device set it, in text form.
    pub message_id: Option<Text>,
    /// Set by the device or by an enrichment.
    pub properties: Properties,
    /// The data section. Several data sections are joined.
    pub body: Bytes,
}

impl Event {
    /// A copy that has its bytes for itself. What is received shares large buffers, and whatever
    /// keeps a piece of one keeps all of it: keep this instead.
    #[must_use]
    pub fn unshared(&self) -> Self {
        let own = |text: &Text| Text::from(&**text);
        let own_if_any = |text: &Option<Text>| text.as_ref().map(own);
        Self {
            sequence: self.sequence,
            offset: own(&self.offset),
            enqueued_at_us: self.enqueued_at_us,
            hub: HubStamp {
                device_id: own_if_any(&self.hub.device_id),
                module_id: own_if_any(&self.hub.module_id),
                generation_id: own_if_any(&self.hub.generation_id),
                auth_method: own_if_any(&self.hub.auth_method),
                enqueued_at_us: self.hub.enqueued_at_us,
                source: match &self.hub.source {
                    MessageSource::Unknown(text) => MessageSource::Unknown(own(text)),
                    known => known.clone(),
                },
            },
            content_type: own_if_any(&self.content_type),
            content_encoding: own_if_any(&self.content_encoding),
            message_id: own_if_any(&self.message_id),
            properties: self
                .properties
                .iter()
                .map(|(key, value)| (own(key), own(value)))
                .collect(),
            body: Bytes::copy_from_slice(&self.body),
        }
    }

    /// What this event counts for against byte limits: body, properties and a fixed overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Struct, position, hub stamp and allocator slack of one event, measured in round figures.
        const OVERHEAD: usize = 512;
        let properties: usize = self
            .properties
            .iter()
            .map(|(k, v)| k.len() + v.len() + 64)
            .sum();
        self.body.len() + properties + OVERHEAD
    }
}

/// Consecutive events of one partition, in order.
#[derive(Debug, Clone, Default)]
pub struct EventBatch {
    /// Ascending by sequence number.
    pub events: Vec<Event>,
}

/// How much one pull may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most events, at least 1.
    pub events_max: usize,
    /// Bytes by [`Event::size`] after which no further event is added; one event always fits.
    pub bytes_max: usize,
    /// Longest wait for the first event; after it the batch is empty.
    pub wait_max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_for_keeping_is_equal_and_shares_no_buffer() {
        let buffer = Bytes::from(b"abcdefghijkl".to_vec());
        let text = |at: usize| Text::try_from(buffer.slice(at..=at)).unwrap();
        let event = Event {
            sequence: 1,
            offset: text(0),
            enqueued_at_us: 2,
            hub: HubStamp {
                device_id: Some(text(1)),
                module_id: Some(text(2)),
                generation_id: Some(text(3)),
                auth_method: Some(text(4)),
                enqueued_at_us: Some(3),
                source: MessageSource::Unknown(text(5)),
            },
            content_type: Some(text(6)),
            content_encoding: Some(text(7)),
            message_id: Some(text(8)),
            properties: vec![(text(9), text(10))],
            body: buffer.slice(11..),
        };
        let kept = event.unshared();
        assert_eq!(kept, event);
        drop(event);
        assert!(buffer.is_unique(), "the copy keeps the buffer");
        assert_eq!(kept.body, "l");
    }

    #[test]
    fn the_source_is_read_without_regard_to_case() {
        assert_eq!(
            MessageSource::parse(&"Telemetry".into()),
            MessageSource::Telemetry
        );
        assert_eq!(
            MessageSource::parse(&"TWINCHANGEEVENTS".into()),
            MessageSource::TwinChange
        );
        assert!(!MessageSource::parse(&"somethingNew".into()).is_telemetry());
        assert!(MessageSource::Absent.is_telemetry());
    }
}
