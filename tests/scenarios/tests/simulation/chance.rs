//! Chance from a seed: by stream for the plan of a run, by key for what happens in it.
//!
//! Whatever happens while several consumers run is drawn by a key of its own (who, what, how often
//! before), never from a stream that they share: so one draw more here moves nothing there.

/// Mixes a number so that neighbours have nothing in common (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number that depends on every part of a key.
pub(crate) fn keyed(seed: u64, text: &str, numbers: &[u64]) -> u64 {
    let start = mix(seed);
    let texts = text.bytes().fold(start, |h, byte| mix(h ^ u64::from(byte)));
    numbers.iter().fold(texts, |h, &number| mix(h ^ number))
}

/// A stream of numbers, for plans that are made before anything runs.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, what: &str) -> Self {
        Self(keyed(seed, what, &[]))
    }

    /// At least `from`, less than `to`.
    pub(crate) fn within(&mut self, from: u64, to: u64) -> u64 {
        self.0 = mix(self.0);
        from + self.0 % (to - from)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }
}
