//! Real processes share a hub's partitions on real blobs, also with a processor of the Azure SDK.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{
    PROCESS_MAX, Service, assert_tables, emulator, expected_up_to, publish, read_tables,
    write_config,
};
use serde_json::Value;
use stamp_emulator::{EventHubsEmulator, Hub};
use stamp_interop::{ACCOUNT_KEY, Azurite, Language, run_script};
use stamp_lake::{Lake, StoreConfig};
use stamp_model::PartitionId;
use tokio::time::{Instant, interval};

const PARTITIONS: u32 = 4;
const KEY_VARIABLE: &str = "STAMPWORKS_TEST_ACCOUNT_KEY";
const NAMESPACE: &str = "127.0.0.1";

/// A hub, a container and what is in them.
struct Stamp {
    azurite: Azurite,
    emulator: EventHubsEmulator,
    hub: Hub,
    folder: tempfile::TempDir,
    lake: Lake,
    sent: u64,
}

impl Stamp {
    async fn new() -> Self {
        let azurite = Azurite::start();
        azurite.create_container("stamp-share");
        let emulator = emulator(PARTITIONS).await;
        let hub = emulator.hub("telemetry").unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The key goes through a file here: this process has no such variable.
        let key = folder.path().join("account-key");
        std::fs::write(&key, ACCOUNT_KEY).unwrap();
        let store = StoreConfig {
            endpoint: Some(azurite.endpoint()),
            account_key_file: Some(key),
            ..StoreConfig::new(format!("az://{}/stamp-share", azurite.account_name()))
        };
        let lake = Lake::open(&store, tokio::runtime::Handle::current()).unwrap();
        Self {
            azurite,
            emulator,
            hub,
            folder,
            lake,
            sent: 0,
        }
    }

    /// A replica, as it would run in a pod of that name.
    fn replica(&self, name: &str) -> Service {
        let store = format!(
            "url = \"az://{}/stamp-share\"\nendpoint = \"{}\"\naccount-key-env = \"{KEY_VARIABLE}\"",
            self.azurite.account_name(),
            self.azurite.endpoint()
        );
        let more = format!(
            "[consumer]\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\n\
             [consumer.ownership]\nrenew-every = \"1s\"\nexpire-after = \"5s\"\nowner-id = \"{name}\"\n\
             [resilience]\nstart-spread = \"100ms\""
        );
        let folder: PathBuf = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let endpoint = format!("amqp://{}", self.emulator.address());
        let config = write_config(&folder, &endpoint, &store, &more);
        Service::start(&config, &[(KEY_VARIABLE, ACCOUNT_KEY)])
    }

    fn publish(&mut self, events: u64) {
        (self.sent..self.sent + events).for_each(|number| publish(&self.hub, number));
        self.sent += events;
    }

    async fn until(&self, what: &str, reached: impl AsyncFn() -> bool) {
        let until = Instant::now() + PROCESS_MAX;
        let mut ticks = interval(Duration::from_millis(100));
        while !reached().await {
            assert!(Instant::now() < until, "never came: {what}");
            ticks.tick().await;
        }
    }

    async fn until_owned(&self, expected: &[(&str, usize)]) {
        let group = self
            .lake
            .ownerships(NAMESPACE, "telemetry", "$default")
            .unwrap();
        let expected: BTreeMap<String, usize> = expected
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect();
        self.until(&format!("{expected:?}"), async || {
            let mut owners: BTreeMap<String, usize> = BTreeMap::new();
            for ownership in group.list().await.unwrap() {
                *owners.entry(ownership.owner_id).or_default() += 1;
            }
            owners == expected
        })
        .await;
    }

    async fn until_settled(&self) {
        let checkpoints = self.lake.checkpoints(NAMESPACE, "telemetry", "$default");
        self.until("everything is settled", async || {
            for number in 0..PARTITIONS {
                let partition = PartitionId::new(number).unwrap();
                let at = checkpoints.read(partition).await.unwrap();
                if at.is_none_or(|at| at.sequence < self.hub.last_sequence(number)) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Every message has its row, once.
    async fn assert_complete(&self) {
        let last: Vec<i64> = (0..PARTITIONS)
            .map(|number| self.hub.last_sequence(number))
            .collect();
        assert_tables(&read_tables(&self.lake).await, &expected_up_to(&last));
    }
}

#[track_caller]
fn stop(service: Service) {
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_replica_are_read_by_the_others_and_every_row_is_there_once() {
    let mut stamp = Stamp::new().await;
    stamp.publish(400);
    let a = stamp.replica("a");
    let b = stamp.replica("b");
    stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    stamp.publish(400);
    stamp.until_settled().await;

    stamp.publish(400);
    drop(a);
    stamp.until_owned(&[("b", 4)]).await;
    stamp.publish(400);
    let a = stamp.replica("a");
    stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    stamp.publish(400);
    stamp.until_settled().await;

    stop(b);
    stamp.until_owned(&[("a", 4)]).await;
    stamp.publish(400);
    stamp.until_settled().await;
    stop(a);
    stamp.until_owned(&[("", 4)]).await;
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_of_the_azure_sdk_has_its_share_and_gives_it_back() {
    let mut stamp = Stamp::new().await;
    stamp.publish(400);
    let a = stamp.replica("a");
    stamp.until_owned(&[("a", 4)]).await;
    stamp.until_settled().await;
    let arguments = [
        stamp.emulator.connection_string("telemetry"),
        stamp.azurite.connection_string(),
    ];
    let processor = tokio::task::spawn_blocking(move || -> Value {
        let [hub, blobs] = &arguments;
        run_script(
            Language::Python,
            "python/eventhubs_share.py",
            &[hub.as_str(), blobs.as_str(), "stamp-share", "2"],
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
    stop(a);
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
