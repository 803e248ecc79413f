//! `stampworks doctor` finds what stands in the way, says what to do, and disturbs nothing.

use std::path::Path;

use crate::process::Service;
use crate::replay::stampworks;
use crate::support::{emulator, publish, write_config};
use crate::verify::{EVENTS, lake, settled_stamp};
use stamp_emulator::Refusal;
use stamp_lake::Checkpoint;
use stamp_model::PartitionId;

fn file_store(folder: &Path) -> String {
    format!("url = \"file://{}/tables\"", folder.display())
}

/// Exit code and findings.
async fn doctor(config: &Path) -> (Option<i32>, Vec<serde_json::Value>) {
    let config = config.to_str().unwrap();
    let arguments = ["doctor", "--config", config, "--output", "json"];
    let (code, out, err) = stampworks(&arguments).await;
    let findings = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, findings)
}

/// The finding about `what`.
#[track_caller]
fn about<'a>(findings: &'a [serde_json::Value], what: &str) -> &'a serde_json::Value {
    let found = findings.iter().find(|finding| finding["what"] == what);
    found.unwrap_or_else(|| panic!("nothing about {what:?} in {findings:#?}"))
}

#[track_caller]
fn assert_problem(findings: &[serde_json::Value], what: &str, found: &str, advice: &str) {
    let finding = about(findings, what);
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(finding["verdict"], "problem", "{finding}");
    assert!(text("found").contains(found), "{finding}");
    assert!(text("do").contains(advice), "{finding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_runs_is_well_and_is_not_disturbed_by_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (emulator, config) = settled_stamp(folder.path()).await;
    let hub = emulator.hub("telemetry").unwrap();
    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");

    let (code, findings) = doctor(&config).await;

    assert_eq!(code, Some(0), "{findings:#?}");
    let wrong = |finding: &&serde_json::Value| finding["verdict"] != "good";
    let wrong: Vec<_> = findings.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let checkpoints = about(&findings, "checkpoints")["found"].as_str().unwrap();
    assert!(
        checkpoints.contains("2 of 2") && checkpoints.contains("0 events"),
        "{checkpoints}"
    );
    let reader = &about(&findings, "consumer group $Default")["found"];
    assert!(reader.as_str().unwrap().contains("owner level"), "{reader}");
    // The service was displaced by nobody: it still reads.
    publish(&hub, EVENTS);
    crate::verify::settle(folder.path(), &hub, &mut service).await;
    assert_eq!(service.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_does_not_keep_the_store_from_being_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 of loopback: nobody listens there.
    let config = write_config(
        folder.path(),
        "amqp://127.0.0.1:1",
        &file_store(folder.path()),
        "",
    );

    let (code, findings) = doctor(&config).await;

    assert_eq!(code, Some(1), "{findings:#?}");
    assert_problem(&findings, "event hub", "127.0.0.1:1", "firewall");
    assert_eq!(about(&findings, "store")["verdict"], "good");
    assert_eq!(about(&findings, "clock against store")["verdict"], "good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_and_a_missing_consumer_group_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(1).await;
    let hub = emulator.hub("telemetry").unwrap();
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(folder.path(), &endpoint, &file_store(folder.path()), "");

    hub.faults().refuse_attach(1, Refusal::unauthorized());
    let (code, findings) = doctor(&config).await;
    assert_eq!(code, Some(4), "{findings:#?}");
    let refused = findings
        .iter()
        .find(|finding| finding["verdict"] == "problem")
        .unwrap();
    assert!(
        refused["do"].as_str().unwrap().contains("Listen"),
        "{refused}"
    );

    hub.faults().clear();
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "hub = \"telemetry\"",
        "hub = \"telemetry\"\nconsumer-group = \"nobody\"",
    );
    std::fs::write(&config, text).unwrap();
    let (code, findings) = doctor(&config).await;
    assert_eq!(code, Some(1), "{findings:#?}");
    assert_problem(
        &findings,
        "consumer group nobody",
        "does not exist",
        "consumer-group",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_the_hub_does_not_have_are_told_before_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(2).await;
    let endpoint = format!("amqp://{}", emulator.address());
    let more = "[consumer]\npartitions = [1, 7]\n";
    let config = write_config(folder.path(), &endpoint, &file_store(folder.path()), more);

    let (code, findings) = doctor(&config).await;

    assert_eq!(code, Some(3), "{findings:#?}");
    assert_problem(&findings, "partitions", "[7]", "leave the key out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_read_is_the_only_finding() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(
        folder.path(),
        "amqp://127.0.0.1:1",
        &file_store(folder.path()),
        "",
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("log-filter", "log-filtre")).unwrap();

    let (code, findings) = doctor(&config).await;

    assert_eq!((code, findings.len()), (Some(3), 1), "{findings:#?}");
    assert_problem(
        &findings,
        "configuration",
        "log-filtre",
        "docs/configuration-keys.md",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_below_what_the_hub_has_and_one_of_an_earlier_hub_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    (0..100).for_each(|number| publish(&hub, number));
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(folder.path(), &endpoint, &file_store(folder.path()), "");
    std::fs::create_dir_all(folder.path().join("tables")).unwrap();
    let checkpoints = lake(folder.path()).checkpoints("127.0.0.1", "telemetry", "$Default");
    for (number, created_at_ms) in [(0, hub.created_at_ms()), (1, hub.created_at_ms() - 5_000)] {
        let checkpoint = Checkpoint {
            sequence: 10,
            offset: String::new(),
            hub_created_at_ms: Some(created_at_ms),
        };
        let partition = PartitionId::new(number).unwrap();
        checkpoints.advance(partition, &checkpoint).await.unwrap();
    }
    hub.expire_before(0, 20);

    let (code, findings) = doctor(&config).await;

    assert_eq!(code, Some(0), "{findings:#?}");
    let gone = about(&findings, "checkpoint of partition 0");
    assert_eq!(gone["verdict"], "warning");
    assert!(
        gone["found"].as_str().unwrap().contains("11 to 19"),
        "{gone}"
    );
    let foreign = about(&findings, "checkpoint of partition 1");
    assert!(
        foreign["found"].as_str().unwrap().contains("earlier hub"),
        "{foreign}"
    );
}
