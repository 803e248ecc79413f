//! Timestamps of bodies as microseconds since 1970 UTC.
//!
//! Devices send times of the same few days, so the day number of the last date is kept: a cache of
//! a pure function, which can change speed and nothing else.

/// 0000-01-01T00:00:00Z: the first moment RFC 3339 can write.
const MIN_US: i64 = -62_167_219_200_000_000;
/// 9999-12-31T23:59:59.999999Z: the last one.
const MAX_US: i64 = 253_402_300_799_999_999;

const DAY_US: i64 = 86_400_000_000;

/// Whether a moment has a four-digit year.
pub(crate) fn in_range(us: i64) -> bool {
    (MIN_US..=MAX_US).contains(&us)
}

/// The last date that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DayCache {
    date: [u8; 10],
    start_us: i64,
}

impl Default for DayCache {
    fn default() -> Self {
        // A true entry from the start: an empty one would answer for a date of ten zero bytes.
        Self {
            date: *b"1970-01-01",
            start_us: 0,
        }
    }
}

/// Microseconds of an RFC 3339 text. Digits below a microsecond are dropped; a leap second counts
/// as the first second after it. `T`, `t` or a space parts date and time; `Z`, `z` or an offset is
/// required. `None` for everything else.
#[inline]
pub(crate) fn parse_rfc3339(text: &str, cache: &mut DayCache) -> Option<i64> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let (clock, rest) = rest.split_first_chunk::<9>()?;
    if *date != cache.date {
        cache.start_us = day(date)? * DAY_US;
        cache.date = *date;
    }
    let (fraction_us, zone) = fraction(rest)?;
    let us = cache.start_us + clock_us(clock)? + fraction_us - offset_us(zone)?;
    in_range(us).then_some(us)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// Days from 1970-01-01 to `YYYY-MM-DD` in the proleptic Gregorian calendar.
fn day(date: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // The year starts in March here, so that the leap day is its last day.
    let (march_year, march_month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leap_days =
        march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    let days_before_month = (153 * march_month + 2) / 5;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    Some(march_year * 365 + leap_days + days_before_month + day - 1 - EPOCH)
}

#[inline]
fn clock_us(clock: &[u8; 9]) -> Option<i64> {
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *clock else {
        return None;
    };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let real = hour < 24 && minute < 60 && second <= 60;
    real.then_some(((hour * 60 + minute) * 60 + second) * 1_000_000)
}

#[inline]
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = rest.split_first() else {
        return Some((0, rest));
    };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let digit = |place| {
        digits[..count]
            .get(place)
            .map_or(0, |d| i64::from(d - b'0'))
    };
    let us = (0..6).fold(0, |us, place| us * 10 + digit(place));
    Some((us, &digits[count..]))
}

#[inline]
fn offset_us(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            let us = (hours * 60 + minutes) * 60_000_000;
            let real = hours < 24 && minutes < 60;
            real.then_some(if sign == b'-' { -us } else { us })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<i64> {
        parse_rfc3339(text, &mut DayCache::default())
    }

    #[test]
    fn only_real_moments_with_a_zone_are_read() {
        assert_eq!(read("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("1969-12-31 23:59:59.999999999z"), Some(-1));
        assert_eq!(
            read("2026-03-01T12:00:00.5+02:30"),
            Some(1_772_357_400_500_000)
        );
        assert_eq!(read("2016-12-31T23:59:60Z"), read("2017-01-01T00:00:00Z"));
        for bad in [
            "",
            "2026",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z",
            "2026-03-01T12:00:61Z",
            "2026-03-01T12:00:00.Z",
            "2026-03-01T12:00:00+0100",
            "2026-03-01T12:00:00+24:00",
            "2026-03-01T12:00:00Z ",
            "2026/03/01T12:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-03-01T1２:00Z",
            "\0\0\0\0\0\0\0\0\0\0T00:00:00Z",
        ] {
            assert_eq!(read(bad), None, "{bad:?} was read");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn every_moment_agrees_with_an_independent_calendar(us in MIN_US + DAY_US..=MAX_US - DAY_US, offset in -1439_i64..1440) {
            let mut cache = DayCache::default();
            let moment = jiff::Timestamp::from_microsecond(us).unwrap();
            let utc = moment.to_string();
            prop_assert_eq!(parse_rfc3339(&utc, &mut cache), Some(us), "{}", utc);
            // Twice: the second time from the cached day.
            prop_assert_eq!(parse_rfc3339(&utc, &mut cache), Some(us));

            let local = jiff::Timestamp::from_microsecond(us + offset * 60_000_000).unwrap().to_string();
            let sign = if offset < 0 { '-' } else { '+' };
            let zoned = format!("{}{sign}{:02}:{:02}", local.trim_end_matches('Z'), offset.abs() / 60, offset.abs() % 60);
            prop_assert_eq!(parse_rfc3339(&zoned, &mut cache), Some(us), "{}", zoned);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:.+\\- é]{0,40}") {
            read(&text);
        }
    }
}
