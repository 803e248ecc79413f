use super::*;

const PLACE: Place = Place {
    sequence: 41,
    offset: 1_234,
    enqueued_ms: 1_700_000_000_123,
};

/// The parts of a stored message as a receiver would see them.
fn parts(bytes: &[u8]) -> Vec<(u8, Value)> {
    let mut reader = Reader::new(bytes);
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let section = u8::try_from(reader.descriptor().unwrap()).unwrap();
        parts.push((section, reader.value().unwrap()));
    }
    parts
}

fn annotation<'a>(parts: &'a [(u8, Value)], key: &str) -> Option<&'a Value> {
    let (_, map) = parts
        .iter()
        .find(|(section, _)| *section == code::MESSAGE_ANNOTATIONS)?;
    map.get(key)
}

fn text(value: &str) -> Option<Value> {
    Some(Value::String(value.to_owned()))
}

fn stamped_event() -> OutgoingEvent {
    OutgoingEvent {
        body: Bytes::from_static(b"{\"t\":1}"),
        hub: HubStamp {
            device_id: Some("dev-1".into()),
            module_id: Some("mod".into()),
            generation_id: Some("gen".into()),
            auth_method: Some("{\"scope\":\"device\"}".into()),
            enqueued_at_us: Some(1_700_000_000_000_999),
            source: MessageSource::Telemetry,
        },
        properties: vec![("site".into(), "a".into())],
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        message_id: Some("m-1".into()),
        partition_key: Some("dev-1".into()),
    }
}

#[test]
fn a_published_event_has_what_iot_hub_stamps() {
    let mut out = Vec::new();
    stamped_event().store(&mut out, PLACE);
    let parts = parts(&out);
    for (key, value) in [
        ("x-opt-sequence-number", Some(Value::Long(41))),
        ("x-opt-offset", text("1234")),
        (
            "x-opt-enqueued-time",
            Some(Value::Timestamp(1_700_000_000_123)),
        ),
        ("x-opt-partition-key", text("dev-1")),
        ("iothub-connection-device-id", text("dev-1")),
        ("iothub-connection-module-id", text("mod")),
        ("iothub-connection-auth-generation-id", text("gen")),
        (
            "iothub-connection-auth-method",
            text("{\"scope\":\"device\"}"),
        ),
        (
            "iothub-enqueuedtime",
            Some(Value::Timestamp(1_700_000_000_000)),
        ),
        ("iothub-message-source", text("Telemetry")),
    ] {
        assert_eq!(annotation(&parts, key), value.as_ref(), "{key}");
    }
    let sections: Vec<u8> = parts.iter().map(|(section, _)| *section).collect();
    assert_eq!(sections, [0x72, 0x73, 0x74, 0x75]);
    assert_eq!(parts[3].1, Value::Binary(b"{\"t\":1}".to_vec()));
}

#[test]
fn an_unstamped_event_has_no_hub_annotations_and_no_empty_sections() {
    let mut out = Vec::new();
    OutgoingEvent {
        body: Bytes::from_static(b"x"),
        ..OutgoingEvent::default()
    }
    .store(&mut out, PLACE);
    let parts = parts(&out);
    assert_eq!(parts.len(), 2);
    assert_eq!(annotation(&parts, "iothub-message-source"), None);
}

/// A message as a client sends it, with annotations it may not set and a footer.
fn sent() -> Vec<u8> {
    let mut out = Vec::new();
    put::descriptor(&mut out, code::HEADER);
    put::list(&mut out, 1, |out| put::boolean(out, true));
    put::descriptor(&mut out, code::DELIVERY_ANNOTATIONS);
    put::map(&mut out, 0, |_| {});
    put::descriptor(&mut out, code::MESSAGE_ANNOTATIONS);
    put::map(&mut out, 5, |out| {
        put::symbol(out, "x-opt-sequence-number");
        put::long(out, 99);
        put::symbol(out, "x-opt-partition-key");
        put::string(out, "key");
        put::symbol(out, "iothub-connection-device-id");
        put::string(out, "claimed");
        put::symbol(out, "dt-subject");
        put::string(out, "claimed");
        put::symbol(out, "x-own");
        put::string(out, "kept");
    });
    put::descriptor(&mut out, code::APPLICATION_PROPERTIES);
    put::map(&mut out, 1, |out| {
        put::string(out, "k");
        put::string(out, "v");
    });
    for body in [b"one", b"two"] {
        put::descriptor(&mut out, code::DATA);
        put::binary(&mut out, body);
    }
    put::descriptor(&mut out, code::FOOTER);
    put::map(&mut out, 0, |_| {});
    out
}

#[test]
fn the_hubs_own_annotations_replace_what_a_client_claims() {
    let bytes = sent();
    let sections = Sections::read(&bytes).unwrap();
    assert_eq!(sections.partition_key(), Some("key"));
    assert_eq!(sections.batch(), [b"one", b"two"]);
    for (accept, device) in [(true, text("claimed")), (false, None)] {
        let mut out = Vec::new();
        sections.store(&mut out, PLACE, Some("key"), accept);
        let parts = parts(&out);
        assert_eq!(
            annotation(&parts, "x-opt-sequence-number"),
            Some(&Value::Long(41))
        );
        assert_eq!(
            annotation(&parts, "x-opt-partition-key"),
            text("key").as_ref()
        );
        assert_eq!(
            annotation(&parts, "iothub-connection-device-id"),
            device.as_ref()
        );
        assert_eq!(annotation(&parts, "dt-subject"), device.as_ref());
        assert_eq!(annotation(&parts, "x-own"), text("kept").as_ref());
        let sections: Vec<u8> = parts.iter().map(|(section, _)| *section).collect();
        assert_eq!(
            sections,
            [0x70, 0x72, 0x74, 0x75, 0x75],
            "no link sections, the rest in order"
        );
    }
}

#[test]
fn sections_out_of_order_or_broken_are_refused() {
    let mut twice = sent();
    twice.extend(sent());
    assert!(Sections::read(&twice).is_err());
    let whole = sent();
    for cut in 1..whole.len() {
        // Every proper prefix that does not end between two sections is broken; none panics.
        let _ = Sections::read(&whole[..cut]);
    }
    assert!(Sections::read(&whole[..whole.len() - 3]).is_err());
    assert!(Sections::read(&[0x00, 0x53, 0x10, 0x45]).is_err());
}
