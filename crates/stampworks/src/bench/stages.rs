//! Decode, validate, aggregate, sort and encode in memory, on one thread, stage by stage.

use std::sync::Arc;
use std::time::Duration;

use stamp_lake::{EncodeOptions, EncodedFile, LakeError, encode_readings, encode_rollups};
use stamp_model::{Event, PartitionId, Readings};
use stamp_rollup::{Windows, mark_late, partials, sorted_rows};
use stamp_schema::{Decoder, Schema};

use super::input::{Input, SCHEMA, Source};
use super::results::{FLOOR, Measured, PartResults, Sizes};
use super::usage::{Scope, Stopwatch};
use crate::exit::Failure;

/// The sum of all stages.
pub(super) const SUM: &str = "in memory, one thread";

/// Rows of a flush: the consumer's default.
pub(super) const FLUSH_ROWS: u64 = 200_000;
/// As a stamp has them when nothing else is said.
pub(super) const WINDOWS: Windows = Windows {
    window_s: 60,
    lateness: Duration::from_secs(300),
};

#[derive(Default)]
struct Spent {
    wall_s: f64,
    cpu_s: f64,
}

impl Spent {
    fn add<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start(Scope::Thread);
        let result = work();
        let (wall, cpu) = watch.seconds();
        self.wall_s += wall;
        self.cpu_s += cpu;
        result
    }
}

/// The floor alone, for runs that measure no stages.
pub(super) fn measure_floor(source: Source) -> PartResults {
    let mut input = Input::new(source);
    let batch: Vec<Event> = (0..FLUSH_ROWS).map(|_| input.event()).collect();
    let mut floor = Spent::default();
    floor.add(|| copy_and_check(&batch));
    let times = (floor.wall_s, floor.cpu_s);
    PartResults {
        measured: vec![Measured::new(FLOOR, FLUSH_ROWS, times)],
        sizes: None,
    }
}

pub(super) fn measure(events: u64, source: Source) -> Result<PartResults, Failure> {
    let refused = |cause: LakeError| Failure::failed("encoding failed", cause);
    let schema = Arc::new(
        Schema::parse(SCHEMA).map_err(|cause| Failure::failed("the bench's schema", cause))?,
    );
    let shape = schema.shape().clone();
    let partition = PartitionId::new(0).unwrap_or_else(|| unreachable!("partition 0 is in range"));
    let mut decoder = Decoder::new(schema);
    let mut input = Input::new(source);
    let [
        mut floor,
        mut decode,
        mut late,
        mut sort,
        mut rollup,
        mut encode,
        mut encode_partials,
    ] = std::array::from_fn(|_| Spent::default());
    let [
        mut bodies,
        mut readings_bytes,
        mut rollup_bytes,
        mut rollup_rows,
    ] = [0_usize; 4];
    let mut done = 0;
    while done < events {
        let batch: Vec<Event> = (0..FLUSH_ROWS.min(events - done))
            .map(|_| input.event())
            .collect();
        done += batch.len() as u64;
        bodies += batch.iter().map(|event| event.body.len()).sum::<usize>();
        floor.add(|| copy_and_check(&batch));
        let mut readings = Readings::new(&shape, partition);
        decode.add(|| {
            for event in &batch {
                // A rejected event costs what it costs; its row goes to another table.
                let _ = std::hint::black_box(decoder.decode(event, &mut readings));
            }
        });
        late.add(|| mark_late(&mut readings, 0, &WINDOWS));
        let order = sort.add(|| sorted_rows(&readings, stamp_model::START));
        let partials = rollup.add(|| partials(&readings, &shape, &order, &WINDOWS));
        rollup_rows += partials.len();
        let options = EncodeOptions::default();
        let files = encode
            .add(|| encode_readings(&shape, &readings, &order, &options))
            .map_err(refused)?;
        readings_bytes += total(&files);
        let files = encode_partials
            .add(|| encode_rollups(&partials, &options))
            .map_err(refused)?;
        rollup_bytes += total(&files);
    }
    let stages = [
        ("  decode and validate", &decode),
        ("  mark late rows", &late),
        ("  sort", &sort),
        ("  rollup", &rollup),
        ("  encode readings", &encode),
        ("  encode rollups", &encode_partials),
    ];
    let sum = stages
        .iter()
        .fold(Spent::default(), |sum, (_, spent)| Spent {
            wall_s: sum.wall_s + spent.wall_s,
            cpu_s: sum.cpu_s + spent.cpu_s,
        });
    let mut measured = Vec::new();
    for (name, spent) in [(FLOOR, &floor), (SUM, &sum)].into_iter().chain(stages) {
        let times = (spent.wall_s, spent.cpu_s);
        measured.push(Measured::new(name, events, times));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    let per_event = |bytes: usize| bytes as f64 / events as f64;
    Ok(PartResults {
        measured,
        sizes: Some(Sizes {
            body_bytes_per_event: per_event(bodies),
            readings_bytes_per_event: per_event(readings_bytes),
            rollup_bytes_per_event: per_event(rollup_bytes),
            rollup_rows_per_event: per_event(rollup_rows),
        }),
    })
}

fn total(files: &[EncodedFile]) -> usize {
    files.iter().map(|file| file.bytes.len()).sum()
}

fn copy_and_check(batch: &[Event]) -> usize {
    let mut copy = Vec::new();
    let mut valid = 0;
    for event in batch {
        copy.clear();
        copy.extend_from_slice(&event.body);
        valid += usize::from(std::str::from_utf8(std::hint::black_box(&copy)).is_ok());
    }
    valid
}
