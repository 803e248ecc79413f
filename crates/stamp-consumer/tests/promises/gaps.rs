//! What the hub lost is recorded, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stamp_consumer::{ConsumerError, WorkerError};

use crate::support::{Stamp, broken_while, hub, partition, reading};
use crate::{P0, publish};

/// Fault scenario 46.
#[tokio::test(start_paused = true)]
async fn lost_sequence_numbers_are_rows_of_gaps_and_counted() {
    let hub = hub(1);
    publish(&hub, 0..10);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(9).await;
    running.stop().await.unwrap();

    for _ in 10..20 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    hub.expire_before(partition(P0), 15);
    let running = stamp.start().await;
    running.until_settled(19).await;
    hub.skip(partition(P0), 3);
    hub.append(partition(P0), reading("a-2", 1.0));
    running.until_settled(23).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.gaps().await, [(10, 14), (20, 22)]);
    let lost = stamp.metric(r#"stamp_gap_events_total{partition="0",stamp="s-1"}"#);
    assert!((lost - 8.0).abs() < 0.5, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_gone_before_a_first_one_comes_are_a_gap_too() {
    let hub = hub(1);
    publish(&hub, 0..10);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(9).await;
    running.stop().await.unwrap();

    for _ in 10..20 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    hub.expire_before(partition(P0), 20);
    let running = stamp.start().await;
    running.until_settled(19).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.gaps().await, [(10, 19)]);
}

/// Fault scenario 46.
#[tokio::test(start_paused = true)]
async fn a_gap_stops_the_service_when_that_is_configured_and_is_recorded_all_the_same() {
    let hub = hub(1);
    publish(&hub, 0..10);
    let mut stamp = Stamp::new(&hub).with("on-gap = \"stop\"");
    let running = stamp.start().await;
    running.until_settled(9).await;

    hub.skip(partition(P0), 5);
    hub.append(partition(P0), reading("a-2", 1.0));
    let error = running.ended().await.unwrap_err();

    assert!(
        matches!(
            error,
            ConsumerError::Worker(WorkerError::Gap {
                first: 10,
                last: 14,
                ..
            })
        ),
        "{error:?}"
    );
    assert_eq!(stamp.gaps().await, [(10, 14)]);
}

#[tokio::test(start_paused = true)]
async fn a_loss_below_a_recorded_gap_is_recorded_too() {
    let hub = hub(1);
    publish(&hub, 0..10);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(9).await;
    running.stop().await.unwrap();

    // Alpha's rows 10 to 14 wait for a store that is down; the gap after them is committed.
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("alpha", broken_while(&stamp.lake, &broken));
    for _ in 10..15 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    hub.skip(partition(P0), 5);
    hub.append(partition(P0), reading("a-2", 1.0));
    let running = stamp.start().await;
    running
        .until(|_| {
            stamp.metric(r#"stamp_rows_written_total{stamp="s-1",table="gaps",tenant="none"}"#)
                > 0.0
        })
        .await;
    running.kill().await;
    broken.store(false, Ordering::Release);

    hub.expire_before(partition(P0), 20);
    let running = stamp.start().await;
    running.until_settled(20).await;
    running.stop().await.unwrap();
    assert_eq!(stamp.gaps().await, [(10, 14), (15, 19)]);
}
