//! Events of known fate.

use bytes::Bytes;
use stamp_model::{Event, HubStamp, MessageSource};

use crate::chance::Chance;
use crate::oracle::{End, Row};

pub(crate) const TENANTS: [&str; 3] = ["alpha", "beta", "gamma"];

pub(crate) const SCHEMA: &str = r#"
version = 1
[event-time]
source = "enqueued"
[[fields]]
name = "value"
type = "f64"
required = true
max = 1000.0
[[fields]]
name = "level"
type = "i64"
"#;

/// 2026-11-24 23:58 UTC, so that a run crosses midnight.
const START_US: i64 = 1_795_564_680_000_000;

/// Makes events.
pub(crate) struct Workload {
    chance: Chance,
    tenants: usize,
    /// Sends bodies that fill its lanes.
    heavy: Option<usize>,
    clock_us: i64,
}

/// Bytes of a heavy body: four fill a lane of the least size that the configuration allows.
const HEAVY_BYTES: usize = 80_000;

impl Workload {
    pub(crate) fn new(seed: u64, tenants: usize, heavy: Option<usize>) -> Self {
        Self {
            chance: Chance::new(seed, "workload"),
            tenants,
            heavy,
            clock_us: START_US,
        }
    }

    /// An event, and where it must end.
    pub(crate) fn event(&mut self) -> (Event, End) {
        self.clock_us += i64::try_from(self.chance.within(1, 9_000_000)).unwrap();
        let tenant = usize::try_from(self.chance.within(0, self.tenants as u64)).unwrap();
        let device = format!("{}-{}", &TENANTS[tenant][..1], self.chance.within(0, 4));
        if self.heavy == Some(tenant) && self.chance.percent(40) {
            let body = format!(r#"{{"value":"warm","pad":"{}"}}"#, "x".repeat(HEAVY_BYTES));
            return (
                self.wrap(Some(&device), &body),
                End::Rejected(tenant, "wrong_type"),
            );
        }
        match self.chance.within(0, 20) {
            0 | 1 => self.bad(tenant, &device),
            2 => (
                self.wrap(Some("stranger"), "{}"),
                End::Quarantine("unknown_tenant"),
            ),
            3 => (self.wrap(None, "{}"), End::Quarantine("no_device")),
            4 => self.claim(&device),
            5 | 6 => self.batch(tenant, &device),
            _ => {
                let (text, row) = self.reading(tenant, &device);
                (self.wrap(Some(&device), &text), End::Readings(vec![row]))
            }
        }
    }

    fn reading(&mut self, tenant: usize, device: &str) -> (String, Row) {
        let value = i64::try_from(self.chance.within(0, 1_000)).unwrap();
        let level = self
            .chance
            .percent(50)
            .then(|| i64::try_from(self.chance.within(0, 9)).unwrap());
        let pad = "x".repeat(usize::try_from(self.chance.within(0, 120)).unwrap());
        let level_text = level.map_or("null".to_owned(), |level| level.to_string());
        let text = format!(r#"{{"value":{value},"level":{level_text},"pad":"{pad}"}}"#);
        (
            text,
            (tenant, device.to_owned(), self.clock_us, value, level),
        )
    }

    fn batch(&mut self, tenant: usize, device: &str) -> (Event, End) {
        let count = self.chance.within(2, 6);
        let (texts, rows): (Vec<_>, Vec<_>) =
            (0..count).map(|_| self.reading(tenant, device)).unzip();
        if self.chance.percent(15) {
            // One bad element and none of the event's readings may be there.
            let body = format!(r#"[{},{{"value":"warm"}}]"#, texts.join(","));
            return (
                self.wrap(Some(device), &body),
                End::Rejected(tenant, "wrong_type"),
            );
        }
        let body = format!("[{}]", texts.join(","));
        (self.wrap(Some(device), &body), End::Readings(rows))
    }

    fn bad(&mut self, tenant: usize, device: &str) -> (Event, End) {
        let (body, reason) = match self.chance.within(0, 4) {
            0 => (r#"{"value":"warm"}"#, "wrong_type"),
            1 => (r#"{"value":1000.5}"#, "out_of_range"),
            2 => (r#"{"level":1}"#, "missing_field"),
            _ => (r#"{"value":"#, "malformed_json"),
        };
        (self.wrap(Some(device), body), End::Rejected(tenant, reason))
    }

    /// A device of one tenant that says it is another's.
    fn claim(&mut self, device: &str) -> (Event, End) {
        let mut event = self.wrap(Some(device), r#"{"value":1}"#);
        event.properties = vec![("tenant".into(), "somebody-else".into())];
        (event, End::Quarantine("tenant_mismatch"))
    }

    fn wrap(&self, device: Option<&str>, body: &str) -> Event {
        Event {
            enqueued_at_us: self.clock_us,
            hub: HubStamp {
                device_id: device.map(Into::into),
                source: MessageSource::Telemetry,
                ..HubStamp::default()
            },
            body: Bytes::from(body.to_owned()),
            ..Event::default()
        }
    }
}
