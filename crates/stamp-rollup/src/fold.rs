//! The values of one device, metric and window as one partial.

use crate::merge::{PartialRow, finite};

/// Values in the order of time, then sequence, then arrival; the slices are equally long.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f64],
    pub(crate) times_us: &'a [i64],
    pub(crate) sequences: &'a [i64],
    pub(crate) late: &'a [bool],
}

impl Rows<'_> {
    /// The rows that are not null.
    pub(crate) fn only(self, valid: &[bool]) -> Kept {
        let mut kept = Kept::default();
        for at in (0..valid.len()).filter(|&at| valid[at]) {
            kept.values.push(self.values[at]);
            kept.times_us.push(self.times_us[at]);
            kept.sequences.push(self.sequences[at]);
            kept.late.push(self.late[at]);
        }
        kept
    }
}

/// Rows without nulls, copied.
#[derive(Default)]
pub(crate) struct Kept {
    values: Vec<f64>,
    times_us: Vec<i64>,
    sequences: Vec<i64>,
    late: Vec<bool>,
}

impl Kept {
    pub(crate) fn fold(&self) -> Option<PartialRow> {
        fold(Rows {
            values: &self.values,
            times_us: &self.times_us,
            sequences: &self.sequences,
            late: &self.late,
        })
    }
}

/// The partial of all rows; `None` for none.
#[inline]
pub(crate) fn fold(rows: Rows<'_>) -> Option<PartialRow> {
    let (&first, &last) = (rows.values.first()?, rows.values.last()?);
    let (mut sum, mut min, mut max) = (0.0, first, first);
    for &value in rows.values {
        sum += value;
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
    }
    let (mut sequence_first, mut sequence_last) = (i64::MAX, i64::MIN);
    for &sequence in rows.sequences {
        sequence_first = sequence_first.min(sequence);
        sequence_last = sequence_last.max(sequence);
    }
    let sum = finite(sum);
    let mean = sum / rows.values.len() as f64;
    let mut m2 = 0.0;
    if rows.values.len() > 1 {
        for &value in rows.values {
            m2 += (value - mean) * (value - mean);
        }
    }
    Some(PartialRow {
        count: rows.values.len() as i64,
        sum,
        min,
        max,
        first,
        first_ts_us: *rows.times_us.first()?,
        last,
        last_ts_us: *rows.times_us.last()?,
        m2: finite(m2),
        late_count: rows.late.iter().map(|&late| i64::from(late)).sum(),
        sequence_first,
        sequence_last,
    })
}
