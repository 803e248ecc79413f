//! What an event costs from its body to finished files in memory, stage by stage: CPU nanoseconds of the
//! thread, and bytes an event. The input is that of `stampworks bench --only stages`, which is built of
//! far more crates.
//!
//! `cargo bench -p stamp-lake --bench stages -- EVENTS INTERVAL_S`, by default 600,000 events of devices that
//! send every 10 s.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at once when something is wrong, and prints what it found"
)]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use stamp_lake::{EncodeOptions, EncodedFile, encode_readings, encode_rollups};
use stamp_model::{Event, HubStamp, MessageSource, PartitionId, Readings, START};
use stamp_rollup::{Windows, mark_late, partials, sorted_rows};
use stamp_schema::{Decoder, Schema};

const DEVICES: u64 = 10_000;
/// Rows of a flush: the consumer's default.
const FLUSH_ROWS: u64 = 200_000;
/// 2026-01-01T00:00:00Z
const BEGAN_MS: u64 = 1_767_225_600_000;
/// Name, least and greatest value; the last two in hundredths.
const METRICS: [(&str, u64, u64); 5] = [
    ("temperature", 1_500, 2_500),
    ("humidity", 3_000, 6_000),
    ("pressure", 99_000, 103_000),
    ("vibration", 0, 400),
    ("voltage", 22_500, 23_500),
];
/// Firmwares differ in the order of their keys.
const ORDERS: [[usize; 5]; 4] = [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [1, 0, 4, 2, 3],
    [2, 4, 0, 3, 1],
];
const STAGES: [&str; 6] = [
    "decode and validate",
    "mark late rows",
    "sort",
    "rollup",
    "encode readings",
    "encode rollups",
];

/// SplitMix64: a small generator with a published constant set, for input that never changes.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn schema() -> Schema {
    let mut text = "version = 1\n[event-time]\npath = \"ts\"\nformat = \"rfc3339\"\n".to_owned();
    text.push_str("ahead-max = \"10m\"\nbehind-max = \"7d\"\n");
    for (name, path) in [("site", "site"), ("line", "line"), ("firmware", "fw")] {
        let field = "type = \"string\"\nrequired = true";
        let _ = writeln!(
            text,
            "[[fields]]\nname = \"{name}\"\npath = \"{path}\"\n{field}"
        );
    }
    text.push_str("[[fields]]\nname = \"seq\"\npath = \"seq\"\ntype = \"i64\"\n");
    text.push_str("required = true\nrollup = false\n");
    for ((name, _, _), (min, max)) in METRICS.iter().zip([
        (-60, 150),
        (0, 100),
        (300, 1_200),
        (0, 1_000_000_000),
        (0, 1_000),
    ]) {
        let range = format!("required = true\nmin = {min}.0\nmax = {max}.0");
        let place = format!("name = \"{name}\"\npath = \"{name}\"\ntype = \"f64\"");
        let _ = writeln!(text, "[[fields]]\n{place}\n{range}");
    }
    Schema::parse(&text).unwrap()
}

/// Event `number`, about 280 bytes; one in a hundred is out of range and is rejected.
fn event(number: u64, interval_ms: u64, random: &mut u64) -> Event {
    let (device, round) = (number % DEVICES, number / DEVICES);
    let at_ms = BEGAN_MS + round * interval_ms + device * interval_ms / DEVICES;
    let of_day_ms = at_ms % 86_400_000;
    let (second, ms) = (of_day_ms / 1_000, of_day_ms % 1_000);
    let day = (at_ms - BEGAN_MS) / 86_400_000 + 1;
    let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
    let firmware = device % 8;
    let mut body = format!(
        "{{\"device\":\"device-{device:05}\",\"tenant\":\"contoso-eu\",\
         \"ts\":\"2026-01-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z\",\"seq\":{round},\
         \"site\":\"plant-{:02}\",\"line\":\"line-{}\",\"fw\":\"2.{firmware}.1\",\
         \"pos\":{{\"lat\":59.{:04},\"lon\":18.{:04}}},\"status\":\"nominal\"",
        device % 40,
        device % 7,
        device % 9_973,
        device % 9_967,
    );
    let mut hundredths = METRICS.map(|(_, least, end)| least + next(random) % (end - least));
    if next(random).is_multiple_of(100) {
        hundredths[0] = 99_900;
    }
    for metric in ORDERS[(firmware % 4) as usize] {
        let (name, value) = (METRICS[metric].0, hundredths[metric]);
        let _ = write!(body, ",\"{name}\":{}.{:02}", value / 100, value % 100);
    }
    body.push('}');
    Event {
        sequence: number.cast_signed(),
        offset: "0".into(),
        enqueued_at_us: (at_ms + 500).cast_signed() * 1_000,
        hub: HubStamp {
            device_id: Some(format!("device-{device:05}").as_str().into()),
            generation_id: Some("638000000000000000".into()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        },
        content_type: Some("application/json".into()),
        body: body.into_bytes().into(),
        ..Event::default()
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = cpu();
    let result = black_box(work());
    *spent += cpu().saturating_sub(before);
    result
}

fn total(files: &[EncodedFile]) -> u64 {
    files.iter().map(|file| file.bytes.len() as u64).sum()
}

fn main() {
    let arguments = std::env::args().skip(1);
    let mut numbers = arguments.filter_map(|argument| argument.parse().ok());
    let events: u64 = numbers.next().unwrap_or(600_000);
    let interval_ms = numbers.next().unwrap_or(10) * 1_000;
    let schema = Arc::new(schema());
    let shape = schema.shape().clone();
    let mut decoder = Decoder::new(schema);
    let windows = Windows {
        window_s: 60,
        lateness: Duration::from_secs(300),
    };
    let options = EncodeOptions::default();
    let [
        mut decode,
        mut late,
        mut sort,
        mut rollup,
        mut encode,
        mut encode_partials,
    ] = [Duration::ZERO; 6];
    let (mut random, mut done) = (1, 0);
    let (mut readings_bytes, mut rollup_bytes, mut rollup_rows) = (0, 0, 0);
    while done < events {
        let batch = done..events.min(done + FLUSH_ROWS);
        done = batch.end;
        let batch: Vec<_> = batch
            .map(|number| event(number, interval_ms, &mut random))
            .collect();
        let mut readings = Readings::new(&shape, PartitionId::new(0).unwrap());
        timed(&mut decode, || {
            for event in &batch {
                let _ = black_box(decoder.decode(event, &mut readings));
            }
        });
        timed(&mut late, || mark_late(&mut readings, 0, &windows));
        let order = timed(&mut sort, || sorted_rows(&readings, START));
        let rows = timed(&mut rollup, || {
            partials(&readings, &shape, &order, &windows)
        });
        rollup_rows += rows.len() as u64;
        let files = timed(&mut encode, || {
            encode_readings(&shape, &readings, &order, &options).unwrap()
        });
        readings_bytes += total(&files);
        let files = timed(&mut encode_partials, || {
            encode_rollups(&rows, &options).unwrap()
        });
        rollup_bytes += total(&files);
    }
    let spent = [decode, late, sort, rollup, encode, encode_partials];
    let each = |total: f64| total / events as f64;
    for (stage, spent) in STAGES.iter().zip(spent) {
        println!("{stage:<20} {:>7.1} ns", each(spent.as_nanos() as f64));
    }
    let sum: Duration = spent.iter().sum();
    println!(
        "{:<20} {:>7.1} ns",
        "in memory",
        each(sum.as_nanos() as f64)
    );
    println!(
        "an event: {:.3} bytes of readings, {:.3} of rollups, {:.2} rows of rollups",
        each(readings_bytes as f64),
        each(rollup_bytes as f64),
        each(rollup_rows as f64),
    );
}
