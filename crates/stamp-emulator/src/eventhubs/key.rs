//! Which partition a partition key belongs to.
//!
//! The same rule as the clients' own buffered senders (Bob Jenkins' public-domain lookup3, two
//! results folded to 16 bits), so that a key lands in one partition whoever places it.

/// The partition of `key` in a hub of `partitions` partitions (at least 1).
pub(crate) fn partition_of(key: &str, partitions: u32) -> u32 {
    let (c, b) = lookup3(key.as_bytes());
    let [low, high, ..] = (c ^ b).to_le_bytes();
    let hash = i32::from(i16::from_le_bytes([low, high]));
    hash.unsigned_abs() % partitions.max(1)
}

fn word(block: &[u8], at: usize) -> u32 {
    let byte = |i: usize| u32::from(block.get(at + i).copied().unwrap_or(0));
    byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
}

/// lookup3's `hashlittle2` with both seeds zero: its results `c` and `b`.
fn lookup3(key: &[u8]) -> (u32, u32) {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        mix(&mut a, &mut b, &mut c);
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return (c, b);
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    c = c.wrapping_add(word(rest, 8));
    finish(&mut a, &mut b, &mut c);
    (c, b)
}

fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    // Each round works on the three words in turn; the rotations are lookup3's.
    for (i, turn) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (x, y, z) = match i % 3 {
            0 => (&mut *a, &mut *b, &mut *c),
            1 => (&mut *b, &mut *c, &mut *a),
            _ => (&mut *c, &mut *a, &mut *b),
        };
        *x = x.wrapping_sub(*z) ^ z.rotate_left(turn);
        *z = z.wrapping_add(*y);
    }
}

fn finish(a: &mut u32, b: &mut u32, c: &mut u32) {
    for (i, turn) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (x, y) = match i % 3 {
            0 => (&mut *c, *b),
            1 => (&mut *a, *c),
            _ => (&mut *b, *a),
        };
        *x = (*x ^ y).wrapping_sub(y.rotate_left(turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_lookup3() {
        // The published self-test of lookup3: "Four score and seven years ago" with seeds 0, 0.
        assert_eq!(lookup3(b"Four score and seven years ago").0, 0x1777_0551);
        assert_eq!(lookup3(b""), (0xdead_beef, 0xdead_beef));
    }

    #[test]
    fn a_key_stays_in_its_partition_and_keys_spread() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            let key = format!("device-{n}");
            let partition = partition_of(&key, 8);
            assert_eq!(partition, partition_of(&key, 8));
            counts[partition as usize] += 1;
        }
        assert!(
            counts.iter().all(|&n| (800..1_200).contains(&n)),
            "{counts:?}"
        );
    }
}
