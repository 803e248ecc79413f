//! What a person gets for a wrong configuration, a wrong credential or a hub that is not there.

use std::path::Path;
use std::process::Command;

use crate::process::{Service, http_get};
use crate::support::{assert_tables, emulator, expected_up_to, publish, read_tables, write_config};

/// Exit code and stderr of `stampworks` with these arguments.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

fn file_store(folder: &Path) -> String {
    format!("url = \"file://{}/tables\"", folder.display())
}

/// Exit code 3, and stderr holds all of `words`.
#[track_caller]
fn assert_config_error(change: impl Fn(String) -> String, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, change(text)).unwrap();

    let (code, _, errors) = run(&[
        "consume",
        "--check-config",
        "--config",
        config.to_str().unwrap(),
    ]);

    assert_eq!(code, Some(3), "{errors}");
    for word in words {
        assert!(errors.contains(word), "no {word:?} in:\n{errors}");
    }
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");

    let (code, said, errors) = run(&[
        "consume",
        "--check-config",
        "--config",
        config.to_str().unwrap(),
    ]);

    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("stamp s-1: 1 tenants"), "{said}");
}

#[test]
fn the_printed_configuration_has_every_default_and_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");

    let (code, printed, errors) = run(&[
        "consume",
        "--print-config",
        "--config",
        config.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        printed.contains("buffer-max") && printed.contains("attempts-max"),
        "{printed}"
    );

    std::fs::write(&config, &printed).unwrap();
    let (code, again, errors) = run(&[
        "consume",
        "--print-config",
        "--config",
        config.to_str().unwrap(),
    ]);
    assert_eq!((code, again), (Some(0), printed), "{errors}");
}

/// Fault scenario 53.
#[test]
fn an_unknown_key_is_refused_with_its_line() {
    assert_config_error(
        |text| text.replace("log-filter", "log-filtre"),
        &["log-filtre", "line 14", "log-filter"],
    );
}

#[test]
fn two_limits_that_contradict_each_other_are_both_named() {
    assert_config_error(
        |text| text + "[consumer]\nbuffer-max = \"16MiB\"\nbatch-bytes-max = \"4MiB\"\n",
        &["consumer.batch-bytes-max", "consumer.buffer-max"],
    );
}

#[test]
fn a_retry_policy_that_breaks_a_rule_is_refused() {
    assert_config_error(
        |text| text + "[resilience.store]\nattempt-timeout = \"10m\"\n",
        &["resilience.store.attempt-timeout", "total-deadline"],
    );
}

#[test]
fn a_missing_secret_is_named_and_never_printed() {
    let azure = "url = \"az://account/container/prefix\"\naccount-key-env = \"NO_SUCH_VARIABLE\"";
    assert_config_error(
        |text| {
            let start = text.find("url = ").unwrap();
            let end = start + text[start..].find('\n').unwrap();
            format!("{}{azure}{}", &text[..start], &text[end..])
        },
        &["NO_SUCH_VARIABLE", "account-key-env"],
    );
}

/// Fault scenario 21.
#[test]
fn a_workload_identity_without_its_token_file_is_a_configuration_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = "url = \"az://account/container/prefix\"\nworkload-identity = true";
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", store, SOON);
    let missing = folder.path().join("no-such-token");

    // On another machine the configuration is good without the file.
    for (arguments, code) in [(&["consume", "--check-config"][..], 0), (&["consume"], 3)] {
        let out = Command::new(env!("CARGO_BIN_EXE_stampworks"))
            .args(arguments)
            .arg("--config")
            .arg(&config)
            .env("AZURE_CLIENT_ID", "11111111-1111-1111-1111-111111111111")
            .env("AZURE_TENANT_ID", "22222222-2222-2222-2222-222222222222")
            .env("AZURE_FEDERATED_TOKEN_FILE", &missing)
            .output()
            .unwrap();

        let errors = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {errors}");
        for word in [
            "AZURE_FEDERATED_TOKEN_FILE",
            "no-such-token",
            "workload-identity",
        ] {
            assert_eq!(errors.contains(word), code == 3, "{word:?} in:\n{errors}");
        }
    }
}

#[test]
fn a_broken_schema_is_named_with_file_tenant_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, "");
    std::fs::write(
        folder.path().join("contoso.toml"),
        "version = 1\n[[fields]]\nnam = \"x\"\n",
    )
    .unwrap();

    let (code, _, errors) = run(&[
        "consume",
        "--check-config",
        "--config",
        config.to_str().unwrap(),
    ]);

    assert_eq!(code, Some(3), "{errors}");
    for word in ["contoso.toml", "tenant contoso", "nam"] {
        assert!(errors.contains(word), "no {word:?} in:\n{errors}");
    }
}

#[test]
fn usage_errors_end_with_2_and_help_shows_an_example() {
    assert_eq!(run(&["consume"]).0, Some(2));
    assert_eq!(run(&["demo", "--events", "0"]).0, Some(2));
    for command in ["demo", "consume", "emulate", "bench"] {
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0));
        assert!(help.contains("Example"), "{command}: {help}");
    }
    assert_eq!(run(&["bench", "provision", "--devices", "1"]).0, Some(2));
}

#[test]
fn the_provisioners_answers_are_measured_on_both_databases() {
    let postgres = stamp_interop::Postgres::start();
    let (url, file) = (postgres.url(), postgres.password_file());
    let args = ["bench", "provision", "--devices", "20", "--callers", "3"];
    let database = [
        "--database",
        &url,
        "--password-file",
        file.to_str().unwrap(),
        "--json",
    ];
    let (code, said, errors) = run(&[&args[..], &database].concat());
    assert_eq!(code, Some(0), "{errors}");
    let results: serde_json::Value = serde_json::from_str(&said).unwrap();
    let rows = results["measured"].as_array().unwrap().iter();
    let rows: Vec<_> = rows
        .map(|row| (&row["database"], &row["what"], &row["calls"]))
        .collect();
    let whats = ["new", "known", "known, on a connection of its own"];
    let expected = ["SQLite", "PostgreSQL"].map(|of| whats.map(|what| (of, what)));
    assert_eq!(rows.len(), 6);
    for (row, (database, what)) in rows.iter().zip(expected.iter().flatten()) {
        assert_eq!(
            (row.0, row.1, row.2),
            (&(*database).into(), &(*what).into(), &20.into())
        );
    }
}

#[test]
fn a_demo_does_not_write_into_a_folder_that_has_something() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "precious").unwrap();

    let (code, _, errors) = run(&["demo", "--tables", folder.path().to_str().unwrap()]);

    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("not empty") && errors.contains("--tables"),
        "{errors}"
    );
}

/// A policy that gives up soon: what is tested is what is said then.
const SOON: &str =
    "[resilience.eventhubs]\nfirst-pause = \"100ms\"\npause-max = \"200ms\"\nattempts-max = 2\n";

#[test]
fn a_hub_that_is_not_there_is_named_and_the_exit_code_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    // Port 1 of loopback: nobody listens there.
    let config = write_config(folder.path(), "amqp://127.0.0.1:1", &store, SOON);

    let (code, _, errors) = run(&["consume", "--config", config.to_str().unwrap()]);

    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("cannot reach 127.0.0.1:1"), "{errors}");
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tables"),
        "a file where the folder should be",
    )
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let emulator = runtime.block_on(emulator(1));
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(
        folder.path(),
        &endpoint,
        &file_store(folder.path()),
        "[resilience.store]\nattempts-max = 2\nfirst-pause = \"100ms\"\npause-max = \"200ms\"\n",
    );

    let (code, _, errors) = run(&["consume", "--config", config.to_str().unwrap()]);

    assert_ne!(code, Some(0), "{errors}");
    assert!(errors.contains("the store of the stamp"), "{errors}");
}

#[test]
fn a_refused_credential_ends_with_4() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let emulator = runtime.block_on(emulator(1));
    emulator
        .hub("telemetry")
        .unwrap()
        .faults()
        .refuse_put_token(u32::MAX, 401);
    let key = folder.path().join("connection-string");
    std::fs::write(&key, emulator.connection_string("telemetry")).unwrap();
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(folder.path(), &endpoint, &file_store(folder.path()), SOON);
    let text = std::fs::read_to_string(&config).unwrap();
    let with_key = format!(
        "hub = \"telemetry\"\nconnection-string-file = \"{}\"",
        key.display()
    );
    std::fs::write(&config, text.replace("hub = \"telemetry\"", &with_key)).unwrap();

    let (code, _, errors) = run(&["consume", "--config", config.to_str().unwrap()]);

    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("credential"), "{errors}");
}

/// Fault scenario 40.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_asked_to_stop_commits_what_it_read_and_ends_with_0() {
    let emulator = emulator(2).await;
    let hub = emulator.hub("telemetry").unwrap();
    (0..500).for_each(|number| publish(&hub, number));
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("amqp://{}", emulator.address());
    // An hour: only the stop flushes.
    let more = "[consumer]\nflush-age = \"1h\"\nbatch-wait-max = \"50ms\"\n[resilience]\nstart-spread = \"1ms\"\n";
    let config = write_config(folder.path(), &endpoint, &file_store(folder.path()), more);

    let mut service = Service::start(&config, &[]);
    service.wait_for("partition opens");
    while hub.counters().dispositions_received == 0 {
        service.watch(std::time::Duration::from_millis(20));
    }
    let address = service.endpoints();
    for (path, status, text) in [
        ("/livez", "200", "alive"),
        ("/readyz", "200", "ready"),
        ("/startupz", "200", "started"),
        ("/metrics", "200", "stamp_events_received_total{"),
        ("/nothing", "404", ""),
    ] {
        let answer = http_get(&address, path);
        assert!(
            answer.contains(status) && answer.contains(text),
            "{path}: {answer}"
        );
    }
    let (status, log) = service.terminate();

    assert_eq!(status.code(), Some(0), "{log}");
    let store = stamp_lake::StoreConfig::new(format!("file://{}/tables", folder.path().display()));
    let lake = stamp_lake::Lake::open(&store, tokio::runtime::Handle::current()).unwrap();
    let found = read_tables(&lake).await;
    let checkpoints = lake.checkpoints("127.0.0.1", "telemetry", "$Default");
    let mut settled = Vec::new();
    for number in 0..2 {
        let partition = stamp_model::PartitionId::new(number).unwrap();
        settled.push(
            checkpoints
                .read(partition)
                .await
                .unwrap()
                .map_or(-1, |at| at.sequence),
        );
    }
    assert!(
        settled.iter().any(|&at| at >= 0),
        "nothing was committed\n{log}"
    );
    assert_tables(&found, &expected_up_to(&settled));
    emulator.stop().await;
}
