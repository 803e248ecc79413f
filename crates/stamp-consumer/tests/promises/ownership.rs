//! Replicas of one stamp share the partitions of its hub: they join, leave, die and are cut off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Rows, Stamp, hub, partition, reading};
use stamp_consumer::{ConsumerConfig, ConsumerError};
use stamp_eventhubs::memory::MemoryHub;
use stamp_eventhubs::{EventHub, PartitionSource, StartPosition};
use stamp_lake::Lake;
use stamp_lake::faults::{Fault, RequestKind};
use stamp_model::BatchLimits;
use tokio::time::Instant;

const PARTITIONS: u32 = 6;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const EXPIRE_AFTER: Duration = Duration::from_secs(60);
/// Tests look every 100 ms, and partitions open within 2 s.
const MARGIN: Duration = Duration::from_secs(3);

/// A replica with a name, on the hub and store of the others.
fn replica(hub: &MemoryHub, lake: &Lake, name: &str) -> Stamp {
    let section = format!("[consumer.ownership]\nowner-id = \"{name}\"");
    let mut stamp = Stamp::new(hub).with(&section);
    stamp.lake = lake.clone();
    stamp
}

fn memory() -> Lake {
    Stamp::new(&hub(1)).lake
}

/// The next `count` events of every partition; how many each one has now.
fn publish(hub: &MemoryHub, sent: &mut i64, count: i64) {
    for _ in 0..count {
        for number in 0..PARTITIONS {
            hub.append(partition(number), reading("a-1", 1.0));
        }
    }
    *sent += count;
}

fn each_once(sent: i64) -> Rows {
    (0..i64::from(PARTITIONS))
        .flat_map(|partition| (0..sent).map(move |sequence| ((partition, sequence), 1)))
        .collect()
}

/// How many partitions each name has.
async fn owners(lake: &Lake) -> BTreeMap<String, usize> {
    let group = lake
        .ownerships("contoso.servicebus.windows.net", "telemetry", "$Default")
        .unwrap();
    let mut owners = BTreeMap::new();
    for ownership in group.list().await.unwrap() {
        *owners.entry(ownership.owner_id).or_default() += 1;
    }
    owners
}

/// Waits on the paused clock until `reached`; how long it took.
async fn until(what: &str, reached: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..36_000 {
        if reached().await {
            return start.elapsed();
        }
        ticks.tick().await;
    }
    panic!("not reached within an hour: {what}");
}

/// Lets the paused clock go on.
async fn pass(time: Duration) {
    let start = Instant::now();
    until("time passes", async || start.elapsed() >= time).await;
}

async fn until_owned(lake: &Lake, expected: &[(&str, usize)]) -> Duration {
    let expected: BTreeMap<String, usize> = expected
        .iter()
        .map(|&(name, count)| (name.to_owned(), count))
        .collect();
    until(&format!("{expected:?}"), async || {
        owners(lake).await == expected
    })
    .await
}

/// Waits until everything that was sent is in the tables, whoever wrote it.
async fn until_settled(stamp: &Stamp, sent: i64) {
    until("all is settled", async || {
        for number in 0..PARTITIONS {
            if stamp.checkpoint(number).await != Some(sent - 1) {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn partitions_follow_the_replicas_that_die_join_and_leave_and_every_row_is_there_once() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    publish(&hub, &mut sent, 20);
    let mut a = replica(&hub, &lake, "a");
    let mut b = replica(&hub, &lake, "b");
    let running_a = a.start().await;
    let running_b = b.start().await;
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;
    publish(&hub, &mut sent, 20);
    until_settled(&a, sent).await;

    // One dies without a word, in the middle of its work.
    publish(&hub, &mut sent, 20);
    running_a.kill().await;
    let moved = until_owned(&lake, &[("b", 6)]).await;
    assert!(moved <= EXPIRE_AFTER + RENEW_EVERY + MARGIN, "{moved:?}");
    publish(&hub, &mut sent, 20);
    until_settled(&b, sent).await;

    // Another joins and takes its share one by one, while events come.
    let mut c = replica(&hub, &lake, "c");
    let running_c = c.start().await;
    publish(&hub, &mut sent, 20);
    let shared = until_owned(&lake, &[("b", 3), ("c", 3)]).await;
    assert!(shared <= RENEW_EVERY * 3 + MARGIN, "{shared:?}");
    publish(&hub, &mut sent, 20);
    until_settled(&c, sent).await;
    until("it says so", async || {
        (b.metric(r#"stamp_partitions_owned{stamp="s-1"}"#) - 3.0).abs() < 0.5
    })
    .await;

    // One leaves and gives back what it has: nobody waits for it to expire.
    running_b.stop().await.unwrap();
    let left = until_owned(&lake, &[("c", 6)]).await;
    assert!(left <= RENEW_EVERY * 2, "{left:?}");
    publish(&hub, &mut sent, 20);
    until_settled(&c, sent).await;
    running_c.stop().await.unwrap();

    assert_eq!(c.rows("alpha", "readings").await, each_once(sent));
    let count = i64::from(PARTITIONS) * sent;
    assert_eq!(c.rolled_up("alpha").await.0, count);
    assert_eq!(owners(&lake).await, BTreeMap::from([(String::new(), 6)]));
}

#[tokio::test(start_paused = true)]
async fn at_balance_nothing_is_claimed_or_lost() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut a = replica(&hub, &lake, "a");
    let mut b = replica(&hub, &lake, "b");
    let running_a = a.start().await;
    let running_b = b.start().await;
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;
    let moves = || {
        ["won", "lost", "failed"].map(|outcome| {
            let series =
                format!(r#"stamp_ownership_claims_total{{outcome="{outcome}",stamp="s-1"}}"#);
            a.metric(&series) + b.metric(&series)
        })
    };
    // Both have noticed the last move.
    pass(RENEW_EVERY * 2).await;
    let before = moves();
    assert!(before[0] >= 6.0, "{before:?}");

    pass(EXPIRE_AFTER * 5).await;

    assert_eq!(format!("{:?}", moves()), format!("{before:?}"));
    running_a.stop().await.unwrap();
    running_b.stop().await.unwrap();
}

/// Fault scenario 14.
#[tokio::test(start_paused = true)]
async fn while_the_ownership_blobs_cannot_be_reached_everyone_keeps_what_it_has() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    let down = Arc::new(AtomicBool::new(false));
    let switch = down.clone();
    let faulty = lake.with_faults(move |request| {
        if switch.load(Ordering::Acquire) && request.path.contains("/ownership") {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let mut a = replica(&hub, &faulty, "a");
    let mut b = replica(&hub, &faulty, "b");
    let running_a = a.start().await;
    let running_b = b.start().await;
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;
    publish(&hub, &mut sent, 20);
    until_settled(&a, sent).await;
    let before = a.metric(r#"stamp_ownership_claims_total{outcome="lost",stamp="s-1"}"#);

    down.store(true, Ordering::Release);
    for _ in 0..6 {
        pass(EXPIRE_AFTER).await;
        // The tables' store is up, so nothing waits.
        publish(&hub, &mut sent, 5);
        until_settled(&b, sent).await;
    }
    let failed = a.metric(r#"stamp_ownership_claims_total{outcome="failed",stamp="s-1"}"#);
    assert!(failed >= 1.0, "{failed}");
    down.store(false, Ordering::Release);
    publish(&hub, &mut sent, 20);
    until_settled(&a, sent).await;

    // Nobody took the long silence for a death.
    pass(EXPIRE_AFTER * 2).await;
    let lost = a.metric(r#"stamp_ownership_claims_total{outcome="lost",stamp="s-1"}"#);
    assert!((lost - before).abs() < 0.5, "{lost} after {before}");
    assert_eq!(
        owners(&lake).await,
        BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 3)])
    );
    running_a.stop().await.unwrap();
    running_b.stop().await.unwrap();
    assert_eq!(a.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_claimed_in_an_outage_waits_for_the_store_and_ends_nothing() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    let down = Arc::new(AtomicBool::new(false));
    let switch = down.clone();
    let faulty = lake.with_faults(move |request| {
        if switch.load(Ordering::Acquire) && !request.path.contains("/ownership") {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let mut a = replica(&hub, &faulty, "a");
    let running = a.start().await;
    down.store(true, Ordering::Release);
    publish(&hub, &mut sent, 20);
    until_owned(&lake, &[("a", 6)]).await;

    // Longer than every limit of one operation.
    pass(Duration::from_secs(600)).await;
    let paused = a.metric(r#"stamp_partition_state{partition="0",stamp="s-1",state="paused"}"#);
    assert!((paused - 1.0).abs() < 0.5, "{paused}");
    down.store(false, Ordering::Release);

    until_settled(&a, sent).await;
    running.stop().await.unwrap();
    assert_eq!(a.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_alone_is_cut_off_from_the_blobs_gives_way_and_loses_nothing() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    let cut = Arc::new(AtomicBool::new(false));
    let switch = cut.clone();
    let behind = lake.with_faults(move |request| {
        if switch.load(Ordering::Acquire) && request.path.contains("/ownership") {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let mut a = replica(&hub, &behind, "a");
    let mut b = replica(&hub, &lake, "b");
    let running_a = a.start().await;
    let running_b = b.start().await;
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;

    cut.store(true, Ordering::Release);
    publish(&hub, &mut sent, 40);
    until_owned(&lake, &[("b", 6)]).await;
    publish(&hub, &mut sent, 40);
    until_settled(&b, sent).await;
    let owned = a.metric(r#"stamp_partitions_owned{stamp="s-1"}"#);
    assert!(owned < 6.5, "{owned}");

    // It comes back, and both are in balance again.
    cut.store(false, Ordering::Release);
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;
    publish(&hub, &mut sent, 40);
    until_settled(&b, sent).await;
    running_a.stop().await.unwrap();
    running_b.stop().await.unwrap();
    assert_eq!(b.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_reader_outside_the_group_stops_one_worker_and_is_not_displaced_in_turn() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    let mut a = replica(&hub, &lake, "a");
    let running = a.start().await;
    until_owned(&lake, &[("a", 6)]).await;
    publish(&hub, &mut sent, 20);
    until_settled(&a, sent).await;

    let mut stranger = hub
        .open(partition(0), StartPosition::Earliest, Some(0))
        .await
        .unwrap();
    publish(&hub, &mut sent, 20);
    until("the others go on", async || {
        let mut all = true;
        for number in 1..PARTITIONS {
            all &= a.checkpoint(number).await == Some(sent - 1);
        }
        all
    })
    .await;
    until("five are owned", async || {
        a.metric(r#"stamp_partitions_owned{stamp="s-1"}"#) < 5.5
    })
    .await;
    pass(RENEW_EVERY * 3).await;
    let limits = BatchLimits {
        events_max: 100,
        bytes_max: 1 << 20,
        wait_max: Duration::from_secs(1),
    };
    let read = stranger.next_batch(limits).await.unwrap();
    assert_eq!(i64::try_from(read.events.len()).unwrap(), sent);
    assert_eq!(a.checkpoint(0).await, Some(sent - 21));

    // The stranger leaves: the partition is taken up again, and nothing is missing.
    drop(stranger);
    until_settled(&a, sent).await;
    running.stop().await.unwrap();
    assert_eq!(a.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_is_lost_is_made_once_and_found_in_the_next_list() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let creates = Arc::new(AtomicU64::new(0));
    let counted = creates.clone();
    let faulty = lake.with_faults(move |request| {
        if request.path.contains("/ownership/") && request.kind == RequestKind::Create {
            counted.fetch_add(1, Ordering::AcqRel);
            Fault::LoseReply
        } else {
            Fault::None
        }
    });
    let mut sent = 0;
    publish(&hub, &mut sent, 20);
    let mut a = replica(&hub, &faulty, "a");

    let running = a.start().await;
    until_settled(&a, sent).await;
    running.stop().await.unwrap();

    assert_eq!(creates.load(Ordering::Acquire), u64::from(PARTITIONS));
    assert_eq!(a.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_a_lasting_name_takes_up_its_partitions_at_once_after_a_crash() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let mut sent = 0;
    publish(&hub, &mut sent, 20);
    let mut a = replica(&hub, &lake, "a");
    let running = a.start().await;
    until_settled(&a, sent).await;
    running.kill().await;
    publish(&hub, &mut sent, 20);

    let start = Instant::now();
    let running = a.start().await;
    until_settled(&a, sent).await;

    let took = start.elapsed();
    assert!(took < RENEW_EVERY + MARGIN, "{took:?}");
    running.stop().await.unwrap();
    assert_eq!(a.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_another_replica_has_read_without_a_checkpoint_is_not_started_at_latest() {
    let (hub, lake) = (hub(PARTITIONS), memory());
    let no_checkpoints = lake.with_faults(|request| {
        let writes = matches!(request.kind, RequestKind::Create | RequestKind::Write);
        if writes && request.path.contains("/checkpoint/") {
            Fault::Refuse
        } else {
            Fault::None
        }
    });
    let latest = |lake: &Lake, name: &str| {
        let mut stamp = replica(&hub, lake, name);
        stamp.config.insert_str(0, "start = \"latest\"\n");
        stamp
    };
    let mut a = latest(&no_checkpoints, "a");
    let mut b = latest(&lake, "b");
    let running_a = a.start().await;
    let running_b = b.start().await;
    until_owned(&lake, &[("a", 3), ("b", 3)]).await;
    // Both have opened what they own, and nothing was ever sent.
    pass(RENEW_EVERY).await;
    let mut sent = 0;
    publish(&hub, &mut sent, 20);
    let all_there = async |sent: i64| {
        until("all rows are there", async || {
            b.rows("alpha", "readings").await == each_once(sent)
        })
        .await
    };
    all_there(sent).await;

    running_a.kill().await;
    publish(&hub, &mut sent, 20);
    until_owned(&lake, &[("b", 6)]).await;
    publish(&hub, &mut sent, 20);

    all_there(sent).await;
    running_b.stop().await.unwrap();
    assert_eq!(b.rows("alpha", "readings").await, each_once(sent));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_share_beside_a_balanced_one_is_refused_by_both_names() {
    let mut stamp = Stamp::new(&hub(2)).with("partitions = [0]\n[consumer.ownership]");
    let Err(error) = stamp.try_start().await else {
        panic!("it started");
    };
    assert!(matches!(error, ConsumerError::Config(_)), "{error:?}");
    let text = stamp_consumer::chain(&error).to_string();
    assert!(text.contains("consumer.partitions") && text.contains("consumer.ownership"));
    let printed = ConsumerConfig::parse(
        "stamp = \"s-1\"\nhub = { endpoint = \"amqp://127.0.0.1\", hub = \"h\" }\n\
         store = { url = \"memory:\" }\ntenants = []\n[consumer.ownership]",
        std::path::Path::new("stamp.toml"),
    )
    .unwrap();
    let ownership = printed.consumer.ownership.unwrap();
    assert_eq!(ownership.renew_every, RENEW_EVERY);
    assert_eq!(ownership.expire_after, EXPIRE_AFTER);
    assert_eq!(ownership.owner_id, None);
}
