//! Cost of decoding: 65,536 events a round, appended to one buffer that is cleared between rounds.

mod input;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stamp_model::{Event, PartitionId, Readings};
use stamp_schema::{Decoder, Schema};

const EVENTS: u64 = 65_536;

fn decode_all(decoder: &mut Decoder, events: &[Event], mut readings: Readings) -> Readings {
    for event in events {
        decoder
            .decode(event, &mut readings)
            .expect("the generated events are valid");
    }
    readings
}

fn decode(criterion: &mut Criterion) {
    let mut random = input::Random(1);
    let events: Vec<Event> = (0..EVENTS).map(|i| input::event(&mut random, i)).collect();
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let schema = Arc::new(Schema::parse(input::SCHEMA).expect("the schema is valid"));
    let partition = PartitionId::new(0).expect("0 is a partition");
    // A buffer as a running service has it: grown, and full of known devices and words.
    let warm = {
        let empty = Readings::new(schema.shape(), partition);
        let mut readings = decode_all(&mut Decoder::new(schema.clone()), &events, empty);
        readings.truncate(0);
        readings
    };

    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS));
    let decoders = [
        ("learned", Decoder::new(schema.clone())),
        ("general", Decoder::general(schema)),
    ];
    for (name, mut decoder) in decoders {
        group.bench_function(name, |bencher| {
            let setup = || {
                let mut readings = warm.clone();
                reserve(&mut readings);
                readings
            };
            bencher.iter_batched(
                setup,
                |readings| black_box(decode_all(&mut decoder, &events, readings)),
                BatchSize::LargeInput,
            );
        });
        criterion_stats(name, &decoder, bytes);
    }
    group.finish();
}

/// A clone has no spare capacity; growing again is not what is measured here.
fn reserve(readings: &mut Readings) {
    let rows = usize::try_from(EVENTS).expect("a small number");
    readings.device.reserve(rows);
    readings.ts_us.reserve(rows);
    readings.enqueued_at_us.reserve(rows);
    readings.late.reserve(rows);
    readings.clock_suspect.reserve(rows);
    readings.sequence.reserve(rows);
}

#[expect(clippy::print_stderr, reason = "a bench reports to its terminal")]
fn criterion_stats(name: &str, decoder: &Decoder, bytes: usize) {
    let per_event = bytes as u64 / EVENTS;
    eprintln!("{name}: {:?}, {per_event} bytes an event", decoder.stats());
}

criterion_group!(benches, decode);
criterion_main!(benches);
