//! The events a hub makes: telemetry with what it stamps, and its own notifications.

use bytes::Bytes;
use serde_json::{Value, json};
use stamp_model::{HubStamp, MessageSource, Text};

use super::device::Device;
use crate::time;
use crate::{OutgoingEvent, http};

/// How a device proved who it is, as IoT Hub writes it.
const BY_DEVICE_KEY: &str =
    r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;
const BY_POLICY: &str =
    r#"{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;

/// What proved a device's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    DeviceKey,
    Policy,
}

/// A message as a device sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Telemetry {
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<Text>,
    pub(crate) content_encoding: Option<Text>,
    pub(crate) message_id: Option<Text>,
    pub(crate) properties: Vec<(Text, Text)>,
}

impl Telemetry {
    /// Reads the properties of a topic: `$.mid=m1&$.ct=application%2Fjson&tenant=t1`.
    pub(crate) fn from_topic(tail: &str, body: &[u8]) -> Self {
        let mut telemetry = Self {
            body: Bytes::copy_from_slice(body),
            ..Self::default()
        };
        for (name, value) in http::pairs(tail.trim_start_matches('?')) {
            let value = Text::from(value);
            match name.as_str() {
                "$.mid" => telemetry.message_id = Some(value),
                "$.ct" => telemetry.content_type = Some(value),
                "$.ce" => telemetry.content_encoding = Some(value),
                "$.ctime" => telemetry.set("iothub-creation-time-utc", value),
                _ if name.starts_with("$.") => {}
                _ => telemetry.set(&name, value),
            }
        }
        telemetry
    }

    /// Reads the headers of a request.
    pub(crate) fn from_call(call: &http::Call) -> Self {
        let text = |name: &str| {
            let text = call.header(name);
            (!text.is_empty()).then(|| Text::from(text))
        };
        let mut telemetry = Self {
            body: call.body.clone(),
            message_id: text("iothub-messageid"),
            content_type: text("iothub-contenttype"),
            content_encoding: text("iothub-contentencoding"),
            properties: Vec::new(),
        };
        for name in call.headers.keys() {
            if let Some(property) = name.as_str().strip_prefix("iothub-app-") {
                telemetry.set(property, text(name.as_str()).unwrap_or_default());
            }
        }
        telemetry
    }

    /// Names are without regard to case; of two properties of one name the later survives.
    fn set(&mut self, name: &str, value: Text) {
        self.properties
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.properties.push((name.into(), value));
    }

    /// With what the hub stamps on it.
    pub(crate) fn stamped(self, device: &Device, proof: Proof, now_us: i64) -> OutgoingEvent {
        let method = match proof {
            Proof::DeviceKey => BY_DEVICE_KEY,
            Proof::Policy => BY_POLICY,
        };
        OutgoingEvent {
            body: self.body,
            hub: HubStamp {
                device_id: Some(device.id.as_str().into()),
                module_id: None,
                generation_id: Some(device.generation.as_str().into()),
                auth_method: Some(method.into()),
                enqueued_at_us: Some(now_us),
                source: MessageSource::Telemetry,
            },
            properties: self.properties,
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            message_id: self.message_id,
            partition_key: None,
        }
    }
}

/// A notification of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Created,
    Deleted,
    TwinUpdated,
    TwinReplaced,
    Connected,
    Disconnected,
}

impl Notice {
    fn operation(self) -> &'static str {
        match self {
            Self::Created => "createDeviceIdentity",
            Self::Deleted => "deleteDeviceIdentity",
            Self::TwinUpdated => "updateTwin",
            Self::TwinReplaced => "replaceTwin",
            Self::Connected => "deviceConnected",
            Self::Disconnected => "deviceDisconnected",
        }
    }

    fn source(self) -> (MessageSource, &'static str) {
        match self {
            Self::Created | Self::Deleted => (
                MessageSource::DeviceLifecycle,
                "deviceLifecycleNotification",
            ),
            Self::TwinUpdated | Self::TwinReplaced => {
                (MessageSource::TwinChange, "twinChangeNotification")
            }
            Self::Connected | Self::Disconnected => (
                MessageSource::DeviceConnectionState,
                "deviceConnectionStateNotification",
            ),
        }
    }

    /// The event about a device, as it is after the change.
    pub(crate) fn event(
        self,
        hub_name: &str,
        device: &Device,
        body: &Value,
        now_us: i64,
    ) -> OutgoingEvent {
        let (source, schema) = self.source();
        let now = time::utc(now_us);
        let properties = [
            ("hubName", hub_name),
            ("deviceId", device.id.as_str()),
            ("opType", self.operation()),
            ("operationTimestamp", now.as_str()),
            ("iothub-message-schema", schema),
        ];
        let properties = properties.map(|(name, value)| (name.into(), value.into()));
        OutgoingEvent {
            body: body.to_string().into(),
            hub: HubStamp {
                device_id: Some(device.id.as_str().into()),
                enqueued_at_us: Some(now_us),
                source,
                ..HubStamp::default()
            },
            properties: properties.into(),
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            ..OutgoingEvent::default()
        }
    }
}

/// The body of a connection-state event: a number that only rises, 62 hexadecimal digits.
pub(crate) fn connection_body(device: &Device, now_us: i64) -> Value {
    let at = time::ticks(now_us);
    json!({ "sequenceNumber": format!("{at:032X}{:030X}", device.connection_events) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_properties_are_taken_apart_and_names_have_no_case() {
        let tail = "%24.mid=m1&%24.ct=application%2Fjson&%24.ce=utf-8&tenant=t1&Tenant=t%202";
        let telemetry = Telemetry::from_topic(tail, b"{}");
        assert_eq!(telemetry.message_id.as_deref(), Some("m1"));
        assert_eq!(telemetry.content_type.as_deref(), Some("application/json"));
        assert_eq!(telemetry.content_encoding.as_deref(), Some("utf-8"));
        assert_eq!(telemetry.properties, [("Tenant".into(), "t 2".into())]);
    }
}
