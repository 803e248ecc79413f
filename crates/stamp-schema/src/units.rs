//! Durations and byte sizes as a schema writes them: a whole number and a unit.

/// Microseconds of `5m`, `7d`, `90s`, `250ms`; `None` for anything else or above about 292,000 years.
pub(crate) fn parse_duration_us(text: &str) -> Option<i64> {
    let (number, unit) = split(text)?;
    let unit_us: i64 = match unit {
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    i64::try_from(number).ok()?.checked_mul(unit_us)
}

/// Bytes of `4096B`, `256KiB`, `1MiB`; `None` for anything else.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit_bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_known_unit_is_refused() {
        assert_eq!(parse_duration_us("5m"), Some(300_000_000));
        assert_eq!(parse_duration_us("250ms"), Some(250_000));
        assert_eq!(parse_bytes("256KiB"), Some(262_144));
        for bad in ["", "5", "m", "-5m", "5 m", "5M", "1.5h", "99999999999999d"] {
            assert_eq!(parse_duration_us(bad), None, "{bad:?}");
        }
        for bad in ["", "5", "KB", "5kb", "99999999999999GiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad:?}");
        }
    }
}
