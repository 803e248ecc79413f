//! `amqp_event`: one encoded message of the hub to an event, beside the reader of another crate.

use bytes::Bytes;
use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::message::__private::Deserializable;
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, MessageAnnotations, MessageId, Properties,
};
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use stamp_eventhubs::UNDECODABLE_PROPERTY;
use stamp_eventhubs::wire::read_event;
use stamp_model::Event;

use crate::other::{opinion, reads_well};

/// Longest message that is tried. The service's own limit is a megabyte.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// One try: an encoded message.
///
/// # Panics
/// When a promise is broken.
pub fn amqp_event(data: &[u8]) {
    let encoded = Bytes::copy_from_slice(&data[..data.len().min(MESSAGE_BYTES_MAX)]);
    let read = read_event(&encoded);
    assert_eq!(read, read_event(&encoded), "two readings differ");
    let Ok(event) = read else {
        return;
    };
    if is_noted(&event) {
        // A sender may set a property of this name itself.
        let set = encoded
            .windows(UNDECODABLE_PROPERTY.len())
            .any(|bytes| bytes == UNDECODABLE_PROPERTY.as_bytes());
        assert!(
            set || event.body == encoded,
            "an undecodable event keeps all its bytes"
        );
        return;
    }
    assert!(event.body.len() <= encoded.len());
    if reads_well(&encoded)
        && let Some(other) = read_by_other(&encoded)
    {
        compare(&event, &other);
    }
}

/// Whether our reader says that it could not read all of it.
fn is_noted(event: &Event) -> bool {
    let first = event.properties.first();
    first.is_some_and(|(key, why)| key == UNDECODABLE_PROPERTY && why.contains("AMQP"))
}

/// The message as the AMQP engine's own types read it.
fn read_by_other(encoded: &[u8]) -> Option<Message<Body<Value>>> {
    let read = || serde_amqp::from_slice::<Deserializable<Message<Body<Value>>>>(encoded);
    opinion(read)?.ok().map(|read| read.0)
}

fn compare(event: &Event, other: &Message<Body<Value>>) {
    if let Some(annotations) = &other.message_annotations {
        compare_annotations(event, annotations);
    }
    if let Some(properties) = &other.properties {
        compare_properties(event, properties);
    }
    if let Some(properties) = &other.application_properties {
        compare_application_properties(event, properties);
    }
    match &other.body {
        Body::Data(sections) => {
            let joined: Vec<u8> = sections.iter().flat_map(|data| data.0.to_vec()).collect();
            assert_eq!(event.body, joined);
        }
        Body::Value(AmqpValue(Value::Binary(bytes))) => assert_eq!(event.body, bytes.to_vec()),
        Body::Value(AmqpValue(Value::String(text))) => assert_eq!(event.body, text.as_bytes()),
        Body::Value(AmqpValue(Value::Symbol(text))) => assert_eq!(event.body, text.0.as_bytes()),
        Body::Value(AmqpValue(Value::Null)) | Body::Empty => assert!(event.body.is_empty()),
        Body::Value(other) => panic!("{other:?} was read as bytes"),
        Body::Sequence(_) => panic!("a sequence was read as bytes"),
    }
}

fn compare_annotations(event: &Event, annotations: &MessageAnnotations) {
    for (key, value) in annotations.0.iter() {
        let OwnedKey::Symbol(key) = key else { continue };
        match key.0.as_str() {
            "x-opt-sequence-number" => assert_eq!(integer(value), Some(event.sequence)),
            "x-opt-enqueued-time" => assert_eq!(time_us(value), Some(event.enqueued_at_us)),
            "x-opt-offset" => same_text(Some(&event.offset), value),
            "iothub-connection-device-id" => same_text(event.hub.device_id.as_deref(), value),
            "iothub-connection-module-id" => same_text(event.hub.module_id.as_deref(), value),
            "iothub-connection-auth-generation-id" => {
                same_text(event.hub.generation_id.as_deref(), value);
            }
            "iothub-connection-auth-method" => same_text(event.hub.auth_method.as_deref(), value),
            "iothub-enqueuedtime" => assert_eq!(time_us(value), event.hub.enqueued_at_us),
            _ => {}
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match *value {
        Value::Ubyte(v) => Some(v.into()),
        Value::Ushort(v) => Some(v.into()),
        Value::Uint(v) => Some(v.into()),
        Value::Ulong(v) => i64::try_from(v).ok(),
        Value::Byte(v) => Some(v.into()),
        Value::Short(v) => Some(v.into()),
        Value::Int(v) => Some(v.into()),
        Value::Long(v) => Some(v),
        _ => None,
    }
}

fn time_us(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(at) => Some(at.milliseconds().saturating_mul(1_000)),
        value => integer(value).map(|ms| ms.saturating_mul(1_000)),
    }
}

/// Texts, numbers and nothing are compared; other types only have to become some text.
fn same_text(found: Option<&str>, value: &Value) {
    match value {
        Value::String(text) => assert_eq!(found, Some(text.as_str())),
        Value::Symbol(text) => assert_eq!(found, Some(text.0.as_str())),
        Value::Bool(value) => assert_eq!(found, Some(value.to_string().as_str())),
        Value::Null => assert!(found.is_none_or(str::is_empty)),
        value => match integer(value) {
            Some(number) => assert_eq!(found, Some(number.to_string().as_str())),
            None => assert!(found.is_some()),
        },
    }
}

fn compare_properties(event: &Event, properties: &Properties) {
    let content_type = properties.content_type.as_ref().map(|text| text.0.as_str());
    assert_eq!(event.content_type.as_deref(), content_type);
    let encoding = properties.content_encoding.as_ref();
    assert_eq!(
        event.content_encoding.as_deref(),
        encoding.map(|text| text.0.as_str())
    );
    let id = event.message_id.as_deref();
    match &properties.message_id {
        None => assert_eq!(id, None),
        Some(MessageId::Ulong(number)) => assert_eq!(id, Some(number.to_string().as_str())),
        Some(MessageId::String(text)) => assert_eq!(id, Some(text.as_str())),
        Some(MessageId::Uuid(_) | MessageId::Binary(_)) => assert!(id.is_some()),
    }
}

/// The other reader keeps one of two equal keys, ours keeps both.
fn compare_application_properties(event: &Event, properties: &ApplicationProperties) {
    let ours = &event.properties;
    let twice = (0..ours.len()).any(|i| ours[..i].iter().any(|(key, _)| *key == ours[i].0));
    if twice {
        return;
    }
    let pairs: Vec<_> = properties.0.iter().collect();
    assert_eq!(ours.len(), pairs.len());
    for ((key, value), (other_key, other)) in ours.iter().zip(pairs) {
        assert_eq!(key, other_key.as_str());
        match other {
            SimpleValue::String(text) => assert_eq!(value, text.as_str()),
            SimpleValue::Symbol(text) => assert_eq!(value, text.0.as_str()),
            SimpleValue::Long(number) => assert_eq!(value, number.to_string().as_str()),
            SimpleValue::Int(number) => assert_eq!(value, number.to_string().as_str()),
            SimpleValue::Ulong(number) => assert_eq!(value, number.to_string().as_str()),
            SimpleValue::Bool(yes) => assert_eq!(value, yes.to_string().as_str()),
            SimpleValue::Null => assert!(value.is_empty()),
            _ => {}
        }
    }
}
