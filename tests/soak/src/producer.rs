//! Devices of three tenants, and the ledger of everything they sent.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_emulator::{Hub, OutgoingEvent};
use stamp_model::{HubStamp, MessageSource};

pub(crate) const TENANTS: [&str; 3] = ["contoso", "fabrikam", "northwind"];
const DEVICES_PER_TENANT: u64 = 20;
/// Length of the text that makes events worth buffering.
const NOTE_BYTES: usize = 600;

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

/// Sends events and writes down each of them.
pub(crate) struct Producer {
    hub: Hub,
    random: StdRng,
    sent: u64,
    /// CSV without a head: partition, sequence, tenant, fate, time in ms, value.
    ledger: String,
}

impl Producer {
    pub(crate) fn new(hub: Hub, seed: u64) -> Self {
        Self {
            hub,
            random: StdRng::seed_from_u64(seed),
            sent: 0,
            ledger: String::new(),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends until there are `total`.
    pub(crate) fn send_up_to(&mut self, total: u64) -> Result<()> {
        while self.sent < total {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let tenant = TENANTS[self.random.random_range(0..TENANTS.len())];
        let device = self.random.random_range(0..DEVICES_PER_TENANT);
        let fate = match self.random.random_range(0..100) {
            0..3 => "rejected",
            3..6 => "quarantined",
            _ => "reading",
        };
        // Whole numbers, so that a sum is the same in any order.
        let value = self.random.random_range(0..1_000);
        let sent_value = if fate == "rejected" { 99_999 } else { value };
        let device_id = match fate {
            "quarantined" => format!("stranger-{device}"),
            _ => format!("{tenant}-{device}"),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let note = self.note();
        let event = OutgoingEvent {
            body: Bytes::from(format!(
                r#"{{"ts":{now},"value":{sent_value},"note":"{note}"}}"#
            )),
            hub: HubStamp {
                device_id: Some(device_id.into()),
                source: MessageSource::Telemetry,
                ..HubStamp::default()
            },
            ..OutgoingEvent::default()
        };
        let partition = self.random.random_range(0..self.hub.partitions());
        let published = self.hub.publish(partition, event)?;
        let sequence = published.sequence;
        writeln!(
            self.ledger,
            "{partition},{sequence},{tenant},{fate},{now},{value}"
        )?;
        self.sent += 1;
        Ok(())
    }

    /// Hexadecimal digits: they compress to half, not to nothing.
    fn note(&mut self) -> String {
        let words = NOTE_BYTES / 16;
        let mut text = String::with_capacity(NOTE_BYTES);
        for _ in 0..words {
            // Writing to a String cannot fail.
            let _written = write!(text, "{:016x}", self.random.random::<u64>());
        }
        text
    }

    pub(crate) fn write_ledger(&self, path: &Path) -> Result<()> {
        std::fs::write(path, &self.ledger).with_context(|| format!("write {}", path.display()))
    }
}
