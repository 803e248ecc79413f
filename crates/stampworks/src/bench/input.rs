//! Telemetry as devices send it: 10,000 devices of 8 firmwares, five metrics, about 280 bytes.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_emulator::{Hub, OutgoingEvent};
use stamp_model::{Event, HubStamp, MessageSource, Text};

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

const DEVICES: u64 = 10_000;
const FIRMWARES: u64 = 8;
/// How often a device sends when nothing else is said, as text for the command line.
pub(crate) const INTERVAL: &str = "10s";

/// Makes the events of the input one after another; the same seed makes the same.
pub(crate) struct Input {
    random: StdRng,
    number: u64,
    began_ms: i64,
    /// How often every device sends: a round of all devices takes this long.
    interval_ms: i64,
    devices: Vec<Text>,
}

impl Input {
    pub(crate) fn new(began: Timestamp, interval: Duration) -> Self {
        let devices = (0..DEVICES)
            .map(|d| Text::from(format!("device-{d:05}")))
            .collect();
        Self {
            random: StdRng::seed_from_u64(1),
            number: 0,
            began_ms: began.as_millisecond(),
            interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX),
            devices,
        }
    }

    fn next(&mut self) -> (usize, i64, String) {
        let number = self.number;
        self.number += 1;
        let (device, round) = (number % DEVICES, number / DEVICES);
        let round_ms = self.interval_ms;
        let spread =
            i64::try_from(device).unwrap_or(0) * round_ms / i64::try_from(DEVICES).unwrap_or(1);
        let ms = self.began_ms + i64::try_from(round).unwrap_or(0) * round_ms + spread;
        let ts = Timestamp::from_millisecond(ms).unwrap_or_default();
        let firmware = device % FIRMWARES;
        let r = &mut self.random;
        // One in a hundred is out of range and ends in `rejected`.
        let temperature = if r.random_ratio(1, 100) {
            999.0
        } else {
            r.random_range(15.0..25.0_f64)
        };
        let (humidity, pressure) = (
            r.random_range(30.0..60.0_f64),
            r.random_range(990.0..1030.0_f64),
        );
        let (vibration, voltage) = (
            r.random_range(0.0..4.0_f64),
            r.random_range(225.0..235.0_f64),
        );
        // Firmwares differ in the order of their keys, as those of real products do.
        let metrics = match firmware % 4 {
            0 => format!(
                r#""temperature":{temperature:.2},"humidity":{humidity:.2},"pressure":{pressure:.2},"vibration":{vibration:.2},"voltage":{voltage:.2}"#
            ),
            1 => format!(
                r#""voltage":{voltage:.2},"vibration":{vibration:.2},"pressure":{pressure:.2},"humidity":{humidity:.2},"temperature":{temperature:.2}"#
            ),
            2 => format!(
                r#""humidity":{humidity:.2},"temperature":{temperature:.2},"voltage":{voltage:.2},"pressure":{pressure:.2},"vibration":{vibration:.2}"#
            ),
            _ => format!(
                r#""pressure":{pressure:.2},"voltage":{voltage:.2},"temperature":{temperature:.2},"vibration":{vibration:.2},"humidity":{humidity:.2}"#
            ),
        };
        let body = format!(
            r#"{{"device":"device-{device:05}","tenant":"contoso-eu","ts":"{ts:.3}","seq":{round},"site":"plant-{:02}","line":"line-{}","fw":"2.{firmware}.1","pos":{{"lat":59.{:04},"lon":18.{:04}}},"status":"nominal",{metrics}}}"#,
            device % 40,
            device % 7,
            device % 9_973,
            device % 9_967,
        );
        (usize::try_from(device).unwrap_or(0), ms, body)
    }

    /// The next event as a partition would deliver it.
    pub(crate) fn event(&mut self) -> Event {
        let sequence = i64::try_from(self.number).unwrap_or(i64::MAX);
        let (device, ms, body) = self.next();
        Event {
            sequence,
            offset: "0".into(),
            enqueued_at_us: (ms + 500) * 1_000,
            hub: self.stamp(device),
            content_type: Some("application/json".into()),
            body: Bytes::from(body),
            ..Event::default()
        }
    }

    fn stamp(&self, device: usize) -> HubStamp {
        HubStamp {
            device_id: Some(self.devices[device].clone()),
            generation_id: Some("638000000000000000".into()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        }
    }

    fn outgoing(&mut self) -> OutgoingEvent {
        let (device, _, body) = self.next();
        OutgoingEvent {
            body: Bytes::from(body),
            hub: self.stamp(device),
            content_type: Some("application/json".into()),
            partition_key: Some(self.devices[device].clone()),
            ..OutgoingEvent::default()
        }
    }
}

/// Puts `events` into a hub as if its devices had sent them until now.
pub(crate) fn fill(hub: &Hub, events: u64, interval: Duration) -> Result<(), Failure> {
    let rounds = u32::try_from(events / DEVICES).unwrap_or(u32::MAX);
    let began = Timestamp::now().checked_sub(interval.saturating_mul(rounds));
    let mut input = Input::new(began.unwrap_or_default(), interval);
    for number in 0..events {
        let partition = u32::try_from(number % u64::from(hub.partitions())).unwrap_or(0);
        hub.publish(partition, input.outgoing())
            .map_err(|cause| Failure::failed("the emulator refuses a generated event", cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_about_280_bytes_and_almost_all_are_valid() {
        let schema = std::sync::Arc::new(stamp_schema::Schema::parse(SCHEMA).unwrap());
        let mut decoder = stamp_schema::Decoder::new(schema.clone());
        let partition = stamp_model::PartitionId::new(0).unwrap();
        let mut readings = stamp_model::Readings::new(schema.shape(), partition);
        let mut input = Input::new(
            "2026-11-24T11:00:00Z".parse().unwrap(),
            Duration::from_secs(10),
        );
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
}
