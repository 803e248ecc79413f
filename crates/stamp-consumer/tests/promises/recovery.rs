//! Between a crash and the next start anything may change: the schema, the directory, what the hub
//! still has. What is in a table stays there once, and rollups are made of what is in `readings`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stamp_eventhubs::HubError;
use stamp_eventhubs::memory::{MemoryHub, Operation};

use crate::P0;
use crate::support::{
    Rows, Stamp, broken_while, event, hub, once, partition, reading, without_commits_to,
};

/// As the schema of the other tests, with another bound on the value.
const NARROW: &str = r#"
version = 1
[event-time]
source = "enqueued"
[[fields]]
name = "value"
path = "value"
type = "f64"
required = true
rollup = true
max = 10.0
"#;
const WIDE: &str = r#"
version = 1
[event-time]
source = "enqueued"
[[fields]]
name = "value"
path = "value"
type = "f64"
required = true
rollup = true
"#;

fn append(hub: &MemoryHub, device: &str, values: &[f64]) {
    for &value in values {
        hub.append(partition(P0), reading(device, value));
    }
}

/// Runs until `alpha` has rows in a table and kills it there, with no commit to `refused`.
async fn killed_before(stamp: &mut Stamp, refused: &'static str, there: (&str, u64)) {
    let whole = stamp.lake.clone();
    stamp
        .tenant_lakes
        .insert("alpha", without_commits_to(&whole, refused));
    let running = stamp.start().await;
    stamp.until_rows("alpha", there.0, there.1).await;
    running.kill().await;
    stamp.tenant_lakes.clear();
}

async fn run_until(stamp: &mut Stamp, sequence: i64) {
    let running = stamp.start().await;
    running.until_settled(sequence).await;
    running.stop().await.unwrap();
}

/// Fault scenario 3.
#[tokio::test(start_paused = true)]
async fn an_event_that_a_new_schema_refuses_is_not_dropped_by_a_mark_of_rejected() {
    let hub = hub(1);
    append(&hub, "a-1", &[50.0, 5_000.0, 50.0]);
    let mut stamp = Stamp::new(&hub);
    killed_before(&mut stamp, "alpha/readings", ("rejected", 1)).await;

    stamp.schema = NARROW;
    run_until(&mut stamp, 2).await;

    assert_eq!(stamp.rows("alpha", "rejected").await, once(0..3));
    assert_eq!(stamp.rows("alpha", "readings").await, Rows::new());
}

/// Fault scenario 3.
#[tokio::test(start_paused = true)]
async fn an_event_that_is_rejected_is_not_also_a_reading_once_the_schema_allows_it() {
    let hub = hub(1);
    append(&hub, "a-1", &[5_000.0, 5.0]);
    let mut stamp = Stamp::new(&hub);
    killed_before(&mut stamp, "alpha/readings", ("rejected", 1)).await;

    stamp.schema = WIDE;
    run_until(&mut stamp, 1).await;

    assert_eq!(stamp.rows("alpha", "rejected").await, once([0]));
    assert_eq!(stamp.rows("alpha", "readings").await, once([1]));
    assert_eq!(stamp.rolled_up("alpha").await, (1, 5.0));
}

/// Fault scenario 3.
#[tokio::test(start_paused = true)]
async fn readings_that_a_new_schema_refuses_stay_and_are_rolled_up() {
    let hub = hub(1);
    append(&hub, "a-1", &[50.0, 60.0, 70.0]);
    let mut stamp = Stamp::new(&hub);
    killed_before(&mut stamp, "alpha/rollups", ("readings", 3)).await;
    assert_eq!(stamp.rolled_up("alpha").await, (0, 0.0));

    stamp.schema = NARROW;
    append(&hub, "a-1", &[1.0]);
    run_until(&mut stamp, 3).await;

    assert_eq!(stamp.rows("alpha", "readings").await, once(0..4));
    assert_eq!(stamp.rows("alpha", "rejected").await, Rows::new());
    assert_eq!(stamp.rolled_up("alpha").await, (4, 181.0));
}

/// Fault scenario 3.
#[tokio::test(start_paused = true)]
async fn readings_of_a_device_that_moved_to_another_tenant_stay_where_they_are() {
    for entries in [
        [vec![], vec!["a-*", "b-*"], vec![]],
        [vec![], vec!["b-*"], vec![]],
    ] {
        let hub = hub(1);
        append(&hub, "a-1", &[50.0, 60.0]);
        let mut stamp = Stamp::new(&hub);
        killed_before(&mut stamp, "alpha/rollups", ("readings", 2)).await;

        stamp.devices = entries;
        append(&hub, "b-1", &[1.0]);
        run_until(&mut stamp, 2).await;

        assert_eq!(stamp.rows("alpha", "readings").await, once([0, 1]));
        assert_eq!(stamp.rolled_up("alpha").await, (2, 110.0));
        assert_eq!(stamp.rows("beta", "readings").await, once([2]));
        assert_eq!(stamp.quarantined("unknown_tenant").await, Rows::new());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_moves_to_a_tenant_whose_mark_is_past_it_is_kept_in_quarantine() {
    let hub = hub(1);
    append(&hub, "a-1", &[50.0]);
    append(&hub, "b-1", &[1.0]);
    let mut stamp = Stamp::new(&hub);
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("alpha", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    stamp.until_rows("beta", "readings", 1).await;
    running.kill().await;

    broken.store(false, Ordering::Release);
    stamp.devices = [vec![], vec!["a-*", "b-*"], vec![]];
    run_until(&mut stamp, 1).await;

    assert_eq!(stamp.rows("alpha", "readings").await, Rows::new());
    assert_eq!(stamp.rows("beta", "readings").await, once([1]));
    assert_eq!(stamp.quarantined("behind_mark").await, once([0]));
}

/// Fault scenario 46.
#[tokio::test(start_paused = true)]
async fn rollups_are_completed_after_the_hub_has_lost_their_events_and_no_gap_is_recorded() {
    let hub = hub(1);
    append(&hub, "a-1", &[1.0, 2.0]);
    let mut stamp = Stamp::new(&hub);
    run_until(&mut stamp, 1).await;
    append(&hub, "a-1", &[30.0, 40.0, 50.0]);
    killed_before(&mut stamp, "alpha/rollups", ("readings", 5)).await;

    hub.expire_before(partition(P0), 5);
    append(&hub, "a-1", &[6.0]);
    run_until(&mut stamp, 5).await;

    assert_eq!(stamp.rows("alpha", "readings").await, once(0..6));
    assert_eq!(stamp.rolled_up("alpha").await, (6, 129.0));
    assert_eq!(stamp.gaps().await, []);
}

/// Fault scenario 46.
#[tokio::test(start_paused = true)]
async fn only_those_of_the_lost_events_are_a_gap_that_no_table_has() {
    let hub = hub(1);
    append(&hub, "a-1", &[1.0]);
    let mut stamp = Stamp::new(&hub);
    run_until(&mut stamp, 0).await;
    for number in 1..7 {
        let device = if number % 3 == 0 { "b-1" } else { "a-1" };
        append(&hub, device, &[1.0]);
    }
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("beta", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    stamp.until_rows("alpha", "readings", 5).await;
    running.kill().await;
    stamp.tenant_lakes.clear();

    hub.expire_before(partition(P0), 7);
    append(&hub, "a-1", &[1.0]);
    run_until(&mut stamp, 7).await;

    assert_eq!(stamp.gaps().await, [(3, 3), (6, 6)]);
    assert_eq!(stamp.rolled_up("alpha").await, (6, 6.0));
}

#[tokio::test(start_paused = true)]
async fn more_readings_than_fit_a_page_are_rolled_up_page_by_page() {
    let hub = hub(1);
    let batch = format!("[{}]", vec![r#"{"value":1}"#; 500].join(","));
    for _ in 0..40 {
        hub.append(partition(P0), event("a-1", batch.clone()));
    }
    let mut stamp = Stamp::new(&hub);
    killed_before(&mut stamp, "alpha/rollups", ("readings", 20_000)).await;

    run_until(&mut stamp, 39).await;

    assert_eq!(stamp.rolled_up("alpha").await, (20_000, 20_000.0));
    let rows = stamp.rows("alpha", "readings").await;
    assert_eq!(rows.values().sum::<u64>(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_tenants_mark_waits_for_its_overflow_so_that_no_kill_loses_any_of_it() {
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub)
        .with("tenant-buffer-max = \"256KiB\"\ntenant-stall-max = \"5s\"\nbatch-events-max = 20");
    let whole = stamp.lake.clone();
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("beta", broken_while(&whole, &broken));
    stamp.tenant_lakes.insert("alpha", whole.clone());
    stamp.lake = without_commits_to(&whole, "_stamp/quarantine");
    let running = stamp.start().await;
    running.until_read(-1).await;
    let pad = "x".repeat(4_000);
    for _ in 0..300 {
        hub.append(partition(P0), event("b-1", format!(r#"{{"pad":"{pad}"}}"#)));
    }
    running.until_read(299).await;
    broken.store(false, Ordering::Release);
    stamp.lake = whole.clone();
    stamp.until_rows("beta", "rejected", 1).await;
    append(&hub, "b-1", &[1.0; 10]);
    running.until_read(309).await;
    // Long enough for any flush, and none of it may be written before quarantine is.
    tokio::time::advance(Duration::from_secs(300)).await;
    running.kill().await;
    assert_eq!(stamp.quarantined("tenant_backlog").await, Rows::new());
    assert_eq!(stamp.rows("beta", "readings").await, Rows::new());

    run_until(&mut stamp, 309).await;

    assert_eq!(stamp.quarantined("behind_mark").await, Rows::new());
    let mut all = stamp.rows("beta", "rejected").await;
    all.extend(stamp.rows("beta", "readings").await);
    assert_eq!(all, once(0..310));
}

#[tokio::test(start_paused = true)]
async fn events_of_a_tenant_that_cannot_be_asked_wait_and_a_stop_leaves_them_to_the_next_start() {
    let hub = hub(1);
    append(&hub, "a-1", &[1.0, 2.0]);
    append(&hub, "b-1", &[3.0, 4.0]);
    append(&hub, "a-1", &[5.0]);
    let mut stamp = Stamp::new(&hub);
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("beta", broken_while(&stamp.lake, &broken));
    let running = stamp.start().await;
    stamp.until_rows("alpha", "readings", 3).await;
    running.stop().await.unwrap();
    assert_eq!(stamp.checkpoint(P0).await, Some(1));

    let running = stamp.start().await;
    running.until_read(4).await;
    broken.store(false, Ordering::Release);
    running.until_settled(4).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("alpha", "readings").await, once([0, 1, 4]));
    assert_eq!(stamp.rows("beta", "readings").await, once([2, 3]));
    assert_eq!(stamp.rolled_up("beta").await, (2, 7.0));
}

/// Fault scenarios 3 and 46.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_does_not_pass_a_loss_before_every_tenants_tables_were_asked() {
    let hub = hub(1);
    append(&hub, "a-1", &[1.0, 2.0, 3.0]);
    let mut stamp = Stamp::new(&hub);
    killed_before(&mut stamp, "alpha/rollups", ("readings", 3)).await;
    append(&hub, "b-1", &[4.0]);
    hub.expire_before(partition(P0), 3);
    let broken = Arc::new(AtomicBool::new(true));
    let whole = stamp.lake.clone();
    stamp
        .tenant_lakes
        .insert("alpha", broken_while(&whole, &broken));
    let running = stamp.start().await;
    stamp.until_rows("beta", "readings", 1).await;
    running.stop().await.unwrap();
    stamp.tenant_lakes.clear();

    run_until(&mut stamp, 3).await;

    assert_eq!(stamp.rows("alpha", "readings").await, once(0..3));
    assert_eq!(stamp.rolled_up("alpha").await, (3, 6.0));
}

/// Fault scenario 46.
#[tokio::test(start_paused = true)]
async fn what_retention_takes_between_a_first_start_and_its_first_pull_is_a_gap() {
    let hub = hub(1);
    append(&hub, "a-1", &[1.0, 2.0, 3.0]);
    hub.fail_next(
        Operation::Open(partition(P0)),
        HubError::ConnectionLost {
            detail: "cut".into(),
        },
    );
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    // Its one question to the hub has been answered, and its first opening has failed.
    while hub.counters().opens == 0 {
        tokio::time::advance(Duration::from_millis(10)).await;
        tokio::task::yield_now().await;
    }
    hub.expire_before(partition(P0), 2);
    running.until_settled(2).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("alpha", "readings").await, once([2]));
    assert_eq!(stamp.gaps().await, [(0, 1)]);
}
