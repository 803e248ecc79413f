//! `stampworks inspect` says where an event is, or why it is nowhere, and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::replay::{answer, stampworks};
use crate::support::publish;
use crate::verify::{EVENTS, settled_stamp};

async fn inspect(config: &Path, what: &[&str]) -> serde_json::Value {
    let config = config.to_str().unwrap();
    let arguments = [
        &["inspect"],
        what,
        &["--config", config, "--output", "json"],
    ]
    .concat();
    answer(stampworks(&arguments).await)
}

async fn event(config: &Path, partition: &str, sequence: &str) -> serde_json::Value {
    inspect(
        config,
        &["event", "--partition", partition, "--sequence", sequence],
    )
    .await
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        }
        all.insert(path);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_in_its_table_file_and_commit_or_it_is_said_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    let before = files(&folder.path().join("tables"));

    // Message 8 is event 4 of partition 0.
    let reading = event(&config, "0", "4").await;
    let place = &reading["found"][0];
    assert_eq!(place["table"], "contoso/readings", "{reading}");
    assert_eq!(
        (&place["device_id"], &place["row_group"]),
        (&"d-8".into(), &0.into())
    );
    assert_eq!(place["rows"].as_array().unwrap().len(), 1, "{reading}");
    assert!(place["version"].as_u64().unwrap() >= 1 && place["committed_at"].is_string());
    let file = folder
        .path()
        .join("tables/contoso/readings")
        .join(place["file"].as_str().unwrap());
    assert!(file.exists(), "{reading}");
    assert_eq!(reading["rollups"][0]["device_id"], "d-8", "{reading}");
    assert!(reading["why_not"].is_null());

    // Messages 7 and 13: events 3 and 6 of partition 1.
    for (sequence, table, reason) in [
        ("3", "contoso/rejected", "out_of_range"),
        ("6", "_stamp/quarantine", "unknown_tenant"),
    ] {
        let kept = event(&config, "1", sequence).await;
        let place = &kept["found"][0];
        assert_eq!(
            (&place["table"], &place["reason"]),
            (&table.into(), &reason.into()),
            "{kept}"
        );
        let page = place["page"].as_str().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(project.join(page).exists(), "no page {page}");
    }

    publish(&emulator.hub("telemetry").unwrap(), EVENTS);
    for (sequence, why) in [
        ("200", "above the checkpoint (199)"),
        ("99999", "beyond the hub's end: its last event is 200"),
        ("-5", "the first event of a partition has number 0"),
    ] {
        let nowhere = event(&config, "0", sequence).await;
        let said = nowhere["why_not"].as_str().unwrap();
        assert!(said.contains(why), "{sequence}: {said}");
    }

    // Message 8 again, by its device's clock.
    let near = [
        "event",
        "--device",
        "d-8",
        "--at",
        "2026-11-24T12:00:00.008Z",
        "--limit",
        "1",
    ];
    let near = inspect(&config, &near).await;
    assert_eq!(near["found"][0]["sequence"], 4, "{near}");
    assert_eq!(near["found"].as_array().unwrap().len(), 1, "{near}");
    assert_eq!(
        files(&folder.path().join("tables")),
        before,
        "it only reads"
    );
    emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_and_a_table_are_told_with_the_hub_and_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;

    let partition = inspect(&config, &["partition", "1"]).await;
    for (key, value) in [
        ("begin_sequence", 0),
        ("last_sequence", 199),
        ("checkpoint", 199),
        ("lag_events", 0),
        ("headroom_events", 200),
    ] {
        assert_eq!(partition[key], value, "{key}: {partition}");
    }
    assert!(
        partition["highest_mark"].as_i64().unwrap() <= 199,
        "{partition}"
    );
    let unknown = inspect(&config, &["partition", "9"]).await;
    assert!(
        unknown["notes"][0]
            .as_str()
            .unwrap()
            .contains("none of them"),
        "{unknown}"
    );

    emulator.stop().await;
    let offline = ["partition", "1", "--offline", "--namespace", "127.0.0.1"];
    let partition = inspect(&config, &offline).await;
    assert_eq!(partition["checkpoint"], 199, "{partition}");
    assert!(partition["last_sequence"].is_null() && partition["highest_mark"].is_i64());

    let table = inspect(&config, &["table", "contoso/readings"]).await;
    assert_eq!(table["rows"], EVENTS - 40, "{table}");
    assert_eq!(table["marks"].as_object().unwrap().len(), 2, "{table}");
    assert_eq!(table["files"], table["small_files"], "{table}");
    let columns = table["columns"].as_array().unwrap();
    assert!(
        columns
            .iter()
            .any(|column| column["name"] == "value" && column["type"] == "double")
    );
    let newest = &table["commits"][0];
    assert_eq!(newest["version"], table["version"], "{table}");
    assert!(newest["rows_added"].as_u64().unwrap() > 0, "{table}");

    let config = config.to_str().unwrap();
    let (code, _, err) =
        stampworks(&["inspect", "table", "contoso/reading", "--config", config]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("contoso/readings"), "{err}");
    let (code, out, err) =
        stampworks(&["inspect", "table", "contoso/readings", "--config", config]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("commits, newest first"), "{out}");
}
