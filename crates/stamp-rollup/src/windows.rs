//! Tumbling windows in event time, and which rows come late for theirs.

use std::time::Duration;

use stamp_model::Readings;

/// Longest lateness: a year. Rows later than this land all the same, marked late.
pub const LATENESS_MAX: Duration = Duration::from_secs(366 * 86_400);

const DAY_S: i32 = 86_400;

/// How event time is cut up. Windows start at midnight UTC, so that a day is a whole number of
/// windows and no window belongs to two `date` folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Length of a window in seconds: 1 to 86,400, and a divisor of 86,400.
    pub window_s: i32,
    /// How long after the end of its window a row still counts as on time, up to
    /// [`LATENESS_MAX`].
    pub lateness: Duration,
}

/// Windows that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// The length does not divide a day.
    #[error("a window of {0} s does not divide a day; 60, 300, 900 and 3600 do")]
    Length(i32),
    /// The lateness is above [`LATENESS_MAX`].
    #[error("a lateness of {} s is above a year", .0.as_secs())]
    Lateness(Duration),
}

impl Windows {
    /// Checks both values.
    ///
    /// # Errors
    /// [`WindowsError::Length`] unless 1 to 86,400 s and a divisor of 86,400;
    /// [`WindowsError::Lateness`] above [`LATENESS_MAX`].
    pub fn validate(self) -> Result<Self, WindowsError> {
        if self.window_s < 1 || DAY_S % self.window_s != 0 {
            return Err(WindowsError::Length(self.window_s));
        }
        if self.lateness > LATENESS_MAX {
            return Err(WindowsError::Lateness(self.lateness));
        }
        Ok(self)
    }

    /// Start of the window that holds `time_us`, both in microseconds since 1970 UTC. Rounds
    /// towards the past before 1970 as well.
    #[inline]
    #[must_use]
    pub fn window_start(&self, time_us: i64) -> i64 {
        time_us.saturating_sub(time_us.rem_euclid(self.window_us()))
    }

    /// Length of a window in microseconds.
    #[inline]
    #[must_use]
    pub fn window_us(&self) -> i64 {
        i64::from(self.window_s) * 1_000_000
    }

    /// How long after its start a window takes rows as on time, in microseconds: its length and
    /// the lateness.
    #[must_use]
    pub fn on_time_us(&self) -> i64 {
        let lateness_us = i64::try_from(self.lateness.as_micros()).unwrap_or(i64::MAX);
        lateness_us.saturating_add(self.window_us())
    }
}

/// Sets `late` of every row from `from_row` on; gives the number of late ones.
///
/// A row is late when the hub enqueued it after the end of its window plus the lateness. The hub's
/// clock is the only clock: no row moves a watermark, so no device can make the rows of another
/// one late, and the same event is late or not at every replay.
pub fn mark_late(readings: &mut Readings, from_row: usize, windows: &Windows) -> usize {
    let mut late_rows = 0;
    let on_time_us = windows.on_time_us();
    let mut window = Current::new(windows);
    for row in from_row..readings.len() {
        let window_start_us = window.start_of(readings.window_time_us(row));
        let late = readings.enqueued_at_us[row] > window_start_us.saturating_add(on_time_us);
        readings.late[row] = late;
        late_rows += usize::from(late);
    }
    late_rows
}

/// Finds window starts, keeping the last: rows that follow each other mostly share a window, and
/// a comparison is cheaper than a division.
pub(crate) struct Current<'a> {
    windows: &'a Windows,
    start_us: i64,
    end_us: i64,
}

impl<'a> Current<'a> {
    pub(crate) fn new(windows: &'a Windows) -> Self {
        Self {
            windows,
            start_us: 0,
            end_us: 0,
        }
    }

    #[inline]
    pub(crate) fn start_of(&mut self, time_us: i64) -> i64 {
        if time_us < self.start_us || time_us >= self.end_us {
            self.start_us = self.windows.window_start(time_us);
            self.end_us = self.start_us.saturating_add(self.windows.window_us());
        }
        self.start_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(window_s: i32, lateness_s: u64) -> Windows {
        Windows {
            window_s,
            lateness: Duration::from_secs(lateness_s),
        }
    }

    #[test]
    fn only_windows_that_divide_a_day_are_taken() {
        for good in [1, 60, 300, 900, 3_600, 86_400] {
            assert!(windows(good, 0).validate().is_ok(), "{good}");
        }
        for bad in [i32::MIN, -60, 0, 7, 86_401, 172_800] {
            assert_eq!(windows(bad, 0).validate(), Err(WindowsError::Length(bad)));
        }
        assert!(windows(60, 366 * 86_400).validate().is_ok());
        assert!(windows(60, 366 * 86_400 + 1).validate().is_err());
    }

    proptest! {
        #[test]
        fn a_window_holds_its_times_before_and_after_1970(
            time_us in -62_167_219_200_000_000_i64..253_402_300_800_000_000,
            window_s in prop::sample::select(vec![1, 7 * 60 / 7, 300, 3_600, 86_400]),
        ) {
            let windows = windows(window_s, 0);
            let start = windows.window_start(time_us);
            prop_assert!(start <= time_us && time_us < start + windows.window_us());
            prop_assert_eq!(start.rem_euclid(windows.window_us()), 0);
            prop_assert_eq!(Current::new(&windows).start_of(time_us), start);
        }

        #[test]
        fn extreme_times_do_not_overflow(time_us: i64) {
            let windows = windows(86_400, 366 * 86_400);
            let start = windows.window_start(time_us);
            prop_assert!(start <= time_us);
            prop_assert_eq!(windows.on_time_us(), 367 * 86_400_000_000);
        }
    }
}
