//! Two partials of the same device, metric and window as one.

use std::cmp::Ordering;

use stamp_model::RollupRows;

/// The aggregates of one row of `rollups`; device, metric and window are the caller's to match.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartialRow {
    /// Values, at least 1.
    pub count: i64,
    /// Their sum, kept within the finite floats.
    pub sum: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Value with the earliest time; the lowest sequence wins a tie.
    pub first: f64,
    /// Its time.
    pub first_ts_us: i64,
    /// Value with the latest time; the highest sequence wins a tie.
    pub last: f64,
    /// Its time.
    pub last_ts_us: i64,
    /// Sum of squared differences from the mean, kept within the finite floats. The variance of
    /// the sample is `m2 / (count - 1)`.
    pub m2: f64,
    /// How many values were late.
    pub late_count: i64,
    /// Lowest sequence number.
    pub sequence_first: i64,
    /// Highest sequence number.
    pub sequence_last: i64,
}

impl PartialRow {
    /// The aggregates of row `row`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn of(rows: &RollupRows, row: usize) -> Self {
        Self {
            count: rows.count[row],
            sum: rows.sum[row],
            min: rows.min[row],
            max: rows.max[row],
            first: rows.first[row],
            first_ts_us: rows.first_ts_us[row],
            last: rows.last[row],
            last_ts_us: rows.last_ts_us[row],
            m2: rows.m2[row],
            late_count: rows.late_count[row],
            sequence_first: rows.sequence_first[row],
            sequence_last: rows.sequence_last[row],
        }
    }
}

/// Merges two partials of the same device, metric and window.
///
/// Count, min, max and late count are exact; so are first and last when the partials' sequence
/// ranges do not overlap, as is so for two flushes of one partition. Sum and m2 are rounded once
/// a merge (m2 by the pairwise update of Chan, Golub and LeVeque).
#[must_use]
pub fn merge(a: PartialRow, b: PartialRow) -> PartialRow {
    let first = match a.first_ts_us.cmp(&b.first_ts_us) {
        Ordering::Less => a,
        Ordering::Greater => b,
        Ordering::Equal if a.sequence_first <= b.sequence_first => a,
        Ordering::Equal => b,
    };
    let last = match a.last_ts_us.cmp(&b.last_ts_us) {
        Ordering::Greater => a,
        Ordering::Less => b,
        Ordering::Equal if a.sequence_last > b.sequence_last => a,
        Ordering::Equal => b,
    };
    PartialRow {
        count: a.count + b.count,
        sum: finite(a.sum + b.sum),
        min: a.min.min(b.min),
        max: a.max.max(b.max),
        first: first.first,
        first_ts_us: first.first_ts_us,
        last: last.last,
        last_ts_us: last.last_ts_us,
        m2: merge_m2(a, b),
        late_count: a.late_count + b.late_count,
        sequence_first: a.sequence_first.min(b.sequence_first),
        sequence_last: a.sequence_last.max(b.sequence_last),
    }
}

/// Merges any number of partials of the same device, metric and window, in the order of their
/// sequence numbers, so that first and last are exact in whatever order they are given. `None`
/// for none.
#[must_use]
pub fn merge_all(partials: impl IntoIterator<Item = PartialRow>) -> Option<PartialRow> {
    let mut partials: Vec<PartialRow> = partials.into_iter().collect();
    partials.sort_by_key(|partial| (partial.sequence_first, partial.sequence_last));
    partials.into_iter().reduce(merge)
}

fn merge_m2(a: PartialRow, b: PartialRow) -> f64 {
    let (count_a, count_b) = (a.count as f64, b.count as f64);
    let between = b.sum / count_b - a.sum / count_a;
    let weight = count_a * (count_b / (count_a + count_b));
    finite(a.m2 + b.m2 + between * between * weight)
}

/// Infinities never enter a table: what would be one is the largest float of its sign.
#[inline]
pub(crate) fn finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}
