//! `stampworks verify` finds what is missing, what is there twice and what does not add up.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Service;
use crate::support::{PROCESS_MAX, emulator, publish, write_config};
use stamp_lake::{EncodeOptions, Lake, RawKind, StoreConfig, encode_raw};
use stamp_model::{AppId, HubIdentity, Mark, PartitionId, RawRow, StampId, TenantId};
use tokio::time::Instant;

pub(crate) const EVENTS: u64 = 400;

pub(crate) fn lake(folder: &Path) -> Lake {
    let store = StoreConfig::new(format!("file://{}/tables", folder.display()));
    Lake::open(&store, tokio::runtime::Handle::current()).unwrap()
}

/// Waits until the checkpoints of both partitions have reached the hub's end.
pub(crate) async fn settle(folder: &Path, hub: &stamp_emulator::Hub, service: &mut Service) {
    let checkpoints = lake(folder).checkpoints("127.0.0.1", "telemetry", "$Default");
    let until = Instant::now() + PROCESS_MAX;
    for number in 0..2 {
        let partition = PartitionId::new(number).unwrap();
        let last = hub.last_sequence(number);
        while checkpoints
            .read(partition)
            .await
            .unwrap()
            .is_none_or(|at| at.sequence < last)
        {
            service.watch(Duration::from_millis(20));
            assert!(Instant::now() < until, "partition {number} does not settle");
        }
    }
}

/// A stamp whose events are all in its tables, its hub still there.
pub(crate) async fn settled_stamp(
    folder: &Path,
) -> (stamp_emulator::EventHubsEmulator, std::path::PathBuf) {
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    (0..EVENTS).for_each(|number| publish(&hub, number));
    let endpoint = format!("amqp://{}", emulator.address());
    let store = format!("url = \"file://{}/tables\"", folder.display());
    let more = "[consumer]\nflush-rows = 50\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\n[resilience]\nstart-spread = \"1ms\"\n";
    let config = write_config(folder, &endpoint, &store, more);
    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");
    settle(folder, &hub, &mut service).await;
    assert_eq!(service.terminate().0.code(), Some(0));
    (emulator, config)
}

/// Exit code and what was printed.
pub(crate) async fn verify(config: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
    command.args(["verify", "--config"]).arg(config).args(more);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout) + &text(&out.stderr))
}

/// Puts a row of an event into `rejected`, under the mark of another partition number's app.
async fn sneak_in(folder: &Path, partition: u32, sequence: i64) {
    let row = RawRow {
        reason: "missing_field",
        detail: String::new(),
        rule: String::new(),
        tenant: None,
        device_id: None,
        partition: PartitionId::new(partition).unwrap(),
        sequence,
        offset: "".into(),
        enqueued_at_us: 1_795_521_600_000_000,
        content_type: None,
        properties: Vec::new(),
        body: bytes::Bytes::new(),
    };
    let table = lake(folder)
        .tenant(&TenantId::parse("contoso").unwrap())
        .rejected();
    let snapshot = table.load().await.unwrap();
    let hub = HubIdentity {
        namespace: "x".into(),
        hub: "x".into(),
        created_at_ms: 0,
    };
    let app = AppId::new(&StampId::parse("other").unwrap(), &hub, row.partition);
    let files = encode_raw(&[row], RawKind::Rejected, &EncodeOptions::default()).unwrap();
    let file = table.put(&files[0]).await.unwrap();
    table
        .append(&snapshot, vec![file], &[Mark { app, sequence }])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_adds_up_is_said_to_with_the_hub_and_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;

    let (code, printed) = verify(&config, &[]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("differences: 0"), "{printed}");

    emulator.stop().await;
    let (code, printed) = verify(
        &config,
        &["--offline", "--namespace", "127.0.0.1", "--output", "json"],
    )
    .await;
    assert_eq!(code, Some(0), "{printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let events: u64 = report["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["events"].as_u64().unwrap())
        .sum();
    assert_eq!(events, EVENTS);
    let contoso = &report["tenants"]["contoso"];
    let kept = contoso["readings_events"].as_u64().unwrap() + contoso["rejected"].as_u64().unwrap();
    assert_eq!(kept + report["quarantine"].as_u64().unwrap(), EVENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_checkpoint_is_not_found_is_said_to_be_unchecked() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    emulator.stop().await;

    let (code, printed) = verify(&config, &["--offline", "--namespace", "elsewhere"]).await;

    assert_eq!(code, Some(0), "{printed}");
    for number in 0..2 {
        let note = format!("note: partition {number} has no checkpoint");
        assert!(printed.contains(&note), "no {note:?} in:\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_two_tables_and_one_in_none_end_with_5() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;

    // Event 4 of partition 1 is a reading (message 9), and nobody has event 205 of 200.
    sneak_in(folder.path(), 1, 4).await;
    let checkpoints = lake(folder.path()).checkpoints("127.0.0.1", "telemetry", "$Default");
    let ahead = stamp_lake::Checkpoint {
        sequence: 205,
        offset: "".into(),
        hub_created_at_ms: None,
    };
    checkpoints
        .advance(PartitionId::new(0).unwrap(), &ahead)
        .await
        .unwrap();
    let (code, printed) = verify(&config, &[]).await;

    assert_eq!(code, Some(5), "{printed}");
    for words in [
        "partition 1: 1 events are there twice, such as [4]",
        "partition 0: events 200 to 205 are in no table",
        "partition 0: the checkpoint 205 is ahead of the hub's last event 199",
        "differences: 3",
    ] {
        assert!(printed.contains(words), "no {words:?} in:\n{printed}");
    }
    emulator.stop().await;
}
