//! Rows of one flush, folded into one partial per device, metric and window.
//!
//! Rows come sorted by device and time, so the rows of a partial lie together: no hash table is
//! needed, and m2 can take the exact two passes (mean first, then squares) instead of a running
//! update. The rows lie scattered in their columns, so a few thousand at a time are first copied
//! together column by column, which lets the processor fetch many of them at once.

use stamp_model::{Column, Readings, RollupRows, Shape, Values};

use crate::fold::{Rows, fold};
use crate::merge::PartialRow;
use crate::windows::{Current, Windows};

/// Rows that are copied together, unless one device has more: their values stay in the cache.
const BLOCK_ROWS: usize = 2_048;

/// Folds the rows `order`, which [`sorted_rows`](crate::sorted_rows) gave, into partials by
/// device text, metric name and window: the order of their table, which nobody then has to sort.
///
/// A row counts in the window of [`Readings::window_time_us`], which is also its time for `first`
/// and `last`; nulls are passed over. Integers are folded as 64-bit floats: exact up to 2^53 in
/// size, the nearest float above.
///
/// # Panics
/// When `order` names a row that `readings` does not have.
#[must_use]
pub fn partials(
    readings: &Readings,
    shape: &Shape,
    order: &[u32],
    windows: &Windows,
) -> RollupRows {
    let mut block = Block::new(readings, shape, windows);
    let mut rows_left = order.len();
    let device = |row: &u32| readings.device[*row as usize];
    for run in order.chunk_by(|a, b| device(a) == device(b)) {
        if block.rows.len() + run.len() > BLOCK_ROWS {
            rows_left -= block.rows.len();
            block.flush(rows_left);
        }
        block.rows.extend_from_slice(run);
        block.run_ends.push(block.rows.len());
    }
    block.flush(0);
    block.out
}

/// A column that rollups are made of.
struct Metric<'a> {
    key: u32,
    column: &'a Column,
    /// Values of the block's rows.
    values: Vec<f64>,
    /// Which of them are not null; only for a column with nulls.
    valid: Vec<bool>,
}

/// The rows of one device and window, as a range of the block.
struct Segment {
    window_start_us: i64,
    from: usize,
    to: usize,
}

/// Rows of whole devices, copied together.
struct Block<'a> {
    readings: &'a Readings,
    window: Current<'a>,
    rows: Vec<u32>,
    /// Where the rows of each device end.
    run_ends: Vec<usize>,
    times_us: Vec<i64>,
    sequences: Vec<i64>,
    late: Vec<bool>,
    metrics: Vec<Metric<'a>>,
    segments: Vec<Segment>,
    out: RollupRows,
}

impl<'a> Block<'a> {
    fn new(readings: &'a Readings, shape: &Shape, windows: &'a Windows) -> Self {
        let mut out = RollupRows {
            partition: readings.partition.number(),
            window_s: windows.window_s,
            ..RollupRows::default()
        };
        let columns = shape.fields.iter().zip(&readings.columns);
        let mut metrics: Vec<_> = columns
            .filter(|(field, column)| field.rollup && is_number(column))
            .collect();
        metrics.sort_unstable_by_key(|(field, _)| &field.name);
        let metrics = metrics
            .into_iter()
            .map(|(field, column)| Metric {
                key: out.metrics.intern(&field.name),
                column,
                values: Vec::new(),
                valid: Vec::new(),
            })
            .collect();
        Self {
            readings,
            window: Current::new(windows),
            rows: Vec::new(),
            run_ends: Vec::new(),
            times_us: Vec::new(),
            sequences: Vec::new(),
            late: Vec::new(),
            metrics,
            segments: Vec::new(),
            out,
        }
    }

    /// Folds the rows that were collected; `rows_left` are still to come.
    fn flush(&mut self, rows_left: usize) {
        let rows = self.rows.len();
        let first = self.out.is_empty();
        self.order_by_window_time();
        self.copy_together();
        let mut from = 0;
        for run in 0..self.run_ends.len() {
            let to = self.run_ends[run];
            self.cut_into_windows(from, to);
            self.fold_device(self.rows[from]);
            from = to;
        }
        self.rows.clear();
        self.run_ends.clear();
        if first {
            // The rest is much like the first block: growing fifteen columns by doubling would
            // touch twice the memory.
            let rows_out = self.out.len() * rows_left / rows.max(1);
            reserve(&mut self.out, rows_out + rows_out / 8);
        }
    }

    /// Rows of a device are in the order of `ts`, which is that of window time unless a clock is
    /// suspect; only then are they sorted again.
    fn order_by_window_time(&mut self) {
        let readings = self.readings;
        let key = |&row: &u32| {
            let at = row as usize;
            (readings.window_time_us(at), readings.sequence[at], row)
        };
        let mut from = 0;
        for &to in &self.run_ends {
            let run = &mut self.rows[from..to];
            if !run.is_sorted_by_key(key) {
                run.sort_unstable_by_key(key);
            }
            from = to;
        }
    }

    fn copy_together(&mut self) {
        let Self {
            readings,
            rows,
            times_us,
            sequences,
            late,
            metrics,
            ..
        } = self;
        gather(times_us, rows, |row| readings.window_time_us(row));
        gather(sequences, rows, |row| readings.sequence[row]);
        gather(late, rows, |row| readings.late[row]);
        for metric in metrics {
            match &metric.column.values {
                Values::F64(values) => gather(&mut metric.values, rows, |row| values[row]),
                Values::I64(values) => gather(&mut metric.values, rows, |row| values[row] as f64),
                Values::Bool(_) | Values::String { .. } | Values::Timestamp(_) => {}
            }
            if let Some(valid) = &metric.column.valid {
                gather(&mut metric.valid, rows, |row| valid[row]);
            }
        }
    }

    fn cut_into_windows(&mut self, from: usize, to: usize) {
        self.segments.clear();
        for at in from..to {
            let window_start_us = self.window.start_of(self.times_us[at]);
            match self.segments.last_mut() {
                Some(open) if open.window_start_us == window_start_us => open.to = at + 1,
                _ => self.segments.push(Segment {
                    window_start_us,
                    from: at,
                    to: at + 1,
                }),
            }
        }
    }

    /// Folds the segments, which are those of the device of `row`.
    fn fold_device(&mut self, row: u32) {
        let device = self.readings.device[row as usize];
        let device = self.out.devices.intern(self.readings.devices.get(device));
        for metric in &self.metrics {
            for segment in &self.segments {
                let range = segment.from..segment.to;
                let rows = Rows {
                    values: &metric.values[range.clone()],
                    times_us: &self.times_us[range.clone()],
                    sequences: &self.sequences[range.clone()],
                    late: &self.late[range.clone()],
                };
                let partial = match metric.column.valid {
                    None => fold(rows),
                    Some(_) => rows.only(&metric.valid[range]).fold(),
                };
                if let Some(partial) = partial {
                    push(
                        &mut self.out,
                        device,
                        metric.key,
                        segment.window_start_us,
                        &partial,
                    );
                }
            }
        }
    }
}

fn is_number(column: &Column) -> bool {
    matches!(column.values, Values::I64(_) | Values::F64(_))
}

#[inline]
fn gather<T>(into: &mut Vec<T>, rows: &[u32], value: impl Fn(usize) -> T) {
    into.clear();
    into.extend(rows.iter().map(|&row| value(row as usize)));
}

fn reserve(out: &mut RollupRows, rows: usize) {
    out.device.reserve(rows);
    out.metric.reserve(rows);
    out.window_start_us.reserve(rows);
    out.count.reserve(rows);
    out.sum.reserve(rows);
    out.min.reserve(rows);
    out.max.reserve(rows);
    out.first.reserve(rows);
    out.first_ts_us.reserve(rows);
    out.last.reserve(rows);
    out.last_ts_us.reserve(rows);
    out.m2.reserve(rows);
    out.late_count.reserve(rows);
    out.sequence_first.reserve(rows);
    out.sequence_last.reserve(rows);
}

#[inline]
fn push(
    out: &mut RollupRows,
    device: u32,
    metric: u32,
    window_start_us: i64,
    partial: &PartialRow,
) {
    out.device.push(device);
    out.metric.push(metric);
    out.window_start_us.push(window_start_us);
    out.count.push(partial.count);
    out.sum.push(partial.sum);
    out.min.push(partial.min);
    out.max.push(partial.max);
    out.first.push(partial.first);
    out.first_ts_us.push(partial.first_ts_us);
    out.last.push(partial.last);
    out.last_ts_us.push(partial.last_ts_us);
    out.m2.push(partial.m2);
    out.late_count.push(partial.late_count);
    out.sequence_first.push(partial.sequence_first);
    out.sequence_last.push(partial.sequence_last);
}
