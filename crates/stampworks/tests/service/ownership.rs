//! Real processes share a hub's partitions on real blobs, also with a processor of the Azure SDK.

use crate::process::Service;
use crate::stamp::{EAGER, Stamp};
use crate::support::PROCESS_MAX;
use serde_json::Value;
use stamp_interop::{Language, run_script};

const PARTITIONS: u32 = 4;

fn replica(stamp: &Stamp, name: &str) -> Service {
    let more = format!("{EAGER}[resilience]\nstart-spread = \"100ms\"");
    stamp.replica(name, 5, &more)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_replica_are_read_by_the_others_and_every_row_is_there_once() {
    let mut stamp = Stamp::new(PARTITIONS).await;
    stamp.publish(400);
    let a = replica(&stamp, "a");
    let b = replica(&stamp, "b");
    stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    stamp.publish(400);
    stamp.until_settled().await;

    stamp.publish(400);
    drop(a);
    stamp.until_owned(&[("b", 4)]).await;
    stamp.publish(400);
    let a = replica(&stamp, "a");
    stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    stamp.publish(400);
    stamp.until_settled().await;

    b.stop();
    stamp.until_owned(&[("a", 4)]).await;
    stamp.publish(400);
    stamp.until_settled().await;
    a.stop();
    stamp.until_owned(&[("", 4)]).await;
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_of_the_azure_sdk_has_its_share_and_gives_it_back() {
    let mut stamp = Stamp::new(PARTITIONS).await;
    stamp.publish(400);
    let a = replica(&stamp, "a");
    stamp.until_owned(&[("a", 4)]).await;
    stamp.until_settled().await;
    let arguments = [
        stamp.emulator.connection_string("telemetry"),
        stamp.azurite.connection_string(),
        stamp.container().to_owned(),
        "2".to_owned(),
    ];
    let processor = tokio::task::spawn_blocking(move || -> Value {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_script(
            Language::Python,
            "python/eventhubs_share.py",
            &arguments,
            PROCESS_MAX * 2,
        )
    });
    let said = processor.await.unwrap();

    assert_eq!(said["shared"], true, "{said}");
    assert_eq!(said["share"].as_array().map(Vec::len), Some(2), "{said}");
    assert_eq!(said["moved"], false, "both keep what they have: {said}");
    // It is gone, and what it had is read by the replica again.
    stamp.publish(400);
    stamp.until_owned(&[("a", 4)]).await;
    stamp.until_settled().await;
    a.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
