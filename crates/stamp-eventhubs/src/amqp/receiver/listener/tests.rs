//! The same frames, decoded by `fe2o3-amqp-types` and by us.

use fe2o3_amqp_types::definitions::{Handle, Role};
use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::message::__private::{Deserializable, Serializable};
use fe2o3_amqp_types::messaging::{
    Annotations, ApplicationProperties, Body, Data, Header, Message, MessageAnnotations, MessageId,
    Properties, Source, Target, TargetArchetype,
};
use fe2o3_amqp_types::performatives::{Attach, Begin, Open, Transfer};
use fe2o3_amqp_types::primitives::{Array, Binary, SimpleValue, Symbol, Timestamp, Value};
use fe2o3_amqp_types::sasl::{SaslCode, SaslMechanisms, SaslOutcome};
use proptest::prelude::*;
use serde::Serialize;
use stamp_model::{Event, MessageSource, Text};

use super::super::{compose, frames};
use super::Listener;

const HANDLE: u32 = 4;

/// What the other library makes of a delivery, in owned maps.
fn read_by_other(encoded: &[u8]) -> Event {
    let message: Deserializable<Message<Body<Value>>> = serde_amqp::from_slice(encoded).unwrap();
    let message = message.0;
    let mut event = Event::default();
    for (key, value) in message.message_annotations.unwrap().0 {
        let OwnedKey::Symbol(key) = key else { continue };
        annotate(&mut event, key.0.as_str(), value);
    }
    if let Some(properties) = message.properties {
        event.message_id = properties.message_id.map(|id| match id {
            MessageId::Ulong(number) => number.to_string().into(),
            MessageId::String(text) => text.into(),
            other => panic!("{other:?} is not sent here"),
        });
        event.content_type = properties.content_type.map(|text| text.0.into());
        event.content_encoding = properties.content_encoding.map(|text| text.0.into());
    }
    for (key, value) in message
        .application_properties
        .into_iter()
        .flat_map(|all| all.0)
    {
        let value = match value {
            SimpleValue::String(text) => text,
            SimpleValue::Long(number) => number.to_string(),
            SimpleValue::Bool(flag) => flag.to_string(),
            other => panic!("{other:?} is not sent here"),
        };
        event.properties.push((key.into(), value.into()));
    }
    if let Body::Data(sections) = message.body {
        event.body = sections
            .into_iter()
            .flat_map(|data| data.0.to_vec())
            .collect();
    }
    event
}

fn annotate(event: &mut Event, key: &str, value: Value) {
    let text = |value: Value| match value {
        Value::String(text) => Text::from(text),
        Value::Symbol(text) => Text::from(text.0),
        other => panic!("{other:?} is not sent here"),
    };
    let time_us = |value: Value| match value {
        Value::Timestamp(at) => at.milliseconds() * 1_000,
        other => panic!("{other:?} is not sent here"),
    };
    match key {
        "x-opt-sequence-number" => event.sequence = value.try_into().unwrap(),
        "x-opt-offset" => event.offset = text(value),
        "x-opt-enqueued-time" => event.enqueued_at_us = time_us(value),
        "iothub-connection-device-id" => event.hub.device_id = Some(text(value)),
        "iothub-connection-module-id" => event.hub.module_id = Some(text(value)),
        "iothub-connection-auth-generation-id" => event.hub.generation_id = Some(text(value)),
        "iothub-connection-auth-method" => event.hub.auth_method = Some(text(value)),
        "iothub-enqueuedtime" => event.hub.enqueued_at_us = Some(time_us(value)),
        "iothub-message-source" => event.hub.source = MessageSource::parse(&text(value)),
        _ => {}
    }
}

/// What the frames hold, put together by the other library.
fn events_by_other(mut stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut begun = Vec::new();
    while let Some(&size) = stream.first_chunk::<4>() {
        let (frame, rest) = stream.split_at(u32::from_be_bytes(size) as usize);
        stream = rest;
        let transfer: Transfer = serde_amqp::from_slice(&frame[8..]).unwrap();
        let head = serde_amqp::to_vec(&transfer).unwrap().len();
        if transfer.aborted {
            begun.clear();
            continue;
        }
        begun.extend_from_slice(&frame[8 + head..]);
        if !transfer.more {
            events.push(read_by_other(&begun));
            begun.clear();
        }
    }
    events
}

fn put(out: &mut Vec<u8>, kind: u8, said: &impl Serialize, payload: &[u8]) {
    let body = [serde_amqp::to_vec(said).unwrap().as_slice(), payload].concat();
    frames::put(out, kind, 0, &body);
}

/// A hub that has opened the partition.
fn opened() -> Vec<u8> {
    let mut out = compose::SASL_HEADER.to_vec();
    let mechanisms = SaslMechanisms {
        sasl_server_mechanisms: Array(vec![Symbol::from("ANONYMOUS")]),
    };
    put(&mut out, compose::SASL, &mechanisms, &[]);
    let outcome = SaslOutcome {
        code: SaslCode::Ok,
        additional_data: None,
    };
    put(&mut out, compose::SASL, &outcome, &[]);
    out.extend(compose::AMQP_HEADER);
    let open = Open {
        container_id: "hub".to_owned(),
        hostname: None,
        max_frame_size: 65_536.into(),
        channel_max: 10.into(),
        idle_time_out: None,
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    put(&mut out, compose::AMQP, &open, &[]);
    let begin = Begin {
        remote_channel: Some(0),
        next_outgoing_id: 0,
        incoming_window: 100,
        outgoing_window: 100,
        handle_max: Handle(10),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    put(&mut out, compose::AMQP, &begin, &[]);
    let filter = (
        Symbol::from("apache.org:selector-filter:string"),
        Value::String("x".to_owned()),
    );
    let source = Source::builder()
        .filter([filter].into_iter().collect())
        .build();
    let attach = Attach {
        name: Listener::LINK.to_owned(),
        handle: Handle(HANDLE),
        role: Role::Sender,
        snd_settle_mode: Default::default(),
        rcv_settle_mode: Default::default(),
        source: Some(Box::new(source)),
        target: Some(Box::new(TargetArchetype::Target(Target::default()))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(0),
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    put(&mut out, compose::AMQP, &attach, &[]);
    out
}

/// One delivery: the message, in how many frames, and whether it is given up.
#[derive(Debug, Clone)]
struct Delivery {
    encoded: Vec<u8>,
    frames: usize,
    aborted: bool,
    settled: Option<bool>,
}

impl Delivery {
    fn put(&self, id: u32, out: &mut Vec<u8>) {
        let size = self.encoded.len().div_ceil(self.frames).max(1);
        let last = self.encoded.chunks(size).count() - 1;
        for (number, part) in self.encoded.chunks(size).enumerate() {
            let ends = number == last;
            let transfer = Transfer {
                handle: Handle(HANDLE),
                delivery_id: (number == 0 || id.is_multiple_of(2)).then_some(id),
                delivery_tag: (number == 0).then(|| Binary::from(vec![7; id as usize % 32])),
                message_format: (number == 0).then_some(0),
                settled: self.settled,
                more: !ends,
                rcv_settle_mode: None,
                state: None,
                resume: false,
                aborted: ends && self.aborted,
                batchable: id.is_multiple_of(3),
            };
            put(out, compose::AMQP, &transfer, part);
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9;/= -]{0,30}",
        "[äöü€🌡温]{0,9}",
        "[x]{256,300}",
        Just("application/json".to_owned()),
        Just("Telemetry".to_owned()),
    ]
}

fn annotations() -> impl Strategy<Value = MessageAnnotations> {
    let more = prop::collection::btree_map(
        prop_oneof![
            Just("iothub-connection-device-id"),
            Just("iothub-connection-module-id"),
            Just("iothub-connection-auth-generation-id"),
            Just("iothub-connection-auth-method"),
            Just("iothub-message-source"),
            Just("x-opt-partition-key"),
            Just("dt-subject"),
        ],
        word(),
        0..7,
    );
    let place = (any::<i64>(), word(), -1_000_000_i64..1_000_000_000_000_000);
    (place, more, any::<[bool; 2]>()).prop_map(|(place, more, [time, symbols])| {
        let at = |ms| Value::Timestamp(Timestamp::from_milliseconds(ms));
        let mut all = vec![
            ("x-opt-sequence-number", Value::Long(place.0)),
            ("x-opt-offset", Value::String(place.1)),
            ("x-opt-enqueued-time", at(place.2)),
        ];
        all.extend(
            more.into_iter()
                .map(|(key, text)| match symbols && text.is_ascii() {
                    true => (key, Value::Symbol(Symbol::from(text))),
                    false => (key, Value::String(text)),
                }),
        );
        if time {
            all.push(("iothub-enqueuedtime", at(place.2 / 3)));
        }
        let entries: Annotations = all
            .into_iter()
            .map(|(key, value)| (Symbol::from(key).into(), value))
            .collect();
        MessageAnnotations(entries)
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let id = prop_oneof![
        any::<u64>().prop_map(MessageId::Ulong),
        word().prop_map(MessageId::String),
    ];
    let ascii = "[a-z/;= -]{0,30}|application/json|utf-8";
    (
        prop::option::of(id),
        prop::option::of(word()),
        prop::option::of(ascii),
        prop::option::of(ascii),
    )
        .prop_map(
            |(message_id, subject, content_type, content_encoding)| Properties {
                message_id,
                subject,
                content_type: content_type.map(Symbol::from),
                content_encoding: content_encoding.map(Symbol::from),
                ..Properties::default()
            },
        )
}

fn application_properties() -> impl Strategy<Value = ApplicationProperties> {
    let value = prop_oneof![
        6 => word().prop_map(SimpleValue::String),
        1 => any::<i64>().prop_map(SimpleValue::Long),
        1 => any::<bool>().prop_map(SimpleValue::Bool),
    ];
    prop::collection::btree_map(word(), value, 0..4).prop_map(|pairs| {
        pairs
            .into_iter()
            .fold(ApplicationProperties::builder(), |all, (key, value)| {
                all.insert(key, value)
            })
            .build()
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let message = (
        any::<bool>(),
        annotations(),
        prop::option::of(properties()),
        prop::option::of(application_properties()),
        prop::collection::vec(any::<u8>(), 0..900),
    )
        .prop_map(
            |(durable, annotations, properties, application_properties, body)| {
                let message = Message {
                    header: durable.then(|| Header {
                        durable,
                        ..Header::default()
                    }),
                    delivery_annotations: None,
                    message_annotations: Some(annotations),
                    properties,
                    application_properties,
                    body: Data(body.into()),
                    footer: None,
                };
                serde_amqp::to_vec(&Serializable(message)).unwrap()
            },
        );
    (
        message,
        1_usize..5,
        prop::bool::weighted(0.1),
        any::<Option<bool>>(),
    )
        .prop_map(|(encoded, frames, aborted, settled)| Delivery {
            encoded,
            frames,
            aborted,
            settled,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_same_frames_are_the_same_events_to_the_other_library(
        deliveries in prop::collection::vec(delivery(), 1..12),
        piece in 1_usize..3_000,
    ) {
        let mut stream = Vec::new();
        for (id, delivery) in (0..).zip(&deliveries) {
            delivery.put(id, &mut stream);
        }
        let mut listener = Listener::new(50, false);
        listener.hear(&opened()).unwrap();
        for piece in stream.chunks(piece) {
            listener.hear(piece).unwrap();
        }
        let ours = listener.events();
        prop_assert_eq!(ours, events_by_other(&stream));
    }
}
