//! Columns as keys into a dictionary, in order of first sight.
//!
//! The library hashes every value, texts too, although the buffer has given texts their keys long ago.
//! Here a text costs a look into a table of its keys, and a number one probe of a small hash table.

use std::hash::BuildHasher;

use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::file::statistics::ValueStatistics;
use stamp_model::Dictionary;

use super::chunk::{Chunk, DictionaryPage, EncodedPage, PAGE_ROWS, boundary_order};
use super::columns::Rows;
use super::hybrid::write_keys;
use super::numbers::{self, Number};

/// A larger dictionary is no good for its readers: the library's limit.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;

/// Bounds of longer texts are cut off in statistics, which only the library does.
const BOUND_BYTES_MAX: usize = 64;

/// The numbers of `rows`; `None` when they are too many for a dictionary, one is no number, or there is no
/// row.
pub(super) fn numbers<T: Number>(values: &[T], rows: Rows<'_>) -> Option<Chunk> {
    let mut numbering = Numbering::new();
    let mut keys = Vec::new();
    let chunk = numbers::chunk(values, rows, Encoding::RLE_DICTIONARY, |block| {
        keys.clear();
        keys.extend(block.iter().map(|value| numbering.key_of(value.bits())));
        let bytes = numbering.values.len() * size_of::<u64>();
        let mut data = Vec::new();
        write_keys(&keys, &mut data);
        (bytes <= DICTIONARY_BYTES_MAX).then_some(data)
    })?;
    let values = numbering.values.iter();
    Some(Chunk {
        dictionary: Some(DictionaryPage {
            data: values.flat_map(|value| value.to_le_bytes()).collect(),
            values: numbering.values.len(),
        }),
        ..chunk
    })
}

/// The texts of `rows`, which have keys of the buffer's dictionary; `None` when they are too much for a
/// dictionary of the file, one is too long to be a bound, or there is no row.
pub(super) fn texts(texts: &Dictionary, of_rows: &[u32], rows: Rows<'_>) -> Option<Chunk> {
    let mut renaming = Renaming {
        texts,
        keys: vec![Renaming::UNSEEN; texts.len()],
        found: Vec::new(),
        dictionary: Vec::new(),
    };
    // The page that had a text last, by key, so that each is compared once a page.
    let mut seen_in = Vec::new();
    let mut bounds: Vec<(&str, &str)> = Vec::new();
    let (mut keys, mut pages) = (Vec::new(), Vec::new());
    for (number, page) in rows.blocks_of(PAGE_ROWS).enumerate() {
        let mut extremes: Option<(&str, &str)> = None;
        let mut text_bytes = 0;
        keys.clear();
        for row in (0..page.len()).map(|at| page.at(at)) {
            let key = renaming.key_of(of_rows[row])?;
            keys.push(key);
            let key = key as usize;
            let text = renaming.found[key];
            text_bytes += text.len();
            if key == seen_in.len() {
                seen_in.push(usize::MAX);
            }
            if seen_in[key] != number {
                seen_in[key] = number;
                let (least, greatest) = extremes.unwrap_or((text, text));
                extremes = Some((least.min(text), greatest.max(text)));
            }
        }
        let (least, greatest) = extremes?;
        bounds.push((least, greatest));
        let mut data = Vec::new();
        write_keys(&keys, &mut data);
        pages.push(EncodedPage {
            rows: keys.len(),
            data,
            least: least.into(),
            greatest: greatest.into(),
            text_bytes: Some(i64::try_from(text_bytes).ok()?),
        });
    }
    let least = ByteArray::from(bounds.iter().map(|page| page.0).min()?);
    let greatest = ByteArray::from(bounds.iter().map(|page| page.1).max()?);
    Some(Chunk {
        dictionary: Some(DictionaryPage {
            values: renaming.found.len(),
            data: renaming.dictionary,
        }),
        encoding: Encoding::RLE_DICTIONARY,
        pages,
        order: boundary_order(&bounds),
        statistics: ValueStatistics::new(Some(least), Some(greatest), None, Some(0), false).into(),
        nans: None,
    })
}

/// From keys of the buffer to keys of the file.
struct Renaming<'a> {
    texts: &'a Dictionary,
    /// By key of the buffer.
    keys: Vec<u32>,
    /// By key of the file.
    found: Vec<&'a str>,
    /// The same in plain encoding.
    dictionary: Vec<u8>,
}

impl Renaming<'_> {
    const UNSEEN: u32 = u32::MAX;

    /// `None` when a dictionary is no good for these texts.
    #[inline]
    fn key_of(&mut self, of_buffer: u32) -> Option<u32> {
        match self.keys[of_buffer as usize] {
            Self::UNSEEN => self.add(of_buffer),
            known => Some(known),
        }
    }

    #[cold]
    fn add(&mut self, of_buffer: u32) -> Option<u32> {
        let text = self.texts.get(of_buffer);
        let length = u32::try_from(text.len()).ok()?;
        self.dictionary.extend_from_slice(&length.to_le_bytes());
        self.dictionary.extend_from_slice(text.as_bytes());
        if text.len() > BOUND_BYTES_MAX || self.dictionary.len() > DICTIONARY_BYTES_MAX {
            return None;
        }
        let key = u32::try_from(self.found.len()).ok()?;
        self.found.push(text);
        self.keys[of_buffer as usize] = key;
        Some(key)
    }
}

/// Keys of 64-bit values: open addressing, at most half full.
struct Numbering {
    /// A value, and its key plus one; 0 for an empty place.
    places: Vec<(u64, u32)>,
    values: Vec<u64>,
    /// Another one for each column, so that no device can choose values that collide. It has no
    /// influence on the keys.
    seed: u64,
}

impl Numbering {
    fn new() -> Self {
        Self {
            places: vec![(0, 0); 1_024],
            values: Vec::new(),
            seed: std::hash::RandomState::new().hash_one(0),
        }
    }

    #[inline]
    fn key_of(&mut self, value: u64) -> u32 {
        let mut place = self.place_of(value);
        loop {
            match self.places[place] {
                (_, 0) => return self.add(value, place),
                (known, key) if known == value => return key - 1,
                _ => place = (place + 1) & (self.places.len() - 1),
            }
        }
    }

    #[inline]
    fn place_of(&self, value: u64) -> usize {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(value ^ self.seed) * u128::from(MULTIPLIER);
        // Both halves: the upper depends on all lower bits of the value, the lower on none of the upper.
        let mixed = (product >> 64) as u64 ^ product as u64;
        mixed as usize & (self.places.len() - 1)
    }

    #[cold]
    fn add(&mut self, value: u64, place: usize) -> u32 {
        self.values.push(value);
        // As many values as rows of a group at most.
        let key = self.values.len() as u32;
        self.places[place] = (value, key);
        if self.values.len() * 2 > self.places.len() {
            self.grow();
        }
        key - 1
    }

    fn grow(&mut self) {
        self.places = vec![(0, 0); self.places.len() * 4];
        for (key, &value) in (1..).zip(&self.values) {
            let mut place = self.place_of(value);
            while self.places[place].1 != 0 {
                place = (place + 1) & (self.places.len() - 1);
            }
            self.places[place] = (value, key);
        }
    }
}
