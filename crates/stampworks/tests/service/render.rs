//! `stampworks fleet render`: what it writes, and what it leaves alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fleet::{Copied, example, good, run};

/// Every file below a folder, by its path in it.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut work = vec![folder.to_owned()];
    while let Some(at) = work.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                work.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn overlays_are_the_ones_in_the_examples_byte_for_byte() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let example = example();
    let usage = example.join("../usage.toml");
    let args = [
        "render",
        "--fleet",
        example.to_str().unwrap(),
        "--usage",
        usage.to_str().unwrap(),
        "--out",
        folder,
    ];
    good(&args);
    let written = tree(out.path());
    let mut expected = tree(&example.join("../../kubernetes"));
    // Beside them: what is made by hand, and what kustomize makes of it.
    let by_hand = ["provisioner/", "mover/", "rendered/"];
    expected.retain(|name, _| !by_hand.iter().any(|folder| name.starts_with(folder)));
    assert_eq!(
        written.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, text) in &expected {
        assert_eq!(
            written[name], *text,
            "{name}: render deploy/kubernetes again"
        );
    }
    assert!(
        good(&args).starts_with("39 files were as they should be"),
        "twice is once"
    );
    for stamp in ["weu-test", "weu-1", "weu-fabrikam", "eus-1"] {
        let config = out.path().join("overlays").join(stamp).join("stamp.toml");
        let out = Command::new(env!("CARGO_BIN_EXE_stampworks"))
            .args([
                "consume",
                "--check-config",
                "--config",
                config.to_str().unwrap(),
            ])
            // As the webhook of workload identity sets them in the pod.
            .env("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000002")
            .env("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000009")
            .env("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token")
            .env("EVENT_HUB_CONNECTION_STRING", "unused")
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{stamp}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

#[test]
fn a_stamp_on_a_local_folder_gets_no_overlay_and_is_named() {
    let copied = Copied::new();
    copied.change(
        "stamps.toml",
        "storage-root = \"az://contosoweutest/telemetry\"",
        "storage-root = \"file:///data\"",
    );
    let usage = copied.file("usage", "");
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let args = [
        "render",
        "--fleet",
        copied.path(),
        "--usage",
        &usage,
        "--out",
        folder,
    ];

    let (code, _, errors) = run(&args);

    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("weu-test writes to a local folder"),
        "{errors}"
    );
    assert!(!out.path().join("overlays/weu-test").exists());
    assert!(out.path().join("overlays/weu-fabrikam").exists());
}

#[test]
fn a_file_that_render_did_not_write_is_never_touched() {
    let copied = Copied::new();
    let usage = copied.file("usage", "");
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let args = [
        "render",
        "--fleet",
        copied.path(),
        "--usage",
        &usage,
        "--out",
        folder,
    ];
    fs::create_dir_all(out.path().join("overlays/weu-test")).unwrap();
    let mine = out.path().join("overlays/weu-test/stamp.toml");
    fs::write(&mine, "mine").unwrap();
    let (code, _, errors) = run(&args);
    assert_eq!(
        (code, errors.contains("overlays/weu-test/stamp.toml")),
        (Some(1), true),
        "{errors}"
    );
    assert_eq!(tree(out.path()).len(), 1, "nothing was written");

    fs::remove_file(&mine).unwrap();
    good(&args);
    fs::write(&mine, "changed by hand").unwrap();
    assert_eq!(run(&args).0, Some(1));
    assert_eq!(fs::read_to_string(&mine).unwrap(), "changed by hand");

    fs::remove_file(&mine).unwrap();
    copied.change(
        "stamps.toml",
        "id = \"weu-test\"\n",
        "id = \"weu-test\"\nstate = \"closed\"\n",
    );
    copied.change(
        "tenants.toml",
        "stamps = [\"weu-fabrikam\", \"weu-test\"]",
        "stamps = [\"weu-fabrikam\"]",
    );
    let said = good(&args);
    assert!(
        said.contains("removed overlays/weu-test/deployment.yaml"),
        "{said}"
    );
}
