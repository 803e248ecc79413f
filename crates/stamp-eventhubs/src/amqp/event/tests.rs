use bytes::Bytes;
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{
    AmqpSequence, AmqpValue, Annotations, ApplicationProperties, Batch, Data, DeliveryAnnotations,
    Footer, Header, Message, MessageAnnotations, MessageId, Properties, SerializableBody,
};
use fe2o3_amqp_types::primitives::{SimpleValue, Symbol, Timestamp, Uuid, Value};
use proptest::prelude::*;
use stamp_model::{Event, MessageSource};

use super::{Missing, UNDECODABLE_PROPERTY, read_event};

const AT_MS: i64 = 1_700_000_000_123;

fn annotations(more: Vec<(&str, Value)>) -> MessageAnnotations {
    let own = [
        ("x-opt-sequence-number", Value::Long(42)),
        ("x-opt-offset", Value::String("4711".to_owned())),
        (
            "x-opt-enqueued-time",
            Value::Timestamp(Timestamp::from_milliseconds(AT_MS)),
        ),
        ("x-opt-partition-key", Value::String("press-7".to_owned())),
    ];
    annotations_of(own.into_iter().chain(more))
}

fn annotations_of<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> MessageAnnotations {
    let entries: Annotations = entries
        .into_iter()
        .map(|(key, value)| (Symbol::from(key).into(), value))
        .collect();
    MessageAnnotations(entries)
}

fn with_body<B>(body: B) -> Message<B> {
    Message {
        header: None,
        delivery_annotations: None,
        message_annotations: Some(annotations(Vec::new())),
        properties: None,
        application_properties: None,
        body,
        footer: None,
    }
}

fn data(body: &[u8]) -> Message<Data> {
    with_body(Data(body.to_vec().into()))
}

fn encode<B: SerializableBody>(message: Message<B>) -> Bytes {
    serde_amqp::to_vec(&Serializable(message)).unwrap().into()
}

fn read<B: SerializableBody>(message: Message<B>) -> Event {
    read_event(&encode(message)).unwrap()
}

#[test]
fn every_section_and_annotation_is_read() {
    let mut message = data(b"{}");
    message.header = Some(Header {
        durable: true,
        ..Header::default()
    });
    message.delivery_annotations = Some(DeliveryAnnotations::default());
    message.footer = Some(Footer::default());
    message.message_annotations = Some(annotations(vec![
        (
            "iothub-connection-device-id",
            Value::String("press-7".to_owned()),
        ),
        (
            "iothub-connection-module-id",
            Value::String("edge".to_owned()),
        ),
        (
            "iothub-connection-auth-generation-id",
            Value::String("638".to_owned()),
        ),
        (
            "iothub-connection-auth-method",
            Value::String("{}".to_owned()),
        ),
        (
            "iothub-enqueuedtime",
            Value::Timestamp(Timestamp::from_milliseconds(AT_MS - 5)),
        ),
        (
            "iothub-message-source",
            Value::String("twinChangeEvents".to_owned()),
        ),
        ("dt-dataschema", Value::String("dtmi:a;1".to_owned())),
    ]));
    message.properties = Some(
        Properties::builder()
            .message_id("m-1".to_owned())
            .to("/devices/press-7/messages/events")
            .content_type("application/json")
            .content_encoding("utf-8")
            .build(),
    );
    let event = read(message);
    assert_eq!(event.sequence, 42);
    assert_eq!(event.offset, "4711");
    assert_eq!(event.enqueued_at_us, AT_MS * 1_000);
    assert_eq!(event.hub.device_id.as_deref(), Some("press-7"));
    assert_eq!(event.hub.module_id.as_deref(), Some("edge"));
    assert_eq!(event.hub.generation_id.as_deref(), Some("638"));
    assert_eq!(event.hub.auth_method.as_deref(), Some("{}"));
    assert_eq!(event.hub.enqueued_at_us, Some((AT_MS - 5) * 1_000));
    assert_eq!(event.hub.source, MessageSource::TwinChange);
    assert_eq!(event.message_id.as_deref(), Some("m-1"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(event.properties, []);
    assert_eq!(event.body, "{}");
}

#[test]
fn application_properties_of_every_simple_type_become_text() {
    let uuid = "12345678-9abc-def0-1234-56789abcdef0";
    let mut message = data(b"");
    message.application_properties = Some(
        ApplicationProperties::builder()
            .insert("text", "größe 🌡")
            .insert("yes", true)
            .insert("int", -7_i32)
            .insert("long", i64::MIN)
            .insert("ulong", u64::MAX)
            .insert("byte", 3_u8)
            .insert("double", 21.5_f64)
            .insert("char", 'é')
            .insert("time", Timestamp::from_milliseconds(AT_MS))
            .insert("before", Timestamp::from_milliseconds(-1))
            .insert(
                "uuid",
                Uuid::from(
                    u128::from_str_radix(&uuid.replace('-', ""), 16)
                        .unwrap()
                        .to_be_bytes(),
                ),
            )
            .insert("null", SimpleValue::Null)
            .build(),
    );
    let event = read(message);
    let found: Vec<_> = event.properties.iter().map(|(k, v)| (&**k, &**v)).collect();
    let expected = [
        ("text", "größe 🌡"),
        ("yes", "true"),
        ("int", "-7"),
        ("long", "-9223372036854775808"),
        ("ulong", "18446744073709551615"),
        ("byte", "3"),
        ("double", "21.5"),
        ("char", "é"),
        ("time", "2023-11-14T22:13:20.123Z"),
        ("before", "-1"),
        ("uuid", uuid),
        ("null", ""),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_message_id_of_every_type_becomes_text() {
    let ids = [
        (MessageId::Ulong(7), "7"),
        (MessageId::String("x".to_owned()), "x"),
        (MessageId::Binary(vec![1, 2].into()), "AQI="),
    ];
    for (id, text) in ids {
        let mut message = data(b"");
        message.properties = Some(Properties::builder().message_id(id).build());
        assert_eq!(read(message).message_id.as_deref(), Some(text));
    }
}

#[test]
fn data_sections_are_joined() {
    let sections = [b"{\"a\":".to_vec(), b"1}".to_vec()];
    let batch: Batch<Data> = sections.into_iter().map(|data| Data(data.into())).collect();
    assert_eq!(read(with_body(batch)).body, "{\"a\":1}");
}

#[test]
fn text_and_bytes_in_a_value_body_are_the_body() {
    assert_eq!(read(with_body(AmqpValue("{}".to_owned()))).body, "{}");
    let binary = Value::Binary(vec![1, 2].into());
    assert_eq!(read(with_body(AmqpValue(binary))).body, [1, 2].as_slice());
    assert_eq!(read(with_body(AmqpValue(Value::Null))).body, "");
}

/// The event keeps the whole encoded message and says why.
fn assert_kept(event: &Event, encoded: &Bytes, why: &str) {
    assert_eq!(event.sequence, 42);
    assert_eq!(event.properties[0].0, UNDECODABLE_PROPERTY);
    assert!(
        event.properties[0].1.contains(why),
        "{}",
        event.properties[0].1
    );
    assert_eq!(event.body, encoded);
}

#[test]
fn a_body_that_is_not_bytes_is_kept_as_it_was_encoded() {
    let mut message = with_body(AmqpValue(Value::Int(7)));
    message.application_properties =
        Some(ApplicationProperties::builder().insert("line", "7").build());
    let encoded = encode(message);
    let event = read_event(&encoded).unwrap();
    assert_kept(&event, &encoded, "AMQP value");
    assert_eq!(event.properties[1].0, "line");
    let encoded = encode(with_body(AmqpSequence(vec![Value::Int(7)])));
    assert_kept(&read_event(&encoded).unwrap(), &encoded, "AMQP sequence");
}

#[test]
fn a_message_with_two_kinds_of_body_is_kept_as_it_was_encoded() {
    let data_section: &[u8] = &[0x00, 0x53, 0x75, 0xa0, 2, b'{', b'}'];
    let sequence_section: &[u8] = &[0x00, 0x53, 0x76, 0x45];
    let value = encode(with_body(AmqpValue("text".to_owned())));
    let whole = encode(data(b"{}"));
    for (first, second) in [
        (&value, data_section),
        (&value, sequence_section),
        (&whole, sequence_section),
        (&value, &[0x00, 0x53, 0x77, 0xa1, 1, b'x']),
        (&whole, &[0x00, 0x53, 0x77, 0x40]),
    ] {
        let encoded: Bytes = [first, second].concat().into();
        assert_kept(&read_event(&encoded).unwrap(), &encoded, "two bodies");
    }
}

#[test]
fn a_second_set_of_annotations_is_not_believed() {
    let mut first = data(b"{}");
    let device = |id: &str| vec![("iothub-connection-device-id", Value::String(id.to_owned()))];
    first.message_annotations = Some(annotations(device("press-7")));
    let mut second = first.clone();
    second.message_annotations = Some(annotations(device("press-8")));
    let encoded: Bytes = [encode(first), encode(second)].concat().into();

    let event = read_event(&encoded).unwrap();

    assert_eq!(event.hub.device_id.as_deref(), Some("press-7"));
    assert_kept(&event, &encoded, "twice");
}

#[test]
fn properties_that_are_not_simple_lose_no_event() {
    let head = encode(data(b"{}"));
    // Application properties: {"a": [7], "b": "x"}, a list that the standard does not allow here.
    let mut encoded = head.to_vec();
    encoded.extend([0x00, 0x53, 0x74, 0xc1, 15, 4]);
    encoded.extend([0xa1, 1, b'a', 0xc0, 3, 1, 0x52, 7]);
    encoded.extend([0xa1, 1, b'b', 0xa1, 1, b'x']);
    let event = read_event(&encoded.into()).unwrap();
    assert_eq!(event.properties[0].0, "a");
    assert_eq!(event.properties[1], ("b".into(), "x".into()));
    assert_eq!(event.body, "{}");
}

/// Fault scenario 28.
#[test]
fn annotations_of_another_type_are_read_as_far_as_they_make_sense() {
    let mut message = data(b"{}");
    message.message_annotations = Some(annotations_of([
        ("x-opt-sequence-number", Value::Uint(42)),
        ("x-opt-offset", Value::Long(9)),
        ("x-opt-enqueued-time", Value::Long(AT_MS)),
        ("iothub-connection-device-id", Value::Null),
        ("iothub-enqueuedtime", Value::Bool(true)),
    ]));
    let event = read(message);
    assert_eq!((event.sequence, &*event.offset), (42, "9"));
    assert_eq!(event.enqueued_at_us, AT_MS * 1_000);
    assert_eq!(
        (event.hub.device_id, event.hub.enqueued_at_us),
        (None, None)
    );
}

/// Fault scenario 28.
#[test]
fn a_message_without_a_position_is_no_event() {
    let time = ("x-opt-enqueued-time", Value::Long(AT_MS));
    let cases = [
        (vec![time.clone()], "x-opt-sequence-number"),
        (
            vec![("x-opt-sequence-number", Value::Bool(true)), time],
            "x-opt-sequence-number",
        ),
        (
            vec![("x-opt-sequence-number", Value::Long(1))],
            "x-opt-enqueued-time",
        ),
    ];
    for (entries, annotation) in cases {
        let mut message = data(b"{}");
        message.message_annotations = Some(annotations_of(entries));
        assert_eq!(read_event(&encode(message)), Err(Missing { annotation }));
    }
}

proptest! {
    #[test]
    fn a_message_that_is_cut_is_kept_or_has_no_position(cut in 0_usize..300) {
        let mut message = data(&[b'x'; 40]);
        message.properties = Some(Properties::builder().message_id("m".to_owned()).content_type("t").build());
        let whole = encode(message);
        let encoded = whole.slice(..cut.min(whole.len()));
        if let Ok(event) = read_event(&encoded) {
            let noted = event.properties.first().is_some_and(|(k, _)| k == UNDECODABLE_PROPERTY);
            // Cut between two sections it is a whole message again.
            let whole_again = event.body.len() % 40 == 0;
            prop_assert!(whole_again || noted);
            prop_assert!(!noted || event.body == encoded);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut after_annotations = encode(data(b"{}")).to_vec();
        after_annotations.extend(&bytes);
        let _ = read_event(&bytes.into());
        let event = read_event(&after_annotations.into()).unwrap();
        prop_assert_eq!(event.sequence, 42);
    }
}
