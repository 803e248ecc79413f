//! Sets of sequence numbers, a bit each, in blocks that exist only where there are any.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const BLOCK_BITS: i64 = 1 << 16;
const WORDS: usize = (BLOCK_BITS / 64) as usize;

/// Sequence numbers of one partition: 8 KiB for each run of 65,536 that has any.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    blocks: BTreeMap<i64, Box<[u64; WORDS]>>,
    len: u64,
}

impl Sequences {
    /// Adds a number; `false` when it was there.
    pub(super) fn insert(&mut self, sequence: i64) -> bool {
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

    pub(super) fn contains(&self, sequence: i64) -> bool {
        let (block, word, bit) = place(sequence);
        self.blocks
            .get(&block)
            .is_some_and(|words| words[word] & bit != 0)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The lowest number.
    pub(super) fn first(&self) -> Option<i64> {
        self.ascending().next()
    }

    /// All numbers, ascending.
    pub(super) fn ascending(&self) -> impl Iterator<Item = i64> + '_ {
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
    pub(super) fn missing(&self, range: RangeInclusive<i64>, most: usize) -> Vec<(i64, i64)> {
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
