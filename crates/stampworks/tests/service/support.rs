//! A stamp's configuration in a folder, the real process that runs it, and what is in its tables.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, HubConfig, OutgoingEvent};
use stamp_lake::{Columns, Lake};
use stamp_model::{HubStamp, MessageSource, TenantId};

/// Longest wait for a process to say or do what it must.
pub(crate) const PROCESS_MAX: Duration = Duration::from_secs(120);

pub(crate) const SCHEMA: &str = r#"
version = 1
[event-time]
path = "ts"
format = "unix-ms"
[[fields]]
name = "value"
path = "value"
type = "f64"
required = true
max = 1000.0
"#;

/// One hub called `telemetry`.
pub(crate) async fn emulator(partitions: u32) -> EventHubsEmulator {
    let hub = HubConfig {
        name: "telemetry".into(),
        partitions,
        consumer_groups: vec!["replay".into()],
        ..HubConfig::default()
    };
    let config = EmulatorConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        hubs: vec![hub],
        ..EmulatorConfig::default()
    };
    EventHubsEmulator::start(config).await.unwrap()
}

/// What becomes of a message of [`publish`], by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Reading,
    Rejected,
    Quarantined,
}

pub(crate) fn fate(number: u64) -> Fate {
    match number % 20 {
        7 => Fate::Rejected,
        13 => Fate::Quarantined,
        _ => Fate::Reading,
    }
}

/// Publishes message `number` of ten devices; its value is its number modulo 1,000.
pub(crate) fn publish(hub: &Hub, number: u64) {
    let value = match fate(number) {
        Fate::Rejected => "99999".to_owned(),
        Fate::Reading | Fate::Quarantined => (number % 1_000).to_string(),
    };
    let device = match fate(number) {
        Fate::Quarantined => "stranger".to_owned(),
        Fate::Reading | Fate::Rejected => format!("d-{}", number % 10),
    };
    // 2026-11-24T12:00:00Z and later; far from the hub's clock is only suspect, never lost.
    let body = format!(r#"{{"ts":{},"value":{value}}}"#, 1_795_521_600_000 + number);
    let event = OutgoingEvent {
        body: Bytes::from(body),
        hub: HubStamp {
            device_id: Some(device.into()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        },
        ..OutgoingEvent::default()
    };
    let partition = u32::try_from(number % u64::from(hub.partitions())).unwrap();
    hub.publish(partition, event).unwrap();
}

/// Writes a stamp's configuration with one tenant, `contoso`, whose devices are `d-*`.
pub(crate) fn write_config(folder: &Path, endpoint: &str, store: &str, more: &str) -> PathBuf {
    std::fs::write(folder.join("contoso.toml"), SCHEMA).unwrap();
    let text = format!(
        r#"
stamp = "s-1"

[hub]
endpoint = "{endpoint}"
hub = "telemetry"

[store]
{store}

[telemetry]
listen = "127.0.0.1:0"
log-format = "text"
log-filter = "info"

{more}

[[tenants]]
id = "contoso"
schema = "contoso.toml"
devices = ["d-*"]
"#
    );
    let file = folder.join("stamp.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A running `stampworks consume`. Dropping it is SIGKILL.
pub(crate) struct Service {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Service {
    pub(crate) fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stampworks"))
            .args(["consume", "--config"])
            .arg(config)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = sync_channel(1_024);
        std::thread::spawn(move || {
            // Ends with the process, or when nobody wants the lines any more.
            let _ = stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line));
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads log lines for `time`, or until the process ends.
    pub(crate) fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(line) = self
            .lines
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
    }

    /// Reads log lines until one holds `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + PROCESS_MAX;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    let found = line.contains(text);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("never said {text:?}:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Where the service says that its endpoints are.
    #[track_caller]
    pub(crate) fn endpoints(&self) -> String {
        let line = self
            .seen
            .iter()
            .find_map(|line| line.split_once("endpoints="));
        let (_, rest) = line.expect("the first line names the endpoints");
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// SIGTERM, and the log.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.ended()
    }

    /// Waits for the end, and the log.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PROCESS_MAX;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("did not end:\n{}", self.seen.join("\n")),
            }
        }
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every event of every table, with the number of its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) readings: BTreeMap<(i64, i64), u64>,
    pub(crate) rejected: BTreeMap<(i64, i64), u64>,
    pub(crate) quarantine: BTreeMap<(i64, i64), u64>,
    /// Values that the rollups count.
    pub(crate) rolled_up: i64,
}

pub(crate) async fn read_tables(lake: &Lake) -> Tables {
    let tenant = lake.tenant(&TenantId::parse("contoso").unwrap());
    let schema = stamp_schema::Schema::parse(SCHEMA).unwrap();
    let mut tables = Tables::default();
    let position = ["partition", "sequence"];
    let count = |into: &mut BTreeMap<(i64, i64), u64>, rows: &Columns| {
        for row in 0..rows.rows() {
            let event = (rows.i64(0, row).unwrap(), rows.i64(1, row).unwrap());
            *into.entry(event).or_default() += 1;
        }
    };
    let readings = tenant.readings(schema.shape());
    readings
        .scan(&position, |rows| count(&mut tables.readings, rows))
        .await
        .unwrap();
    tenant
        .rejected()
        .scan(&position, |rows| count(&mut tables.rejected, rows))
        .await
        .unwrap();
    let quarantine = lake.stamp().quarantine();
    quarantine
        .scan(&position, |rows| count(&mut tables.quarantine, rows))
        .await
        .unwrap();
    let mut rolled_up = 0;
    let rollups = tenant.rollups();
    rollups
        .scan(&["count"], |rows| {
            rolled_up += (0..rows.rows())
                .map(|row| rows.i64(0, row).unwrap())
                .sum::<i64>();
        })
        .await
        .unwrap();
    tables.rolled_up = rolled_up;
    tables
}

/// What the tables must hold of the messages of [`publish`] when each partition is settled up to
/// the sequence number at its place.
pub(crate) fn expected_up_to(settled: &[i64]) -> Tables {
    let mut tables = Tables::default();
    let partitions = settled.len() as u64;
    for (partition, &last) in settled.iter().enumerate() {
        for sequence in 0..=last {
            let number = u64::try_from(sequence).unwrap() * partitions + partition as u64;
            let event = (i64::try_from(partition).unwrap(), sequence);
            match fate(number) {
                Fate::Reading => {
                    tables.rolled_up += 1;
                    tables.readings.insert(event, 1)
                }
                Fate::Rejected => tables.rejected.insert(event, 1),
                Fate::Quarantined => tables.quarantine.insert(event, 1),
            };
        }
    }
    tables
}

/// Fails with a short text instead of thousands of rows.
#[track_caller]
pub(crate) fn assert_tables(found: &Tables, expected: &Tables) {
    for (name, found, expected) in [
        ("readings", &found.readings, &expected.readings),
        ("rejected", &found.rejected, &expected.rejected),
        ("quarantine", &found.quarantine, &expected.quarantine),
    ] {
        let wrong: Vec<_> = expected
            .keys()
            .chain(found.keys())
            .filter(|event| found.get(event) != expected.get(event))
            .take(5)
            .map(|event| (event, found.get(event), expected.get(event)))
            .collect();
        assert!(
            wrong.is_empty(),
            "{name}: (event, rows found, rows expected): {wrong:?}"
        );
    }
    assert_eq!(found.rolled_up, expected.rolled_up, "values in rollups");
}
