//! What happens to one table, partition or reader stays there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stamp_lake::{Lake, StoreConfig};
use tokio::runtime::Handle;

use crate::support::{Stamp, broken_while, event, hub, once, partition, reading};
use crate::{P0, assert_complete, publish};

/// The lag of each partition in events, as the metric says.
fn lag(stamp: &Stamp, number: u32) -> f64 {
    stamp.metric(&format!(
        r#"stamp_lag_events{{partition="{number}",stamp="s-1"}}"#
    ))
}

/// Fault scenario 47.
#[tokio::test(start_paused = true)]
async fn a_table_whose_log_is_damaged_holds_up_its_tenant_only_and_takes_its_rows_when_it_is_mended()
 {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub);
    let config = StoreConfig::new(format!("file://{}", folder.path().display()));
    let beta = Lake::open(&config, Handle::current()).unwrap();
    stamp.tenant_lakes.insert("beta", beta);
    hub.append(partition(P0), reading("b-1", 0.0));
    hub.append(partition(P0), reading("a-1", 1.0));
    let running = stamp.start().await;
    running.until_settled(1).await;
    running.stop().await.unwrap();

    let entry = folder
        .path()
        .join("beta/readings/_delta_log/00000000000000000001.json");
    let whole = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, &whole[..whole.len() / 2]).unwrap();
    // Another process: what was known of the table is forgotten.
    let beta = Lake::open(&config, Handle::current()).unwrap();
    stamp.tenant_lakes.insert("beta", beta);
    for number in 2..40 {
        let device = if number % 2 == 0 { "a-1" } else { "b-1" };
        hub.append(partition(P0), reading(device, 2.0));
    }
    let running = stamp.start().await;
    let alpha = r#"stamp_rows_written_total{stamp="s-1",table="readings",tenant="alpha"}"#;
    running.until(|_| stamp.metric(alpha) > 18.0).await;
    assert!(
        running.progress.snapshot()[&partition(P0)].settled < 3,
        "beta's rows count as written"
    );

    std::fs::write(&entry, &whole).unwrap();
    running.until_settled(39).await;
    running.stop().await.unwrap();
    assert_eq!(
        stamp.rows("alpha", "readings").await,
        once((1..40).filter(|number| number % 2 == 0 || *number == 1))
    );
    let odd = once((0..40).filter(|number| *number == 0 || (number % 2 == 1 && *number > 1)));
    stamp.lake = stamp.tenant_lakes["beta"].clone();
    assert_eq!(stamp.rows("beta", "readings").await, odd);
}

/// Fault scenario 35.
#[tokio::test(start_paused = true)]
async fn a_partition_that_falls_behind_shows_its_own_lag_and_holds_up_no_other() {
    let hub = hub(2);
    let mut stamp = Stamp::new(&hub).with("tenant-buffer-max = \"256KiB\"\nbatch-events-max = 50");
    let slow = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("alpha", broken_while(&stamp.lake, &slow));
    // Older than the start: an earlier run may have written them, so they wait and do not overflow.
    let large = format!(r#"{{"value":1,"pad":"{}"}}"#, "x".repeat(4_000));
    for _ in 0..400 {
        hub.append(partition(P0), event("a-1", large.clone()));
    }
    for _ in 0..10 {
        hub.append(partition(1), reading("b-1", 1.0));
    }
    let running = stamp.start().await;

    running
        .until(|progress| {
            let at = progress.snapshot();
            at.get(&partition(1)).is_some_and(|at| at.settled >= 9)
        })
        .await;
    // Asked of the hub now and then, so both follow a little later.
    let apart = || lag(&stamp, P0) > 100.0 && lag(&stamp, 1) < 0.5;
    running.until(|_| apart()).await;

    slow.store(false, Ordering::Release);
    running.until_settled(399).await;
    running.until(|_| lag(&stamp, P0) < 0.5).await;
    running.stop().await.unwrap();
}

/// Fault scenario 39.
#[tokio::test(start_paused = true)]
async fn rows_of_a_partition_that_falls_silent_are_written_by_their_age_and_it_wakes_up_hours_later()
 {
    let hub = hub(1);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    hub.append(partition(P0), reading("a-1", 4.0));
    running.until_settled(0).await;
    assert_eq!(stamp.rolled_up("alpha").await, (1, 4.0));

    tokio::time::advance(std::time::Duration::from_secs(5 * 3_600)).await;
    hub.append(partition(P0), reading("a-1", 5.0));
    running.until_settled(1).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rolled_up("alpha").await, (2, 9.0));
    assert_eq!(stamp.rows("alpha", "readings").await, once(0..2));
}

/// Fault scenario 45.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_an_operator_set_back_doubles_nothing() {
    let hub = hub(1);
    publish(&hub, 0..120);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(119).await;
    running.stop().await.unwrap();

    let checkpoints = stamp.checkpoints();
    let mut back = checkpoints.read(partition(P0)).await.unwrap().unwrap();
    checkpoints.set_aside(partition(P0)).await.unwrap();
    (back.sequence, back.offset) = (9, "9".into());
    checkpoints.advance(partition(P0), &back).await.unwrap();
    publish(&hub, 120..150);
    let running = stamp.start().await;
    running.until_settled(149).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 150).await;
    assert_eq!(stamp.checkpoint(P0).await, Some(149));
}
