//! A tenant over its quota costs the others nothing, and loses nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::faults::{Decision, Fault, Moment, Request, Schedule};
use stamp_model::Event;
use tokio::time::{interval, timeout};

use crate::P0;
use crate::support::{Rows, Stamp, broken_while, event, hub, once, partition, reading};

/// When the events of the support module were enqueued: the beginning of a minute.
const START_US: i64 = 1_795_521_600_000_000;
const SECONDS: i64 = 120;

fn at(second: i64, mut event: Event) -> Event {
    event.enqueued_at_us = START_US + second * 1_000_000;
    event
}

/// A store that takes its time for every request.
struct Slow(Duration);

impl Schedule for Slow {
    fn decide(&self, _request: &Request<'_>, moment: Moment) -> Decision {
        let takes = self.0;
        Box::pin(async move {
            if moment == Moment::Before {
                let _over = timeout(takes, std::future::pending::<()>()).await;
            }
            Fault::None
        })
    }
}

/// Four events of `alpha`, `flood` of `beta` and two of `gamma` a second. Gives the longest time
/// that a row of `alpha` waited, in seconds.
async fn two_minutes(hub: &MemoryHub, stamp: &mut Stamp, flood: usize) -> f64 {
    let slow = stamp
        .lake
        .with_schedule(Arc::new(Slow(Duration::from_millis(50))));
    for tenant in ["alpha", "beta"] {
        stamp.tenant_lakes.entry(tenant).or_insert(slow.clone());
    }
    let running = stamp.start().await;
    running.until_read(-1).await;
    let oldest = r#"stamp_oldest_unflushed_age_seconds{stamp="s-1",tenant="alpha"}"#;
    let mut longest: f64 = 0.0;
    let mut ticks = interval(Duration::from_millis(100));
    for tick in 0..SECONDS * 10 {
        ticks.tick().await;
        longest = longest.max(stamp.metric(oldest));
        if tick % 10 == 0 {
            let devices = [("a-1", 4), ("b-1", flood), ("c-1", 2)];
            for (device, count) in devices {
                for _ in 0..count {
                    hub.append(partition(P0), at(tick / 10, reading(device, 1.0)));
                }
            }
        }
    }
    stamp
        .until_rows("alpha", "readings", SECONDS.unsigned_abs() * 4)
        .await;
    longest = longest.max(stamp.metric(oldest));
    running.stop().await.unwrap();
    longest
}

fn count(rows: &Rows) -> (usize, u64) {
    (rows.len(), rows.values().sum())
}

/// Fault scenario 33.
#[tokio::test(start_paused = true)]
async fn a_flood_and_a_broken_store_of_other_tenants_leave_a_tenants_lag_as_it_was() {
    let keys = "tenant-stall-max = \"5s\"\ndrain-max = \"5s\"\nflush-rows = 200";
    let quiet_hub = hub(1);
    let mut quiet = Stamp::new(&quiet_hub).with(keys);
    let usual = two_minutes(&quiet_hub, &mut quiet, 2).await;

    let hub = hub(1);
    let mut stamp = Stamp::new(&hub).with(keys);
    stamp.quota = "{ events-per-second = 2 }";
    let broken = Arc::new(AtomicBool::new(true));
    stamp
        .tenant_lakes
        .insert("gamma", broken_while(&stamp.lake, &broken));
    let longest = two_minutes(&hub, &mut stamp, 100).await;

    assert!(usual > 1.0, "{usual}");
    assert!(longest <= 2.0 * usual, "{longest} s instead of {usual} s");
    let over =
        stamp.metric(r#"stamp_over_quota_events_total{quota="events",stamp="s-1",tenant="beta"}"#);
    assert!((over - 98.0 * 120.0).abs() < 0.5, "{over}");
    // What gamma could not write is read again.
    broken.store(false, Ordering::Release);
    let running = stamp.start().await;
    running.until_settled(SECONDS * 106 - 1).await;
    running.stop().await.unwrap();
    assert_eq!(count(&stamp.rows("alpha", "readings").await), (480, 480));
    assert_eq!(count(&stamp.rows("gamma", "readings").await), (240, 240));
    let (beta, kept) = (
        stamp.rows("beta", "readings").await,
        stamp.quarantined("over_quota").await,
    );
    assert_eq!(count(&beta).0 + count(&kept).0, 12_000);
    assert_eq!(count(&beta).1 + count(&kept).1, 12_000);
    assert_eq!(count(&beta).0, 240);
}

#[tokio::test(start_paused = true)]
async fn events_read_late_and_all_at_once_are_within_the_quota_their_tenant_kept() {
    let hub = hub(1);
    for second in 0..3_600 {
        hub.append(partition(P0), at(second, reading("b-1", 1.0)));
    }
    let mut stamp = Stamp::new(&hub);
    stamp.quota = "{ events-per-second = 1, bytes-per-second = \"1KiB\", devices-max = 1 }";

    let running = stamp.start().await;
    running.until_settled(3_599).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("beta", "readings").await, once(0..3_600));
    assert_eq!(stamp.quarantined("over_quota").await, Rows::new());
}

#[tokio::test(start_paused = true)]
async fn each_part_of_a_quota_sends_what_is_over_to_quarantine_and_stays_with_its_tenant() {
    let hub = hub(2);
    for number in 0..100 {
        let device = format!("b-{}", number % 4);
        let large = format!(r#"{{"value":1,"pad":"{}"}}"#, "x".repeat(2_000));
        hub.append(partition(P0), at(number, event(&device, large)));
        hub.append(partition(1), at(number, reading("a-1", 1.0)));
    }
    let mut stamp = Stamp::new(&hub).with("partitions = [0]");
    // One of two partitions: half of it, so one device, and 30 KiB a minute.
    stamp.quota = "{ bytes-per-second = \"1KiB\", devices-max = 2 }";

    let running = stamp.start().await;
    running.until_settled(99).await;
    running.stop().await.unwrap();

    let counted = |quota: &str| {
        stamp.metric(&format!(
            r#"stamp_over_quota_events_total{{quota="{quota}",stamp="s-1",tenant="beta"}}"#
        ))
    };
    let beta = stamp.rows("beta", "readings").await;
    assert!(
        beta.keys().all(|(_, sequence)| sequence % 4 == 0),
        "{beta:?}"
    );
    // 15 bodies of 2 KB fit a minute; the device has 15 events in the first and 10 in the second.
    assert_eq!(count(&beta), (25, 25));
    // Once the bytes of the first minute are used up, its last three events are over those.
    let over = ["devices", "bytes", "events"].map(counted);
    assert_eq!(over.map(f64::round), [72.0, 3.0, 0.0]);
    assert_eq!(count(&stamp.quarantined("over_quota").await), (75, 75));
}
