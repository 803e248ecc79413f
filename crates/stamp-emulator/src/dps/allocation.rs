//! Which hub a device gets, where no webhook says it. No I/O, no chance.

use sha2::{Digest as _, Sha256};

/// A hub that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) host: String,
    pub(crate) weight: u32,
    pub(crate) latency_ms: u32,
}

/// Spreads ids over hubs in proportion to their weights; an id stays with its hub as long as that
/// is there, and a new hub takes only what it wins.
pub(crate) fn hashed<'a>(candidates: &'a [Candidate], id: &str) -> Option<&'a Candidate> {
    let score = |candidate: &Candidate| {
        let digest = Sha256::digest(format!("{}\n{id}", candidate.host));
        let [a, b, c, d, ..] = digest.as_slice() else {
            return 0.0;
        };
        // In (0, 1): neither end, so that the logarithm is there and is not zero.
        let unit = (f64::from(u32::from_be_bytes([*a, *b, *c, *d])) + 0.5) / 4_294_967_296.0;
        -f64::from(candidate.weight) / unit.ln()
    };
    candidates
        .iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// The smallest latency; of equals the first.
pub(crate) fn nearest(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates
        .iter()
        .min_by_key(|candidate| candidate.latency_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let hub = |(n, weight): (usize, &u32)| Candidate {
            host: format!("hub-{n}"),
            weight: *weight,
            latency_ms: 100 - 10 * u32::try_from(n).unwrap(),
        };
        weights.iter().enumerate().map(hub).collect()
    }

    #[test]
    fn ids_spread_by_weight_and_stay() {
        let hubs = candidates(&[1, 3]);
        let of = |n: usize| hashed(&hubs, &format!("device-{n}")).unwrap().host.clone();
        let heavy = (0..4_000).filter(|&n| of(n) == "hub-1").count();
        assert!((2_850..3_150).contains(&heavy), "{heavy}");
        assert_eq!(of(7), of(7));
    }

    #[test]
    fn the_nearest_hub_is_the_one_of_least_latency() {
        assert_eq!(nearest(&candidates(&[1, 1, 1])).unwrap().host, "hub-2");
        assert_eq!(nearest(&[]), None);
        assert_eq!(hashed(&[], "d"), None);
    }
}
