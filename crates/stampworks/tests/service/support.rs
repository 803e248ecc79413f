//! A stamp's configuration in a folder, the events it gets, and what is in its tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
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
[[fields]]
name = "note"
type = "string"
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
    publish_noted(hub, number, 0);
}

/// As [`publish`], with a text of `note_bytes` that does not compress to less than half.
pub(crate) fn publish_noted(hub: &Hub, number: u64, note_bytes: usize) {
    let value = match fate(number) {
        Fate::Rejected => "99999".to_owned(),
        Fate::Reading | Fate::Quarantined => (number % 1_000).to_string(),
    };
    let device = match fate(number) {
        Fate::Quarantined => "stranger".to_owned(),
        Fate::Reading | Fate::Rejected => format!("d-{}", number % 10),
    };
    // 2026-11-24T12:00:00Z and later; far from the hub's clock is only suspect, never lost.
    let ts = 1_795_521_600_000 + number;
    let body = if note_bytes == 0 {
        format!(r#"{{"ts":{ts},"value":{value}}}"#)
    } else {
        let note = note(number, note_bytes);
        format!(r#"{{"ts":{ts},"value":{value},"note":"{note}"}}"#)
    };
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

fn note(number: u64, bytes: usize) -> String {
    let mut random = StdRng::seed_from_u64(number);
    let words = (0..bytes.div_ceil(16)).map(|_| format!("{:016x}", random.random::<u64>()));
    let mut text: String = words.collect();
    text.truncate(bytes);
    text
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
