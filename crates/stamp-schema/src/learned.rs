//! The decoder that learns shapes: fast, and never of another opinion than the general one.
//!
//! Devices of one firmware send the same keys in the same order with the same spacing; only the
//! values change. From an accepted element this module learns its *skeleton*: the bytes between the
//! values, and what each value is for. A later element is compared with the skeleton and only its
//! values are parsed, in place. Whatever does not fit goes to the general decoder, and so does
//! every rejection: this module can only say "accepted, with these values" or nothing.
//!
//! # Why the answer is that of the general decoder
//! The whole body was checked to be UTF-8 before. Let `L` be the element that was learned from and
//! `E` one that fits its skeleton: `E` is `L` with each of some value tokens replaced.
//! 1. *Tokens end where they should.* A string token is taken up to the first quote, backslash or
//!    control character, and the skeleton goes on with a quote: so it holds none of these and is a
//!    string without escapes. A number token is the longest the grammar allows, and the skeleton
//!    goes on with the byte that ended the number in `L`, which continues no number. `true` and
//!    `false` are compared whole, and what followed them in `L` follows them here.
//! 2. *The tokens between are the same.* The general decoder keeps no memory of a value it has
//!    passed but the cell it wrote, so after each replaced token it is in the same state in `E` as
//!    in `L`: same open objects, same keys, same depth. Thus `E` is well-formed, has no duplicate
//!    key, no unknown key where these are refused and no level too deep, because `L` had none.
//! 3. *The values are the same.* Each is read by the functions that the general decoder calls
//!    (`read_number`, `read_text` and `read_bool` of the slot) with the same token, and a
//!    failed check sends the element to the general decoder. Cells of fields that `E` does not have
//!    are `Cell::Missing` either way. Whether a required one is missing is decided after both.
//!
//! A null in `L` is part of the skeleton, not a value: an element with a number in its place does
//! not fit. Elements with an escape in a key are not learned.
//!
//! # What it may cost
//! At most [`SKELETONS_MAX`] skeletons of bounded size are kept, an element is compared with the
//! one its device used last and with at most [`STEPS_MAX`] values of others, and learning is
//! rationed, so that a stream of ever new shapes costs little more than the general decoder alone.

mod learner;
mod skeleton;

use crate::schema::Schema;
use crate::walk::Scratch;

use skeleton::Skeleton;

/// Most skeletons of one decoder.
const SKELETONS_MAX: usize = 16;
/// Values that are looked at in all skeletons but the likely one before an element is given up:
/// skeletons of other firmwares differ within their first few values.
const STEPS_MAX: usize = 32;
/// A skeleton gives way to a new one when this many elements did not use it.
const IDLE_ELEMENTS: u64 = 1_024;
/// Elements that must pass for one act of learning, which costs about as much as two of them.
const LEARN_COST: u64 = 20;
/// Most unused acts of learning that are saved up.
const LEARN_SAVED_MAX: u64 = 2 * SKELETONS_MAX as u64 * LEARN_COST;
/// Devices of a buffer whose last skeleton is remembered, a byte each.
const HINTS_MAX: usize = 1 << 16;

/// How often shapes helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecoderStats {
    /// Elements that fitted a learned shape.
    pub hits: u64,
    /// Elements that the general decoder read.
    pub fallbacks: u64,
    /// Shapes that were learned.
    pub learned: u64,
    /// Shapes that gave way to another.
    pub evicted: u64,
}

/// The skeletons of one tenant's devices.
#[derive(Debug)]
pub(crate) struct Shapes {
    skeletons: Vec<Skeleton>,
    /// By the device's key in the buffer, the skeleton its last element had. A new buffer gives
    /// other keys: a wrong entry costs a comparison and nothing else.
    hints: Vec<u8>,
    /// Elements so far.
    now: u64,
    savings: u64,
    pub(crate) stats: DecoderStats,
}

impl Shapes {
    pub(crate) fn new() -> Self {
        Self {
            skeletons: Vec::new(),
            hints: Vec::new(),
            now: 0,
            savings: LEARN_SAVED_MAX,
            stats: DecoderStats::default(),
        }
    }

    /// Drops every shape; what was learned and saved up so far stays counted.
    pub(crate) fn forget(&mut self) {
        self.skeletons.clear();
        self.hints.clear();
    }

    /// Reads the element at byte `at` of `text` into `scratch` if it has a known shape and every
    /// value passes its checks; gives the byte after it. `device` is its key in the buffer.
    #[inline]
    pub(crate) fn read(
        &mut self,
        schema: &Schema,
        text: &str,
        at: usize,
        device: u32,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        self.now += 1;
        self.savings = (self.savings + 1).min(LEARN_SAVED_MAX);
        let hinted = self
            .hints
            .get(device as usize)
            .map_or(0, |&index| usize::from(index));
        let end = self.skeletons.get_mut(hinted).and_then(|skeleton| {
            let end = skeleton.read(schema, text, at, usize::MAX, scratch).ok()?;
            skeleton.last_used = self.now;
            Some(end)
        });
        let end = end.or_else(|| self.read_unlikely(schema, text, at, device, hinted, scratch));
        match end {
            Some(_) => self.stats.hits += 1,
            None => self.stats.fallbacks += 1,
        }
        end
    }

    /// Tries every skeleton but the hinted one.
    fn read_unlikely(
        &mut self,
        schema: &Schema,
        text: &str,
        at: usize,
        device: u32,
        hinted: usize,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let mut steps = STEPS_MAX;
        for index in (0..self.skeletons.len()).filter(|&index| index != hinted) {
            let skeleton = &mut self.skeletons[index];
            match skeleton.read(schema, text, at, steps, scratch) {
                Ok(end) => {
                    skeleton.last_used = self.now;
                    self.hint(device, index);
                    return Some(end);
                }
                Err(taken) => steps = steps.saturating_sub(taken + 1),
            }
            if steps == 0 {
                break;
            }
        }
        None
    }

    fn hint(&mut self, device: u32, index: usize) {
        let place = device as usize;
        if place >= HINTS_MAX {
            return;
        }
        if place >= self.hints.len() {
            self.hints.resize((place + 1).next_power_of_two(), 0);
        }
        self.hints[place] = u8::try_from(index).unwrap_or(0);
    }

    /// Learns the shape of the element `at..end`, which the general decoder has just accepted.
    pub(crate) fn learn(&mut self, schema: &Schema, text: &str, at: usize, device: u32) {
        if self.savings < LEARN_COST {
            return;
        }
        self.savings -= LEARN_COST;
        let Some(mut skeleton) = learner::learn(schema, text, at) else {
            return;
        };
        skeleton.last_used = self.now;
        let known = self
            .skeletons
            .iter()
            .position(|other| other.same_shape(&skeleton));
        if let Some(index) = known.or_else(|| self.keep(skeleton)) {
            self.hint(device, index);
        }
    }

    /// Keeps a new skeleton, if there is room or an idle one to replace.
    fn keep(&mut self, skeleton: Skeleton) -> Option<usize> {
        if self.skeletons.len() < SKELETONS_MAX {
            self.skeletons.push(skeleton);
            self.stats.learned += 1;
            return Some(self.skeletons.len() - 1);
        }
        let oldest = (0..SKELETONS_MAX).min_by_key(|&i| self.skeletons[i].last_used)?;
        if self.now - self.skeletons[oldest].last_used < IDLE_ELEMENTS {
            return None;
        }
        self.skeletons[oldest] = skeleton;
        self.stats.learned += 1;
        self.stats.evicted += 1;
        Some(oldest)
    }
}
