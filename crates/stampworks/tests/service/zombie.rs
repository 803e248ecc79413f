//! Replicas that stop without a word and come back, or cannot reach the blobs they share by.

use std::time::Duration;

use crate::stamp::{EAGER, SOON, Stamp, until};
use stamp_interop::{Answer, Fault, Rule};

/// Fault scenario 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_stopped_past_its_expiry_wakes_to_conflicts_and_every_row_is_there_once()
{
    let mut stamp = Stamp::new(4).await;
    // Long enough that the stopped one holds rows which it has read and not written.
    let more = format!("flush-age = \"2s\"\nbatch-wait-max = \"50ms\"\n{SOON}");
    let mut zombie = stamp.replica("a", 3, &more);
    stamp.until_owned(&[("a", 4)]).await;
    let heir = stamp.replica("b", 3, &more);
    stamp
        .until_balanced(&[("a", &zombie, 2), ("b", &heir, 2)])
        .await;

    stamp.publish(400);
    until("both have read everything", async || {
        stamp.hub.counters().events_sent >= stamp.sent()
    })
    .await;
    zombie.signal("STOP");
    stamp.until_owned(&[("b", 4)]).await;
    stamp.publish(400);
    stamp.until_settled().await;
    let dropped = || zombie.metric("stamp_duplicate_rows_dropped_total", &[]);

    zombie.signal("CONT");
    until("its rows are dropped by the marks", async || {
        dropped() > 0.0
    })
    .await;
    stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    stamp.publish(400);
    stamp.until_settled().await;
    let log = zombie.log();
    let noticed =
        log.contains("lost to another owner") || log.contains("gave the partition to another");
    assert!(noticed, "it never noticed:\n{log}");
    assert!(zombie.is_running());

    zombie.stop();
    heir.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

/// Fault scenario 14.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_ownership_blobs_cannot_be_had_every_replica_keeps_reading_and_takes_nothing() {
    let mut stamp = Stamp::new(4).await;
    let more = format!("{EAGER}{SOON}");
    let a = stamp.replica("a", 3, &more);
    let b = stamp.replica("b", 3, &more);
    stamp.until_balanced(&[("a", &a, 2), ("b", &b, 2)]).await;

    // Both lists and blobs: the prefix of a list is in its query, escaped.
    for path in ["/ownership", "%2Fownership"] {
        stamp
            .store
            .inject(Rule::new(Fault::Answer(Answer::busy())).path(path));
    }
    let mut late = stamp.replica("c", 3, &more);
    late.wait_for("ownership cannot be read");
    let failed = || a.metric("stamp_ownership_claims_total", &[("outcome", "failed")]);
    // Each failure is a round of a second or more: this is well past the expiry.
    until("six rounds have failed", async || failed() >= 6.0).await;
    stamp.publish(800);
    stamp.until_settled().await;
    for (service, owned) in [(&a, 2.0), (&b, 2.0), (&late, 0.0)] {
        assert_eq!(
            service.metric("stamp_partitions_owned", &[]),
            owned,
            "{}",
            service.log()
        );
    }

    stamp.store.clear();
    until("the late one has a share", async || {
        late.metric("stamp_partitions_owned", &[]) > 0.0
    })
    .await;
    stamp.publish(400);
    stamp.until_settled().await;
    late.watch(Duration::ZERO);
    for service in [a, b, late] {
        service.stop();
    }
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
