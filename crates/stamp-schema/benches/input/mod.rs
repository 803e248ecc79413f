//! Reproducible telemetry: 10,000 devices of eight firmwares, five metrics, bodies of about 280
//! bytes.

use stamp_model::Event;

/// Number of devices.
pub(crate) const DEVICES: u64 = 10_000;

/// The schema that fits [`event`].
pub(crate) const SCHEMA: &str = r#"
version = 1
[event-time]
path = "ts"
[[fields]]
name = "seq"
type = "i64"
rollup = false
[[fields]]
name = "line"
type = "string"
[[fields]]
name = "state"
type = "string"
allowed = ["running", "idle", "fault", "service"]
[[fields]]
name = "lat"
path = "pos.lat"
type = "f64"
rollup = false
[[fields]]
name = "lon"
path = "pos.lon"
type = "f64"
rollup = false
[[fields]]
name = "temp"
type = "f64"
unit = "Cel"
required = true
min = -60
max = 160
[[fields]]
name = "pressure"
type = "f64"
unit = "kPa"
min = 0
[[fields]]
name = "vibration"
type = "f64"
[[fields]]
name = "current"
type = "f64"
[[fields]]
name = "rpm"
type = "i64"
min = 0
"#;

/// SplitMix64: a small generator with a published constant set, for input that never changes.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The pieces of a body as `"key":value` texts.
struct Members {
    device: String,
    ts: String,
    seq: String,
    words: String,
    state: String,
    pos: String,
    metrics: [String; 5],
}

fn members(random: &mut Random, device: u64, second: u64) -> Members {
    let two = |random: &mut Random, low: u64, high: u64| {
        let whole = low + random.below(high - low);
        format!("{whole}.{:02}", random.below(100))
    };
    let state = ["running", "running", "running", "idle", "fault", "service"];
    let of_day = second % 86_400;
    Members {
        device: format!("\"deviceId\":\"press-{device:05}\",\"tenant\":\"contoso-plant-4\""),
        ts: format!(
            "\"ts\":\"2026-03-{:02}T{:02}:{:02}:{:02}.{:03}Z\"",
            1 + second / 86_400 % 28,
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60,
            random.below(1_000)
        ),
        seq: format!("\"seq\":{}", 1_000_000 + second),
        words: format!("\"line\":\"L{}\",\"shift\":\"early\"", device % 12),
        state: format!("\"state\":\"{}\"", state[random.below(6) as usize]),
        pos: format!(
            "\"pos\":{{\"lat\":48.{:04},\"lon\":11.{:04}}}",
            device % 10_000,
            device * 7 % 10_000
        ),
        metrics: [
            format!("\"temp\":{}", two(random, 18, 90)),
            format!("\"pressure\":{}", two(random, 95, 110)),
            format!("\"vibration\":0.{:04}", random.below(10_000)),
            format!("\"current\":{}", two(random, 1, 40)),
            format!("\"rpm\":{}", 800 + random.below(2_200)),
        ],
    }
}

/// A body as firmware `firmware` (0 to 7) writes it: its own order of keys and spacing.
fn body(firmware: u64, m: &Members) -> String {
    let [temp, pressure, vibration, current, rpm] = &m.metrics;
    let Members {
        device,
        ts,
        seq,
        words,
        state,
        pos,
        ..
    } = m;
    let order = match firmware / 2 {
        0 => [
            device, ts, seq, words, state, pos, temp, pressure, vibration, current, rpm,
        ],
        1 => [
            ts, device, temp, pressure, vibration, current, rpm, seq, words, state, pos,
        ],
        2 => [
            device, seq, ts, pos, state, words, rpm, current, vibration, pressure, temp,
        ],
        _ => [
            temp, pressure, vibration, current, rpm, device, ts, seq, pos, words, state,
        ],
    };
    let separator = if firmware.is_multiple_of(2) {
        ","
    } else {
        ", "
    };
    format!("{{{}}}", order.map(String::as_str).join(separator))
}

/// Event number `index`: devices report in turn, one every ten seconds.
pub(crate) fn event(random: &mut Random, index: u64) -> Event {
    let device = random.below(DEVICES);
    let second = 43_200 + index * 10 / DEVICES;
    let mut event = Event {
        sequence: index.cast_signed(),
        enqueued_at_us: 1_772_323_200_000_000 + (second.cast_signed() + 1) * 1_000_000,
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        body: body(device % 8, &members(random, device, second)).into(),
        ..Event::default()
    };
    event.hub.device_id = Some(format!("press-{device:05}").into());
    event
}
