//! Numbers as a person reads them.

use std::time::Duration;

use jiff::Timestamp;

/// Below it a number has a digit after the point.
const FINE: f64 = 10.0;

/// `1,234,567`; a small part of one has a digit after the point.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.abs() < FINE && value.fract().abs() >= 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value <= -0.5 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    let (mut amount, mut unit) = (value, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if amount < 1_024.0 {
            break;
        }
        (amount, unit) = (amount / 1_024.0, larger);
    }
    if unit == "B" || amount >= 100.0 {
        return format!("{} {unit}", number(amount.round()));
    }
    format!("{amount:.1} {unit}")
}

/// `850 ms`, `42 s`, `3 min 20 s`, `6 d 23 h`: the two largest units.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "–".to_owned();
    }
    let span = Duration::from_secs_f64(seconds.clamp(0.0, 1e12));
    let whole = span.as_secs();
    match whole {
        0 if span.is_zero() => "0 s".to_owned(),
        0 => format!("{} ms", span.as_millis().max(1)),
        1..60 => format!("{whole} s"),
        60..3_600 => two(whole, 60, ("min", "s")),
        3_600..86_400 => two(whole / 60, 60, ("h", "min")),
        _ => two(whole / 3_600, 24, ("d", "h")),
    }
}

fn two(amount: u64, base: u64, (large, small): (&str, &str)) -> String {
    match amount % base {
        0 => format!("{} {large}", amount / base),
        rest => format!("{} {large} {rest} {small}", amount / base),
    }
}

/// `09:41:07`, UTC.
pub(crate) fn clock(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us)
        .map_or_else(|_| "–".to_owned(), |at| at.strftime("%H:%M:%S").to_string())
}

/// `2026-11-29T09:41:07Z`.
pub(crate) fn moment(at_us: i64) -> String {
    Timestamp::from_second(at_us.div_euclid(1_000_000))
        .map_or_else(|_| "–".to_owned(), |at| at.to_string())
}

/// The time of day and how long ago that is, or only how long ago when it is not of today.
pub(crate) fn ago(at_us: i64, now_us: i64) -> String {
    const DAY_US: i64 = 86_400_000_000;
    let age_us = now_us.saturating_sub(at_us).max(0);
    // Whole seconds: a fresh one is "0 s ago", not a flickering number of milliseconds.
    let age = span((age_us / 1_000_000) as f64);
    if age_us < DAY_US {
        format!("{} ({age} ago)", clock(at_us))
    } else {
        format!("{age} ago")
    }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(value: f64, one: &str, many: &str) -> String {
    let word = if value == 1.0 { one } else { many };
    format!("{} {word}", number(value))
}

/// `half_open` and `messages-per-day` as words.
pub(crate) fn words(code: &str) -> String {
    code.replace(['_', '-'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (value, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (1.25, "1.2"),
            (9.0, "9"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (f64::INFINITY, "–"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text);
        }
        for (value, text) in [
            (0.0, "0 B"),
            (1_023.0, "1,023 B"),
            (1_536.0, "1.5 KiB"),
            (268_435_456.0, "256 MiB"),
            (1e18, "888 PiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.0001, "1 ms"),
            (0.85, "850 ms"),
            (42.9, "42 s"),
            (200.0, "3 min 20 s"),
            (3_600.0, "1 h"),
            (604_799.0, "6 d 23 h"),
            (f64::INFINITY, "–"),
            (-5.0, "0 s"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_time_of_today_has_its_time_of_day() {
        let at = 1_795_943_467_000_000;
        assert_eq!(clock(at), "09:11:07");
        assert_eq!(moment(at), "2026-11-29T09:11:07Z");
        assert_eq!(ago(at, at + 12_900_000), "09:11:07 (12 s ago)");
        assert_eq!(ago(at, at - 5_000_000), "09:11:07 (0 s ago)");
        assert_eq!(ago(at, at + 90_000_000_000), "1 d 1 h ago");
        assert_eq!(clock(i64::MAX), "–");
    }
}
