use std::time::Duration;

use stamp_model::{BatchLimits, Event, HubIdentity, PartitionId};

use super::{MemoryHub, Operation};
use crate::{EventHub, HubError, PartitionSource, StartPosition};

fn hub() -> MemoryHub {
    let identity = HubIdentity {
        namespace: "localhost".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_000,
    };
    MemoryHub::new(identity, 2)
}

fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

fn event(body: &'static str) -> Event {
    Event {
        body: body.as_bytes().into(),
        enqueued_at_us: 5,
        ..Event::default()
    }
}

const LIMITS: BatchLimits = BatchLimits {
    events_max: 100,
    bytes_max: 1 << 20,
    wait_max: Duration::from_secs(3_600),
};

#[tokio::test(start_paused = true)]
async fn a_scripted_failure_fails_one_call_and_ends_the_reader() {
    let hub = hub();
    let p = partition(0);
    let busy = || HubError::Throttled {
        retry_after: None,
        detail: "scripted".to_owned(),
    };
    hub.fail_next(Operation::Open(p), busy());
    let refused = hub.open(p, StartPosition::Earliest, None).await;
    assert!(matches!(refused, Err(HubError::Throttled { .. })));

    hub.append(p, event("a"));
    let mut source = hub.open(p, StartPosition::Earliest, None).await.unwrap();
    hub.fail_next(Operation::NextBatch(p), busy());
    assert!(matches!(
        source.next_batch(LIMITS).await,
        Err(HubError::Throttled { .. })
    ));
    assert!(matches!(
        source.next_batch(LIMITS).await,
        Err(HubError::ConnectionLost { .. })
    ));

    let mut again = hub.open(p, StartPosition::Earliest, None).await.unwrap();
    assert_eq!(again.next_batch(LIMITS).await.unwrap().events.len(), 1);
    assert_eq!(hub.counters().opens, 3);
    assert_eq!(hub.counters().batches, 3);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_is_woken_by_a_scripted_failure() {
    let hub = hub();
    let p = partition(0);
    let mut source = hub.open(p, StartPosition::Earliest, None).await.unwrap();
    let waiting = tokio::spawn(async move { source.next_batch(LIMITS).await });
    tokio::task::yield_now().await;
    hub.fail_next(
        Operation::NextBatch(p),
        HubError::ConnectionLost {
            detail: "x".to_owned(),
        },
    );
    assert!(matches!(
        waiting.await.unwrap(),
        Err(HubError::ConnectionLost { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn redelivery_begins_a_new_ascending_batch() {
    let hub = hub();
    let p = partition(1);
    for body in ["a", "b", "c"] {
        hub.append(p, event(body));
    }
    let mut source = hub.open(p, StartPosition::Earliest, None).await.unwrap();
    assert_eq!(source.next_batch(LIMITS).await.unwrap().events.len(), 3);
    hub.redeliver(p, 1);
    let again = source.next_batch(LIMITS).await.unwrap().events;
    assert_eq!(again.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn redelivery_never_takes_a_reader_past_events_it_has_not_had() {
    let hub = hub();
    let p = partition(1);
    for body in ["a", "b", "c"] {
        hub.append(p, event(body));
    }
    let mut source = hub.open(p, StartPosition::Earliest, None).await.unwrap();
    hub.redeliver(p, 2);
    let events = source.next_batch(LIMITS).await.unwrap().events;
    assert_eq!(events[0].sequence, 0);
}

#[tokio::test(start_paused = true)]
async fn skipped_numbers_are_a_gap() {
    let hub = hub();
    let p = partition(0);
    hub.append(p, event("a"));
    hub.skip(p, 10);
    assert_eq!(hub.append(p, event("b")), 11);
    let mut source = hub
        .open(p, StartPosition::AfterSequence(0), None)
        .await
        .unwrap();
    assert_eq!(
        source.next_batch(LIMITS).await.unwrap().events[0].sequence,
        11
    );
}
