//! Times as the Azure services write them.

use jiff::Timestamp;

/// .NET's ticks begin in year 1: this many of them lie before 1970 (`DateTime.Ticks`, 100 ns each).
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;

/// What the services answer for "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with seven digits, from microseconds since 1970.
pub(crate) fn utc(at_us: i64) -> String {
    match Timestamp::from_microsecond(at_us) {
        Ok(at) => format!("{at:.6}").replace('Z', "0Z"),
        Err(_) => NEVER.to_owned(),
    }
}

/// The day in UTC: quotas count by it.
pub(crate) fn day(at_us: i64) -> i64 {
    at_us.div_euclid(24 * 60 * 60 * 1_000_000)
}

/// .NET ticks, which IoT Hub takes as generation ids.
pub(crate) fn ticks(at_us: i64) -> i64 {
    at_us.saturating_mul(10).saturating_add(TICKS_BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_seven_digits_as_the_services_write_them() {
        assert_eq!(utc(1_700_000_000_123_456), "2023-11-14T22:13:20.1234560Z");
        assert_eq!(utc(0), "1970-01-01T00:00:00.0000000Z");
        assert_eq!(utc(i64::MAX), NEVER);
        assert_eq!(ticks(0), TICKS_BEFORE_1970);
        assert_eq!(day(-1), -1);
    }
}
