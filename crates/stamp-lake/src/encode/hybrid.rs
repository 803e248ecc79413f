//! Parquet's hybrid of runs and packed bits, for keys into a dictionary.

/// A run of at least this many equal keys is written as a run; fewer are packed. Packed keys come in
/// groups of as many.
const GROUP: usize = 8;

/// Appends the width of the widest key and then the keys, as the data of a page has them.
pub(super) fn write_keys(keys: &[u32], out: &mut Vec<u8>) {
    let widest = keys.iter().copied().max().unwrap_or(0);
    let bits = u32::BITS - widest.leading_zeros();
    // At most 32.
    out.push(bits as u8);
    let (mut packed_from, mut at) = (0, 0);
    while at < keys.len() {
        let first = keys[at];
        let mut end = at + 1;
        while end < keys.len() && keys[end] == first {
            end += 1;
        }
        // Only the last group may be short, so a run first fills up the group before it.
        let run_from = packed_from + (at - packed_from).next_multiple_of(GROUP);
        if run_from + GROUP <= end {
            pack(&keys[packed_from..run_from], bits, out);
            write_run(first, end - run_from, bits, out);
            packed_from = end;
        }
        at = end;
    }
    pack(&keys[packed_from..], bits, out);
}

fn write_run(key: u32, length: usize, bits: u32, out: &mut Vec<u8>) {
    write_varint((length as u64) << 1, out);
    out.extend_from_slice(&key.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// The last group is filled up with zeros, which readers drop by the page's number of values.
fn pack(keys: &[u32], bits: u32, out: &mut Vec<u8>) {
    if keys.is_empty() {
        return;
    }
    let groups = keys.len().div_ceil(GROUP);
    write_varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * bits as usize;
    let (mut word, mut filled) = (0_u64, 0);
    for &key in keys {
        word |= u64::from(key) << filled;
        filled += bits;
        if filled >= 32 {
            out.extend_from_slice(&word.to_le_bytes()[..4]);
            word >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.resize(end, 0);
}

/// Seven bits a byte, the lowest first.
pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads it back, by the letter of the format.
    fn read(bytes: &[u8], count: usize) -> Vec<u32> {
        let (bits, mut rest) = (usize::from(bytes[0]), &bytes[1..]);
        let mut keys = Vec::new();
        while keys.len() < count {
            let (mut header, mut shift) = (0_usize, 0);
            loop {
                let (byte, after) = rest.split_first().unwrap();
                rest = after;
                header |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let bit = |at: usize| u32::from(rest[at / 8] >> (at % 8) & 1);
            let key = |from: usize| (0..bits).fold(0, |key, at| key | bit(from + at) << at);
            let used = if header & 1 == 1 {
                keys.extend((0..header / 2 * GROUP).map(|at| key(at * bits)));
                header / 2 * bits
            } else {
                keys.extend(std::iter::repeat_n(key(0), header / 2));
                bits.div_ceil(8)
            };
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
        // Only the padding of the last group may be more, and it is zero.
        assert!(keys.len() < count + GROUP);
        assert!(keys[count..].iter().all(|&key| key == 0));
        keys.truncate(count);
        keys
    }

    proptest! {
        #[test]
        fn keys_come_back(
            runs in prop::collection::vec((any::<u32>(), 1_usize..40), 0..60),
            narrow in 0_u32..=32,
        ) {
            let keys: Vec<u32> = runs
                .iter()
                .flat_map(|&(key, length)| {
                    std::iter::repeat_n(key.checked_shr(narrow).unwrap_or(0), length)
                })
                .collect();
            let mut bytes = Vec::new();
            write_keys(&keys, &mut bytes);
            prop_assert_eq!(read(&bytes, keys.len()), keys);
        }
    }

    #[test]
    fn a_column_of_one_value_takes_a_few_bytes() {
        let mut bytes = Vec::new();
        write_keys(&[0; 20_480], &mut bytes);
        assert_eq!(bytes, [0, 0x80, 0xc0, 0x02]);
    }
}
