//! Telemetry as devices send it: 8 firmwares, five metrics, about 280 bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_emulator::{Clock, Hub, OutgoingEvent, wall_clock};
use stamp_model::{Event, HubStamp, MessageSource, Text};

use super::population::Population;
use crate::exit::Failure;

pub(crate) const SCHEMA: &str = r#"
version = 1

[event-time]
path = "ts"
format = "rfc3339"
ahead-max = "10m"
behind-max = "7d"

[[fields]]
name = "site"
path = "site"
type = "string"
required = true

[[fields]]
name = "line"
path = "line"
type = "string"
required = true

[[fields]]
name = "firmware"
path = "fw"
type = "string"
required = true

[[fields]]
name = "seq"
path = "seq"
type = "i64"
required = true
rollup = false

[[fields]]
name = "temperature"
path = "temperature"
type = "f64"
unit = "Cel"
required = true
min = -60.0
max = 150.0

[[fields]]
name = "humidity"
path = "humidity"
type = "f64"
unit = "%"
required = true
min = 0.0
max = 100.0

[[fields]]
name = "pressure"
path = "pressure"
type = "f64"
unit = "hPa"
required = true
min = 300.0
max = 1200.0

[[fields]]
name = "vibration"
path = "vibration"
type = "f64"
unit = "mm/s"
required = true
min = 0.0

[[fields]]
name = "voltage"
path = "voltage"
type = "f64"
unit = "V"
required = true
min = 0.0
max = 1000.0
"#;

const FIRMWARES: u64 = 8;
/// How often a device sends when nothing else is said, as text for the command line.
pub(crate) const INTERVAL: &str = "10s";
/// Between the time of an event and its arrival at the hub.
const TRAVEL_MS: i64 = 500;
/// A body is a little less.
const BODY_BYTES: usize = 320;

/// What the events are made from. The same gives the same bytes, in every process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) seed: u64,
    /// Time of the first event.
    pub(crate) began: Timestamp,
    pub(crate) population: Population,
}

impl Source {
    /// Events of which the last have just arrived.
    pub(crate) fn until_now(events: u64, seed: u64, population: Population) -> Self {
        let rounds = u32::try_from(events.div_ceil(population.devices)).unwrap_or(u32::MAX);
        let travel = Duration::from_millis(TRAVEL_MS.unsigned_abs());
        let round = population.interval;
        let before = round.saturating_mul(rounds).saturating_add(travel);
        Self {
            seed,
            began: Timestamp::now().checked_sub(before).unwrap_or_default(),
            population,
        }
    }
}

/// Makes the events of the input one after another.
pub(crate) struct Input {
    random: StdRng,
    number: u64,
    began_ms: i64,
    interval_ms: i64,
    devices: Vec<Text>,
    /// The same for all devices.
    generation: Text,
    content_type: Text,
    /// The second that the latest event was made in, and how it is written.
    second: (i64, String),
}

/// What differs from event to event.
struct Made {
    device: usize,
    at_ms: i64,
    body: Bytes,
}

impl Input {
    pub(crate) fn new(source: Source) -> Self {
        let population = source.population;
        let devices = 0..population.devices;
        let devices = devices.map(|device| population.device_id(device)).collect();
        let interval_ms = i64::try_from(population.interval.as_millis());
        Self {
            random: StdRng::seed_from_u64(source.seed),
            number: 0,
            began_ms: source.began.as_millisecond(),
            interval_ms: interval_ms.unwrap_or(i64::MAX),
            devices,
            generation: "638000000000000000".into(),
            content_type: "application/json".into(),
            second: (i64::MIN, String::new()),
        }
    }

    /// Device, round and time of the next event.
    fn advance(&mut self) -> (u64, u64, i64) {
        let number = self.number;
        self.number += 1;
        let devices = self.devices.len() as u64;
        let (device, round) = (number % devices, number / devices);
        let round_ms = self.interval_ms;
        let spread =
            i64::try_from(device).unwrap_or(0) * round_ms / i64::try_from(devices).unwrap_or(1);
        let at_ms = self.began_ms + i64::try_from(round).unwrap_or(0) * round_ms + spread;
        (device, round, at_ms)
    }

    fn next(&mut self) -> Made {
        let (device, round, at_ms) = self.advance();
        let mut body = Vec::with_capacity(BODY_BYTES);
        self.write(&mut body, device, round, at_ms);
        Made {
            device: usize::try_from(device).unwrap_or(0),
            at_ms,
            body: Bytes::from(body),
        }
    }

    /// Written by hand: a hub is filled with millions of these before anything is measured.
    fn write(&mut self, out: &mut Vec<u8>, device: u64, round: u64, at_ms: i64) {
        let r = &mut self.random;
        // In hundredths. One in a hundred is out of range and ends in `rejected`.
        let temperature = if r.random_ratio(1, 100) {
            99_900
        } else {
            r.random_range(1_500..2_500)
        };
        let metrics: [(&[u8], u64); 5] = [
            (b",\"temperature\":", temperature),
            (b",\"humidity\":", r.random_range(3_000..6_000)),
            (b",\"pressure\":", r.random_range(99_000..103_000)),
            (b",\"vibration\":", r.random_range(0..400)),
            (b",\"voltage\":", r.random_range(22_500..23_500)),
        ];
        let firmware = device % FIRMWARES;
        // Firmwares differ in the order of their keys, as those of real products do.
        let order = match firmware % 4 {
            0 => [0, 1, 2, 3, 4],
            1 => [4, 3, 2, 1, 0],
            2 => [1, 0, 4, 2, 3],
            _ => [2, 4, 0, 3, 1],
        };
        out.extend_from_slice(b"{\"device\":\"device-");
        padded(out, device, 5);
        out.extend_from_slice(b"\",\"tenant\":\"contoso-eu\",\"ts\":\"");
        self.write_time(out, at_ms);
        out.extend_from_slice(b"\",\"seq\":");
        padded(out, round, 1);
        out.extend_from_slice(b",\"site\":\"plant-");
        padded(out, device % 40, 2);
        out.extend_from_slice(b"\",\"line\":\"line-");
        padded(out, device % 7, 1);
        out.extend_from_slice(b"\",\"fw\":\"2.");
        padded(out, firmware, 1);
        out.extend_from_slice(b".1\",\"pos\":{\"lat\":59.");
        padded(out, device % 9_973, 4);
        out.extend_from_slice(b",\"lon\":18.");
        padded(out, device % 9_967, 4);
        out.extend_from_slice(b"},\"status\":\"nominal\"");
        for index in order {
            let (key, hundredths) = metrics[index];
            out.extend_from_slice(key);
            padded(out, hundredths / 100, 1);
            out.push(b'.');
            padded(out, hundredths % 100, 2);
        }
        out.push(b'}');
    }

    /// RFC 3339 with milliseconds.
    fn write_time(&mut self, out: &mut Vec<u8>, at_ms: i64) {
        let second = at_ms.div_euclid(1_000);
        if self.second.0 != second {
            let time = Timestamp::from_second(second).unwrap_or_default();
            let text = format!("{time:.0}");
            self.second = (second, text.trim_end_matches('Z').to_owned());
        }
        out.extend_from_slice(self.second.1.as_bytes());
        out.push(b'.');
        padded(out, at_ms.rem_euclid(1_000).unsigned_abs(), 3);
        out.push(b'Z');
    }

    /// The next event as a partition would deliver it.
    pub(crate) fn event(&mut self) -> Event {
        let sequence = i64::try_from(self.number).unwrap_or(i64::MAX);
        let made = self.next();
        self.delivered(sequence, made)
    }

    /// The next event with a body that was read from a file of them.
    pub(crate) fn event_of(&mut self, body: Bytes) -> Event {
        let sequence = i64::try_from(self.number).unwrap_or(i64::MAX);
        let (device, _, at_ms) = self.advance();
        let device = usize::try_from(device).unwrap_or(0);
        self.delivered(
            sequence,
            Made {
                device,
                at_ms,
                body,
            },
        )
    }

    fn delivered(&self, sequence: i64, made: Made) -> Event {
        Event {
            sequence,
            offset: "0".into(),
            enqueued_at_us: (made.at_ms + TRAVEL_MS) * 1_000,
            hub: self.stamp(made.device),
            content_type: Some(self.content_type.clone()),
            body: made.body,
            ..Event::default()
        }
    }

    fn stamp(&self, device: usize) -> HubStamp {
        HubStamp {
            device_id: Some(self.devices[device].clone()),
            generation_id: Some(self.generation.clone()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        }
    }

    /// The next event as IoT Hub would route it, and when it would.
    fn outgoing(&mut self) -> (i64, OutgoingEvent) {
        let made = self.next();
        let event = OutgoingEvent {
            body: made.body,
            hub: self.stamp(made.device),
            content_type: Some(self.content_type.clone()),
            partition_key: Some(self.devices[made.device].clone()),
            ..OutgoingEvent::default()
        };
        ((made.at_ms + TRAVEL_MS) * 1_000, event)
    }
}

/// Writes a number with at least `digits` digits, 20 at most.
fn padded(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let (mut at, mut left) = (text.len(), number);
    while left > 0 {
        at -= 1;
        text[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
    out.extend_from_slice(&text[at.min(text.len() - digits)..]);
}

/// The hub's clock while it is filled: events arrive when they would have, not all in this second. Then it is the
/// machine's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct FillClock {
    /// Microseconds since 1970; 0 for the machine's own time.
    now_us: Arc<AtomicI64>,
}

impl FillClock {
    pub(crate) fn clock(&self) -> Clock {
        let (now_us, wall) = (Arc::clone(&self.now_us), wall_clock());
        Arc::new(move || match now_us.load(Ordering::Relaxed) {
            0 => wall(),
            now_us => now_us,
        })
    }

    /// Puts `events` into a hub, partition by turns, as if its devices had sent them.
    ///
    /// # Errors
    /// What the emulator says to an event that it refuses.
    pub(crate) fn fill(&self, hub: &Hub, events: u64, source: Source) -> Result<(), Failure> {
        let mut input = Input::new(source);
        for number in 0..events {
            let partition = u32::try_from(number % u64::from(hub.partitions())).unwrap_or(0);
            let (at_us, event) = input.outgoing();
            self.now_us.store(at_us, Ordering::Relaxed);
            hub.publish(partition, event).map_err(|cause| {
                Failure::failed("the emulator refuses a generated event", cause)
            })?;
        }
        self.now_us.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes the bodies of `events` events, one a line.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, events: u64, source: Source) -> std::io::Result<()> {
    let mut input = Input::new(source);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for _ in 0..events {
        out.write_all(&input.next().body)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(seed: u64) -> Source {
        Source {
            seed,
            began: "2026-11-24T11:00:00Z".parse().unwrap(),
            population: Population {
                interval: Duration::from_secs(10),
                devices: 10_000,
                tenants: 1,
            },
        }
    }

    #[test]
    fn bodies_are_about_280_bytes_and_almost_all_are_valid() {
        let schema = Arc::new(stamp_schema::Schema::parse(SCHEMA).unwrap());
        let mut decoder = stamp_schema::Decoder::new(schema.clone());
        let partition = stamp_model::PartitionId::new(0).unwrap();
        let mut readings = stamp_model::Readings::new(schema.shape(), partition);
        let mut input = Input::new(source(1));
        let mut bytes = 0;
        let mut refused = 0;
        for _ in 0..10_000 {
            let event = input.event();
            bytes += event.body.len();
            refused += usize::from(decoder.decode(&event, &mut readings).is_err());
        }
        assert!(
            (260..300).contains(&(bytes / 10_000)),
            "{} bytes",
            bytes / 10_000
        );
        assert!((50..200).contains(&refused), "{refused} refused");
    }

    #[test]
    fn a_body_is_what_a_device_writes() {
        let body = Input::new(source(1)).next().body;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["device"], "device-00000");
        assert_eq!(body["ts"], "2026-11-24T11:00:00.000Z");
        assert_eq!(body["seq"], 0);
        assert!(
            (15.0..25.0).contains(&body["temperature"].as_f64().unwrap()),
            "{body}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_file_and_another_seed_another() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, seed| {
            let path = folder.path().join(name);
            write(&path, 1_000, source(seed)).unwrap();
            std::fs::read(path).unwrap()
        };
        let (first, again, other) = (written("a", 7), written("b", 7), written("c", 8));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 1_000);
        let mut input = Input::new(source(7));
        let bodies: Vec<Bytes> = (0..1_000).map(|_| input.event().body).collect();
        assert_eq!(first, [bodies.join(&b'\n'), b"\n".to_vec()].concat());
    }

    #[tokio::test]
    async fn events_of_a_fill_arrive_when_their_devices_sent_them_and_later_ones_now() {
        let clock = FillClock::default();
        let hub = |name: &str, days: u64| stamp_emulator::HubConfig {
            name: name.to_owned(),
            partitions: 1,
            retention: stamp_emulator::Retention {
                age_max: Duration::from_secs(days * 24 * 60 * 60),
                ..stamp_emulator::Retention::default()
            },
            ..stamp_emulator::HubConfig::default()
        };
        let emulator = stamp_emulator::EventHubsEmulator::start(stamp_emulator::EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            hubs: vec![hub("day", 1), hub("ages", 100_000)],
            clock: clock.clock(),
            ..stamp_emulator::EmulatorConfig::default()
        })
        .await
        .unwrap();
        let of_last_year = Source {
            began: "2025-06-01T00:00:00Z".parse().unwrap(),
            ..source(1)
        };
        for (name, first) in [("day", 10), ("ages", 0)] {
            let hub = emulator.hub(name).unwrap();
            clock.fill(&hub, 10, of_last_year).unwrap();
            assert_eq!(
                (hub.first_sequence(0), hub.last_sequence(0)),
                (first, 9),
                "{name}"
            );
            let next = hub.publish(0, OutgoingEvent::default()).unwrap();
            let age_us = Timestamp::now().as_microsecond() - next.enqueued_at_us;
            assert!((0..600_000_000).contains(&age_us), "{name}: {age_us}");
        }
        emulator.stop().await;
    }
}
