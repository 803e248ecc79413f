use std::time::{Duration, UNIX_EPOCH};

use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, Limits, OutgoingEvent, Refusal};
use stamp_model::{BatchLimits, PartitionId};
use tokio::time::Instant;

use super::AmqpSource;
use crate::{AmqpConfig, AmqpHub, EventHub, HubError, PartitionSource, StartPosition};

const LIMITS: BatchLimits = BatchLimits {
    events_max: 100,
    bytes_max: 1 << 20,
    wait_max: Duration::from_secs(60),
};

/// An open source of a hub that holds one event.
async fn open() -> (EventHubsEmulator, Hub, AmqpSource) {
    open_with(AmqpConfig::default()).await
}

async fn open_with(config: AmqpConfig) -> (EventHubsEmulator, Hub, AmqpSource) {
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..EmulatorConfig::default()
    })
    .await
    .unwrap();
    let hub = emulator.hub("telemetry").unwrap();
    hub.publish(0, OutgoingEvent::default()).unwrap();
    let client =
        AmqpHub::with_connection_string(&config, &emulator.connection_string("telemetry")).unwrap();
    let source = client
        .open(PartitionId::new(0).unwrap(), StartPosition::Earliest, None)
        .await
        .unwrap();
    (emulator, hub, source)
}

/// Pulls until the source fails; how many events came before.
async fn pull_to_the_error(source: &mut AmqpSource) -> (usize, HubError) {
    let mut events = 0;
    loop {
        match source.next_batch(LIMITS).await {
            Ok(batch) => events += batch.events.len(),
            Err(error) => return (events, error),
        }
    }
}

/// Pulls until the hub has answered to a token.
async fn pull_to_the_answer(source: &mut AmqpSource) -> usize {
    let limits = BatchLimits {
        wait_max: Duration::from_millis(1),
        ..LIMITS
    };
    let mut events = 0;
    loop {
        events += source.next_batch(limits).await.unwrap().events.len();
        if source.answer_by.is_none() {
            return events;
        }
    }
}

/// Fault scenario 20.
#[tokio::test]
async fn a_token_that_ends_soon_is_renewed_once_on_the_same_connection() {
    let (emulator, _, mut source) = open().await;
    assert_eq!(emulator.counters().put_tokens, 1);
    let renewal = source.tokens.renewal.as_mut().unwrap();
    assert!(renewal.by_clock > UNIX_EPOCH);
    renewal.by_clock = UNIX_EPOCH;
    assert_eq!(pull_to_the_answer(&mut source).await, 1);
    assert_eq!(pull_to_the_answer(&mut source).await, 0);
    assert_eq!(emulator.counters().put_tokens, 2);
    assert_eq!(emulator.counters().connections_opened, 1);
    source.close().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_token_is_renewed_when_its_time_has_passed_though_the_clock_was_put_back() {
    let (emulator, _, mut source) = open().await;
    let renewal = source.tokens.renewal.as_mut().unwrap();
    renewal.by_clock += Duration::from_secs(3_600);
    renewal.by_time_passed = Instant::now();
    assert_eq!(pull_to_the_answer(&mut source).await, 1);
    assert_eq!(emulator.counters().put_tokens, 2);
    assert!(source.tokens.renewal.unwrap().by_time_passed > Instant::now());
    source.close().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_renewal_that_is_refused_fails_the_pull_and_is_not_tried_again() {
    let (emulator, hub, mut source) = open().await;
    hub.faults().refuse_put_token(u32::MAX, 503);
    source.tokens.renewal.as_mut().unwrap().by_clock = UNIX_EPOCH;
    let (events, error) = pull_to_the_error(&mut source).await;
    // The hub may answer before it sends the event.
    assert!(events <= 1);
    assert!(matches!(error, HubError::Throttled { .. }), "{error}");
    let error = source.next_batch(LIMITS).await.unwrap_err();
    assert!(matches!(error, HubError::ConnectionLost { .. }), "{error}");
    assert_eq!(emulator.counters().put_tokens, 2);
    emulator.stop().await;
}

#[tokio::test]
async fn a_renewal_that_is_not_answered_is_given_up_in_time() {
    let config = AmqpConfig {
        connect_timeout: Duration::from_secs(1),
        ..AmqpConfig::default()
    };
    let (emulator, hub, mut source) = open_with(config).await;
    assert_eq!(source.next_batch(LIMITS).await.unwrap().events.len(), 1);
    hub.faults().freeze(true);
    source.tokens.renewal.as_mut().unwrap().by_clock = UNIX_EPOCH;
    // From here on time passes only for who waits for it.
    tokio::time::pause();
    let error = source.next_batch(LIMITS).await.unwrap_err();
    assert!(matches!(error, HubError::TimedOut { .. }), "{error:?}");
    tokio::time::resume();
    hub.faults().freeze(false);
    emulator.stop().await;
}

#[tokio::test]
async fn events_that_came_before_the_end_of_the_link_are_given_out_first() {
    let (emulator, hub, mut source) = open().await;
    hub.faults().drop_link_after(0, 5, &Refusal::server_busy());
    for _ in 0..10 {
        hub.publish(0, OutgoingEvent::default()).unwrap();
    }
    let (events, error) = pull_to_the_error(&mut source).await;
    assert!(matches!(error, HubError::Throttled { .. }), "{error}");
    // The event of `open` may have been sent before the fault was set, so it counts or not.
    assert!((5..=6).contains(&events), "{events} events came");
    emulator.stop().await;
}

#[tokio::test]
async fn a_pull_takes_what_it_asks_for_and_leaves_the_rest_where_it_is() {
    let (emulator, hub, mut source) = open().await;
    for _ in 1..50 {
        hub.publish(0, OutgoingEvent::default()).unwrap();
    }
    let limits = BatchLimits {
        events_max: 7,
        ..LIMITS
    };
    let mut next = 0;
    while next < 50 {
        let batch = source.next_batch(limits).await.unwrap();
        assert!(batch.events.len() <= 7);
        assert!(source.line.lock().intake.is_empty());
        for event in batch.events {
            assert_eq!(event.sequence, next);
            next += 1;
        }
    }
    source.close().await;
    emulator.stop().await;
}

#[tokio::test]
async fn a_hub_hears_of_a_reader_that_does_not_pull() {
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        limits: Limits {
            idle_timeout: Duration::from_secs(8),
            ..Limits::default()
        },
        ..EmulatorConfig::default()
    })
    .await
    .unwrap();
    let hub = emulator.hub("telemetry").unwrap();
    let config = AmqpConfig {
        idle_timeout: Duration::from_secs(3_600),
        ..AmqpConfig::default()
    };
    let client =
        AmqpHub::with_connection_string(&config, &emulator.connection_string("telemetry")).unwrap();
    let mut source = client
        .open(PartitionId::new(0).unwrap(), StartPosition::Earliest, None)
        .await
        .unwrap();
    // Time passes only when all wait for it: the hub's patience would end fifty times.
    tokio::time::pause();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..400 {
        ticks.tick().await;
        // What a socket carries takes turns of the runtime, and not time.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
    hub.publish(0, OutgoingEvent::default()).unwrap();
    assert_eq!(source.next_batch(LIMITS).await.unwrap().events.len(), 1);
    source.close().await;
    emulator.stop().await;
}
