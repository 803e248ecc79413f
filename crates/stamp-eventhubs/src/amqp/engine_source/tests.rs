use std::time::{Duration, UNIX_EPOCH};

use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, OutgoingEvent, Refusal};
use stamp_model::{BatchLimits, PartitionId};
use tokio::time::Instant;

use super::EngineSource;
use crate::{AmqpConfig, AmqpHub, EngineHub, EventHub, HubError, PartitionSource, StartPosition};

const LIMITS: BatchLimits = BatchLimits {
    events_max: 100,
    bytes_max: 1 << 20,
    wait_max: Duration::from_secs(60),
};

/// An open source of a hub that holds one event.
async fn open() -> (EventHubsEmulator, Hub, EngineSource) {
    open_with(AmqpConfig::default()).await
}

async fn open_with(config: AmqpConfig) -> (EventHubsEmulator, Hub, EngineSource) {
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..EmulatorConfig::default()
    })
    .await
    .unwrap();
    let hub = emulator.hub("telemetry").unwrap();
    hub.publish(0, OutgoingEvent::default()).unwrap();
    let client = EngineHub(
        AmqpHub::with_connection_string(&config, &emulator.connection_string("telemetry")).unwrap(),
    );
    let source = client
        .open(PartitionId::new(0).unwrap(), StartPosition::Earliest, None)
        .await
        .unwrap();
    (emulator, hub, source)
}

/// Fault scenario 20.
#[tokio::test]
async fn a_token_that_ends_soon_is_renewed_once_on_the_same_connection() {
    let (emulator, _, mut source) = open().await;
    assert_eq!(emulator.counters().put_tokens, 1);
    let renewal = source.authorization.renewal.as_mut().unwrap();
    assert!(renewal.by_clock > UNIX_EPOCH);
    renewal.by_clock = UNIX_EPOCH;
    assert_eq!(source.next_batch(LIMITS).await.unwrap().events.len(), 1);
    let limits = BatchLimits {
        wait_max: Duration::ZERO,
        ..LIMITS
    };
    assert!(source.next_batch(limits).await.unwrap().events.is_empty());
    assert_eq!(emulator.counters().put_tokens, 2);
    assert_eq!(emulator.counters().connections_opened, 1);
    source.close().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_token_is_renewed_when_its_time_has_passed_though_the_clock_was_put_back() {
    let (emulator, _, mut source) = open().await;
    let renewal = source.authorization.renewal.as_mut().unwrap();
    renewal.by_clock += Duration::from_secs(3_600);
    renewal.by_time_passed = Instant::now();

    assert_eq!(source.next_batch(LIMITS).await.unwrap().events.len(), 1);

    assert_eq!(emulator.counters().put_tokens, 2);
    let renewal = source.authorization.renewal.unwrap();
    assert!(renewal.by_time_passed > Instant::now());
    source.close().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_renewal_that_is_refused_fails_the_pull_and_is_not_tried_again() {
    let (emulator, hub, mut source) = open().await;
    hub.faults().refuse_put_token(u32::MAX, 503);
    source.authorization.renewal.as_mut().unwrap().by_clock = UNIX_EPOCH;
    let error = source.next_batch(LIMITS).await.unwrap_err();
    assert!(matches!(error, HubError::Throttled { .. }), "{error}");
    let error = source.next_batch(LIMITS).await.unwrap_err();
    assert!(matches!(error, HubError::ConnectionLost { .. }), "{error}");
    assert_eq!(emulator.counters().put_tokens, 2);
    emulator.stop().await;
}

#[tokio::test]
async fn events_that_came_before_the_end_of_the_link_are_given_out_first() {
    let (emulator, hub, mut source) = open().await;
    hub.faults().drop_link_after(0, 5, &Refusal::server_busy());
    for _ in 0..10 {
        hub.publish(0, OutgoingEvent::default()).unwrap();
    }
    let mut events = 0;
    let error = loop {
        match source.next_batch(LIMITS).await {
            Ok(batch) => events += batch.events.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, HubError::Throttled { .. }), "{error}");
    // The event of `open` may have been sent before the fault was set, so it counts or not.
    assert!((5..=6).contains(&events), "{events} events came");
    emulator.stop().await;
}

#[tokio::test]
async fn events_that_wait_are_given_out_although_they_cannot_be_settled_any_more() {
    let credit = 4;
    let config = AmqpConfig {
        credit,
        ..AmqpConfig::default()
    };
    let (_emulator, hub, mut source) = open_with(config).await;
    for _ in 1..credit {
        hub.publish(0, OutgoingEvent::default()).unwrap();
    }
    while source.connection.inbox.waiting() < credit as usize {
        tokio::task::yield_now().await;
    }
    // The payloads are here; what is left of their way is inside this runtime.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    source.connection.session.end().await.unwrap();
    let limits = BatchLimits {
        events_max: 1,
        ..LIMITS
    };
    for sequence in 0..i64::from(credit) {
        assert_eq!(
            source.next_batch(limits).await.unwrap().events[0].sequence,
            sequence
        );
    }
    let error = source.next_batch(limits).await.unwrap_err();
    assert!(matches!(error, HubError::ConnectionLost { .. }), "{error}");
}
