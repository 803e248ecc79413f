//! Every event ends in one place, once, whatever the hub and the store do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stamp_consumer::{ConsumerError, WorkerError};
use stamp_eventhubs::HubError;
use stamp_eventhubs::memory::Operation;
use stamp_lake::Lake;
use stamp_lake::faults::{Fault, RequestKind};

use crate::support::{Stamp, event, hub, once, partition, reading};
use crate::{P0, assert_complete, publish};

/// Fault scenario 32.
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
async fn each_committed_row_is_told_once_with_its_age_and_its_bytes() {
    let hub = hub(1);
    publish(&hub, 0..200);
    let mut stamp = Stamp::new(&hub);

    let running = stamp.start().await;
    running.until_settled(199).await;
    running.stop().await.unwrap();

    let text = stamp.registry.text();
    let sum = |metric: &str, label: &str| -> f64 {
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        series
            .filter(|(key, _)| key.starts_with(&format!("{metric}{{")) && key.contains(label))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    };
    let rows = sum("stamp_rows_written_total", "table=\"readings\"");
    assert!(rows > 0.0, "{text}");
    assert_eq!(sum("stamp_freshness_seconds_count", ""), rows);
    assert!(sum("stamp_written_bytes_total", "table=\"readings\"") > rows);
    assert!(sum("stamp_received_bytes_total", "") > 200.0 * 10.0);
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

/// Fault scenario 7.
#[tokio::test(start_paused = true)]
async fn lost_replies_and_refusals_of_the_store_neither_lose_nor_double_a_row() {
    let hub = hub(1);
    publish(&hub, 0..400);
    let mut stamp = Stamp::new(&hub).with("flush-rows = 20\nbatch-events-max = 30");
    let requests = AtomicU64::new(0);
    let lake = stamp.lake.with_faults(move |request| {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        match number % 7 {
            // An attempt that asks for rows reads the whole log: it could not pass otherwise.
            _ if request.kind == RequestKind::Read => match number % 53 {
                0 => Fault::Refuse,
                _ => Fault::None,
            },
            2 if request.is_commit() || request.is_data_file() => Fault::LoseReply,
            4 => Fault::Refuse,
            _ => Fault::None,
        }
    });
    stamp
        .tenant_lakes
        .extend(crate::support::TENANTS.map(|tenant| (tenant, lake.clone())));

    let running = stamp.start().await;
    running.until_settled(399).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 400).await;
}

/// Fault scenarios 1, 2, 3 and 4.
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

/// Fault scenario 11.
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
    let conflicts = [&first, &second].map(|stamp| {
        let text = stamp.registry.text();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("stamp_commit_conflicts_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    });
    assert!(conflicts[0] + conflicts[1] > 0.0, "{conflicts:?}");
}

/// A store that refuses commits to one table.
fn no_commits_while(lake: &Lake, table: &'static str, switch: &Arc<AtomicBool>) -> Lake {
    let switch = switch.clone();
    lake.with_faults(move |request| {
        let is_one = request.is_commit() && request.path.starts_with(table);
        if is_one && switch.load(Ordering::Acquire) {
            Fault::Refuse
        } else {
            Fault::None
        }
    })
}

/// Fault scenario 11.
#[tokio::test(start_paused = true)]
async fn two_owners_that_judge_an_event_differently_leave_the_rollups_of_the_readings_there_are() {
    // For one owner 61 of the 600 events are within the quota, the last of them too; for the other
    // one all.
    let quota = "{ events-per-second = 1 }";
    for (quotas, kept) in [([quota, "{}"], 61), (["{}", quota], 600)] {
        let hub = hub(1);
        let keys = "owner-level = -1\nbatch-events-max = 1000";
        let mut first = Stamp::new(&hub).with(keys);
        let mut second = Stamp::new(&hub).with(keys);
        (first.quota, second.quota) = (quotas[0], quotas[1]);
        let whole = first.lake.clone();
        // The first one's readings are in before the second one's; its rollups are in after them.
        let shut = || Arc::new(AtomicBool::new(true));
        let (readings_shut, rollups_shut) = (shut(), shut());
        first.lake = no_commits_while(&whole, "beta/rollups", &rollups_shut);
        second.lake = no_commits_while(&whole, "beta/readings", &readings_shut);
        let (a, b) = (first.start().await, second.start().await);
        a.until_read(-1).await;
        b.until_read(-1).await;
        for number in 0..600 {
            let mut event = reading("b-1", 1.0);
            event.enqueued_at_us += number / 599 * 60_000_000;
            hub.append(partition(P0), event);
        }
        first.until_rows("beta", "readings", 1).await;
        readings_shut.store(false, Ordering::Release);
        b.until_settled(599).await;
        rollups_shut.store(false, Ordering::Release);
        a.until_settled(599).await;
        a.stop().await.unwrap();
        b.stop().await.unwrap();

        let readings = first.rows("beta", "readings").await;
        assert_eq!(readings.len(), kept);
        let count = i64::try_from(kept).unwrap();
        let sum = f64::from(u32::try_from(kept).unwrap());
        assert_eq!(first.rolled_up("beta").await, (count, sum));
    }
}

#[tokio::test(start_paused = true)]
async fn readings_that_a_late_owner_wrote_below_the_checkpoint_are_rolled_up_at_the_next_start() {
    let hub = hub(1);
    let keys = "owner-level = -1\nbatch-events-max = 1000";
    let (mut late, mut strict) = (Stamp::new(&hub).with(keys), Stamp::new(&hub).with(keys));
    let whole = late.lake.clone();
    let shut = || Arc::new(AtomicBool::new(true));
    let (readings_shut, rollups_shut) = (shut(), shut());
    let slow = no_commits_while(&whole, "beta/readings", &readings_shut);
    late.lake = no_commits_while(&slow, "beta/rollups", &rollups_shut);
    strict.lake = whole;
    // It takes 60 of 600, sends the rest to quarantine, and its checkpoint passes them all.
    strict.quota = "{ events-per-second = 1 }";
    let (a, b) = (late.start().await, strict.start().await);
    a.until_read(-1).await;
    b.until_read(-1).await;
    for _ in 0..600 {
        hub.append(partition(P0), reading("b-1", 1.0));
    }
    b.until_settled(599).await;
    readings_shut.store(false, Ordering::Release);
    strict.until_rows("beta", "readings", 600).await;
    a.kill().await;
    b.stop().await.unwrap();
    assert_eq!(strict.rolled_up("beta").await, (60, 60.0));

    let next = strict.start().await;
    next.until_read(599).await;
    next.stop().await.unwrap();
    assert_eq!(strict.rolled_up("beta").await, (600, 600.0));
}

/// Fault scenario 10.
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

/// Fault scenario 12.
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

/// Fault scenario 25.
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
async fn a_hub_that_does_not_say_how_far_it_reaches_makes_the_lag_grow_and_the_headroom_shrink() {
    let hub = hub(1);
    publish(&hub, 0..40);
    let mut stamp = Stamp::new(&hub).with("hub-retention = \"1d\"");

    let running = stamp.start().await;
    let series = |name: &str| stamp.metric(&format!("{name}{{partition=\"0\",stamp=\"s-1\"}}"));
    running
        .until(|_| series("stamp_retention_headroom_seconds") > 86_399.0)
        .await;
    for _ in 0..1_000 {
        hub.fail_next(
            Operation::PartitionProperties(partition(P0)),
            HubError::TimedOut {
                doing: "asking how far a partition reaches".into(),
            },
        );
    }
    // Nothing new is read, and nobody knows whether there is something new.
    running.until(|_| series("stamp_lag_seconds") > 100.0).await;
    assert!(series("stamp_retention_headroom_seconds") < 86_301.0);
    running.stop().await.unwrap();
}

/// Fault scenario 26.
#[tokio::test(start_paused = true)]
async fn a_message_that_panics_the_decoder_is_a_rejected_row_and_the_others_go_on() {
    let hub = hub(1);
    for number in 0..30 {
        let body = match number % 10 {
            7 => r#"[{"value":1},{"value":2,"of":"poison"}]"#,
            _ => r#"{"value":1}"#,
        };
        hub.append(partition(P0), event("a-1", body.into()));
    }
    let mut stamp = Stamp::new(&hub);

    let running = stamp.start().await;
    running.until_settled(29).await;
    running.stop().await.unwrap();

    let poison = |number: &i64| number % 10 == 7;
    assert_eq!(
        stamp.rows("alpha", "rejected").await,
        once((0..30).filter(poison))
    );
    assert_eq!(
        stamp.rows("alpha", "readings").await,
        once((0..30).filter(|number| !poison(number)))
    );
    assert_eq!(stamp.rolled_up("alpha").await, (27, 27.0));
    let counted = stamp.metric(
        r#"stamp_rejected_events_total{reason="decoder_panic",stamp="s-1",tenant="alpha"}"#,
    );
    assert!((counted - 3.0).abs() < 0.5, "{counted}");
}
