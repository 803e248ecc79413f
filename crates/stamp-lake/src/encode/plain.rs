//! Values as they are: floats, with their bytes together or by place, and bools.

use parquet::basic::{BoundaryOrder, Encoding};
use parquet::file::statistics::ValueStatistics;

use super::chunk::{Chunk, EncodedPage, PAGE_ROWS, boundary_order};
use super::columns::Rows;
use super::numbers;

/// The floats of `rows`, byte by byte of all of a page where `encoding` splits them; `None` when one is no
/// number, or there is no row.
pub(super) fn floats(values: &[f64], rows: Rows<'_>, encoding: Encoding) -> Option<Chunk> {
    numbers::chunk(values, rows, encoding, |block| {
        Some(if encoding == Encoding::BYTE_STREAM_SPLIT {
            let place = |place: usize| block.iter().map(move |value| value.to_le_bytes()[place]);
            (0..size_of::<f64>()).flat_map(place).collect()
        } else {
            block.iter().flat_map(|value| value.to_le_bytes()).collect()
        })
    })
}

/// The bools of `rows`, eight a byte, the first in its lowest bit; `None` when there is no row.
pub(super) fn bools(values: &[bool], rows: Rows<'_>) -> Option<Chunk> {
    let mut bounds = Vec::new();
    let mut block = Vec::new();
    let mut pages = Vec::new();
    for page in rows.blocks_of(PAGE_ROWS) {
        page.collect(&mut block, |row| values[row]);
        let (least, greatest) = (!block.contains(&false), block.contains(&true));
        bounds.push((least, greatest));
        let byte = |eight: &[bool]| {
            let bits = eight.iter().rev();
            bits.fold(0, |byte, &bit| byte << 1 | u8::from(bit))
        };
        pages.push(EncodedPage {
            rows: block.len(),
            data: block.chunks(8).map(byte).collect(),
            least: vec![u8::from(least)],
            greatest: vec![u8::from(greatest)],
            text_bytes: None,
        });
    }
    let least = bounds.iter().map(|page| page.0).min()?;
    let greatest = bounds.iter().map(|page| page.1).max()?;
    let order: BoundaryOrder = boundary_order(&bounds);
    let statistics = ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false)
        .with_backwards_compatible_min_max(true);
    Some(Chunk {
        dictionary: None,
        encoding: Encoding::PLAIN,
        pages,
        order,
        statistics: statistics.into(),
        nans: None,
    })
}
