//! Chooses how the values of a column are written, from a sample of them.
//!
//! Measured, bytes a value sorted by device and time, zstd level 1: floats with two decimals 1.5
//! as dictionary, 2.3 plain, 4.5 split; four decimals 4.8, 4.1, 6.2; full doubles 8.1, 7.5, 6.2.
//! A dictionary of values that hardly repeat also costs four times the time of a plain column.

use super::columns::Rows;

/// How a column's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each distinct value once, then keys.
    Dictionary,
    /// As they are.
    Plain,
    /// The bytes of all values by significance, for floats that use all their digits.
    Split,
    /// Differences of neighbours, for times and counters.
    Delta,
}

/// Values looked at.
const SAMPLE_MAX: usize = 2_048;

/// A dictionary of more values than this outgrows its page and is given up half-way.
const DISTINCT_MAX: usize = 100_000;

/// How often a value should come again for a dictionary to pay.
const REPEATS_MIN: usize = 4;

/// Whether distinct values are few enough among all `rows` for a dictionary to pay.
fn repeats(sample: &[u64], rows: usize) -> bool {
    let distinct = estimate_distinct(sample);
    distinct <= DISTINCT_MAX && distinct.saturating_mul(REPEATS_MIN) <= rows
}

/// Evenly spaced values, all of them when they are few.
fn sample(rows: usize, bits: impl Fn(usize) -> u64) -> Vec<u64> {
    let step = rows.div_ceil(SAMPLE_MAX).max(1);
    (0..rows).step_by(step).map(bits).collect()
}

/// Whether every value is the same. The sample rules it out for almost all columns.
fn is_constant(sample: &[u64], rows: usize, bits: impl Fn(usize) -> u64) -> bool {
    let Some(&first) = sample.first() else {
        return false;
    };
    sample.iter().all(|&value| value == first) && (0..rows).all(|row| bits(row) == first)
}

/// The number of distinct values behind a sample, by Chao's estimator: those seen, and as many
/// unseen ones as the values seen once and twice suggest.
fn estimate_distinct(sample: &[u64]) -> usize {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable();
    let (mut distinct, mut once, mut twice) = (0_usize, 0_usize, 0_usize);
    for run in sorted.chunk_by(u64::eq) {
        distinct += 1;
        once += usize::from(run.len() == 1);
        twice += usize::from(run.len() == 2);
    }
    distinct + once * once.saturating_sub(1) / (2 * (twice + 1))
}

/// For the 64-bit floats of `rows`.
pub(super) fn for_floats(values: &[f64], rows: Rows<'_>) -> Layout {
    let bits = |at: usize| values[rows.at(at)].to_bits();
    let seen = sample(rows.len(), bits);
    if is_constant(&seen, rows.len(), bits) {
        // Compression makes nothing of them, faster than a dictionary would.
        Layout::Plain
    } else if repeats(&seen, rows.len()) {
        Layout::Dictionary
    } else if seen
        .iter()
        .all(|&bits| has_few_decimals(f64::from_bits(bits)))
    {
        Layout::Plain
    } else {
        Layout::Split
    }
}

/// Whether four decimals are enough to write the value.
fn has_few_decimals(value: f64) -> bool {
    let scaled = value * 10_000.0;
    // Beyond 2^53 every value is whole and says nothing about decimals.
    scaled.abs() < 9.0e15 && (scaled.round() / 10_000.0).to_bits() == value.to_bits()
}

/// For the 64-bit integers of `rows`.
pub(super) fn for_integers(values: &[i64], rows: Rows<'_>) -> Layout {
    let bits = |at: usize| values[rows.at(at)].cast_unsigned();
    let seen = sample(rows.len(), bits);
    if !is_constant(&seen, rows.len(), bits) && repeats(&seen, rows.len()) {
        Layout::Dictionary
    } else {
        Layout::Delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence that jumps about.
    fn noise() -> impl Iterator<Item = u64> {
        std::iter::successors(Some(7_u64), |x| {
            Some(
                x.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        })
        .map(|x| x >> 33)
    }

    fn layout(values: &[f64]) -> Layout {
        for_floats(values, Rows::All(0, values.len()))
    }

    fn floats(rows: usize, value: impl Fn(u64) -> f64) -> Vec<f64> {
        noise().take(rows).map(value).collect()
    }

    #[test]
    fn floats_are_laid_out_by_their_digits() {
        let two = |x: u64| f64::from(u32::try_from(x % 10_000).unwrap()) / 100.0;
        let four = |x: u64| f64::from(u32::try_from(x % 10_000_000).unwrap()) / 10_000.0;
        let full = |x: u64| f64::from(u32::try_from(x).unwrap()) / 7.0;
        assert_eq!(layout(&floats(100_000, two)), Layout::Dictionary);
        assert_eq!(layout(&floats(100_000, four)), Layout::Plain);
        assert_eq!(layout(&floats(100_000, full)), Layout::Split);
        // Too few rows for ten thousand distinct values to come again.
        assert_eq!(layout(&floats(5_000, two)), Layout::Plain);
        assert_eq!(layout(&[]), Layout::Dictionary);
        assert_eq!(layout(&[f64::MAX, 1.0]), Layout::Split);
        assert_eq!(layout(&[f64::MAX; 100]), Layout::Plain);
    }

    #[test]
    fn integers_that_repeat_get_a_dictionary() {
        let few: Vec<i64> = (0..10_000).map(|i| i % 7).collect();
        let many: Vec<i64> = (0..10_000).collect();
        let layout = |values: &[i64]| for_integers(values, Rows::All(0, values.len()));
        assert_eq!(layout(&few), Layout::Dictionary);
        assert_eq!(layout(&many), Layout::Delta);
        assert_eq!(layout(&[1; 10_000]), Layout::Delta);
    }

    #[test]
    fn only_the_rows_of_the_file_decide() {
        let values = [0.1, 7.0, 0.1, 8.0, 0.1];
        assert_eq!(for_floats(&values, Rows::Some(&[0, 2, 4])), Layout::Plain);
    }
}
