//! Weighted rendezvous hashing: each (request, stamp) pair has a score of its own, the highest wins.
//!
//! A score depends on nothing but its pair, so a stamp that is added can only win requests for
//! itself: nothing ever moves between two stamps that were there before. Scores must be the same on
//! every machine, so hash and logarithm are written here and use only operations that IEEE 754
//! rounds in one way.

/// Hash of a name, the same for ever: FNV-1a, finished so that all bits depend on all bytes.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // No byte of an id is 0xff, so ("a", "bc") and ("ab", "c") differ.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The score of a stamp with this weight for a request. Over many requests each stamp wins in
/// proportion to its weight.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are taken, which is what an f64 holds"
)]
pub(crate) fn score(request: u64, stamp: u64, weight: f64) -> f64 {
    let bits = mix(request ^ stamp.rotate_left(32)) >> 11;
    // In (0, 1), never at its ends.
    let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    weight / -ln(uniform)
}

/// Natural logarithm of a number in (0, 1), to about 1e-14 of it.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1_023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1_023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln(m) = 2 atanh((m - 1) / (m + 1)), where the argument is at most 0.172 either way.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let mut sum = 0.0;
    for odd in (1..=19).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * t * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for x in [
            1e-16,
            1e-9,
            0.001,
            0.1,
            0.3,
            0.5,
            0.75,
            0.999_999,
            1.0 - 1e-12,
        ] {
            let error = (ln(x) - f64::ln(x)).abs();
            assert!(
                error < 1e-14 * f64::ln(x).abs(),
                "ln({x}) is off by {error}"
            );
        }
    }

    #[test]
    fn a_hash_never_changes() {
        assert_eq!(
            hash(&["contoso", "production"]),
            hash(&["contoso", "production"])
        );
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
        // A change here would send every tenant that is placed anew somewhere else.
        assert_eq!(hash(&["contoso", "production"]), FIXED);
    }

    const FIXED: u64 = 12_210_974_074_837_241_460;

    #[test]
    fn each_stamp_wins_in_proportion_to_its_weight() {
        let stamps = [
            (hash(&["s-1"]), 1.0),
            (hash(&["s-2"]), 2.0),
            (hash(&["s-3"]), 5.0),
        ];
        let mut wins = [0_u32; 3];
        for request in 0..80_000 {
            let request = hash(&[&request.to_string()]);
            let scores = stamps.map(|(stamp, weight)| score(request, stamp, weight));
            let best = (0..3)
                .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
                .unwrap();
            wins[best] += 1;
        }
        for (wins, expected) in wins.into_iter().zip([10_000, 20_000, 50_000]) {
            // Five standard deviations of the smallest share.
            assert!(wins.abs_diff(expected) < 500, "{wins} of {expected}");
        }
    }
}
