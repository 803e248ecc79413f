//! Events that are kept as they came: rows of `rejected` and of `quarantine`.

use stamp_model::{Event, MessageSource, PartitionId, Properties, QuarantineReason, RawRow, Text};
use stamp_schema::Rejection;

/// The row of an event that its tenant's schema refuses.
pub(crate) fn rejected(event: &Event, partition: PartitionId, rejection: Rejection) -> RawRow {
    let Rejection { code, detail, rule } = rejection;
    RawRow {
        reason: code.code(),
        detail,
        rule,
        ..row(event, partition)
    }
}

/// The row of an event that belongs to no tenant's tables.
pub(crate) fn quarantined(
    event: &Event,
    partition: PartitionId,
    reason: QuarantineReason,
    detail: String,
    tenant: Option<String>,
) -> RawRow {
    RawRow {
        reason: reason.code(),
        detail,
        tenant,
        ..row(event, partition)
    }
}

fn row(event: &Event, partition: PartitionId) -> RawRow {
    let event = event.unshared();
    RawRow {
        properties: properties(&event),
        reason: "",
        detail: String::new(),
        rule: String::new(),
        tenant: None,
        device_id: event.hub.device_id,
        partition,
        sequence: event.sequence,
        offset: event.offset,
        enqueued_at_us: event.enqueued_at_us,
        content_type: event.content_type,
        body: event.body,
    }
}

/// Everything a replay needs to see the event as the hub sent it: the device's properties, and the
/// system properties under the names of the Event Hubs annotations.
fn properties(event: &Event) -> Properties {
    let stamp = &event.hub;
    let source = match &stamp.source {
        stamp_model::MessageSource::Absent => None,
        stamp_model::MessageSource::Unknown(text) => Some(text.clone()),
        known => Some(Text::from_static(known.label())),
    };
    let system = [
        ("iothub-message-source", source),
        ("iothub-connection-module-id", stamp.module_id.clone()),
        (
            "iothub-connection-auth-generation-id",
            stamp.generation_id.clone(),
        ),
        ("iothub-connection-auth-method", stamp.auth_method.clone()),
        (
            "iothub-enqueuedtime",
            stamp.enqueued_at_us.map(|us| Text::from(us.to_string())),
        ),
        ("message-id", event.message_id.clone()),
        ("content-encoding", event.content_encoding.clone()),
    ];
    let mut all = event.properties.clone();
    // A device may have used one of these names: its own value keeps a name of its own.
    for (name, _) in &mut all {
        if system
            .iter()
            .any(|(taken, _)| name.eq_ignore_ascii_case(taken))
        {
            *name = Text::from(format!("device:{name}"));
        }
    }
    all.extend(
        system
            .into_iter()
            .filter_map(|(name, value)| Some((Text::from_static(name), value?))),
    );
    all
}

/// The event as the hub sent it: the inverse of what a row keeps in its properties.
pub(crate) fn event_of(
    mut event: Event,
    device_id: Option<Text>,
    properties: Vec<(&str, &str)>,
) -> Event {
    event.hub.device_id = device_id;
    for (name, value) in properties {
        let text = Text::from(value);
        match name {
            "iothub-message-source" => event.hub.source = source_of(&text),
            "iothub-connection-module-id" => event.hub.module_id = Some(text),
            "iothub-connection-auth-generation-id" => event.hub.generation_id = Some(text),
            "iothub-connection-auth-method" => event.hub.auth_method = Some(text),
            "iothub-enqueuedtime" => event.hub.enqueued_at_us = value.parse().ok(),
            "message-id" => event.message_id = Some(text),
            "content-encoding" => event.content_encoding = Some(text),
            other => {
                let own = other.strip_prefix("device:").filter(|name| is_system(name));
                event.properties.push((own.unwrap_or(other).into(), text));
            }
        }
    }
    event
}

/// Rows have the label of a known source, and the text of an unknown one.
fn source_of(text: &Text) -> MessageSource {
    const KNOWN: [MessageSource; 5] = [
        MessageSource::Telemetry,
        MessageSource::TwinChange,
        MessageSource::DeviceLifecycle,
        MessageSource::DeviceConnectionState,
        MessageSource::DigitalTwinChange,
    ];
    KNOWN
        .into_iter()
        .find(|source| source.label() == &**text)
        .unwrap_or_else(|| MessageSource::parse(text))
}

fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|taken| name.eq_ignore_ascii_case(taken))
}

/// The system properties that a row keeps beside the device's own.
const SYSTEM: [&str; 7] = [
    "iothub-message-source",
    "iothub-connection-module-id",
    "iothub-connection-auth-generation-id",
    "iothub-connection-auth-method",
    "iothub-enqueuedtime",
    "message-id",
    "content-encoding",
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stamp_model::HubStamp;

    use super::*;

    #[test]
    fn a_device_cannot_pass_its_own_property_off_as_the_hubs() {
        let event = Event {
            hub: HubStamp {
                generation_id: Some("7".into()),
                ..HubStamp::default()
            },
            properties: vec![("IoTHub-Connection-Auth-Generation-Id".into(), "666".into())],
            ..Event::default()
        };

        let all = properties(&event);

        assert!(all.contains(&("iothub-connection-auth-generation-id".into(), "7".into())));
        assert!(all.contains(&(
            "device:IoTHub-Connection-Auth-Generation-Id".into(),
            "666".into()
        )));
    }

    #[test]
    fn a_kept_event_is_read_back_as_it_came() {
        for source in [
            MessageSource::Absent,
            MessageSource::Telemetry,
            MessageSource::TwinChange,
            MessageSource::Unknown("newKind".into()),
        ] {
            let event = Event {
                hub: HubStamp {
                    device_id: Some("d".into()),
                    module_id: Some("m".into()),
                    enqueued_at_us: Some(5),
                    source,
                    ..HubStamp::default()
                },
                message_id: Some("1".into()),
                content_encoding: Some("gzip".into()),
                properties: vec![
                    ("Content-Encoding".into(), "none".into()),
                    ("tenant".into(), "x".into()),
                ],
                ..Event::default()
            };

            let kept = row(&event, PartitionId::new(0).unwrap());
            let pairs = kept
                .properties
                .iter()
                .map(|(name, value)| (&**name, &**value));
            let back = event_of(Event::default(), kept.device_id.clone(), pairs.collect());

            assert_eq!(back, event);
        }
    }

    #[test]
    fn a_kept_row_does_not_hold_the_receive_buffer() {
        let buffer = Bytes::from(vec![b'x'; 4096]);
        let text = |at: usize| Text::try_from(buffer.slice(at..at + 5)).unwrap();
        let event = Event {
            offset: text(20),
            hub: HubStamp {
                device_id: Some(text(30)),
                module_id: Some(text(40)),
                ..HubStamp::default()
            },
            content_type: Some(text(50)),
            properties: vec![(text(60), text(70))],
            body: buffer.slice(10..20),
            ..Event::default()
        };

        let row = row(&event, PartitionId::new(0).unwrap());

        assert_eq!(&row.body[..], b"xxxxxxxxxx");
        drop(event);
        assert!(buffer.is_unique(), "the row still shares the buffer");
    }
}
