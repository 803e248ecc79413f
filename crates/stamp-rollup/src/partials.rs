//! Rows of one flush, folded into one partial per device, metric and window.
//!
//! Rows come sorted by device and time, so the rows of a partial lie together: no hash table is
//! needed, every value is visited column by column, and m2 can take the exact two passes (mean
//! first, then squares) instead of a running update.

use stamp_model::{Column, Readings, RollupRows, Shape, Values};

use crate::merge::{PartialRow, finite};
use crate::windows::{Current, Windows};

/// Folds the rows `order`, which [`sorted_rows`](crate::sorted_rows) gave, into partials by
/// device text, metric in column order, and window.
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
    let mut fold = Fold::new(readings, shape, windows);
    let device = |row: &u32| readings.device[*row as usize];
    for run in order.chunk_by(|a, b| device(a) == device(b)) {
        fold.device_run(device(&run[0]), run);
    }
    fold.out
}

/// The rows of one window, as a range of the run's rows.
struct Segment {
    window_start_us: i64,
    from: usize,
    to: usize,
    late_count: i64,
    sequence_first: i64,
    sequence_last: i64,
}

struct Fold<'a> {
    readings: &'a Readings,
    metrics: Vec<(u32, &'a Column)>,
    window: Current<'a>,
    /// Rows of the run in the order of window time.
    rows: Vec<u32>,
    /// Window time of each of these rows.
    times_us: Vec<i64>,
    segments: Vec<Segment>,
    out: RollupRows,
}

impl<'a> Fold<'a> {
    fn new(readings: &'a Readings, shape: &Shape, windows: &'a Windows) -> Self {
        let mut out = RollupRows {
            partition: readings.partition.number(),
            window_s: windows.window_s,
            ..RollupRows::default()
        };
        let rolled = shape.fields.iter().zip(&readings.columns);
        let metrics = rolled
            .filter(|(field, column)| field.rollup && is_number(column))
            .map(|(field, column)| (out.metrics.intern(&field.name), column))
            .collect();
        Self {
            readings,
            metrics,
            window: Current::new(windows),
            rows: Vec::new(),
            times_us: Vec::new(),
            segments: Vec::new(),
            out,
        }
    }

    fn device_run(&mut self, device: u32, run: &[u32]) {
        self.order_by_window_time(run);
        self.cut_into_windows();
        let device = self.out.devices.intern(self.readings.devices.get(device));
        for (metric, column) in &self.metrics {
            for segment in &self.segments {
                let rows = &self.rows[segment.from..segment.to];
                let times_us = &self.times_us[segment.from..segment.to];
                let valid = column.valid.as_deref();
                let partial = match (&column.values, valid) {
                    (Values::F64(values), None) => {
                        fold_all(segment, rows, times_us, |row| values[row])
                    }
                    (Values::I64(values), None) => {
                        fold_all(segment, rows, times_us, |row| values[row] as f64)
                    }
                    (Values::F64(values), Some(valid)) => {
                        fold_valid(self.readings, valid, rows, times_us, |row| values[row])
                    }
                    (Values::I64(values), Some(valid)) => {
                        fold_valid(self.readings, valid, rows, times_us, |row| {
                            values[row] as f64
                        })
                    }
                    _ => None,
                };
                if let Some(partial) = partial {
                    push(
                        &mut self.out,
                        device,
                        *metric,
                        segment.window_start_us,
                        partial,
                    );
                }
            }
        }
    }

    /// Copies the run. It is in the order of `ts`, which is that of window time unless a clock is
    /// suspect; only then is it sorted again.
    fn order_by_window_time(&mut self, run: &[u32]) {
        self.rows.clear();
        self.rows.extend_from_slice(run);
        let readings = self.readings;
        let key = |&row: &u32| {
            let at = row as usize;
            (readings.window_time_us(at), readings.sequence[at], row)
        };
        if !self.rows.is_sorted_by_key(key) {
            self.rows.sort_unstable_by_key(key);
        }
        self.times_us.clear();
        let times = self
            .rows
            .iter()
            .map(|&row| readings.window_time_us(row as usize));
        self.times_us.extend(times);
    }

    fn cut_into_windows(&mut self) {
        self.segments.clear();
        for (at, (&row, &time_us)) in self.rows.iter().zip(&self.times_us).enumerate() {
            let row = row as usize;
            let window_start_us = self.window.start_of(time_us);
            let late = i64::from(self.readings.late[row]);
            let sequence = self.readings.sequence[row];
            match self.segments.last_mut() {
                Some(open) if open.window_start_us == window_start_us => {
                    open.to = at + 1;
                    open.late_count += late;
                    open.sequence_first = open.sequence_first.min(sequence);
                    open.sequence_last = open.sequence_last.max(sequence);
                }
                _ => self.segments.push(Segment {
                    window_start_us,
                    from: at,
                    to: at + 1,
                    late_count: late,
                    sequence_first: sequence,
                    sequence_last: sequence,
                }),
            }
        }
    }
}

fn is_number(column: &Column) -> bool {
    matches!(column.values, Values::I64(_) | Values::F64(_))
}

/// Folds rows that all have a value.
#[inline]
fn fold_all(
    segment: &Segment,
    rows: &[u32],
    times_us: &[i64],
    value: impl Fn(usize) -> f64,
) -> Option<PartialRow> {
    let first = value(*rows.first()? as usize);
    let last = value(*rows.last()? as usize);
    let (mut sum, mut min, mut max) = (0.0, first, first);
    for &row in rows {
        let value = value(row as usize);
        sum += value;
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
    }
    let sum = finite(sum);
    let mean = sum / rows.len() as f64;
    let mut m2 = 0.0;
    if rows.len() > 1 {
        for &row in rows {
            let difference = value(row as usize) - mean;
            m2 += difference * difference;
        }
    }
    Some(PartialRow {
        count: rows.len() as i64,
        sum,
        min,
        max,
        first,
        first_ts_us: *times_us.first()?,
        last,
        last_ts_us: *times_us.last()?,
        m2: finite(m2),
        late_count: segment.late_count,
        sequence_first: segment.sequence_first,
        sequence_last: segment.sequence_last,
    })
}

/// Folds rows of which some are null; `None` when all are.
fn fold_valid(
    readings: &Readings,
    valid: &[bool],
    rows: &[u32],
    times_us: &[i64],
    value: impl Fn(usize) -> f64,
) -> Option<PartialRow> {
    let present = || {
        let timed = rows.iter().map(|&row| row as usize).zip(times_us);
        timed.filter(|(row, _)| valid[*row])
    };
    let (first_row, first_ts_us) = present().next()?;
    let mut partial = PartialRow {
        count: 0,
        sum: 0.0,
        min: value(first_row),
        max: value(first_row),
        first: value(first_row),
        first_ts_us: *first_ts_us,
        last: 0.0,
        last_ts_us: 0,
        m2: 0.0,
        late_count: 0,
        sequence_first: i64::MAX,
        sequence_last: i64::MIN,
    };
    for (row, time_us) in present() {
        let value = value(row);
        partial.count += 1;
        partial.sum += value;
        partial.min = if value < partial.min {
            value
        } else {
            partial.min
        };
        partial.max = if value > partial.max {
            value
        } else {
            partial.max
        };
        partial.last = value;
        partial.last_ts_us = *time_us;
        partial.late_count += i64::from(readings.late[row]);
        partial.sequence_first = partial.sequence_first.min(readings.sequence[row]);
        partial.sequence_last = partial.sequence_last.max(readings.sequence[row]);
    }
    partial.sum = finite(partial.sum);
    let mean = partial.sum / partial.count as f64;
    if partial.count > 1 {
        let squares = present().map(|(row, _)| (value(row) - mean) * (value(row) - mean));
        partial.m2 = finite(squares.sum());
    }
    Some(partial)
}

#[inline]
fn push(out: &mut RollupRows, device: u32, metric: u32, window_start_us: i64, partial: PartialRow) {
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
