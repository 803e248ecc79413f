use bytes::Bytes;
use proptest::prelude::*;
use stamp_model::MessageSource;

use super::super::event::read_event as read_by_sections;
use super::read_event;

/// A piece of a message, encoded, with any of the things that may come there.
fn annotation() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        Just("x-opt-sequence-number"),
        Just("x-opt-offset"),
        Just("x-opt-enqueued-time"),
        Just("x-opt-partition-key"),
        Just("iothub-connection-device-id"),
        Just("iothub-connection-module-id"),
        Just("iothub-connection-auth-generation-id"),
        Just("iothub-connection-auth-method"),
        Just("iothub-enqueuedtime"),
        Just("iothub-message-source"),
        Just("other"),
    ];
    (key, 0xa1_u8..0xa4, value()).prop_map(|(key, code, value)| {
        let mut out = vec![code, key.len() as u8];
        out.extend(key.as_bytes());
        out.extend(value);
        out
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let short = (
        0xa1_u8..0xa4,
        "[a-z/;= -]{0,20}|telemetry|TwinChangeEvents|application/json|utf-8",
    )
        .prop_map(|(code, text)| [&[code, text.len() as u8], text.as_bytes()].concat());
    let long = ("[a-z]{0,9}", any::<bool>()).prop_map(|(text, symbol)| {
        let code = if symbol { 0xb3 } else { 0xb1 };
        [&[code, 0, 0, 0, text.len() as u8], text.as_bytes()].concat()
    });
    let broken = Just(vec![0xa1, 2, 0xff, 0xfe]);
    prop_oneof![8 => short, 2 => long, 1 => broken]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => text(),
        4 => any::<i64>().prop_map(|n| [&[0x81], n.to_be_bytes().as_slice()].concat()),
        4 => any::<i64>().prop_map(|n| [&[0x83], n.to_be_bytes().as_slice()].concat()),
        1 => any::<u8>().prop_map(|n| vec![0x55, n]),
        1 => any::<u8>().prop_map(|n| vec![0x53, n]),
        1 => Just(vec![0x40]),
        1 => Just(vec![0x41]),
        1 => Just(vec![0x45]),
        1 => Just(vec![0xc1, 1, 0]),
        1 => Just(vec![0xd0, 0, 0, 0, 4, 0, 0, 0, 0]),
        1 => Just(vec![0x00, 0x53, 7, 0x43]),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

fn compound(small: u8, entries: Vec<Vec<u8>>, wide: bool) -> Vec<u8> {
    let count = entries.len();
    let content = entries.concat();
    if wide || content.len() > 250 {
        let size = (content.len() + 4) as u32;
        let mut out = vec![small + 0x10];
        out.extend(size.to_be_bytes());
        out.extend((count as u32).to_be_bytes());
        out.extend(content);
        out
    } else {
        [
            &[small, (content.len() + 1) as u8, count as u8],
            content.as_slice(),
        ]
        .concat()
    }
}

fn section() -> impl Strategy<Value = Vec<u8>> {
    let described =
        |code: u8| move |value: Vec<u8>| [&[0x00, 0x53, code], value.as_slice()].concat();
    let annotations = (prop::collection::vec(annotation(), 0..9), any::<bool>())
        .prop_map(|(entries, wide)| compound(0xc1, entries, wide))
        .prop_map(described(0x72));
    let properties = (prop::collection::vec(value(), 0..9), any::<bool>())
        .prop_map(|(entries, wide)| compound(0xc0, entries, wide))
        .prop_map(described(0x73));
    let application = (
        prop::collection::vec((text(), value()), 0..4),
        any::<bool>(),
    )
        .prop_map(|(pairs, wide)| {
            let entries = pairs.into_iter().map(|(key, value)| [key, value].concat());
            compound(0xc1, entries.collect(), wide)
        })
        .prop_map(described(0x74));
    let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(|body| {
        match u8::try_from(body.len()) {
            Ok(length) => [&[0x00, 0x53, 0x75, 0xa0, length], body.as_slice()].concat(),
            Err(_) => {
                let length = (body.len() as u32).to_be_bytes();
                [&[0x00, 0x53, 0x75, 0xb0], length.as_slice(), &body].concat()
            }
        }
    });
    let other = (0x6f_u8..0x7a, value()).prop_map(move |(code, value)| described(code)(value));
    prop_oneof![6 => annotations, 3 => properties, 3 => application, 6 => body, 2 => other]
}

/// A message in the order that the service has it, so that it is often whole.
fn usual() -> impl Strategy<Value = Vec<u8>> {
    let place = [
        &[0xa3, 21][..],
        b"x-opt-sequence-number",
        &[0x55, 7, 0xa3, 19],
        b"x-opt-enqueued-time",
        &[0x83, 0, 0, 0, 0, 0, 0, 1, 0],
    ]
    .concat();
    let annotations = prop::collection::vec(annotation(), 0..5).prop_map(move |more| {
        let entries = [vec![place.clone()], more].concat();
        [vec![0x00, 0x53, 0x72], compound(0xc1, entries, false)].concat()
    });
    (annotations, prop::collection::vec(section(), 0..4))
        .prop_map(|(annotations, sections)| [annotations, sections.concat()].concat())
}

fn check(message: &[u8]) -> Result<(), TestCaseError> {
    // In the middle of a buffer, as it comes.
    let chunk: Bytes = [b"before", message, b"after"].concat().into();
    let place = 6..6 + message.len();
    if let Some(quick) = read_event(&chunk, place.clone()) {
        prop_assert_eq!(read_by_sections(&chunk.slice(place)), Ok(quick));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_read_in_one_pass_is_what_the_sections_say(message in usual()) {
        check(&message)?;
    }

    #[test]
    fn sections_in_any_order_are_read_alike(
        sections in prop::collection::vec(section(), 0..5),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut message = sections.concat();
        if !whole && !message.is_empty() {
            message.truncate(cut.index(message.len()));
        }
        check(&message)?;
    }
}

#[test]
fn the_usual_message_takes_the_quick_way() {
    let text = |code: u8, text: &str| [&[code, text.len() as u8], text.as_bytes()].concat();
    let long = |code: u8, n: i64| [&[code], n.to_be_bytes().as_slice()].concat();
    let annotations = [
        [text(0xa3, "x-opt-sequence-number"), long(0x81, 42)].concat(),
        [text(0xa3, "x-opt-offset"), text(0xa1, "4711")].concat(),
        [text(0xa3, "x-opt-enqueued-time"), long(0x83, 5)].concat(),
        [text(0xa3, "x-opt-partition-key"), text(0xa1, "k")].concat(),
        [
            text(0xa3, "iothub-connection-device-id"),
            text(0xa1, "press-7"),
        ]
        .concat(),
        [text(0xa3, "iothub-message-source"), text(0xa1, "Telemetry")].concat(),
    ];
    let properties = [vec![0x40; 6], text(0xa3, "application/json")].concat();
    let message = [
        // Event Hubs sends a header with each.
        vec![0x00, 0x53, 0x70, 0xc0, 2, 1, 0x41],
        vec![0x00, 0x53, 0x72],
        compound(0xc1, annotations.to_vec(), false),
        vec![0x00, 0x53, 0x73, 0xc0, properties.len() as u8 + 1, 7],
        properties,
        vec![0x00, 0x53, 0x74],
        compound(0xc1, vec![text(0xa1, "line"), text(0xa1, "7")], false),
        vec![0x00, 0x53, 0x75, 0xa0, 2, b'{', b'}'],
    ]
    .concat();
    let message = Bytes::from(message);
    let event = read_event(&message, 0..message.len()).expect("it is the usual message");
    assert_eq!((event.sequence, event.enqueued_at_us), (42, 5_000));
    assert_eq!(event.offset, "4711");
    assert_eq!(event.hub.device_id.as_deref(), Some("press-7"));
    assert_eq!(event.hub.source, MessageSource::Telemetry);
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.properties, [("line".into(), "7".into())]);
    assert_eq!(event.body, "{}");
    assert_eq!(read_by_sections(&message), Ok(event));
}
