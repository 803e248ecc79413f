//! Numbers of 64 bits as pages and statistics have them.

use parquet::basic::Encoding;
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::chunk::{Chunk, EncodedPage, PAGE_ROWS, boundary_order};
use super::columns::Rows;

/// A 64-bit number.
pub(super) trait Number: Copy {
    const NANS: Option<i64>;
    fn bits(self) -> u64;
    /// Orders numbers as statistics do: floats by the total order of IEEE 754.
    fn rank(self) -> i64;
    fn of_rank(rank: i64) -> Self;
    fn is_nan(self) -> bool;
    fn statistics(least: Self, greatest: Self) -> Statistics;
}

impl Number for i64 {
    const NANS: Option<i64> = None;

    fn bits(self) -> u64 {
        self.cast_unsigned()
    }

    fn rank(self) -> i64 {
        self
    }

    fn of_rank(rank: i64) -> Self {
        rank
    }

    fn is_nan(self) -> bool {
        false
    }

    fn statistics(least: Self, greatest: Self) -> Statistics {
        ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false)
            .with_backwards_compatible_min_max(true)
            .into()
    }
}

impl Number for f64 {
    const NANS: Option<i64> = Some(0);

    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn rank(self) -> i64 {
        flip(self.to_bits().cast_signed())
    }

    fn of_rank(rank: i64) -> Self {
        Self::from_bits(flip(rank).cast_unsigned())
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn statistics(least: Self, greatest: Self) -> Statistics {
        ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false)
            .with_nan_count(Some(0))
            .with_backwards_compatible_min_max(true)
            .into()
    }
}

/// Turns the other bits of a negative number round, so that its size counts downwards. Its own inverse.
fn flip(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// A column of numbers without a dictionary, each page as `write` has it; `None` when one is no number,
/// there is no row, or `write` gives up.
pub(super) fn chunk<T: Number>(
    values: &[T],
    rows: Rows<'_>,
    encoding: Encoding,
    mut write: impl FnMut(&[T]) -> Option<Vec<u8>>,
) -> Option<Chunk> {
    let mut bounds = Vec::new();
    let mut block = Vec::new();
    let mut pages = Vec::new();
    for page in rows.blocks_of(PAGE_ROWS) {
        page.collect(&mut block, |row| values[row]);
        let (least, greatest) = extremes(&block)?;
        bounds.push((least, greatest));
        let bytes = |rank: i64| T::of_rank(rank).bits().to_le_bytes().to_vec();
        pages.push(EncodedPage {
            rows: block.len(),
            data: write(&block)?,
            least: bytes(least),
            greatest: bytes(greatest),
            text_bytes: None,
        });
    }
    let least = bounds.iter().map(|page| page.0).min()?;
    let greatest = bounds.iter().map(|page| page.1).max()?;
    Some(Chunk {
        dictionary: None,
        encoding,
        pages,
        order: boundary_order(&bounds),
        statistics: T::statistics(T::of_rank(least), T::of_rank(greatest)),
        nans: T::NANS,
    })
}

/// Ranks of the least and the greatest number of a page; `None` when one is no number.
fn extremes<T: Number>(page: &[T]) -> Option<(i64, i64)> {
    let (mut least, mut greatest) = (i64::MAX, i64::MIN);
    for value in page {
        least = least.min(value.rank());
        greatest = greatest.max(value.rank());
    }
    // NaNs are at the ends of the order.
    let is_nan = T::of_rank(least).is_nan() || T::of_rank(greatest).is_nan();
    (!is_nan).then_some((least, greatest))
}
