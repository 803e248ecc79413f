//! Readers that nobody here wrote open the tables of a demo run and agree with the senders' ledger.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stamp_interop::{Language, run_script};

const TABLES: &str = include_str!("../../../../docs/tables.md");

fn merge_view() -> &'static str {
    let (_, after) = TABLES.split_once("```sql merge-view\n").unwrap();
    after.split_once("```").unwrap().0
}

/// Equal counts, and sums that differ by no more than the rounding of adding in another order.
#[track_caller]
fn assert_totals(who: &str, sent: &Value, found: &Value) {
    let sent = sent.as_object().unwrap();
    let found = found.as_object().unwrap();
    assert_eq!(
        sent.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>(),
        "{who}"
    );
    for (metric, total) in sent {
        let (a, b) = (
            total["sum"].as_f64().unwrap(),
            found[metric]["sum"].as_f64().unwrap(),
        );
        assert_eq!(total["count"], found[metric]["count"], "{who}: {metric}");
        assert!(
            (a - b).abs() <= a.abs() * 1e-11,
            "{who}: {metric}: sent {a}, found {b}"
        );
    }
}

#[test]
fn duckdb_pyarrow_polars_and_deltalake_agree_with_what_the_senders_sent() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("tables");

    let run = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .args(["demo", "--events", "30000", "--output", "json", "--tables"])
        .arg(&tables)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{errors}");
    let reports: Value = serde_json::from_slice(&run.stdout).unwrap();
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), 2);

    let view = folder.path().join("merge_view.sql");
    std::fs::write(&view, merge_view()).unwrap();
    let columns: BTreeMap<&str, BTreeMap<&str, Vec<&String>>> = reports
        .iter()
        .map(|report| {
            let tenants = report["expected"].as_object().unwrap().iter();
            (
                report["stamp"].as_str().unwrap(),
                tenants
                    .map(|(name, sent)| {
                        (
                            name.as_str(),
                            sent["metrics"].as_object().unwrap().keys().collect(),
                        )
                    })
                    .collect(),
            )
        })
        .collect();
    let found = run_script(
        Language::Python,
        "scripts/demo_readers.py",
        &[
            tables.to_str().unwrap(),
            view.to_str().unwrap(),
            &json!(columns).to_string(),
        ],
        Duration::from_secs(180),
    );

    let mut rows = 0;
    for report in reports {
        let stamp = report["stamp"].as_str().unwrap();
        assert_eq!(report["differences"], json!([]), "{stamp}");
        let quarantine = &found[stamp]["quarantine"];
        assert_eq!(&report["quarantine"], quarantine, "{stamp}");
        for (tenant, sent) in report["expected"].as_object().unwrap() {
            let found = &found[stamp]["tenants"][tenant];
            for reader in ["pyarrow", "deltalake", "polars", "duckdb"] {
                assert_eq!(
                    sent["rows"], found["rows"][reader],
                    "{tenant}: rows by {reader}"
                );
            }
            for key in ["events", "late", "clock_suspect", "rejected"] {
                assert_eq!(sent[key], found[key], "{tenant}: {key}");
            }
            for reader in ["pyarrow", "polars", "duckdb", "rollups"] {
                let who = format!("{tenant} by {reader}");
                assert_totals(&who, &sent["metrics"], &found["metrics"][reader]);
            }
            rows += sent["rows"].as_u64().unwrap();
        }
    }
    assert!(rows > 28_000, "the demo sent {rows} good rows");
}
