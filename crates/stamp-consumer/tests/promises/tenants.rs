//! One tenant's trouble is its own, and what it puts into quarantine stays there once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stamp_eventhubs::HubError;
use stamp_eventhubs::memory::Operation;
use stamp_lake::faults::Fault;

use crate::P0;
use crate::support::{Stamp, broken_while, event, hub, once, partition, reading};

#[tokio::test(start_paused = true)]
async fn one_tenants_broken_store_holds_up_nobody_and_loses_nothing() {
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub)
        .with("tenant-buffer-max = \"256KiB\"\ntenant-stall-max = \"5s\"\nbatch-events-max = 20");
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("beta", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    running.until_read(-1).await;
    // Fresh events: newer than the start, so an earlier run cannot have written them.
    let large = |number: i64| {
        event(
            "b-1",
            format!(
                r#"{{"value":{number},"pad":"{}","value":0}}"#,
                "x".repeat(4_000)
            ),
        )
    };
    for number in 0..300 {
        hub.append(
            partition(P0),
            if number % 3 == 0 {
                reading("a-1", 1.0)
            } else {
                large(number)
            },
        );
    }

    running.until_read(299).await;
    let alpha = once((0..300).step_by(3));
    running
        .until(|_| {
            stamp.metric(r#"stamp_rows_written_total{stamp="s-1",table="readings",tenant="alpha"}"#)
                > 99.0
        })
        .await;
    assert_eq!(stamp.rows("alpha", "readings").await, alpha);
    assert!(
        running.progress.snapshot()[&partition(P0)].settled < 1,
        "beta's rows are not settled"
    );

    broken.store(false, Ordering::Release);
    running.until_settled(299).await;
    running.stop().await.unwrap();

    let overflow = stamp.quarantined("tenant_backlog").await;
    let mut beta = stamp.rows("beta", "rejected").await;
    assert!(
        !overflow.is_empty() && !beta.is_empty(),
        "{} and {}",
        overflow.len(),
        beta.len()
    );
    beta.extend(overflow);
    assert_eq!(beta, once((0..300).filter(|number| number % 3 != 0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_quarantine_already_is_not_taken_again_after_a_kill() {
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub)
        .with("tenant-buffer-max = \"256KiB\"\ntenant-stall-max = \"5s\"\nbatch-events-max = 20");
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("beta", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    running.until_read(-1).await;
    for _ in 0..300 {
        hub.append(
            partition(P0),
            event("b-1", format!(r#"{{"pad":"{}"}}"#, "x".repeat(4_000))),
        );
    }
    running
        .until(|_| {
            stamp
                .metric(r#"stamp_rows_written_total{stamp="s-1",table="quarantine",tenant="none"}"#)
                > 9.0
        })
        .await;
    let before = stamp.quarantined("tenant_backlog").await;
    assert!(!before.is_empty());
    running.kill().await;

    broken.store(false, Ordering::Release);
    let running = stamp.start().await;
    running.until_settled(299).await;
    running.stop().await.unwrap();

    let mut all = stamp.rows("beta", "rejected").await;
    all.extend(stamp.quarantined("tenant_backlog").await);
    assert_eq!(all, once(0..300));
}

#[tokio::test(start_paused = true)]
async fn what_overflowed_is_left_to_the_next_owner_when_the_partition_is_lost() {
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub)
        .with("tenant-buffer-max = \"256KiB\"\ntenant-stall-max = \"5s\"\nbatch-events-max = 20");
    let whole = stamp.lake.clone();
    // Nothing of the overflow is in quarantine when the partition is lost; there is time for it then.
    let shut = Arc::new(AtomicBool::new(true));
    let waits = shut.clone();
    stamp.lake = whole.with_faults(move |request| {
        let is_quarantine = request.is_commit() && request.path.starts_with("_stamp/quarantine");
        if is_quarantine && waits.load(Ordering::Acquire) {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let broken = Arc::new(AtomicBool::new(true));
    let faulty = broken_while(&whole, &broken);
    stamp.tenant_lakes.insert("beta", faulty);
    let running = stamp.start().await;
    running.until_read(-1).await;
    for _ in 0..300 {
        hub.append(
            partition(P0),
            event("b-1", format!(r#"{{"pad":"{}"}}"#, "x".repeat(4_000))),
        );
    }
    running.until_read(299).await;
    let stolen = HubError::OwnershipLost {
        partition: partition(P0),
        detail: "epoch 7".into(),
    };
    hub.fail_next(Operation::NextBatch(partition(P0)), stolen);
    shut.store(false, Ordering::Release);
    running.ended().await.unwrap_err();
    assert!(stamp.quarantined("tenant_backlog").await.is_empty());

    broken.store(false, Ordering::Release);
    let next = stamp.start().await;
    next.until_settled(299).await;
    next.stop().await.unwrap();
    assert_eq!(stamp.rows("beta", "rejected").await, once(0..300));
    assert!(stamp.quarantined("tenant_backlog").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn overflow_below_another_owners_quarantine_mark_is_not_lost() {
    let hub = hub(1);
    let keys = "owner-level = -1\ntenant-stall-max = \"5s\"\nbatch-events-max = 20";
    let mut first = Stamp::new(&hub)
        .with(keys)
        .with("tenant-buffer-max = \"8MiB\"");
    let mut second = Stamp::new(&hub)
        .with(keys)
        .with("tenant-buffer-max = \"256KiB\"");
    // The first one commits to quarantine while the second one's rows still wait.
    let shut = Arc::new(AtomicBool::new(true));
    let waits = shut.clone();
    second.lake = first.lake.with_faults(move |request| {
        let is_quarantine = request.is_commit() && request.path.starts_with("_stamp/quarantine");
        if is_quarantine && waits.load(Ordering::Acquire) {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let broken = Arc::new(AtomicBool::new(true));
    let faulty = broken_while(&first.lake, &broken);
    first.tenant_lakes.insert("beta", faulty.clone());
    second.tenant_lakes.insert("beta", faulty);
    let (a, b) = (first.start().await, second.start().await);
    a.until_read(-1).await;
    b.until_read(-1).await;
    for _ in 0..300 {
        hub.append(
            partition(P0),
            event("b-1", format!(r#"{{"pad":"{}"}}"#, "x".repeat(4_000))),
        );
    }
    hub.append(partition(P0), event("stranger", "{}".into()));
    a.until(|_| {
        first.metric(r#"stamp_rows_written_total{stamp="s-1",table="quarantine",tenant="none"}"#)
            > 0.0
    })
    .await;
    a.kill().await;
    shut.store(false, Ordering::Release);
    b.until_read(300).await;
    broken.store(false, Ordering::Release);
    b.until_settled(300).await;
    b.stop().await.unwrap();
    let mut all = first.rows("beta", "rejected").await;
    all.extend(first.quarantined("tenant_backlog").await);
    let missing: Vec<i64> = (0..300).filter(|s| !all.contains_key(&(0, *s))).collect();
    assert!(
        missing.is_empty(),
        "lost: {} events, {:?} to {:?}, checkpoint {:?}",
        missing.len(),
        missing.first(),
        missing.last(),
        first.checkpoint(P0).await
    );
}

#[tokio::test(start_paused = true)]
async fn quarantine_of_an_earlier_hub_settles_nothing_of_a_later_one() {
    // Events of the support module are enqueued at this time; the second hub is made after it.
    const FIRST_US: i64 = 1_795_521_600_000_000;
    let hub = hub(1);
    for _ in 0..6 {
        hub.append(partition(P0), event("stranger", "{}".into()));
    }
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(5).await;
    running.stop().await.unwrap();

    hub.recreate(FIRST_US / 1_000 + 60_000);
    let later = |mut event: stamp_model::Event| {
        event.enqueued_at_us = FIRST_US + 120_000_000;
        event
    };
    for _ in 0..5 {
        hub.append(partition(P0), later(reading("a-2", 1.0)));
    }
    hub.append(partition(P0), later(event("stranger", "{}".into())));
    // Alpha's rows wait for a store that is down while the quarantine of event 5 is committed.
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("alpha", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    let quarantined = r#"stamp_rows_written_total{stamp="s-1",table="quarantine",tenant="none"}"#;
    running.until(|_| stamp.metric(quarantined) > 0.0).await;
    running.kill().await;
    broken.store(false, Ordering::Release);

    let running = stamp.start().await;
    running.until_settled(5).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("alpha", "readings").await, once(0..5));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_rows_never_wait_says_so() {
    let hub = hub(1);
    // A row is written as soon as it comes, so no report finds one that waits.
    let mut stamp = Stamp::new(&hub).with("flush-rows = 1");
    let running = stamp.start().await;
    running.until_read(-1).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(2_300));
    for _ in 0..3 {
        ticks.tick().await;
        hub.append(partition(P0), reading("a-1", 1.0));
    }
    running.until_settled(2).await;
    ticks.tick().await;

    let age = r#"stamp_oldest_unflushed_age_seconds{stamp="s-1",tenant="alpha"}"#;
    assert_eq!(stamp.known_metric(age), Some(0.0));
    running.stop().await.unwrap();
}
