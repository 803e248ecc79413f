//! The trace that a message belongs to, as W3C Trace Context writes it.

/// Which span sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// Whether the sender keeps its trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`: `00-{32 hex}-{16 hex}-{2 hex}`, lower case, as W3C Trace Context
    /// (level 1, 3.2) defines it; of a later version what this one knows. `None` for anything else:
    /// devices write what they like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let version = hex(bytes.get(..2)?)?;
        let dashes = [2, 35, 52].iter().all(|&at| bytes.get(at) == Some(&b'-'));
        let ends = match bytes.get(55) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        if version == 0xff || !dashes || !ends {
            return None;
        }
        let trace_id = hex(&bytes[3..35])?;
        let span_id = u64::try_from(hex(&bytes[36..52])?).ok()?;
        let flags = hex(bytes.get(53..55)?)?;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }
}

/// At most 32 digits, lower case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        assert_eq!(
            TraceContext::parse(GOOD),
            Some(TraceContext {
                trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
                span_id: 0x00f0_67aa_0ba9_02b7,
                sampled: true,
            })
        );
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!TraceContext::parse(&unsampled).unwrap().sampled);
    }

    #[test]
    fn a_later_version_may_have_more_after_what_is_known_and_this_one_may_not() {
        let later = GOOD.replacen("00", "01", 1);
        assert!(TraceContext::parse(&later).is_some());
        assert!(TraceContext::parse(&format!("{later}-more")).is_some());
        assert!(TraceContext::parse(&format!("{later}x")).is_none());
        assert!(TraceContext::parse(&format!("{GOOD}-more")).is_none());
    }

    #[test]
    fn anything_else_is_no_context_and_no_panic() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        for text in [
            "",
            "0",
            "00",
            "00-",
            &GOOD[..54],
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen('-', "_", 1),
            &zero_trace,
            &zero_span,
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{fc}-00f067aa0ba902b7-01",
            &"\u{1F980}".repeat(14),
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text:?}");
        }
    }
}
