//! Our receiver and the engine, side by side on one hub: whatever is in a partition, both bring the
//! same events, in whatever pulls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use proptest::prelude::*;
use stamp_emulator::{EmulatorConfig, EventHubsEmulator, OutgoingEvent};
use stamp_eventhubs::{AmqpConfig, AmqpHub, EngineHub, EventHub, PartitionSource, StartPosition};
use stamp_model::{BatchLimits, Event, HubStamp, MessageSource, PartitionId, Text};

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        "[a-zA-Z0-9 /;=.-]{0,40}",
        "[äöü€🌡温]{0,9}",
        Just("application/json".to_owned()),
        Just("utf-8".to_owned()),
        "[x]{250,300}",
    ]
    .prop_map(Text::from)
}

fn source() -> impl Strategy<Value = MessageSource> {
    prop_oneof![
        Just(MessageSource::Absent),
        Just(MessageSource::Telemetry),
        Just(MessageSource::TwinChange),
        Just(MessageSource::Unknown("newKind".into())),
    ]
}

fn stamp() -> impl Strategy<Value = HubStamp> {
    let texts = (
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
    );
    let at_ms = prop::option::of(-1_000_000_i64..2_000_000_000_000);
    (texts, at_ms, source()).prop_map(|(texts, at_ms, source)| HubStamp {
        device_id: texts.0,
        module_id: texts.1,
        generation_id: texts.2,
        auth_method: texts.3,
        enqueued_at_us: at_ms.map(|ms| ms * 1_000),
        source,
    })
}

fn outgoing() -> impl Strategy<Value = OutgoingEvent> {
    let body = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..400),
        // One frame just takes it, and just does not.
        1 => (64_000_usize..66_000).prop_map(|length| vec![b'x'; length]),
        1 => (130_000_usize..300_000).prop_map(|length| vec![b'y'; length]),
    ];
    let texts = (
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
    );
    let properties = prop::collection::vec((text(), text()), 0..4);
    (body, stamp(), properties, texts).prop_map(|(body, hub, properties, texts)| OutgoingEvent {
        body: body.into(),
        hub,
        properties,
        content_type: texts.0,
        content_encoding: texts.1,
        message_id: texts.2,
        partition_key: texts.3,
    })
}

async fn pull_all(hub: &impl EventHub, count: usize, events_max: usize) -> Vec<Event> {
    let partition = PartitionId::new(0).unwrap();
    let mut source = hub
        .open(partition, StartPosition::Earliest, None)
        .await
        .unwrap();
    let limits = BatchLimits {
        events_max,
        bytes_max: 100_000,
        wait_max: Duration::from_secs(60),
    };
    let mut events = Vec::new();
    while events.len() < count {
        let batch = source.next_batch(limits).await.unwrap();
        assert!(!batch.events.is_empty(), "{} of {count} came", events.len());
        assert!(batch.events.len() <= events_max);
        events.extend(batch.events);
    }
    source.close().await;
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_receivers_bring_the_same_events(
        outgoing in prop::collection::vec(outgoing(), 1..40),
        credit in 1_u32..30,
        events_max in 1_usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, engine) = runtime.block_on(async {
            let emulator = EventHubsEmulator::start(EmulatorConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                ..EmulatorConfig::default()
            })
            .await
            .unwrap();
            let hub = emulator.hub("telemetry").unwrap();
            for event in &outgoing {
                hub.publish(0, event.clone()).unwrap();
            }
            let config = AmqpConfig { credit, ..AmqpConfig::default() };
            let connection_string = emulator.connection_string("telemetry");
            let client = AmqpHub::with_connection_string(&config, &connection_string).unwrap();
            let ours = pull_all(&client, outgoing.len(), events_max).await;
            let engine = pull_all(&EngineHub(client), outgoing.len(), events_max).await;
            emulator.stop().await;
            (ours, engine)
        });
        prop_assert_eq!(&ours, &engine);
        for (ours, sent) in ours.iter().zip(&outgoing) {
            prop_assert_eq!(&ours.body, &sent.body);
            prop_assert_eq!(&ours.properties, &sent.properties);
            prop_assert_eq!(&ours.hub, &sent.hub);
        }
    }
}
