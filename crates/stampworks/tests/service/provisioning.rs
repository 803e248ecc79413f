//! The demo of provisioning is the story of a device: registered, tried out, moved, never touched.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stamp_interop::{Language, run_script};

const SCRIPT_MAX: Duration = Duration::from_secs(120);

fn demo(arguments: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .args(["demo", "--provisioning"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

fn numbers(value: &Value) -> Vec<i64> {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|number| number.as_i64().unwrap()).collect()
}

/// Fault scenario 51.
#[test]
fn devices_go_from_test_to_production_without_a_gap_and_without_an_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("demo");
    let python = stamp_interop::python();
    let (code, report, errors) = demo(&[
        "--python",
        python.to_str().unwrap(),
        "--tables",
        tables.to_str().unwrap(),
        "--devices",
        "2",
        "--output",
        "json",
    ]);
    assert_eq!(code, Some(0), "{errors}\n{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["story"]["differences"], 0);
    assert_eq!(report["move"]["verdict"], "complete", "{}", report["move"]);

    let stamps = ["test-1", "eu-contoso", "us-1"];
    let mut arguments = vec![tables.to_str().unwrap()];
    arguments.extend(stamps);
    let found = run_script(
        Language::Python,
        "scripts/story_readers.py",
        &arguments,
        SCRIPT_MAX,
    );
    let (found, booked) = (&found["readings"], &found["bookings"]);
    let devices = report["story"]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 4);
    for device in devices {
        let id = device["device"].as_str().unwrap();
        let production = if id.starts_with("contoso") {
            "eu-contoso"
        } else {
            "us-1"
        };
        let booking = booked
            .as_object()
            .unwrap()
            .iter()
            .find(|(subject, _)| subject.ends_with(id));
        assert_eq!(
            booking.map(|(_, stamp)| stamp.as_str().unwrap()),
            Some(production),
            "{booked}"
        );
        let places = found[id].as_object().unwrap();
        assert_eq!(places.len(), 2, "{id}: {places:?}");
        let mut all = numbers(&found[id]["test-1"]);
        let before = all.len();
        all.extend(numbers(&found[id][production]));
        assert!(before > 0 && all.len() > before, "{id}: {places:?}");
        let sent = device["sent"].as_i64().unwrap();
        assert_eq!(all, (0..sent).collect::<Vec<_>>(), "{id}");
        let rejected = device["rejected"].as_str().unwrap();
        assert!(rejected.starts_with("connect at 127."), "{id}: {rejected}");
    }
}

#[test]
fn a_python_without_the_client_is_told_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("demo");
    let tables = tables.to_str().unwrap();
    let (code, _, errors) = demo(&["--python", "no-such-python", "--tables", tables]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("no-such-python") && errors.contains("azure-iot-device"),
        "{errors}"
    );
}
