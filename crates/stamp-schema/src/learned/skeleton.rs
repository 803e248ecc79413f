//! One learned shape, and the comparison of an element with it.

use crate::field::Cell;
use crate::number;
use crate::scan::plain_end;
use crate::schema::Schema;
use crate::walk::{Scratch, position};

/// What a value of a skeleton is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// A number for this slot.
    Number(usize),
    /// A string for this slot; its quotes belong to the bytes around it.
    Text(usize),
    /// `true` or `false` for this slot.
    Bool(usize),
    /// A number that no slot wants.
    PassNumber,
    /// A string that no slot wants.
    PassText,
    /// `true` or `false` that no slot wants.
    PassBool,
}

/// Fixed bytes, then a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    fixed: Fixed,
    take: Take,
}

/// Some of the skeleton's fixed bytes, as words: comparing eight at a time in place costs a
/// fraction of a call to the library's comparison for the few bytes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fixed {
    /// Little-endian; the last word is padded with zeros.
    words: Box<[u64]>,
    /// Ones where the last word has a byte.
    last_mask: u64,
    len: usize,
}

impl Fixed {
    fn new(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(padded)
        };
        let last_bits = 8 * (bytes.len() - bytes.len().saturating_sub(1) / 8 * 8);
        Self {
            words: bytes.chunks(8).map(word).collect(),
            last_mask: u64::MAX.checked_shr(64 - last_bits as u32).unwrap_or(0),
            len: bytes.len(),
        }
    }

    /// The byte after these bytes, if they are at `at`.
    #[inline]
    fn matched(&self, body: &[u8], at: usize) -> Option<usize> {
        let Some((last, before)) = self.words.split_last() else {
            return Some(at);
        };
        let mut place = at;
        for word in before {
            if word_at(body, place)? != *word {
                return None;
            }
            place += 8;
        }
        ((word_at(body, place)? ^ last) & self.last_mask == 0).then_some(at + self.len)
    }
}

/// Eight bytes of the body; zeros after its end, which no fixed byte equals, because no JSON text
/// has a zero byte outside of what the general decoder refuses.
#[inline]
fn word_at(body: &[u8], at: usize) -> Option<u64> {
    let rest = body.get(at..)?;
    match rest.first_chunk::<8>() {
        Some(chunk) => Some(u64::from_le_bytes(*chunk)),
        None => Some(last_word(rest)),
    }
}

fn last_word(rest: &[u8]) -> u64 {
    rest.iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// A learned shape.
#[derive(Debug)]
pub(super) struct Skeleton {
    steps: Vec<Step>,
    end: Fixed,
    /// When it was last of use, in elements.
    pub(super) last_used: u64,
}

impl Skeleton {
    /// Builds it from the pieces in order: fixed bytes with the value after them, and the last
    /// fixed bytes.
    pub(super) fn new(pieces: &[(&str, Take)], end: &str) -> Self {
        let step = |(fixed, take): &(&str, Take)| Step {
            fixed: Fixed::new(fixed.as_bytes()),
            take: *take,
        };
        Self {
            steps: pieces.iter().map(step).collect(),
            end: Fixed::new(end.as_bytes()),
            last_used: 0,
        }
    }

    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.steps == other.steps && self.end == other.end
    }

    /// Reads the element at `at` into the cells; gives the byte after it. When it does not fit, a
    /// value fails a check, or it has more than `steps_max` values: the number of values that were
    /// looked at, and the cells are worth nothing.
    #[inline]
    pub(super) fn read(
        &self,
        schema: &Schema,
        text: &str,
        at: usize,
        steps_max: usize,
        scratch: &mut Scratch,
    ) -> Result<usize, usize> {
        scratch.reset(schema.slots.len());
        let body = text.as_bytes();
        let mut at = at;
        for (taken, step) in self.steps.iter().enumerate() {
            let start = step.fixed.matched(body, at).filter(|_| taken < steps_max);
            let end = start.and_then(|start| take(step.take, schema, text, start, scratch));
            at = end.ok_or(taken)?;
        }
        self.end.matched(body, at).ok_or(self.steps.len())
    }
}

/// Reads the value at `at` into its cell; gives the byte after it.
#[inline]
fn take(
    take: Take,
    schema: &Schema,
    text: &str,
    at: usize,
    scratch: &mut Scratch,
) -> Option<usize> {
    let body = text.as_bytes();
    match take {
        Take::Number(slot) => {
            let number = number::scan(body, at).ok()?;
            let token = text.get(at..number.end)?;
            let cell = scratch.cells.get_mut(slot)?;
            schema.slots[slot].read_number(number, token, cell).ok()?;
            Some(number.end)
        }
        Take::Text(slot) => {
            let end = plain_end(body, at);
            let content = text.get(at..end)?;
            let place = Cell::Text {
                start: position(at),
                end: position(end),
            };
            let Scratch { cells, day, .. } = scratch;
            let cell = cells.get_mut(slot)?;
            schema.slots[slot]
                .read_text(content, place, day, cell)
                .ok()?;
            Some(end)
        }
        Take::Bool(slot) => {
            let (value, end) = bool_at(body, at)?;
            let cell = scratch.cells.get_mut(slot)?;
            schema.slots[slot].read_bool(value, cell).ok()?;
            Some(end)
        }
        Take::PassNumber => Some(number::scan(body, at).ok()?.end),
        Take::PassText => Some(plain_end(body, at)),
        Take::PassBool => Some(bool_at(body, at)?.1),
    }
}

#[inline]
fn bool_at(body: &[u8], at: usize) -> Option<(bool, usize)> {
    let rest = body.get(at..)?;
    if rest.starts_with(b"true") {
        Some((true, at + 4))
    } else if rest.starts_with(b"false") {
        Some((false, at + 5))
    } else {
        None
    }
}
