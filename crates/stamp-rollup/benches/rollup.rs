//! Cost of marking, ordering and folding one row: 10,000 devices, five metrics, one row a device
//! every ten seconds, windows of a minute.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stamp_model::{FieldDef, FieldKind, PartitionId, Readings, Shape, Values};
use stamp_rollup::{Windows, mark_late, partials, sorted_rows};

const ROWS: u64 = 262_144;
const DEVICES: u64 = 10_000;
const METRICS: [&str; 5] = ["temp", "pressure", "vibration", "current", "rpm"];

/// SplitMix64: a small generator with a published constant set, for input that never changes.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn shape() -> Shape {
    let field = |name: &&str| FieldDef {
        name: (*name).to_owned(),
        kind: FieldKind::F64,
        unit: None,
        required: false,
        rollup: true,
    };
    Shape {
        fields: METRICS.iter().map(field).collect(),
    }
}

fn readings(shape: &Shape) -> Readings {
    let mut random = 1;
    let partition = PartitionId::new(0).expect("0 is a partition");
    let mut readings = Readings::new(shape, partition);
    for index in 0..ROWS {
        let device = format!("press-{:05}", next(&mut random) % DEVICES);
        let second = (index * 10 / DEVICES).cast_signed();
        let jitter_us = (next(&mut random) % 1_000_000).cast_signed();
        let ts_us = 1_772_366_400_000_000 + second * 1_000_000 + jitter_us;
        let device = readings.devices.intern(&device);
        readings.device.push(device);
        readings.ts_us.push(ts_us);
        readings.enqueued_at_us.push(ts_us + 1_000_000);
        readings.late.push(false);
        readings.clock_suspect.push(false);
        readings.sequence.push(index.cast_signed());
        for column in &mut readings.columns {
            if let Values::F64(values) = &mut column.values {
                values.push((next(&mut random) % 10_000) as f64 / 100.0);
            }
        }
    }
    assert!(readings.is_rectangular());
    readings
}

fn rollup(criterion: &mut Criterion) {
    let shape = shape();
    let mut readings = readings(&shape);
    let windows = Windows {
        window_s: 60,
        lateness: Duration::from_secs(300),
    };
    let mut group = criterion.benchmark_group("rollup");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("mark_late", |bencher| {
        bencher.iter(|| mark_late(black_box(&mut readings), 0, &windows));
    });
    group.bench_function("sorted_rows", |bencher| {
        bencher.iter(|| sorted_rows(black_box(&readings), -1));
    });
    let order = sorted_rows(&readings, -1);
    group.bench_function("partials", |bencher| {
        bencher.iter(|| partials(black_box(&readings), &shape, &order, &windows));
    });
    group.finish();
}

criterion_group!(benches, rollup);
criterion_main!(benches);
