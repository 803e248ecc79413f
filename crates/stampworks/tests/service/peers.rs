//! `benches/peers/run.py`, as documented: the smallest run, with the peers that need nothing built.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn peers_get_the_same_input_and_end_with_the_same_rows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new("python3")
        .arg(root.join("benches/peers/run.py"))
        .args(["--events", "10000", "--rounds", "1", "--partitions", "2"])
        .args(["--seed", "3", "--without", "azure_rust_receive"])
        .args(["--stampworks", env!("CARGO_BIN_EXE_stampworks")])
        .arg("--python")
        .arg(stamp_interop::python())
        .arg("--json")
        .arg(&report)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let results = report["results"].as_object().unwrap();
    let mut names: Vec<&String> = results.keys().collect();
    names.sort();
    let contestants = [
        "azure_python_pyarrow",
        "azure_python_receive",
        "duckdb_file",
        "polars_file",
        "stampworks_file",
        "stampworks_receive",
        "stampworks_whole",
    ];
    assert_eq!(names, contestants);
    let rejected = report["rejected"].as_u64().unwrap();
    assert!((50..200).contains(&rejected), "{rejected}");
    // The driver itself refuses other rows; here only that it looked.
    for name in [
        "duckdb_file",
        "polars_file",
        "stampworks_file",
        "azure_python_pyarrow",
    ] {
        let told = &results[name]["runs"][0]["told"];
        assert_eq!(told["rows"].as_u64(), Some(10_000 - rejected), "{name}");
        assert!(told["rollup_rows"].as_u64() > Some(0), "{name}");
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("| DuckDB |"), "{table}");
}
