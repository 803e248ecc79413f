//! Partitions of one process flush a tenant together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stamp_lake::CommitInfo;
use stamp_model::TenantId;
use stamp_schema::Schema;

use crate::support::{Rows, SCHEMA, Stamp, broken_while, event, hub, partition, reading};

const PARTITIONS: u32 = 4;

/// The commits of a tenant's table that have rows: how many rows, files and marks.
async fn commits(stamp: &Stamp, tenant: &str, name: &str) -> Vec<(u64, usize, usize)> {
    let root = stamp.lake.tenant(&TenantId::parse(tenant).unwrap());
    let shape = Schema::parse(SCHEMA).unwrap().shape().clone();
    let table = match name {
        "readings" => root.readings(&shape),
        "rollups" => root.rollups(),
        _ => root.rejected(),
    };
    let newest = table.newest().await.unwrap().unwrap().version();
    let mut found = Vec::new();
    for version in 0..=newest {
        let commit: CommitInfo = table.commit(version).await.unwrap().unwrap();
        if commit.rows_added > 0 {
            found.push((commit.rows_added, commit.added.len(), commit.marks.len()));
        }
    }
    found
}

fn each_once(per_partition: i64, is: impl Fn(i64) -> bool) -> Rows {
    let positions = (0..i64::from(PARTITIONS))
        .flat_map(|partition| (0..per_partition).map(move |sequence| (partition, sequence)));
    positions
        .filter(|&(_, sequence)| is(sequence))
        .map(|position| (position, 1))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn partitions_that_flush_a_tenant_by_age_share_one_file_and_one_commit_of_each_table() {
    let hub = hub(PARTITIONS);
    let mut stamp = Stamp::new(&hub);
    for number in 0..10 {
        for of in 0..PARTITIONS {
            let event = match number {
                3 => event("a-1", r#"{"value":"warm"}"#.into()),
                _ => reading(&format!("a-{of}"), 1.0),
            };
            hub.append(partition(of), event);
        }
    }
    let running = stamp.start().await;
    stamp.until_rows("alpha", "readings", 36).await;
    running.stop().await.unwrap();

    assert_eq!(commits(&stamp, "alpha", "rejected").await, [(4, 1, 4)]);
    assert_eq!(commits(&stamp, "alpha", "readings").await, [(36, 1, 4)]);
    // A partial for each device, which is in one partition.
    assert_eq!(commits(&stamp, "alpha", "rollups").await, [(4, 1, 4)]);
    let rows = stamp.rows("alpha", "readings").await;
    assert_eq!(rows, each_once(10, |number| number != 3));
    assert_eq!(stamp.rolled_up("alpha").await, (36, 36.0));
}

#[tokio::test(start_paused = true)]
async fn a_device_in_several_partitions_has_partials_of_each() {
    let hub = hub(PARTITIONS);
    let mut stamp = Stamp::new(&hub);
    for of in 0..PARTITIONS {
        hub.append(partition(of), reading("a-1", 2.0));
    }
    let running = stamp.start().await;
    stamp.until_rows("alpha", "readings", 4).await;
    running.stop().await.unwrap();

    let mut partials = BTreeMap::new();
    let root = stamp.lake.tenant(&TenantId::parse("alpha").unwrap());
    let columns = ["partition", "count", "sequence_first"];
    root.rollups()
        .scan(&columns, |rows| {
            for row in 0..rows.rows() {
                let value = |column| rows.i64(column, row).unwrap();
                partials.insert(value(0), (value(1), value(2)));
            }
        })
        .await
        .unwrap();
    assert_eq!(partials, (0..4).map(|of| (of, (1, 0))).collect());
}

#[tokio::test(start_paused = true)]
async fn a_stop_writes_what_all_partitions_have_in_one_commit() {
    let hub = hub(PARTITIONS);
    let mut stamp = Stamp::new(&hub);
    stamp.flush_age = "1h";
    for of in 0..PARTITIONS {
        hub.append(partition(of), reading("a-1", 2.0));
    }
    let running = stamp.start().await;
    let read = |progress: &stamp_consumer::Progress| {
        let all = progress.snapshot();
        all.len() == 4 && all.values().all(|at| at.read == 0)
    };
    running.until(read).await;
    running.stop().await.unwrap();

    assert_eq!(commits(&stamp, "alpha", "readings").await, [(4, 1, 4)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_flushed_together_is_there_once_after_an_outage_in_the_middle() {
    let hub = hub(PARTITIONS);
    let mut stamp = Stamp::new(&hub);
    let broken = Arc::new(AtomicBool::new(true));
    let whole = stamp.lake.clone();
    stamp.lake = broken_while(&whole, &broken);
    broken.store(false, Ordering::Release);
    for number in 0..8 {
        for of in 0..PARTITIONS {
            hub.append(partition(of), reading("a-1", f64::from(number)));
        }
    }
    let running = stamp.start().await;
    let read = |progress: &stamp_consumer::Progress| {
        let all = progress.snapshot();
        all.len() == 4 && all.values().all(|at| at.read == 7)
    };
    running.until(read).await;
    broken.store(true, Ordering::Release);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    broken.store(false, Ordering::Release);
    let settled = |progress: &stamp_consumer::Progress| {
        let all = progress.snapshot();
        all.len() == 4 && all.values().all(|at| at.settled == 7)
    };
    running.until(settled).await;
    running.stop().await.unwrap();
    stamp.lake = whole;

    let rows = stamp.rows("alpha", "readings").await;
    assert_eq!(rows, each_once(8, |_| true));
    assert_eq!(stamp.rolled_up("alpha").await, (32, 4.0 * 28.0));
}
