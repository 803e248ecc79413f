//! `stampworks fleet`, from its arguments to its exit code, its answers and the files it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stamp_model::{PartitionId, StampId};
use stamp_telemetry::{Health, Metrics, PartitionState, Registry, StatusPage, serve};
use tokio_util::sync::CancellationToken;

/// The version that a stamp of this build says it runs.
const RUNS: &str = env!("CARGO_PKG_VERSION");

pub(super) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/fleet")
}

/// Exit code, stdout and stderr.
pub(super) fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .arg("fleet")
        .args(args)
        .env("USER", "sam")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

pub(super) fn good(args: &[&str]) -> String {
    let (code, said, errors) = run(args);
    assert_eq!(code, Some(0), "{said}{errors}");
    said
}

/// A copy of the example fleet whose files may be changed.
pub(super) struct Copied(tempfile::TempDir);

impl Copied {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("schemas")).unwrap();
        for name in ["stamps.toml", "tenants.toml"] {
            fs::copy(example().join(name), folder.path().join(name)).unwrap();
        }
        for schema in fs::read_dir(example().join("schemas")).unwrap() {
            let schema = schema.unwrap();
            fs::copy(
                schema.path(),
                folder.path().join("schemas").join(schema.file_name()),
            )
            .unwrap();
        }
        Self(folder)
    }

    pub(super) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.0.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {name}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn versions(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("stamps.toml")).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("version = \""));
        lines
            .map(|line| line.trim_end_matches('"').to_owned())
            .collect()
    }
}

#[test]
fn the_example_fleet_is_valid() {
    let said = good(&["validate", example().to_str().unwrap()]);
    assert_eq!(said, "5 stamps, 3 tenants, 0 warnings\n");
}

#[test]
fn every_mistake_of_a_catalogue_is_printed_and_the_exit_code_is_3() {
    let copied = Copied::new();
    copied.change("stamps.toml", "devices = 400000", "devices = 4000000");
    copied.change(
        "tenants.toml",
        "stamps = [\"weu-fabrikam\"",
        "stamps = [\"weu-fabrika\"",
    );
    let (code, said, errors) = run(&["validate", copied.path()]);
    assert_eq!(code, Some(3));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    let place = "stamps.toml:106:11: error: stamps[weu-fabrikam].capacity.devices: is 4000000";
    assert!(lines[0].contains(place), "{said}");
    assert!(
        lines[1].contains("tenants[fabrikam].stamps: no stamp is called weu-fabrika"),
        "{said}"
    );
    assert!(errors.contains("2 problems"), "{errors}");

    copied.change("stamps.toml", "devices = 4000000", "devices = 400000");
    let (code, said, _) = run(&["validate", copied.path(), "--output", "json"]);
    assert_eq!(code, Some(3));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["findings"][0]["key"], "tenants[fabrikam].stamps");
    assert_eq!(report["findings"][0]["line"], 35);
}

#[test]
fn a_schema_that_is_missing_or_wrong_is_told_at_the_line_that_names_it() {
    let copied = Copied::new();
    fs::remove_file(copied.0.path().join("schemas/contoso.toml")).unwrap();
    fs::write(
        copied.0.path().join("schemas/fabrikam.toml"),
        "version = 1\nfoo = 2\n",
    )
    .unwrap();
    let (code, said, _) = run(&["validate", copied.path()]);
    assert_eq!(code, Some(3));
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].contains("tenants[contoso].schema") && lines[0].contains("tenants.toml:9"),
        "{said}"
    );
    assert!(
        lines[1].contains("tenants[fabrikam].schema") && lines[1].contains("foo"),
        "{said}"
    );
}

#[test]
fn a_placement_says_why_and_why_not() {
    let copied = Copied::new();
    let usage = copied.file("usage", "[[stamps]]\nid = \"eus-1\"\ndevices = 99000\n");
    let said = good(&[
        "place",
        "--fleet",
        copied.path(),
        "--tenant",
        "contoso",
        "--explain",
        "--usage",
        &usage,
    ]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with(
            "contoso, production: weu-1 (contoso-weu-1.azure-devices.net): the only stamp that fits"
        ),
        "{said}"
    );
    let of = |stamp: &str| {
        *lines
            .iter()
            .find(|line| line.trim_start().starts_with(stamp))
            .unwrap()
    };
    assert!(
        of("eus-1").contains("is full: devices 99000 used + 12000 is over 100000"),
        "{said}"
    );
    assert!(of("eus-2").contains("is planned"), "{said}");
    assert!(of("weu-fabrikam").contains("is dedicated"), "{said}");
    assert!(of("weu-test").contains("is for test"), "{said}");
}

#[test]
fn a_device_follows_its_tenant_and_a_refusal_has_exit_code_1() {
    let copied = Copied::new();
    let usage = copied.file(
        "usage",
        "[[tenants]]\nid = \"contoso\"\nstamps = [\"weu-1\"]\n",
    );
    let device = [
        "place",
        "--fleet",
        copied.path(),
        "--tenant",
        "contoso",
        "--device",
        "press-1",
        "--usage",
        &usage,
    ];
    assert!(good(&device).contains("device press-1, production: weu-1"));
    let (code, said, _) = run(&[&device[..], &["--environment", "test"]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("weu-test"), "{said}");
    let (code, said, _) = run(&["place", "--fleet", copied.path(), "--tenant", "nobody"]);
    assert_eq!(
        (code, said.contains("no such tenant")),
        (Some(1), true),
        "{said}"
    );
    let all: Value = serde_json::from_str(&good(&[
        "place",
        "--fleet",
        copied.path(),
        "--all",
        "--output",
        "json",
    ]))
    .unwrap();
    let stamps: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["outcome"]["placed"]["stamp"].as_str().unwrap())
        .collect();
    assert_eq!(stamps, ["eus-1", "weu-fabrikam", "weu-1"]);
}

#[test]
fn a_plan_says_when_a_stamp_is_full_and_how_many_to_add() {
    let copied = Copied::new();
    let usage = copied.file("usage", "[[stamps]]\nid = \"weu-1\"\ndevices = 40000\n");
    let args = [
        "plan",
        "--fleet",
        copied.path(),
        "--usage",
        &usage,
        "--growth",
    ];
    let said = good(&[&args[..], &["10%"]].concat());
    assert!(
        said.contains("europe, production: 1 stamp; add, as large as weu-1:"),
        "{said}"
    );
    assert!(
        said.contains("unitedstates, production: 2 stamps are enough"),
        "{said}"
    );
    let plan: Value =
        serde_json::from_str(&good(&[&args[..], &["10%", "--output", "json"]].concat())).unwrap();
    let weu = plan["stamps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["stamp"] == "weu-1")
        .unwrap();
    assert_eq!(
        (&weu["soft"]["month"], &weu["hard"]["month"]),
        (&8.into(), &10.into())
    );
    let growth = copied.file("growth", "[[growth]]\ngeography = \"mars\"\n");
    let (code, _, errors) = run(&[&args[..], &[&growth]].concat());
    assert_eq!(
        (code, errors.contains("speaks of no stamp")),
        (Some(3), true),
        "{errors}"
    );
}

/// Serves the metrics of a stamp as its service would.
struct Serving {
    metrics: Metrics,
    url: String,
    stop: CancellationToken,
}

async fn serving(stamp: &str, partitions: usize) -> Serving {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &StampId::parse(stamp).unwrap()).unwrap();
    metrics.partitions_owned(partitions);
    for number in 0..4 {
        let partition = PartitionId::new(number).unwrap();
        metrics.partition_state(partition, PartitionState::Reading);
        metrics.lag(partition, 5, Duration::from_secs(2));
    }
    let stop = CancellationToken::new();
    let listen = ([127, 0, 0, 1], 0).into();
    let page = StatusPage::consumer(&StampId::parse(stamp).unwrap());
    let served = serve(listen, Health::new(), registry, page, stop.clone())
        .await
        .unwrap();
    let url = format!("http://{}/metrics", served.address);
    Serving { metrics, url, stop }
}

/// The example fleet with its canary served, and nobody behind the other addresses.
async fn fleet_with_canary() -> (Copied, Serving) {
    let copied = Copied::new();
    let serving = serving("weu-test", 4).await;
    copied.change(
        "stamps.toml",
        "http://stampworks.weu-test.svc.cluster.local:9464/metrics",
        &serving.url,
    );
    for stamp in ["weu-1", "weu-fabrikam", "eus-1"] {
        let url = format!("http://stampworks.{stamp}.svc.cluster.local:9464/metrics");
        copied.change("stamps.toml", &url, "http://127.0.0.1:1/metrics");
    }
    (copied, serving)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

pub(super) fn by_stamp(said: &str) -> BTreeMap<String, Value> {
    let status: Vec<Value> = serde_json::from_str(said).unwrap();
    status
        .into_iter()
        .map(|s| (s["stamp"].as_str().unwrap().to_owned(), s))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_joins_the_catalogue_with_what_each_stamp_says() {
    let (copied, serving) = fleet_with_canary().await;
    let usage = copied.file("usage", "[[stamps]]\nid = \"weu-test\"\ndevices = 1200\n");
    let path = copied.path().to_owned();
    let args = move |more: &[&str]| {
        let args = ["status", "--fleet", &path, "--usage", &usage];
        good(&[&args[..], more].concat())
    };
    let (args, said) = off_thread(move || {
        let said = args(&["--output", "json"]);
        (args, said)
    })
    .await;
    let status = by_stamp(&said);
    let canary = &status["weu-test"];
    assert_eq!(canary["live"]["versions"][0], RUNS);
    assert_eq!(canary["live"]["complaints"], Value::Array(vec![]));
    assert_eq!(canary["live"]["lag-events"], 20.0);
    assert_eq!(canary["axes"]["devices"]["free"], 800);
    assert_eq!(
        canary["axes"]["events-per-second"]["used"],
        Value::Null,
        "unknown is not nothing"
    );
    let silent = &status["weu-1"]["live"];
    assert_eq!(silent["versions"], Value::Array(vec![]));
    assert!(
        silent["processes"][0]["error"]
            .as_str()
            .unwrap()
            .contains("no connection")
    );
    assert_eq!(status["eus-2"]["live"], Value::Null, "it is planned");

    let stuck = PartitionId::new(3).unwrap();
    serving
        .metrics
        .partition_state(stuck, PartitionState::Paused);
    serving.metrics.lag(stuck, 9_000, Duration::from_secs(900));
    let said = off_thread(move || args(&[])).await;
    assert!(said.contains("weu-test: partition is paused: 3"), "{said}");
    assert!(
        said.contains("weu-test: the slowest partition is 900 s behind"),
        "{said}"
    );
    assert!(said.contains("unreachable"), "{said}");
    serving.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_stamp_is_not_taken_for_this_one() {
    let (copied, serving) = fleet_with_canary().await;
    copied.change("stamps.toml", "http://127.0.0.1:1/metrics", &serving.url);
    let path = copied.path().to_owned();
    let said = off_thread(move || good(&["status", "--fleet", &path])).await;
    assert!(
        said.contains("weu-1: what answers is stamp weu-test"),
        "{said}"
    );
    assert!(
        said.contains("weu-1: 4 of 16 partitions are read"),
        "{said}"
    );
    serving.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_from_ring_to_ring_only_when_the_ring_before_is_healthy() {
    let (copied, serving) = fleet_with_canary().await;
    copied.change(
        "stamps.toml",
        "version = \"0.1.0\"",
        "version = \"0.0.9\" # tried first",
    );
    copied.change("stamps.toml", "version = \"0.1.0\"", "version = \"0.0.9\"");
    let path = copied.path().to_owned();
    let promote =
        move |more: &[&str]| run(&[&["promote", "--fleet", &path, "--soak", "0s"], more].concat());

    let metrics = serving.metrics.clone();
    off_thread(move || {
        let early = ["--ring", "early", "--version", RUNS];
        let (code, said, _) = promote(&early);
        assert_eq!(code, Some(1));
        assert!(
            said.contains("blocked: weu-test of ring canary is to run 0.0.9"),
            "{said}"
        );

        let (code, said, errors) = promote(&["--ring", "canary", "--version", RUNS]);
        assert_eq!(code, Some(0), "{said}{errors}");
        assert_eq!(said, format!("weu-test: changed from 0.0.9 to {RUNS}\n"));
        assert_eq!(
            copied.versions()[0],
            format!("{RUNS}\" # tried first"),
            "the comment is kept"
        );

        let (_, said, _) = promote(&[&early[..], &["--dry-run"]].concat());
        assert!(said.contains("weu-1: would change"), "{said}");
        metrics.lag(PartitionId::new(0).unwrap(), 1, Duration::from_secs(400));
        let (code, said, _) = promote(&early);
        assert_eq!(
            (code, said.contains("400 s behind")),
            (Some(1), true),
            "{said}"
        );
        metrics.lag(PartitionId::new(0).unwrap(), 1, Duration::from_secs(1));
        let (code, said, _) = promote(&early);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(copied.versions()[1], RUNS);

        let (code, said, _) = promote(&["--ring", "early", "--rollback", "--reason", "slow"]);
        assert_eq!(
            (code, said.as_str()),
            (
                Some(0),
                format!("weu-1: changed from {RUNS} to 0.0.9\n").as_str()
            )
        );
        let (code, said, _) = promote(&["--pause", "--reason", "holiday"]);
        assert_eq!((code, said.as_str()), (Some(0), "paused\n"));
        let (code, said, _) = promote(&early);
        assert_eq!(
            (code, said.contains("paused by sam: holiday")),
            (Some(1), true),
            "{said}"
        );
        let fix = ["--security-fix", "--reason", "CVE"];
        let (code, _, errors) = promote(&[&early[..], &fix].concat());
        assert_eq!(code, Some(0), "{errors}");

        let record = fs::read_to_string(copied.0.path().join("rollout.jsonl")).unwrap();
        let actions: Vec<String> = record
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["action"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        // Both stamps of ring early that are open: one; the planned one is not.
        assert_eq!(
            actions,
            ["promote", "promote", "roll-back", "pause", "security-fix"]
        );
    })
    .await;
    serving.stop.cancel();
}
