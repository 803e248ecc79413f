//! A stamp with everything around it: a hub, a blob service, and a fault proxy before each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Service;
use crate::support::{
    PROCESS_MAX, assert_tables, emulator, expected_up_to, publish_noted, read_tables, write_config,
};
use stamp_emulator::{EventHubsEmulator, Hub};
use stamp_interop::{ACCOUNT_KEY, Azurite, FaultProxy};
use stamp_lake::{Lake, StoreConfig};
use stamp_model::PartitionId;
use tokio::time::{Instant, interval};

pub(crate) const KEY_VARIABLE: &str = "STAMPWORKS_TEST_ACCOUNT_KEY";
/// What the service's processes need to be told besides their configuration.
pub(crate) const ENVIRONMENT: [(&str, &str); 1] = [(KEY_VARIABLE, ACCOUNT_KEY)];
const NAMESPACE: &str = "127.0.0.1";
const CONTAINER: &str = "stamp";

/// Small flushes and short waits: as much as can happen in a short test.
pub(crate) const EAGER: &str = "flush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\n";

/// The service's rules with pauses that a test can wait for.
pub(crate) const SOON: &str = r#"
[resilience]
start-spread = "1ms"
[resilience.store]
first-pause = "50ms"
pause-max = "500ms"
throttled-first-pause = "100ms"
throttled-pause-max = "1s"
attempts-max = 3
attempt-timeout = "2s"
total-deadline = "10s"
[resilience.store.budget]
floor-per-minute = 60
burst-max = 100
[resilience.store.breaker]
failures = 3
window = "10s"
open-first = "500ms"
open-max = "1s"
[resilience.eventhubs]
first-pause = "50ms"
pause-max = "500ms"
throttled-first-pause = "100ms"
throttled-pause-max = "1s"
attempt-timeout = "5s"
total-deadline = "20s"
[resilience.eventhubs.breaker]
open-first = "500ms"
open-max = "1s"
"#;

/// A hub, a container, and what is between them and the service's processes.
pub(crate) struct Stamp {
    pub(crate) azurite: Azurite,
    /// Before the blob service, for the processes; the test itself reads beside it.
    pub(crate) store: FaultProxy,
    pub(crate) emulator: EventHubsEmulator,
    pub(crate) hub: Hub,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) lake: Lake,
    /// What the test itself reads through: no fault is injected, and no connection is used again
    /// that the blob service is about to close as idle.
    _calm: FaultProxy,
    sent: u64,
}

impl Stamp {
    pub(crate) async fn new(partitions: u32) -> Self {
        let azurite = Azurite::start();
        azurite.create_container(CONTAINER);
        let store = FaultProxy::http(azurite.address()).unwrap();
        let calm = FaultProxy::http(azurite.address()).unwrap();
        let emulator = emulator(partitions).await;
        let hub = emulator.hub("telemetry").unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The key goes through a file here: this process has no such variable.
        let key = folder.path().join("account-key");
        std::fs::write(&key, ACCOUNT_KEY).unwrap();
        let config = StoreConfig {
            endpoint: Some(azurite.endpoint_behind(&calm)),
            account_key_file: Some(key),
            ..StoreConfig::new(format!("az://{}/{CONTAINER}", azurite.account_name()))
        };
        let lake = Lake::open(&config, tokio::runtime::Handle::current()).unwrap();
        Self {
            azurite,
            store,
            emulator,
            hub,
            folder,
            lake,
            _calm: calm,
            sent: 0,
        }
    }

    pub(crate) fn container(&self) -> &'static str {
        CONTAINER
    }

    /// The configuration of a process of that name that reaches the hub at `hub`; `more` are
    /// further sections.
    pub(crate) fn config_at(&self, name: &str, hub: impl ToString, more: &str) -> PathBuf {
        let store = format!(
            "url = \"az://{}/{CONTAINER}\"\nendpoint = \"{}\"\naccount-key-env = \"{KEY_VARIABLE}\"",
            self.azurite.account_name(),
            self.azurite.endpoint_behind(&self.store)
        );
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        write_config(
            &folder,
            &format!("amqp://{}", hub.to_string()),
            &store,
            more,
        )
    }

    pub(crate) fn config(&self, name: &str, more: &str) -> PathBuf {
        self.config_at(name, self.emulator.address(), more)
    }

    pub(crate) fn start(&self, name: &str, more: &str) -> Service {
        Service::start(&self.config(name, more), &ENVIRONMENT)
    }

    /// A replica that shares the partitions and is taken for dead after `expire_s`.
    pub(crate) fn replica(&self, name: &str, expire_s: u32, more: &str) -> Service {
        self.start(name, &replica(name, expire_s, more))
    }

    pub(crate) fn publish(&mut self, events: u64) {
        self.publish_noted(events, 0);
    }

    pub(crate) fn publish_noted(&mut self, events: u64, note_bytes: usize) {
        let numbers = self.sent..self.sent + events;
        numbers.for_each(|number| publish_noted(&self.hub, number, note_bytes));
        self.sent += events;
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) async fn until_owned(&self, expected: &[(&str, usize)]) {
        let group = self
            .lake
            .ownerships(NAMESPACE, "telemetry", "$default")
            .unwrap();
        let expected: BTreeMap<String, usize> = expected
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect();
        until(&format!("{expected:?}"), async || {
            let mut owners: BTreeMap<String, usize> = BTreeMap::new();
            for ownership in group.list().await.unwrap() {
                *owners.entry(ownership.owner_id).or_default() += 1;
            }
            owners == expected
        })
        .await;
    }

    /// The blobs and the replicas agree on who has how many, and every partition is read.
    ///
    /// The blobs alone are not enough: an owner that has just lost a partition may be opening it
    /// still, and then takes it from the new one for a moment.
    pub(crate) async fn until_balanced(&mut self, replicas: &[(&str, &Service, usize)]) {
        let owned: Vec<(&str, usize)> = replicas
            .iter()
            .map(|&(name, _, count)| (name, count))
            .collect();
        let has = |service: &Service, count: usize| {
            service.metric("stamp_partitions_owned", &[]) == count as f64
        };
        for _ in 0..2 {
            self.until_owned(&owned).await;
            until("the replicas know what they have", async || {
                replicas
                    .iter()
                    .all(|&(_, service, count)| has(service, count))
            })
            .await;
            self.publish(u64::from(self.hub.partitions()) * 20);
            self.until_settled().await;
        }
    }

    /// Every event of the hub is behind a checkpoint.
    pub(crate) async fn until_settled(&self) {
        until("everything is settled", async || {
            self.unsettled().await == 0
        })
        .await;
    }

    /// Events of the hub that no checkpoint covers.
    pub(crate) async fn unsettled(&self) -> i64 {
        let checkpoints = self.lake.checkpoints(NAMESPACE, "telemetry", "$default");
        let mut unsettled = 0;
        for number in 0..self.hub.partitions() {
            let partition = PartitionId::new(number).unwrap();
            let at = checkpoints.read(partition).await.unwrap();
            unsettled += self.hub.last_sequence(number) - at.map_or(-1, |at| at.sequence);
        }
        unsettled
    }

    /// Every message has its row, once, and `stampworks verify` says so too.
    pub(crate) async fn assert_complete(&self) {
        let last: Vec<i64> = (0..self.hub.partitions())
            .map(|number| self.hub.last_sequence(number))
            .collect();
        assert_tables(&read_tables(&self.lake).await, &expected_up_to(&last));
        let config = self.config("verify", "");
        let (code, printed) = verify(Command::new(env!("CARGO_BIN_EXE_stampworks")), &config).await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("differences: 0"), "{printed}");
    }
}

/// The sections of a replica; `more` begins with further keys of `[consumer]`.
pub(crate) fn replica(name: &str, expire_s: u32, more: &str) -> String {
    format!(
        "[consumer.ownership]\nrenew-every = \"1s\"\nexpire-after = \"{expire_s}s\"\nowner-id = \"{name}\"\n\
         [consumer]\n{more}"
    )
}

/// Looks ten times a second, for as long as a process may take for anything.
pub(crate) async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let until = Instant::now() + PROCESS_MAX;
    let mut ticks = interval(Duration::from_millis(100));
    while !reached().await {
        assert!(Instant::now() < until, "never came: {what}");
        ticks.tick().await;
    }
}

/// Exit code and all output of `stampworks verify`, by a command that ends with the program.
pub(crate) async fn verify(mut command: Command, config: &Path) -> (Option<i32>, String) {
    command
        .args(["verify", "--config"])
        .arg(config)
        .envs(ENVIRONMENT);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout) + &text(&out.stderr))
}
