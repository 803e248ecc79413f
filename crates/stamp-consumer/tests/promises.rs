//! What the service promises, on a hub and a store in memory and a paused clock.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "promises/ownership.rs"]
mod ownership;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stamp_consumer::{ConsumerError, WorkerError};
use stamp_eventhubs::HubError;
use stamp_eventhubs::memory::{MemoryHub, Operation};
use stamp_lake::faults::Fault;
use support::{Stamp, broken_while, event, hub, once, partition, reading};

const P0: u32 = 0;

/// A refused device, an invalid body, and readings of two tenants, over and over.
fn publish(hub: &MemoryHub, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let value = f64::from(u32::try_from(number % 100).unwrap());
        let event = match number % 10 {
            3 => event("stranger", "{}".into()),
            6 => event("a-1", r#"{"value":"warm"}"#.into()),
            n if n % 2 == 0 => reading("a-2", value),
            _ => reading("b-1", value),
        };
        hub.append(partition(P0), event);
    }
}

fn of_kind(range: std::ops::Range<i64>, is: impl Fn(i64) -> bool) -> support::Rows {
    once(range.filter(|number| is(number % 10)))
}

/// Every event of `publish` is where it belongs, once.
async fn assert_complete(stamp: &Stamp, count: i64) {
    let alpha = of_kind(0..count, |n| n % 2 == 0 && n != 6);
    let beta = of_kind(0..count, |n| n % 2 == 1 && n != 3);
    assert_eq!(stamp.rows("alpha", "readings").await, alpha);
    assert_eq!(stamp.rows("beta", "readings").await, beta);
    assert_eq!(
        stamp.rows("alpha", "rejected").await,
        of_kind(0..count, |n| n == 6)
    );
    assert_eq!(
        stamp.quarantined("unknown_tenant").await,
        of_kind(0..count, |n| n == 3)
    );
    let sum = |rows: &support::Rows| -> f64 {
        rows.keys()
            .map(|(_, n)| f64::from(u32::try_from(n % 100).unwrap()))
            .sum()
    };
    assert_eq!(
        stamp.rolled_up("alpha").await,
        (i64::try_from(alpha.len()).unwrap(), sum(&alpha))
    );
    assert_eq!(
        stamp.rolled_up("beta").await,
        (i64::try_from(beta.len()).unwrap(), sum(&beta))
    );
}

#[tokio::test(start_paused = true)]
async fn every_event_ends_in_one_place_and_the_checkpoint_follows() {
    let hub = hub(1);
    publish(&hub, 0..200);
    let mut stamp = Stamp::new(&hub);

    let running = stamp.start().await;
    running.until_settled(199).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 200).await;
    assert_eq!(stamp.checkpoint(P0).await, Some(199));
    let received = stamp.metric(r#"stamp_events_received_total{partition="0",stamp="s-1"}"#);
    assert!(
        (received - 200.0).abs() < 0.5,
        "{received}\n{}",
        stamp.registry.text()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_flushes_what_is_buffered_without_waiting_for_its_age() {
    let hub = hub(1);
    publish(&hub, 0..50);
    let mut stamp = Stamp::new(&hub);
    stamp.flush_age = "1h";

    let running = stamp.start().await;
    running.until_read(49).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 50).await;
    assert_eq!(stamp.checkpoint(P0).await, Some(49));
}

#[tokio::test(start_paused = true)]
async fn lost_replies_and_refusals_of_the_store_neither_lose_nor_double_a_row() {
    let hub = hub(1);
    publish(&hub, 0..400);
    let mut stamp = Stamp::new(&hub).with("flush-rows = 20\nbatch-events-max = 30");
    let requests = AtomicU64::new(0);
    let lake = stamp.lake.with_faults(move |request| {
        match requests.fetch_add(1, Ordering::Relaxed) % 7 {
            // The first requests are the probe's.
            2 if request.is_commit() || request.is_data_file() => Fault::LoseReply,
            4 => Fault::Refuse,
            _ => Fault::None,
        }
    });
    stamp
        .tenant_lakes
        .extend(support::TENANTS.map(|tenant| (tenant, lake.clone())));

    let running = stamp.start().await;
    running.until_settled(399).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 400).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_request_to_the_store_is_made_good_by_the_next_start() {
    // One run counts the requests; then one run is killed at each of them.
    for kill_at in (0..).step_by(3) {
        let hub = hub(1);
        publish(&hub, 0..60);
        let mut stamp = Stamp::new(&hub).with("flush-rows = 10\nbatch-events-max = 15");
        let whole = stamp.lake.clone();
        let requests = Arc::new(AtomicU64::new(0));
        let dead = Arc::new(AtomicBool::new(false));
        let (count, died) = (requests.clone(), dead.clone());
        // From the request on nothing reaches the store any more: that is what a kill looks like
        // from outside.
        stamp.lake = whole.with_faults(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) >= kill_at {
                died.store(true, Ordering::Release);
                return Fault::Refuse;
            }
            Fault::None
        });

        if let Ok(running) = stamp.try_start().await {
            let done = |progress: &stamp_consumer::Progress| {
                let at = progress
                    .snapshot()
                    .get(&partition(P0))
                    .map_or(-1, |at| at.settled);
                at >= 59 || dead.load(Ordering::Acquire)
            };
            running.until(done).await;
            running.kill().await;
        }
        stamp.lake = whole;
        let running = stamp.start().await;
        running.until_settled(59).await;
        running.stop().await.unwrap();

        assert_complete(&stamp, 60).await;
        if !dead.load(Ordering::Acquire) {
            assert!(kill_at > 20, "only {kill_at} requests in a whole run");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_owners_of_a_partition_write_every_row_once() {
    let hub = hub(1);
    publish(&hub, 0..300);
    let mut first =
        Stamp::new(&hub).with("owner-level = -1\nflush-rows = 17\nbatch-events-max = 23");
    let mut second =
        Stamp::new(&hub).with("owner-level = -1\nflush-rows = 29\nbatch-events-max = 31");
    second.lake = first.lake.clone();

    let (a, b) = (first.start().await, second.start().await);
    a.until_settled(299).await;
    b.until_settled(299).await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();

    assert_complete(&first, 300).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_the_hub_delivers_again_are_dropped_by_their_position() {
    let hub = hub(1);
    publish(&hub, 0..40);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_read(39).await;

    hub.redeliver(partition(P0), 5);
    publish(&hub, 40..60);
    running.until_settled(59).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 60).await;
    let again = stamp.metric(r#"stamp_redelivered_events_total{partition="0",stamp="s-1"}"#);
    assert!((again - 35.0).abs() < 0.5, "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_is_opened_again_after_the_last_event_that_was_taken() {
    let hub = hub(1);
    publish(&hub, 0..30);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_read(29).await;

    let lost = || HubError::ConnectionLost {
        detail: "cut".into(),
    };
    hub.fail_next(Operation::NextBatch(partition(P0)), lost());
    hub.fail_next(Operation::Open(partition(P0)), lost());
    publish(&hub, 30..70);
    running.until_settled(69).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 70).await;
}

#[tokio::test(start_paused = true)]
async fn a_displaced_reader_commits_what_it_has_and_does_not_come_back() {
    let hub = hub(1);
    publish(&hub, 0..30);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_read(29).await;

    let stolen = HubError::OwnershipLost {
        partition: partition(P0),
        detail: "epoch 7".into(),
    };
    hub.fail_next(Operation::NextBatch(partition(P0)), stolen);
    let opens = hub.counters().opens;
    let error = running.ended().await.unwrap_err();

    assert!(
        matches!(error, ConsumerError::Worker(WorkerError::Displaced { .. })),
        "{error:?}"
    );
    assert_eq!(hub.counters().opens, opens);
    assert_complete(&stamp, 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_refuses_the_credential_ends_the_service_with_its_words() {
    let hub = hub(1);
    let refused = HubError::Unauthorized {
        detail: "no Listen right".into(),
    };
    hub.fail_next(Operation::Open(partition(P0)), refused);
    let mut stamp = Stamp::new(&hub);

    let running = stamp.start().await;
    let error = running.ended().await.unwrap_err();

    let text = stamp_consumer::chain(&error).to_string();
    assert!(text.contains("no Listen right"), "{text}");
}

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
async fn a_lost_checkpoint_means_the_oldest_event_even_where_new_partitions_start_at_the_latest() {
    let hub = hub(1);
    publish(&hub, 0..40);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(39).await;
    running.stop().await.unwrap();
    publish(&hub, 40..60);
    stamp.checkpoints().set_aside(partition(P0)).await.unwrap();

    stamp.config = "start = \"latest\"".into();
    let running = stamp.start().await;
    running.until_settled(59).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 60).await;
    let lost = stamp
        .metric(r#"stamp_checkpoints_unusable_total{partition="0",reason="lost",stamp="s-1"}"#);
    assert!((lost - 1.0).abs() < 0.1, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_never_read_starts_where_the_configuration_says() {
    let hub = hub(1);
    for _ in 0..10 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let mut stamp = Stamp::new(&hub).with("start = \"latest\"");
    let running = stamp.start().await;
    running.until_read(9).await;
    hub.append(partition(P0), reading("a-2", 1.0));
    running.until_settled(10).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("alpha", "readings").await, once([10]));
    assert_eq!(stamp.gaps().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_was_made_again_is_read_from_its_beginning() {
    let hub = hub(1);
    for _ in 0..10 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(9).await;
    running.stop().await.unwrap();

    hub.recreate(2_000);
    for _ in 0..30 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let running = stamp.start().await;
    running.until_settled(29).await;
    running.stop().await.unwrap();

    // Sequence numbers 0 to 9 are there twice: of two hubs.
    let rows = stamp.rows("alpha", "readings").await;
    assert_eq!(rows.values().sum::<u64>(), 40);
    assert_eq!((rows[&(0, 9)], rows[&(0, 10)]), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn memory_that_is_used_up_stops_reading_and_not_the_service() {
    let hub = hub(2);
    for number in 0..2_000 {
        let body = format!(r#"{{"pad":"{}"}}"#, "x".repeat(20_000));
        hub.append(partition(number % 2), event("a-1", body));
    }
    let mut stamp = Stamp::new(&hub).with("buffer-max = \"16MiB\"");

    let running = stamp.start().await;
    running
        .until(|progress| {
            progress
                .snapshot()
                .values()
                .filter(|at| at.settled >= 999)
                .count()
                == 2
        })
        .await;
    running.stop().await.unwrap();

    let rows = stamp.rows("alpha", "rejected").await;
    assert_eq!((rows.len(), rows.values().sum::<u64>()), (2_000, 2_000));
}

#[tokio::test(start_paused = true)]
async fn lag_and_what_is_left_of_the_retention_are_told() {
    let hub = hub(1);
    publish(&hub, 0..40);
    let mut stamp = Stamp::new(&hub).with("hub-retention = \"1d\"");

    let running = stamp.start().await;
    running.until_settled(39).await;
    let series = |name: &str| stamp.metric(&format!("{name}{{partition=\"0\",stamp=\"s-1\"}}"));
    running
        .until(|_| series("stamp_retention_headroom_seconds") > 86_399.0)
        .await;
    running.stop().await.unwrap();

    assert!(series("stamp_lag_events").abs() < 0.5 && series("stamp_lag_seconds").abs() < 0.5);
    let shapes = r#"stamp_decoded_bodies_total{path="general",stamp="s-1"}"#;
    assert!(stamp.metric(shapes) > 0.0, "{}", stamp.registry.text());
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
    second.lake = first.lake.clone();
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
