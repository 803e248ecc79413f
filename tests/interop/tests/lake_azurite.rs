//! The lake's promises on a blob service that nobody here wrote.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../../../crates/stamp-lake/tests/lake/suite/mod.rs"]
mod suite;

use std::io::Write;
use std::time::Duration;

use stamp_interop::{Azurite, Language, run_script};
use stamp_lake::{Checkpoint, Claim, Lake, LakeError, StoreConfig};
use tokio::runtime::Handle;

const SCRIPT_MAX: Duration = Duration::from_secs(120);

struct Blobs {
    lake: Lake,
    azurite: Azurite,
    _key: tempfile::NamedTempFile,
}

/// A lake below `prefix` of a fresh container, opened as the service opens it.
fn blobs(prefix: &str) -> Blobs {
    let azurite = Azurite::start();
    azurite.create_container("lake");
    let (lake, key) = open(&azurite, &format!("lake{prefix}"));
    Blobs {
        lake,
        azurite,
        _key: key,
    }
}

fn open(azurite: &Azurite, place: &str) -> (Lake, tempfile::NamedTempFile) {
    let mut key = tempfile::NamedTempFile::new().unwrap();
    writeln!(key, "{}", azurite.account_key()).unwrap();
    let mut config = StoreConfig::new(format!("az://{}/{place}", azurite.account_name()));
    config.endpoint = Some(azurite.endpoint());
    config.account_key_file = Some(key.path().to_owned());
    (Lake::open(&config, Handle::current()).unwrap(), key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_keep_their_promises_on_a_blob_service() {
    let blobs = blobs("/stamps/stamp-01");
    suite::tables::all(&blobs.lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_keep_their_promises_on_a_blob_service() {
    let blobs = blobs("");
    suite::checkpoints::all(&blobs.lake).await;
    suite::checkpoints::all_with_compare_and_set(&blobs.lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ownership_keeps_its_promises_on_a_blob_service() {
    let blobs = blobs("/stamps/stamp-01");
    suite::ownerships::all(&blobs.lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_the_one_the_azure_sdk_knows() {
    let blobs = blobs("");
    let namespace = "Contoso.servicebus.windows.net";
    let group = blobs.lake.checkpoints(namespace, "Telemetry", "$Default");
    let ours = Checkpoint {
        sequence: 78,
        offset: "4294968792".into(),
        hub_created_at_ms: None,
    };
    group.advance(suite::partition(3), &ours).await.unwrap();

    let answer = run_script(
        Language::Python,
        "scripts/checkpoint_store.py",
        &[
            &blobs.azurite.connection_string(),
            "lake",
            &namespace.to_lowercase(),
            "telemetry",
            "$default",
        ],
        SCRIPT_MAX,
    );

    // The SDK's own store reads what we wrote, and writes partition 5 for us to read.
    assert_eq!(answer["read"][0]["partition_id"], "3", "{answer}");
    assert_eq!(answer["read"][0]["sequence_number"], 78, "{answer}");
    assert_eq!(answer["read"][0]["offset"], "4294968792", "{answer}");
    let theirs = group.read(suite::partition(5)).await.unwrap();
    let expected = Checkpoint {
        sequence: 41,
        offset: "9001".into(),
        hub_created_at_ms: None,
    };
    assert_eq!(theirs, Some(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ownership_is_shared_with_the_store_of_the_azure_sdk() {
    let blobs = blobs("");
    let namespace = "Contoso.servicebus.windows.net";
    let group = blobs
        .lake
        .ownerships(namespace, "Telemetry", "$Default")
        .unwrap();
    let mut held = Vec::new();
    for number in 0..3 {
        let claim = group.claim(suite::partition(number), "replica-1", None);
        let Claim::Won(ownership) = claim.await.unwrap() else {
            panic!("nobody else was there");
        };
        held.push(ownership);
    }
    // A renewal, and a release: the SDK sees the last version, and an owner that is empty.
    let renewed = group
        .claim(suite::partition(0), "replica-1", Some(&held[0]))
        .await;
    assert!(matches!(renewed, Ok(Claim::Won(_))), "{renewed:?}");

    let answer = run_script(
        Language::Python,
        "scripts/ownership_store.py",
        &[
            &blobs.azurite.connection_string(),
            "lake",
            &namespace.to_lowercase(),
            "telemetry",
            "$default",
        ],
        SCRIPT_MAX,
    );

    assert_eq!(
        answer,
        serde_json::json!({
            "owners": {"0": "replica-1", "1": "replica-1", "2": "replica-1"},
            "taken": ["0"],
            "behind": [],
            "new": ["5"],
            "given_back": ["2"],
        })
    );
    let listed = group.list().await.unwrap();
    let owners: Vec<_> = listed
        .iter()
        .map(|found| (found.partition.number(), found.owner_id.as_str()))
        .collect();
    assert_eq!(owners, [(0, "sdk"), (1, "replica-1"), (2, ""), (5, "sdk")]);
    // What the SDK took or gave back is no longer held here; the rest is.
    assert!(!group.release(&held[0]).await.unwrap());
    assert!(group.release(&held[1]).await.unwrap());
    assert!(!group.release(&held[2]).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_not_there_and_a_wrong_key_are_told_apart() {
    let blobs = blobs("");
    let (lake, _key) = open(&blobs.azurite, "elsewhere");
    let error = lake.probe().await.unwrap_err();
    assert!(matches!(error, LakeError::Missing { .. }), "{error:?}");

    let mut key = tempfile::NamedTempFile::new().unwrap();
    writeln!(key, "bm90IHRoZSBrZXk=").unwrap();
    let mut config = StoreConfig::new(format!("az://{}/lake", blobs.azurite.account_name()));
    config.endpoint = Some(blobs.azurite.endpoint());
    config.account_key_file = Some(key.path().to_owned());
    let lake = Lake::open(&config, Handle::current()).unwrap();
    let error = lake.probe().await.unwrap_err();
    assert!(matches!(error, LakeError::Denied { .. }), "{error:?}");
}
