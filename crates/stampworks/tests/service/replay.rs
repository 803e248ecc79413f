//! `stampworks replay`: what was refused comes back once after a fix, beside the running service.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Service;
use crate::support::{PROCESS_MAX, SCHEMA, publish};
use crate::verify::{EVENTS, settle, settled_stamp, verify};
use tokio::time::{Instant, interval};

/// Exit code, what was printed to stdout, and to stderr.
pub(crate) async fn stampworks(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampworks"));
    command.args(arguments);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// The answer of a command that ends well, as JSON.
#[track_caller]
pub(crate) fn answer((code, out, err): (Option<i32>, String, String)) -> serde_json::Value {
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

async fn replay(config: &Path, source: &str, more: &[&str]) -> serde_json::Value {
    let config = config.to_str().unwrap();
    let arguments = ["replay", source, "--config", config, "--output", "json"];
    answer(stampworks(&[&arguments, more].concat()).await)
}

/// From now on the values of rejected messages are valid, and the stranger is a device of contoso.
fn fix_rules(folder: &Path, config: &Path) {
    let schema = SCHEMA.replace("max = 1000.0", "max = 1000000.0");
    std::fs::write(folder.join("contoso.toml"), schema).unwrap();
    let text = std::fs::read_to_string(config).unwrap();
    let text = text.replace(r#"["d-*"]"#, r#"["d-*", "stranger"]"#);
    std::fs::write(config, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_valid_after_a_fix_come_back_once_and_the_stamp_still_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    let hub = emulator.hub("telemetry").unwrap();
    let dry = replay(&config, "rejected", &["--dry-run"]).await;
    assert_eq!(dry["still_rejected"]["out_of_range"], 20, "{dry}");

    fix_rules(folder.path(), &config);
    let dry = replay(&config, "rejected", &["--dry-run", "--tenant", "contoso"]).await;
    assert_eq!(
        (&dry["returned"], &dry["dry_run"]),
        (&20.into(), &true.into()),
        "{dry}"
    );
    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");
    (EVENTS..2 * EVENTS).for_each(|number| publish(&hub, number));
    let rejected = replay(&config, "rejected", &["--reason", "out_of_range"]).await;
    assert_eq!(rejected["returned"], 20, "{rejected}");
    let quarantined = replay(&config, "quarantine", &[]).await;
    assert_eq!(quarantined["returned"], 20, "{quarantined}");
    settle(folder.path(), &hub, &mut service).await;
    assert_eq!(service.terminate().0.code(), Some(0));

    let (code, printed) = verify(&config, &["--output", "json"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let contoso = &report["tenants"]["contoso"];
    assert_eq!(contoso["readings_events"], 2 * EVENTS, "{printed}");
    assert_eq!(
        (&contoso["rejected"], &contoso["rejected_returned"]),
        (&20.into(), &20.into())
    );
    assert_eq!(report["quarantine_returned"], 20, "{printed}");

    emulator.stop().await;
    let offline = ["--offline", "--namespace", "127.0.0.1"];
    let again = replay(&config, "quarantine", &offline).await;
    assert_eq!(
        (&again["already_there"], &again["returned"]),
        (&20.into(), &0.into()),
        "{again}"
    );
}

/// SIGKILL when the process has made `more` files below `folder`, or has ended.
async fn kill_after_files(child: &mut std::process::Child, folder: &Path, more: usize) {
    let enough = files_below(folder) + more;
    let until = Instant::now() + PROCESS_MAX;
    let mut ticks = interval(Duration::from_millis(1));
    while files_below(folder) < enough && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it neither writes nor ends");
        ticks.tick().await;
    }
    // Gone already is what we want.
    let _gone = child.kill();
    child.wait().unwrap();
}

fn files_below(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let below = entries.filter_map(Result::ok).map(|entry| {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_below(&entry.path())
        } else {
            1
        }
    });
    below.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_process_is_killed_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    fix_rules(folder.path(), &config);
    for round in 0..6 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stampworks"))
            .args(["replay", "quarantine", "--config"])
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        kill_after_files(&mut child, folder.path(), round).await;
    }
    replay(&config, "rejected", &[]).await;
    replay(&config, "quarantine", &[]).await;

    let (code, printed) = verify(&config, &["--output", "json"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        report["tenants"]["contoso"]["readings_events"], EVENTS,
        "{printed}"
    );
    emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_the_stamp_does_not_have_ends_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("url = \"file://{}/tables\"", folder.path().display());
    let config = crate::support::write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");
    let config = config.to_str().unwrap();
    let arguments = [
        "replay", "rejected", "--config", config, "--tenant", "nobody",
    ];
    let (code, _, err) = stampworks(&arguments).await;
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("no tenant nobody"), "{err}");
}

async fn replay_hub(config: &Path, into: &str, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let config = config.to_str().unwrap();
    let arguments = [
        "replay", "hub", "--config", config, "--output", "json", "--into", into,
    ];
    let (code, out, err) = stampworks(&[&arguments, more].concat()).await;
    let report = serde_json::from_str(&out);
    (
        code,
        report.unwrap_or_else(|error| panic!("{error}: {out}{err}")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_the_hub_that_is_read_again_has_the_same_rows_until_the_rules_change() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;

    let (code, report) = replay_hub(&config, "again", &[]).await;
    let contoso = &report["tenants"]["contoso"];
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        (&contoso["readings"]["same"], &contoso["rejected"]["same"]),
        (&360.into(), &20.into())
    );

    fix_rules(folder.path(), &config);
    let range = [
        "--partition",
        "1",
        "--from-sequence",
        "3",
        "--to-sequence",
        "6",
    ];
    let (code, report) = replay_hub(&config, "fixed", &range).await;
    // Message 7 was refused, message 13 was nobody's.
    let contoso = &report["tenants"]["contoso"];
    assert_eq!(code, Some(5), "{report}");
    assert_eq!(
        (
            &contoso["readings"]["same"],
            &contoso["readings"]["only_shadow"]
        ),
        (&2.into(), &2.into())
    );
    assert_eq!(contoso["rejected"]["only_live"], 1, "{report}");
    let example = contoso["readings"]["examples"][0].as_str().unwrap();
    assert!(
        example.contains("partition 1, sequence 3: only in the shadow"),
        "{report}"
    );

    // What a replay brings in is no difference any more.
    replay(&config, "rejected", &[]).await;
    replay(&config, "quarantine", &[]).await;
    let (code, report) = replay_hub(&config, "fixed", &range).await;
    assert_eq!(code, Some(0), "{report}");
    let (code, printed) = verify(&config, &[]).await;
    assert_eq!(code, Some(0), "{printed}");

    let late = ["--since", "2100-01-01T00:00:00Z"];
    let (code, report) = replay_hub(&config, "later", &late).await;
    assert_eq!(
        (code, report["ranges"].as_array().unwrap().len()),
        (Some(0), 0),
        "{report}"
    );
    emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_hub_that_is_killed_goes_on_beside_the_running_service() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");
    for round in 1..6 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stampworks"))
            .args([
                "replay",
                "hub",
                "--into",
                "again",
                "--consumer-group",
                "replay",
                "--config",
            ])
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        kill_after_files(&mut child, &folder.path().join("tables/_shadow"), round).await;
    }
    let group = ["--consumer-group", "replay"];
    let (code, report) = replay_hub(&config, "again", &group).await;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        report["tenants"]["contoso"]["readings"]["same"], 360,
        "{report}"
    );
    // It was not displaced: it would have ended by itself.
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("taken over"), "{log}");
    emulator.stop().await;
}
