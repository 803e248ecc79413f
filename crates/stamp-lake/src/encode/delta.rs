//! Parquet's packed differences of neighbours, for times, counters and columns of one value.

use parquet::basic::{BoundaryOrder, Encoding};
use parquet::file::statistics::ValueStatistics;

use super::chunk::{Chunk, EncodedPage, PAGE_ROWS, boundary_order};
use super::columns::Rows;
use super::hybrid::write_varint;
use super::numbers;

/// Differences that share a least one, as the library has it for 64 bits.
const BLOCK: usize = 256;
/// Parts of a block, each with a width of its own.
const PARTS: usize = 4;
const PART: usize = BLOCK / PARTS;

/// The integers of `rows`; `None` when there is no row.
pub(super) fn integers(values: &[i64], rows: Rows<'_>) -> Option<Chunk> {
    numbers::chunk(values, rows, Encoding::DELTA_BINARY_PACKED, |block| {
        let mut data = Vec::new();
        write_differences(block, &mut data);
        Some(data)
    })
}

/// The 32-bit integers of `rows`; `None` when there is no row.
pub(super) fn small_integers(values: &[i32], rows: Rows<'_>) -> Option<Chunk> {
    let mut bounds: Vec<(i32, i32)> = Vec::new();
    let mut block: Vec<i64> = Vec::new();
    let mut pages = Vec::new();
    for page in rows.blocks_of(PAGE_ROWS) {
        let each = || (0..page.len()).map(|at| values[page.at(at)]);
        let (least, greatest) = (each().min()?, each().max()?);
        bounds.push((least, greatest));
        block.clear();
        block.extend(each().map(i64::from));
        let mut data = Vec::new();
        write_differences(&block, &mut data);
        pages.push(EncodedPage {
            rows: block.len(),
            data,
            least: least.to_le_bytes().into(),
            greatest: greatest.to_le_bytes().into(),
            text_bytes: None,
        });
    }
    let least = bounds.iter().map(|page| page.0).min()?;
    let greatest = bounds.iter().map(|page| page.1).max()?;
    Some(Chunk {
        dictionary: None,
        encoding: Encoding::DELTA_BINARY_PACKED,
        pages,
        order: boundary_order(&bounds),
        statistics: ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false)
            .with_backwards_compatible_min_max(true)
            .into(),
        nans: None,
    })
}

/// `rows` times the same 32-bit integer.
pub(super) fn same(value: i32, rows: usize) -> Chunk {
    let pages = (0..rows).step_by(PAGE_ROWS).map(|start| {
        let rows = PAGE_ROWS.min(rows - start);
        let mut data = Vec::new();
        write_differences(&vec![i64::from(value); rows], &mut data);
        EncodedPage {
            rows,
            data,
            least: value.to_le_bytes().into(),
            greatest: value.to_le_bytes().into(),
            text_bytes: None,
        }
    });
    Chunk {
        dictionary: None,
        encoding: Encoding::DELTA_BINARY_PACKED,
        pages: pages.collect(),
        order: BoundaryOrder::ASCENDING,
        statistics: ValueStatistics::new(Some(value), Some(value), None, Some(0), false)
            .with_backwards_compatible_min_max(true)
            .into(),
        nans: None,
    }
}

/// Appends the values of a page.
fn write_differences(values: &[i64], out: &mut Vec<u8>) {
    write_varint(BLOCK as u64, out);
    write_varint(PARTS as u64, out);
    write_varint(values.len() as u64, out);
    let Some(&first) = values.first() else {
        return write_zigzag(0, out);
    };
    write_zigzag(first, out);
    let mut differences = [0; BLOCK];
    for from in (1..values.len()).step_by(BLOCK) {
        let to = values.len().min(from + BLOCK);
        let pairs = values[from - 1..to - 1].iter().zip(&values[from..to]);
        for (difference, (before, value)) in differences.iter_mut().zip(pairs) {
            *difference = value.wrapping_sub(*before);
        }
        write_block(&mut differences[..to - from], out);
    }
}

fn write_block(differences: &mut [i64], out: &mut Vec<u8>) {
    let least = differences.iter().copied().min().unwrap_or(0);
    write_zigzag(least, out);
    let widths = out.len();
    // A part without values has the width 0 and no bytes.
    out.extend_from_slice(&[0; PARTS]);
    for (number, part) in differences.chunks_mut(PART).enumerate() {
        let mut all_bits = 0;
        for difference in part.iter_mut() {
            *difference = difference.wrapping_sub(least);
            all_bits |= *difference;
        }
        let bits = i64::BITS - all_bits.leading_zeros();
        // At most 64.
        out[widths + number] = bits as u8;
        pack(part, bits, out);
    }
}

/// Packs the low `bits` of each value; a part is always full, the missing values zero.
fn pack(part: &[i64], bits: u32, out: &mut Vec<u8>) {
    let end = out.len() + PART * bits as usize / 8;
    let (mut word, mut filled) = (0_u128, 0);
    for &value in part.iter().take_while(|_| bits > 0) {
        word |= u128::from(value.cast_unsigned()) << filled;
        filled += bits;
        if filled >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            word >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(word as u64).to_le_bytes());
    out.resize(end, 0);
}

fn write_zigzag(value: i64, out: &mut Vec<u8>) {
    write_varint((value << 1 ^ value >> 63).cast_unsigned(), out);
}
