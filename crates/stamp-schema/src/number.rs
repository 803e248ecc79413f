//! JSON numbers: grammar, and conversion to the two number types a column can have.
//!
//! Both decoders use this one function, so a number means the same on either path. The fast
//! conversion is used only where it is exact: an integer up to 2^53 divided by a power of ten up
//! to 10^22, both of which a 64-bit float holds exactly, is rounded once, as IEEE 754 demands of a
//! correct conversion. Everything else goes through the standard library's parser.

/// A number token, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// First byte after the token.
    pub(crate) end: usize,
    negative: bool,
    /// All digits before the exponent as one integer; only of use up to 19 digits.
    mantissa: u64,
    digits: usize,
    fraction_digits: usize,
    exponent: bool,
}

/// Digits that always fit a `u64`.
const DIGITS_EXACT_MAX: usize = 19;

/// Powers of ten that a 64-bit float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads the longest number at `start`; `Err` is the byte at which the grammar is broken.
#[inline]
pub(crate) fn scan(bytes: &[u8], start: usize) -> Result<Number, usize> {
    let negative = bytes.get(start) == Some(&b'-');
    let whole = start + usize::from(negative);
    let (mut mantissa, mut at) = digits(bytes, whole, 0);
    let leading_zero = bytes.get(whole) == Some(&b'0') && at > whole + 1;
    if at == whole || leading_zero {
        return Err(whole + usize::from(leading_zero));
    }
    let mut digit_count = at - whole;
    let mut fraction_digits = 0;
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        (mantissa, at) = digits(bytes, fraction, mantissa);
        fraction_digits = at - fraction;
        if fraction_digits == 0 {
            return Err(at);
        }
        digit_count += fraction_digits;
    }
    let exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
    if exponent {
        at = exponent_end(bytes, at + 1)?;
    }
    Ok(Number {
        end: at,
        negative,
        mantissa,
        digits: digit_count,
        fraction_digits,
        exponent,
    })
}

#[inline]
fn digits(bytes: &[u8], start: usize, mut value: u64) -> (u64, usize) {
    let mut at = start;
    while let Some(digit) = bytes
        .get(at)
        .map(|b| b.wrapping_sub(b'0'))
        .filter(|d| *d < 10)
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

fn exponent_end(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let signed = matches!(bytes.get(start), Some(b'+' | b'-'));
    let first = start + usize::from(signed);
    let (_, end) = digits(bytes, first, 0);
    if end == first { Err(end) } else { Ok(end) }
}

/// What a number is as a 64-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integer {
    /// It is this one.
    Value(i64),
    /// An integer that `i64` cannot hold.
    Overflow,
    /// It has a fraction, or an exponent, which is never read as an integer.
    NotIntegral,
}

impl Number {
    /// The nearest 64-bit float; `None` when that is infinite.
    #[inline]
    pub(crate) fn to_f64(self, token: &str) -> Option<f64> {
        let exact = !self.exponent
            && self.digits <= DIGITS_EXACT_MAX
            && self.mantissa <= 1 << 53
            && self.fraction_digits < POWERS.len();
        if exact {
            let magnitude = self.mantissa as f64 / POWERS[self.fraction_digits];
            return Some(if self.negative { -magnitude } else { magnitude });
        }
        token.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The integer that this number is. `5.0` is 5; `5e0` is not read as an integer.
    #[inline]
    pub(crate) fn to_i64(self, token: &str) -> Integer {
        if self.exponent {
            return Integer::NotIntegral;
        }
        if self.fraction_digits == 0 && self.digits < DIGITS_EXACT_MAX {
            // 18 digits are below 2^63, so the cast is exact.
            let magnitude = self.mantissa as i64;
            return Integer::Value(if self.negative { -magnitude } else { magnitude });
        }
        let (whole, fraction) = token.split_once('.').unwrap_or((token, ""));
        if fraction.bytes().any(|digit| digit != b'0') {
            return Integer::NotIntegral;
        }
        whole.parse().map_or(Integer::Overflow, Integer::Value)
    }

    /// This number of units of `10^scale` microseconds, digits below a microsecond dropped
    /// towards the past. `None` with an exponent or out of an `i64`.
    pub(crate) fn to_us(self, token: &str, scale: u32) -> Option<i64> {
        if self.exponent {
            return None;
        }
        let (whole, fraction) = token.split_once('.').unwrap_or((token, ""));
        let whole: i64 = whole.trim_start_matches('-').parse().ok()?;
        let kept = fraction.len().min(scale as usize);
        let missing = scale - u32::try_from(kept).ok()?;
        let below: i64 = if kept == 0 {
            0
        } else {
            fraction[..kept].parse().ok()?
        };
        let rest = fraction[kept..].bytes().any(|digit| digit != b'0');
        let magnitude = whole
            .checked_mul(10_i64.pow(scale))?
            .checked_add(below * 10_i64.pow(missing))?;
        if self.negative {
            (-magnitude).checked_sub(i64::from(rest))
        } else {
            Some(magnitude)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(token: &str) -> Number {
        let number = scan(token.as_bytes(), 0).unwrap();
        assert_eq!(number.end, token.len(), "{token}");
        number
    }

    #[test]
    fn the_grammar_is_that_of_json() {
        for bad in [
            "", "-", "+1", "01", "-01", ".5", "1.", "1.e3", "1e", "1e+", "00", "-a", "NaN",
        ] {
            assert!(scan(bad.as_bytes(), 0).is_err(), "{bad:?} was read");
        }
        for (text, end) in [
            ("0", 1),
            ("-0,", 2),
            ("10.50}", 5),
            ("1e5 ", 3),
            ("1E-5]", 4),
            ("1-2", 1),
        ] {
            assert_eq!(scan(text.as_bytes(), 0).unwrap().end, end, "{text:?}");
        }
    }

    #[test]
    fn an_integer_field_takes_integers_only() {
        let read = |token: &str| whole(token).to_i64(token);
        assert_eq!(read("-0"), Integer::Value(0));
        assert_eq!(read("5.000"), Integer::Value(5));
        assert_eq!(read("9223372036854775807"), Integer::Value(i64::MAX));
        assert_eq!(read("-9223372036854775808"), Integer::Value(i64::MIN));
        assert_eq!(read("-9223372036854775808.0"), Integer::Value(i64::MIN));
        assert_eq!(read("9223372036854775808"), Integer::Overflow);
        assert_eq!(read("18446744073709551617"), Integer::Overflow);
        assert_eq!(read("1.5"), Integer::NotIntegral);
        assert_eq!(read("1e3"), Integer::NotIntegral);
    }

    #[test]
    fn an_infinite_number_is_no_value() {
        for token in ["1e999", "-1e999", "1e309"] {
            assert_eq!(whole(token).to_f64(token), None, "{token}");
        }
        assert_eq!(whole("1e-999").to_f64("1e-999"), Some(0.0));
        assert!(whole("-0").to_f64("-0").unwrap().is_sign_negative());
    }

    #[test]
    fn unix_times_keep_every_microsecond() {
        let read = |token: &str, scale| whole(token).to_us(token, scale);
        assert_eq!(read("1772366400.123456789", 6), Some(1_772_366_400_123_456));
        assert_eq!(read("1772366400.5", 6), Some(1_772_366_400_500_000));
        assert_eq!(read("1772366400123", 3), Some(1_772_366_400_123_000));
        assert_eq!(read("-0.0000001", 6), Some(-1));
        assert_eq!(read("-1.5", 0), Some(-2));
        assert_eq!(read("1.7e9", 6), None);
        assert_eq!(read("9999999999999999999", 6), None);
        assert_eq!(read("9223372036854775807", 6), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn every_float_is_the_one_the_standard_library_reads(
            token in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?"
        ) {
            let number = scan(token.as_bytes(), 0).unwrap();
            prop_assert_eq!(number.end, token.len());
            let expected: f64 = token.parse().unwrap();
            let expected = expected.is_finite().then_some(expected.to_bits());
            prop_assert_eq!(number.to_f64(&token).map(f64::to_bits), expected);
        }

        #[test]
        fn every_i64_survives(value: i64) {
            let token = value.to_string();
            prop_assert_eq!(whole(&token).to_i64(&token), Integer::Value(value));
        }
    }
}
