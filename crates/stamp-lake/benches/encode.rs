//! Encoding of readings: nanoseconds and bytes an event.
//!
//! Readings as ten thousand devices send them: five metrics with two decimals that swing over the
//! hour and flicker by a tenth, three texts that hardly change, one reading a minute on the
//! second, taken by the hub some hundred milliseconds later, in the order they arrive at one
//! partition. The flicker and the hub's delay are random: they decide most of the size.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at once when something is wrong, and prints what it found"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stamp_lake::{EncodeOptions, encode_readings};
use stamp_model::{FieldDef, FieldKind, PartitionId, Readings, Shape, Values};

const DEVICES: u32 = 10_000;
const READINGS: u32 = 400_000;
/// 2026-11-24T00:00:00Z
const START_US: i64 = 1_795_478_400_000_000;

fn shape() -> Shape {
    let field = |name: &str, kind| FieldDef {
        name: name.to_owned(),
        kind,
        unit: None,
        required: true,
        rollup: false,
    };
    let metrics = [
        "temperature",
        "humidity",
        "pressure",
        "voltage",
        "vibration",
    ];
    let texts = ["firmware", "status", "mode"];
    let mut fields: Vec<_> = metrics.map(|name| field(name, FieldKind::F64)).into();
    fields.extend(texts.map(|name| field(name, FieldKind::String)));
    Shape { fields }
}

/// A device's metric: a level of its own, a swing over the hours and some flicker, to two decimals.
fn value(device: u32, metric: u32, round: u32, noise: u64) -> f64 {
    let level = f64::from(device % 200) / 10.0 + f64::from(metric) * 25.0;
    let swing = (f64::from(round) / 60.0 + f64::from(device)).sin() * 3.0;
    let noise = f64::from(u32::try_from(noise % 21).unwrap()) / 100.0;
    ((level + swing + noise) * 100.0).round() / 100.0
}

fn readings() -> Readings {
    let shape = shape();
    let mut readings = Readings::new(&shape, PartitionId::new(3).unwrap());
    let mut noise = 88_172_645_463_325_252_u64;
    for i in 0..READINGS {
        let (device, round) = (i % DEVICES, i / DEVICES);
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let ts = START_US + i64::from(round) * 60_000_000 + i64::from(device / 170) * 1_000_000;
        let delay_us = 80_000 + i64::try_from(noise % 60).unwrap() * 1_000;
        let id = format!("line-{:03}-press-{device:05}", device % 97);
        readings.device.push(readings.devices.intern(&id));
        readings.ts_us.push(ts);
        readings.enqueued_at_us.push(ts + delay_us);
        readings.late.push(noise.is_multiple_of(100));
        readings.clock_suspect.push(false);
        readings.sequence.push(1_000_000 + i64::from(i));
        for (column, metric) in readings.columns.iter_mut().zip(0..) {
            match &mut column.values {
                Values::F64(values) => {
                    values.push(value(device, metric, round, noise >> (metric * 7)))
                }
                Values::String { texts, keys } => {
                    let changed = u64::from((noise >> metric).is_multiple_of(100));
                    let text = format!("value-{metric}-{}", (u64::from(device) + changed) % 12);
                    keys.push(texts.intern(&text));
                }
                _ => unreachable!("the shape has floats and texts"),
            }
        }
    }
    readings
}

fn encode(criterion: &mut Criterion) {
    let (shape, readings) = (shape(), readings());
    let options = EncodeOptions::default();
    let mut order: Vec<u32> = (0..READINGS).collect();
    order.sort_by_key(|&row| {
        let row = row as usize;
        (
            readings.devices.get(readings.device[row]),
            readings.ts_us[row],
        )
    });
    let files = encode_readings(&shape, &readings, &order, &options).unwrap();
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    println!(
        "{READINGS} readings of {DEVICES} devices: {:.2} bytes an event",
        bytes as f64 / f64::from(READINGS)
    );
    let mut group = criterion.benchmark_group("readings");
    group.throughput(Throughput::Elements(READINGS.into()));
    group.sample_size(10);
    group.bench_function("encode_sorted", |bench| {
        bench.iter(|| encode_readings(&shape, black_box(&readings), &order, &options).unwrap());
    });
    let arrival: Vec<u32> = (0..READINGS).collect();
    group.bench_function("encode_in_arrival_order", |bench| {
        bench.iter(|| encode_readings(&shape, black_box(&readings), &arrival, &options).unwrap());
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
