//! The hub is cut off from one process: it comes back by itself, and the others never notice.

use crate::process::Service;
use crate::stamp::{EAGER, ENVIRONMENT, SOON, Stamp, replica, until};
use stamp_interop::FaultProxy;

/// Fault scenario 22.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cut_off_from_the_hub_backs_off_and_the_other_partitions_go_on() {
    let mut stamp = Stamp::new(4).await;
    let network = FaultProxy::bytes(stamp.emulator.address()).unwrap();
    let more = format!("{EAGER}{SOON}");
    let config = stamp.config_at("a", network.address(), &replica("a", 30, &more));
    let mut cut_off = Service::start(&config, &ENVIRONMENT);
    let other = stamp.replica("b", 30, &more);
    stamp
        .until_balanced(&[("a", &cut_off, 2), ("b", &other, 2)])
        .await;

    network.refuse(true);
    let from = network.connections();
    let tried = || {
        cut_off.metric(
            "stamp_retry_attempts_total",
            &[("operation", "partition.open")],
        )
    };
    let before = tried();
    stamp.publish(400);
    until("only the other's events are settled", async || {
        stamp.unsettled().await == 200 && other.metric("stamp_partitions_owned", &[]) == 2.0
    })
    .await;
    until("it has tried and rested", async || {
        tried() >= before + 10.0
            && cut_off.metric("stamp_retry_pause_seconds_count", &[("peer", "eventhubs")]) >= 5.0
    })
    .await;
    assert_eq!(network.connections(), from, "nobody listened");
    assert_eq!(stamp.unsettled().await, 200, "its events wait at the hub");
    assert!(cut_off.is_running(), "{}", cut_off.log());

    network.refuse(false);
    stamp.until_settled().await;

    // And once more as a connection that only goes silent, then cut.
    network.freeze(true);
    stamp.publish(400);
    until("only the other's events are settled", async || {
        stamp.unsettled().await == 200
    })
    .await;
    network.cut();
    network.freeze(false);
    stamp.until_settled().await;

    cut_off.stop();
    other.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
