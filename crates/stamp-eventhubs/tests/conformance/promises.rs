//! The promises. Each takes a fresh peer and ends with it.

use std::time::Duration;

use bytes::Bytes;
use stamp_eventhubs::{EventHub, HubError, PartitionSource, StartPosition};
use stamp_model::{BatchLimits, Event, HubStamp, MessageSource, PartitionId};

use crate::peers::{CREATED_AT_US, HUB, Peer};

/// Long enough that no test waits for it to end, where events are on their way.
const PATIENT: Duration = Duration::from_secs(60);

const LIMITS: BatchLimits = BatchLimits {
    events_max: 10_000,
    bytes_max: 64 << 20,
    wait_max: PATIENT,
};

fn p(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

fn numbered(number: usize) -> Event {
    Event {
        body: Bytes::from(format!("body {number}")),
        ..Event::default()
    }
}

fn publish_many(peer: &impl Peer, partition: PartitionId, count: usize) {
    for number in 0..count {
        peer.publish(partition, 0, numbered(number));
    }
}

/// Pulls until `count` events have come.
async fn pull(source: &mut impl PartitionSource, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = source.next_batch(LIMITS).await.unwrap();
        assert!(
            !batch.events.is_empty(),
            "only {} of {count} came",
            events.len()
        );
        assert!(batch.events.is_sorted_by(|a, b| a.sequence < b.sequence));
        events.extend(batch.events);
    }
    events
}

async fn open<H: EventHub>(hub: &H, partition: PartitionId, start: StartPosition) -> H::Source {
    hub.open(partition, start, None).await.unwrap()
}

fn sequences(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.sequence).collect()
}

pub(crate) async fn events_come_in_order_with_everything_they_carry(peer: impl Peer) {
    let full = Event {
        hub: HubStamp {
            device_id: Some("press-7".into()),
            module_id: Some("edge".into()),
            generation_id: Some("638".into()),
            auth_method: Some("{\"scope\":\"device\"}".into()),
            enqueued_at_us: Some(CREATED_AT_US - 5_000),
            source: MessageSource::Telemetry,
        },
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        message_id: Some("m-1".into()),
        properties: vec![
            ("tenant".into(), "fabrikam".into()),
            ("größe".into(), "12 µm – 温度 🌡".into()),
            ("empty".into(), "".into()),
        ],
        body: Bytes::from_static(b"{\"temp\":21.5}"),
        ..Event::default()
    };
    peer.publish(p(1), 7, full.clone());
    publish_many(&peer, p(1), 50);
    let hub = peer.hub();
    let mut source = open(&hub, p(1), StartPosition::Earliest).await;
    let events = pull(&mut source, 51).await;
    assert_eq!(sequences(&events), (0..51).collect::<Vec<_>>());
    let first = Event {
        sequence: 0,
        offset: events[0].offset.clone(),
        enqueued_at_us: CREATED_AT_US + 7_000,
        ..full
    };
    assert_eq!(events[0], first);
    assert!(!events[0].offset.is_empty());
    assert_ne!(events[0].offset, events[1].offset);
    assert_eq!(events[50].body, "body 49");
    source.close().await;
}

pub(crate) async fn an_event_without_anything_is_an_event(peer: impl Peer) {
    peer.publish(p(0), 0, Event::default());
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    let events = pull(&mut source, 1).await;
    let expected = Event {
        offset: events[0].offset.clone(),
        enqueued_at_us: CREATED_AT_US,
        ..Event::default()
    };
    assert_eq!(events, [expected]);
}

pub(crate) async fn an_empty_wait_brings_an_empty_batch(peer: impl Peer) {
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    let limits = BatchLimits {
        wait_max: Duration::from_millis(1),
        ..LIMITS
    };
    for _ in 0..3 {
        assert!(source.next_batch(limits).await.unwrap().events.is_empty());
    }
    peer.publish(p(0), 0, numbered(1));
    assert_eq!(pull(&mut source, 1).await[0].body, "body 1");
}

pub(crate) async fn a_batch_stops_at_the_limit_of_events(peer: impl Peer) {
    publish_many(&peer, p(0), 40);
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    let limits = BatchLimits {
        events_max: 3,
        ..LIMITS
    };
    let mut all = Vec::new();
    while all.len() < 40 {
        let events = source.next_batch(limits).await.unwrap().events;
        assert!((1..=3).contains(&events.len()), "{}", events.len());
        all.extend(events);
    }
    assert_eq!(sequences(&all), (0..40).collect::<Vec<_>>());
}

pub(crate) async fn a_batch_stops_at_the_limit_of_bytes_and_one_event_always_fits(peer: impl Peer) {
    for _ in 0..6 {
        let body = Bytes::from(vec![b'x'; 10_000]);
        peer.publish(
            p(0),
            0,
            Event {
                body,
                ..Event::default()
            },
        );
    }
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    let tiny = BatchLimits {
        bytes_max: 1,
        ..LIMITS
    };
    assert_eq!(source.next_batch(tiny).await.unwrap().events.len(), 1);
    let two = BatchLimits {
        bytes_max: 10_513,
        ..LIMITS
    };
    let mut rest = Vec::new();
    while rest.len() < 5 {
        let events = source.next_batch(two).await.unwrap().events;
        assert!((1..=2).contains(&events.len()), "{}", events.len());
        rest.extend(events);
    }
    assert_eq!(sequences(&rest), [1, 2, 3, 4, 5]);
}

pub(crate) async fn reading_resumes_after_a_sequence_number(peer: impl Peer) {
    publish_many(&peer, p(2), 20);
    let hub = peer.hub();
    for last in [-1, 0, 18] {
        let mut source = open(&hub, p(2), StartPosition::AfterSequence(last)).await;
        let count = usize::try_from(19 - last).unwrap();
        assert_eq!(
            sequences(&pull(&mut source, count).await),
            (last + 1..20).collect::<Vec<_>>()
        );
        source.close().await;
    }
    let mut source = open(&hub, p(2), StartPosition::AfterSequence(19)).await;
    peer.publish(p(2), 0, numbered(20));
    assert_eq!(sequences(&pull(&mut source, 1).await), [20]);
}

pub(crate) async fn reading_from_the_latest_sees_only_what_comes_after(peer: impl Peer) {
    publish_many(&peer, p(0), 3);
    let mut source = open(&peer.hub(), p(0), StartPosition::Latest).await;
    peer.publish(p(0), 0, numbered(3));
    assert_eq!(sequences(&pull(&mut source, 1).await), [3]);
}

pub(crate) async fn reading_from_a_time_begins_at_its_first_event(peer: impl Peer) {
    for after_ms in [10, 20, 20, 30] {
        peer.publish(p(0), after_ms, numbered(0));
    }
    let hub = peer.hub();
    for (after_us, first) in [(0, 0), (10_999, 0), (11_000, 1), (20_000, 1), (30_000, 3)] {
        let start = StartPosition::EnqueuedAt(CREATED_AT_US + after_us);
        let mut source = open(&hub, p(0), start).await;
        let count = usize::try_from(4 - first).unwrap();
        assert_eq!(
            sequences(&pull(&mut source, count).await),
            (first..4).collect::<Vec<_>>()
        );
        source.close().await;
    }
}

pub(crate) async fn a_position_after_the_end_is_refused(peer: impl Peer) {
    publish_many(&peer, p(0), 3);
    let start = StartPosition::AfterSequence(3);
    let refused = refusal(&peer.hub(), p(0), start, None).await;
    assert!(
        matches!(refused, HubError::BeyondEnd { partition, .. } if partition == p(0)),
        "{refused}"
    );
}

pub(crate) async fn retention_shows_as_a_gap(peer: impl Peer) {
    publish_many(&peer, p(0), 10);
    peer.expire_before(p(0), 6);
    let hub = peer.hub();
    let mut source = open(&hub, p(0), StartPosition::AfterSequence(1)).await;
    assert_eq!(sequences(&pull(&mut source, 4).await), [6, 7, 8, 9]);
    let properties = hub.partition_properties(p(0)).await.unwrap();
    assert_eq!(
        (properties.begin_sequence, properties.last_sequence),
        (6, 9)
    );
}

/// The error of opening, or of the first pull where the hub accepts the link first.
async fn refusal<H: EventHub>(
    hub: &H,
    partition: PartitionId,
    start: StartPosition,
    owner_level: Option<i64>,
) -> HubError {
    match hub.open(partition, start, owner_level).await {
        Err(error) => error,
        Ok(mut source) => source.next_batch(LIMITS).await.unwrap_err(),
    }
}

pub(crate) async fn a_higher_or_equal_owner_level_takes_the_partition(peer: impl Peer) {
    let hub = peer.hub();
    let earliest = StartPosition::Earliest;
    let mut sources = vec![open(&hub, p(3), earliest).await];
    for level in [0, 0, 7] {
        let mut owner = hub.open(p(3), earliest, Some(level)).await.unwrap();
        peer.publish(p(3), 0, numbered(0));
        pull(&mut owner, 1).await;
        let mut displaced = sources.pop().unwrap();
        let lost = pull_to_the_error(&mut displaced).await;
        assert!(
            matches!(lost, HubError::OwnershipLost { partition, .. } if partition == p(3)),
            "{lost}"
        );
        sources.push(owner);
    }
}

/// Events that had come before the error are given out first.
async fn pull_to_the_error(source: &mut impl PartitionSource) -> HubError {
    loop {
        match source.next_batch(LIMITS).await {
            Ok(batch) => assert!(!batch.events.is_empty()),
            Err(error) => return error,
        }
    }
}

pub(crate) async fn a_lower_owner_level_is_refused(peer: impl Peer) {
    let hub = peer.hub();
    let mut owner = hub
        .open(p(0), StartPosition::Earliest, Some(5))
        .await
        .unwrap();
    for level in [Some(4), None] {
        let refused = refusal(&hub, p(0), StartPosition::Earliest, level).await;
        assert!(
            matches!(refused, HubError::OwnershipLost { .. }),
            "{refused}"
        );
    }
    peer.publish(p(0), 0, numbered(0));
    pull(&mut owner, 1).await;
}

pub(crate) async fn the_sixth_reader_without_a_level_is_refused(peer: impl Peer) {
    let hub = peer.hub();
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(open(&hub, p(0), StartPosition::Earliest).await);
    }
    let refused = refusal(&hub, p(0), StartPosition::Earliest, None).await;
    assert!(
        matches!(refused, HubError::QuotaReaders { .. }),
        "{refused}"
    );
}

pub(crate) async fn an_unknown_partition_is_named(peer: impl Peer) {
    let hub = peer.hub();
    let refused = refusal(&hub, p(9), StartPosition::Earliest, None).await;
    let asked = hub.partition_properties(p(9)).await.unwrap_err();
    for error in [refused, asked] {
        assert!(
            matches!(&error, HubError::NotFound { entity, .. } if entity.ends_with("Partitions/9")),
            "{error:?}"
        );
    }
}

pub(crate) async fn partition_properties_follow_the_events(peer: impl Peer) {
    let hub = peer.hub();
    let empty = hub.partition_properties(p(0)).await.unwrap();
    assert!(empty.is_empty);
    assert_eq!((empty.begin_sequence, empty.last_sequence), (0, -1));
    assert_eq!(empty.last_offset, "-1");
    peer.publish(p(0), 3, numbered(0));
    peer.publish(p(0), 4, numbered(1));
    let full = hub.partition_properties(p(0)).await.unwrap();
    assert!(!full.is_empty);
    assert_eq!((full.begin_sequence, full.last_sequence), (0, 1));
    assert_eq!(full.last_enqueued_at_us, CREATED_AT_US + 4_000);
    let mut source = open(&hub, p(0), StartPosition::Earliest).await;
    assert_eq!(pull(&mut source, 2).await[1].offset, full.last_offset);
}

/// Fault scenario 44.
pub(crate) async fn a_hub_made_again_has_another_identity_and_starts_at_zero(peer: impl Peer) {
    let hub = peer.hub();
    publish_many(&peer, p(0), 3);
    let before = hub.properties().await.unwrap();
    assert_eq!(before.identity.namespace, "127.0.0.1");
    assert_eq!(before.identity.hub, HUB.to_lowercase());
    assert_eq!(before.identity.created_at_ms, CREATED_AT_US / 1_000);
    assert_eq!(before.partitions, [p(0), p(1), p(2), p(3)]);
    let mut source = open(&hub, p(0), StartPosition::Earliest).await;
    pull(&mut source, 3).await;
    peer.recreate();
    let ended = source.next_batch(LIMITS).await.unwrap_err();
    assert!(matches!(ended, HubError::Refused { .. }), "{ended}");
    let after = hub.properties().await.unwrap();
    assert!(after.identity.created_at_ms > before.identity.created_at_ms);
    let refused = refusal(&hub, p(0), StartPosition::AfterSequence(2), None).await;
    assert!(matches!(refused, HubError::BeyondEnd { .. }), "{refused}");
    assert_eq!(peer.publish(p(0), 0, numbered(0)), 0);
    let mut source = open(&hub, p(0), StartPosition::Earliest).await;
    assert_eq!(sequences(&pull(&mut source, 1).await), [0]);
}

pub(crate) async fn a_large_message_comes_whole(peer: impl Peer) {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8).collect();
    let body = Bytes::from(large);
    publish_many(&peer, p(0), 1);
    peer.publish(
        p(0),
        0,
        Event {
            body: body.clone(),
            ..Event::default()
        },
    );
    publish_many(&peer, p(0), 1);
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    let events = pull(&mut source, 3).await;
    assert!(events[1].body == body, "the body differs");
    assert_eq!(events[2].body, "body 0");
}

pub(crate) async fn a_dropped_pull_loses_nothing(peer: impl Peer) {
    const COUNT: usize = 300;
    let mut source = open(&peer.hub(), p(0), StartPosition::Earliest).await;
    publish_many(&peer, p(0), COUNT);
    let mut all = Vec::new();
    let mut polls = 0;
    while all.len() < COUNT {
        // Each pull is dropped after it was polled a few times, a different number every time.
        polls = polls % 5 + 1;
        let limits = BatchLimits {
            events_max: 1 + polls,
            ..LIMITS
        };
        if let Some(batch) = polled_at_most(polls, source.next_batch(limits)).await {
            all.extend(batch.unwrap().events);
        }
    }
    assert_eq!(sequences(&all), (0..300).collect::<Vec<_>>());
}

/// The output of `future` when it is ready within so many polls; otherwise it is dropped.
async fn polled_at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        });
        if let Some(output) = polled.await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

pub(crate) async fn partitions_are_read_side_by_side(peer: impl Peer) {
    for partition in 0..4 {
        publish_many(&peer, p(partition), 100 + partition as usize);
    }
    let hub = peer.hub();
    let readers: Vec<_> = (0..4)
        .map(|partition| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let mut source = open(&hub, p(partition), StartPosition::Earliest).await;
                let events = pull(&mut source, 100 + partition as usize).await;
                source.close().await;
                events.len()
            })
        })
        .collect();
    for (partition, reader) in readers.into_iter().enumerate() {
        assert_eq!(reader.await.unwrap(), 100 + partition);
    }
}
