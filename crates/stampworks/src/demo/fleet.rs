//! The simulated devices of the demo and the messages they send, good and bad.

use bytes::Bytes;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_emulator::OutgoingEvent;
use stamp_model::{HubStamp, MessageSource, Properties, Text};

use crate::demo::ledger::Fate;
use crate::demo::series::{AllSeries, Series};

/// A tenant of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Customer {
    Contoso,
    Fabrikam,
    Northwind,
}

impl Customer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Contoso => "contoso",
            Self::Fabrikam => "fabrikam",
            Self::Northwind => "northwind",
        }
    }

    /// What its device ids begin with; also its entry in the tenant directory.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Contoso => "press-",
            Self::Fabrikam => "road-",
            Self::Northwind => "room-",
        }
    }

    /// What it measures: the fields that have rollups.
    pub(crate) fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::Contoso => &["machine_temperature", "ambient_temperature", "cpu"],
            Self::Fabrikam => &["speed", "occupancy", "travel_time"],
            Self::Northwind => &["room_temperature", "load"],
        }
    }

    pub(crate) fn schema(self) -> &'static str {
        match self {
            Self::Contoso => include_str!("schemas/contoso.toml"),
            Self::Fabrikam => include_str!("schemas/fabrikam.toml"),
            Self::Northwind => include_str!("schemas/northwind.toml"),
        }
    }
}

struct Device {
    customer: Customer,
    id: Text,
    /// Where in the series it began, so that no two devices send the same.
    offset: u64,
    sent: u64,
}

/// One message on its way to the hub, and what should become of it.
pub(crate) struct Sent {
    pub(crate) customer: Customer,
    /// Partition key: IoT Hub uses the device id.
    pub(crate) key: Text,
    pub(crate) event: OutgoingEvent,
    pub(crate) fate: Fate,
}

/// The devices of one stamp.
pub(crate) struct Fleet {
    series: AllSeries,
    devices: Vec<Device>,
    random: StdRng,
    next: usize,
    again: Option<Sent>,
}

impl Fleet {
    /// `per_customer` devices for each of `customers`. The same seed sends the same messages.
    pub(crate) fn new(customers: &[Customer], per_customer: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut devices = Vec::new();
        for number in 1..=per_customer {
            for &customer in customers {
                let id = format!("{}{number:04}", customer.prefix()).into();
                devices.push(Device {
                    customer,
                    id,
                    offset: random.random_range(0..20_000),
                    sent: 0,
                });
            }
        }
        Self {
            series: AllSeries::load(),
            devices,
            random,
            next: 0,
            again: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// The next message; devices take turns. About one in sixteen is not an ordinary one.
    pub(crate) fn send(&mut self, now: Timestamp) -> Sent {
        if let Some(again) = self.again.take() {
            return again;
        }
        let at = self.next;
        self.next = (at + 1) % self.devices.len();
        let kind = self.random.random_range(0..1_000_u32);
        self.devices[at].sent += 1;
        match kind {
            0..=4 => self.late(at, now),
            5..=7 => self.wrong_clock(at, now),
            8..=12 => {
                // IoT Hub delivers at least once: the same message may come as two events.
                let first = self.ordinary(at, now);
                self.again = Some(Sent {
                    event: first.event.clone(),
                    fate: first.fate.clone(),
                    key: first.key.clone(),
                    ..first
                });
                first
            }
            13..=36 => self.bad(at, now, kind),
            37..=42 => self.spoofed(at, now),
            43..=46 => self.stranger(at, now),
            47..=49 => self.anonymous(at, now),
            50..=53 => self.notification(at, "twinChangeEvents", Fate::Rejected("not_telemetry")),
            54..=55 => self.notification(
                at,
                "somethingNewEvents",
                Fate::Quarantined("unknown_source"),
            ),
            56..=61 => self.batch(at, now),
            _ => self.ordinary(at, now),
        }
    }

    fn reading(&self, at: usize, step: u64, ts: Timestamp) -> (String, Vec<(&'static str, f64)>) {
        let device = &self.devices[at];
        let index = device.offset + device.sent * 7 + step;
        let value = |series: &Series| series.at(index);
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let s = &self.series;
        match device.customer {
            Customer::Contoso => {
                let (machine, ambient, cpu) = (
                    value(&s.machine_temperature),
                    value(&s.ambient_temperature),
                    value(&s.cpu),
                );
                let state =
                    ["run", "run", "run", "idle", "stop"][usize::try_from(index % 5).unwrap_or(0)];
                let body = format!(
                    r#"{{"ts":"{ts:.3}","machine":{{"temperature":{machine},"ambient":{ambient}}},"cpu":{cpu},"state":"{state}","seq":{}}}"#,
                    device.sent
                );
                let metrics = vec![
                    ("machine_temperature", number(machine)),
                    ("ambient_temperature", number(ambient)),
                    ("cpu", number(cpu)),
                ];
                (body, metrics)
            }
            Customer::Fabrikam => {
                let speed = value([&s.speed_a, &s.speed_b, &s.speed_c][at % 3]);
                let occupancy = value([&s.occupancy_a, &s.occupancy_b][at % 2]);
                let travel = value([&s.travel_time_a, &s.travel_time_b][at % 2]);
                let body = format!(
                    r#"{{"t":{},"speed":{speed},"occupancy":{occupancy},"travelTime":{travel},"lane":{}}}"#,
                    ts.as_millisecond(),
                    index % 4
                );
                let metrics = vec![
                    ("speed", number(speed)),
                    ("occupancy", number(occupancy)),
                    ("travel_time", number(travel)),
                ];
                (body, metrics)
            }
            Customer::Northwind => {
                let (temperature, load) = (value(&s.ambient_temperature), value(&s.cpu));
                let body = format!(
                    r#"{{"data":{{"temp":{temperature},"load":{load}}},"room":"floor {} room {}"}}"#,
                    at % 9,
                    at
                );
                (
                    body,
                    vec![
                        ("room_temperature", number(temperature)),
                        ("load", number(load)),
                    ],
                )
            }
        }
    }

    fn sent(&self, at: usize, body: Vec<u8>, fate: Fate) -> Sent {
        let device = &self.devices[at];
        let hub = HubStamp {
            device_id: Some(device.id.clone()),
            generation_id: Some("638000000000000000".into()),
            auth_method: Some(
                r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
                    .into(),
            ),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        };
        let event = OutgoingEvent {
            body: Bytes::from(body),
            hub,
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            message_id: Some(format!("{}-{}", device.id, device.sent).into()),
            properties: Properties::new(),
            partition_key: Some(device.id.clone()),
        };
        Sent {
            customer: device.customer,
            key: device.id.clone(),
            event,
            fate,
        }
    }

    fn ordinary(&self, at: usize, now: Timestamp) -> Sent {
        self.at_time(at, now, false, false)
    }

    fn at_time(&self, at: usize, ts: Timestamp, late: bool, clock_suspect: bool) -> Sent {
        let (body, metrics) = self.reading(at, 0, ts);
        let fate = Fate::Readings {
            rows: vec![metrics],
            late,
            clock_suspect,
        };
        self.compressed(at, body.into_bytes(), fate)
    }

    /// Northwind's gateways compress every other message.
    fn compressed(&self, at: usize, body: Vec<u8>, fate: Fate) -> Sent {
        let device = &self.devices[at];
        if device.customer != Customer::Northwind || device.sent.is_multiple_of(2) {
            return self.sent(at, body, fate);
        }
        let mut sent = self.sent(at, gzip(&body), fate);
        sent.event.content_encoding = Some("gzip".into());
        sent
    }

    /// Sent after its window closed for good; only where devices have clocks of their own.
    fn late(&self, at: usize, now: Timestamp) -> Sent {
        if self.devices[at].customer == Customer::Northwind {
            return self.ordinary(at, now);
        }
        self.at_time(at, now - jiff::SignedDuration::from_mins(30), true, false)
    }

    fn wrong_clock(&self, at: usize, now: Timestamp) -> Sent {
        if self.devices[at].customer == Customer::Northwind {
            return self.ordinary(at, now);
        }
        self.at_time(
            at,
            now + jiff::SignedDuration::from_hours(24 * 365),
            false,
            true,
        )
    }

    /// Fabrikam's sensors send several readings in one message.
    fn batch(&self, at: usize, now: Timestamp) -> Sent {
        if self.devices[at].customer != Customer::Fabrikam {
            return self.ordinary(at, now);
        }
        let readings: Vec<_> = (0..3).map(|step| self.reading(at, step, now)).collect();
        let bodies: Vec<&str> = readings.iter().map(|(body, _)| body.as_str()).collect();
        let body = format!("[{}]", bodies.join(","));
        let rows = readings
            .iter()
            .map(|(_, metrics)| metrics.clone())
            .collect();
        self.sent(
            at,
            body.into_bytes(),
            Fate::Readings {
                rows,
                late: false,
                clock_suspect: false,
            },
        )
    }

    fn bad(&self, at: usize, now: Timestamp, kind: u32) -> Sent {
        let (good, _) = self.reading(at, 0, now);
        let (required, text) = match self.devices[at].customer {
            Customer::Contoso => ("\"temperature\":", r#""temperature":"hot","#),
            Customer::Fabrikam => ("\"speed\":", r#""speed":"fast","#),
            Customer::Northwind => ("\"temp\":", r#""temp":"warm","#),
        };
        let without = |replacement: &str| {
            let (head, tail) = good.split_once(required).unwrap_or((&good, ""));
            let rest = tail.split_once(',').map_or("", |(_, rest)| rest);
            format!("{head}{replacement}{rest}")
        };
        let (body, reason) = match kind % 6 {
            0 => (
                good[..good.len() / 2].to_owned().into_bytes(),
                "malformed_json",
            ),
            1 => (without("").into_bytes(), "missing_field"),
            2 => (without(text).into_bytes(), "wrong_type"),
            3 => (
                without(&format!("{required}99999,")).into_bytes(),
                "out_of_range",
            ),
            4 => (
                without(&format!("{required}1,{required}1,")).into_bytes(),
                "duplicate_key",
            ),
            _ => ([good.as_bytes(), b"\xff\xfe"].concat(), "not_utf8"),
        };
        self.sent(at, body, Fate::Rejected(reason))
    }

    fn spoofed(&self, at: usize, now: Timestamp) -> Sent {
        let mut sent = self.ordinary(at, now);
        let other = if sent.customer == Customer::Contoso {
            "fabrikam"
        } else {
            "contoso"
        };
        sent.event.properties.push(("tenant".into(), other.into()));
        sent.fate = Fate::Quarantined("tenant_mismatch");
        sent
    }

    fn stranger(&self, at: usize, now: Timestamp) -> Sent {
        let mut sent = self.ordinary(at, now);
        let id: Text = format!("unlisted-{at}").into();
        sent.event.hub.device_id = Some(id.clone());
        sent.event.partition_key = Some(id.clone());
        sent.key = id;
        sent.fate = Fate::Quarantined("unknown_tenant");
        sent
    }

    fn anonymous(&self, at: usize, now: Timestamp) -> Sent {
        let mut sent = self.ordinary(at, now);
        sent.event.hub = HubStamp::default();
        sent.fate = Fate::Quarantined("no_device");
        sent
    }

    fn notification(&self, at: usize, source: &str, fate: Fate) -> Sent {
        let body = br#"{"version":7,"tags":{"site":"north"}}"#.to_vec();
        let mut sent = self.sent(at, body, fate);
        sent.event.hub.source = MessageSource::parse(&source.into());
        sent.event.properties = vec![
            ("opType".into(), "updateTwin".into()),
            ("deviceId".into(), self.devices[at].id.clone()),
            (
                "iothub-message-schema".into(),
                "twinChangeNotification".into(),
            ),
        ];
        sent
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
