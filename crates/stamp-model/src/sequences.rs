//! Sets of sequence numbers, a bit each, in blocks that exist only where there are any.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const BLOCK_BITS: i64 = 1 << 16;
const WORDS: usize = (BLOCK_BITS / 64) as usize;

/// Sequence numbers of one partition: 8 KiB for each run of 65,536 that has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequences {
    blocks: BTreeMap<i64, Box<[u64; WORDS]>>,
    len: u64,
}

impl Sequences {
    /// Adds a number; `false` when it was there.
    pub fn insert(&mut self, sequence: i64) -> bool {
        let (block, word, bit) = place(sequence);
        let word = &mut self
            .blocks
            .entry(block)
            .or_insert_with(|| Box::new([0; WORDS]))[word];
        let is_new = *word & bit == 0;
        *word |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, sequence: i64) -> bool {
        let (block, word, bit) = place(sequence);
        self.blocks
            .get(&block)
            .is_some_and(|words| words[word] & bit != 0)
    }

    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds all numbers of another set.
    pub fn union(&mut self, other: &Self) {
        for (&block, theirs) in &other.blocks {
            let ours = self
                .blocks
                .entry(block)
                .or_insert_with(|| Box::new([0; WORDS]));
            for (word, &bits) in ours.iter_mut().zip(theirs.iter()) {
                self.len += u64::from((bits & !*word).count_ones());
                *word |= bits;
            }
        }
    }

    /// The highest number.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        let (&block, words) = self.blocks.last_key_value()?;
        let (word, bits) = words.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        let offset = i64::try_from(word).ok()? * 64 + i64::from(63 - bits.leading_zeros());
        Some(block * BLOCK_BITS + offset)
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.ascending().next()
    }

    /// All numbers, ascending.
    pub fn ascending(&self) -> impl Iterator<Item = i64> + '_ {
        self.blocks.iter().flat_map(|(&block, words)| {
            (0..BLOCK_BITS)
                .map(move |offset| block * BLOCK_BITS + offset)
                .filter(move |&sequence| {
                    let (_, word, bit) = place(sequence);
                    words[word] & bit != 0
                })
        })
    }

    /// The runs of numbers in `range` that are not in the set, at most `most` of them.
    #[must_use]
    pub fn missing(&self, range: RangeInclusive<i64>, most: usize) -> Vec<(i64, i64)> {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for sequence in range.filter(|&sequence| !self.contains(sequence)) {
            if let Some((_, last)) = runs.last_mut().filter(|(_, last)| *last + 1 == sequence) {
                *last = sequence;
            } else if runs.len() < most {
                runs.push((sequence, sequence));
            } else {
                break;
            }
        }
        runs
    }
}

impl FromIterator<i64> for Sequences {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

fn place(sequence: i64) -> (i64, usize, u64) {
    let offset = sequence.rem_euclid(BLOCK_BITS);
    let word = usize::try_from(offset / 64).unwrap_or(0);
    (sequence.div_euclid(BLOCK_BITS), word, 1 << (offset % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_once_and_its_neighbours_are_not() {
        let mut set = Sequences::default();
        for sequence in [0, 63, 64, 65_535, 65_536, 1 << 40] {
            assert!(set.insert(sequence) && !set.insert(sequence));
        }
        assert_eq!((set.len(), set.first()), (6, Some(0)));
        assert!(set.contains(65_536) && !set.contains(65_537) && !set.contains(62));
        assert_eq!(set.ascending().last(), Some(1 << 40));
    }

    #[test]
    fn a_union_has_the_numbers_of_both_once() {
        let mut all: Sequences = [1, 64, 70_000].into_iter().collect();
        all.union(&[64, 65, 200_000].into_iter().collect());
        assert_eq!(all, [1, 64, 65, 70_000, 200_000].into_iter().collect());
        assert_eq!((all.len(), all.last()), (5, Some(200_000)));
        assert_eq!((Sequences::default().last(), all.is_empty()), (None, false));
    }

    #[test]
    fn what_is_missing_is_told_in_runs_and_no_more_than_asked_for() {
        let mut set = Sequences::default();
        for sequence in [2, 3, 7, 9] {
            set.insert(sequence);
        }
        assert_eq!(set.missing(1..=10, 10), [(1, 1), (4, 6), (8, 8), (10, 10)]);
        assert_eq!(set.missing(1..=10, 2), [(1, 1), (4, 6)]);
        assert_eq!(set.missing(2..=3, 10), []);
    }
}
