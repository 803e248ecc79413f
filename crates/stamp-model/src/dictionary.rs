//! Texts stored once and named by number, in order of first sight.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// An append-only set of texts. Equal texts get equal keys; keys count up from 0.
///
/// The order is that of first insertion, never that of a hash, so the same input gives the same
/// dictionary on every run.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    bytes: String,
    ends: Vec<usize>,
    keys: HashTable<u32>,
}

/// Fixed seed: determinism is worth more here than flooding resistance, because the number of
/// entries is bounded by the buffer's byte limit. A hostile device can only slow its own tenant.
const HASHER: FixedState = FixedState::with_seed(0x5741_4d50);

impl Dictionary {
    /// The key of `text`, adding it when it is new.
    ///
    /// # Panics
    /// When more than 2^32 - 1 texts are added, which byte limits make unreachable.
    #[inline]
    pub fn intern(&mut self, text: &str) -> u32 {
        let Self { bytes, ends, keys } = self;
        let hash = HASHER.hash_one(text);
        if let Some(&key) = keys.find(hash, |&key| slice(bytes, ends, key) == text) {
            return key;
        }
        let key = u32::try_from(ends.len()).expect("fewer than 2^32 texts fit any byte limit");
        bytes.push_str(text);
        ends.push(bytes.len());
        keys.insert_unique(hash, key, |&key| HASHER.hash_one(slice(bytes, ends, key)));
        key
    }

    /// Interns the texts of `other`, and gives the key here of each key there.
    #[must_use]
    pub fn adopt(&mut self, other: &Self) -> Vec<u32> {
        other.iter().map(|text| self.intern(text)).collect()
    }

    /// The text of `key`.
    ///
    /// # Panics
    /// When `key` was not given out by this dictionary.
    #[inline]
    #[must_use]
    pub fn get(&self, key: u32) -> &str {
        slice(&self.bytes, &self.ends, key)
    }

    /// Number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Texts in key order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).map(|key| {
            let start = if key == 0 { 0 } else { self.ends[key - 1] };
            &self.bytes[start..self.ends[key]]
        })
    }

    /// Bytes held on the heap, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.keys.capacity() * 5
    }
}

#[inline]
fn slice<'a>(bytes: &'a str, ends: &[usize], key: u32) -> &'a str {
    let key = key as usize;
    let start = if key == 0 { 0 } else { ends[key - 1] };
    &bytes[start..ends[key]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equal_texts_share_a_key_and_keys_follow_first_sight(texts in prop::collection::vec("[a-c]{0,3}", 0..200)) {
            let mut dictionary = Dictionary::default();
            let mut seen: Vec<String> = Vec::new();
            for text in &texts {
                let key = dictionary.intern(text) as usize;
                match seen.iter().position(|s| s == text) {
                    Some(at) => prop_assert_eq!(key, at),
                    None => {
                        prop_assert_eq!(key, seen.len());
                        seen.push(text.clone());
                    }
                }
            }
            prop_assert_eq!(dictionary.iter().collect::<Vec<_>>(), seen);
        }
    }
}
