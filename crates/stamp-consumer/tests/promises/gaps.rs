//! What the hub lost is recorded, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stamp_consumer::{ConsumerError, WorkerError};
use stamp_lake::faults::Fault;

use crate::support::{Stamp, broken_while, hub, once, partition, reading};
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

#[tokio::test(start_paused = true)]
async fn a_tenants_mark_does_not_pass_a_loss_that_is_not_recorded() {
    let hub = hub(1);
    let keys = "owner-level = -1\nbatch-events-max = 1000";
    let (mut late, mut next) = (Stamp::new(&hub).with(keys), Stamp::new(&hub).with(keys));
    let whole = late.lake.clone();
    let refused = |path: &'static str, switch: &Arc<AtomicBool>| {
        let switch = switch.clone();
        whole.with_faults(move |request| {
            if request.is_commit()
                && request.path.starts_with(path)
                && switch.load(Ordering::Acquire)
            {
                Fault::Refuse
            } else {
                Fault::None
            }
        })
    };
    let held = Arc::new(AtomicBool::new(false));
    let shut = Arc::new(AtomicBool::new(true));
    late.lake = refused("alpha/readings", &held);
    next.lake = refused("_stamp/gaps", &shut);
    // One owner has taken ten events and not written them; they are gone when the other one comes.
    let a = late.start().await;
    hub.append(partition(P0), reading("a-1", 1.0));
    a.until_settled(0).await;
    held.store(true, Ordering::Release);
    for _ in 1..11 {
        hub.append(partition(P0), reading("a-1", 1.0));
    }
    a.until_read(10).await;
    hub.expire_before(partition(P0), 11);
    let b = next.start().await;
    for _ in 11..20 {
        hub.append(partition(P0), reading("a-1", 1.0));
    }
    b.until_read(19).await;
    let given_up = r#"stamp_commits_total{outcome="failed",stamp="s-1",table="gaps"}"#;
    b.until(|_| next.metric(given_up) > 0.0).await;
    b.kill().await;
    held.store(false, Ordering::Release);
    a.until_settled(19).await;
    a.stop().await.unwrap();

    assert_eq!(late.rows("alpha", "readings").await, once(0..20));
    assert!(late.gaps().await.is_empty());
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
