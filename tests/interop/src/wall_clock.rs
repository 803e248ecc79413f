//! A wall clock that a test moves while a real process runs.
//!
//! A few lines of C are compiled once a test and loaded into the process before its own libraries.
//! Only the time of day is moved; time that counts durations goes on.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = include_str!("wall_clock.c");

/// The wall clock of the processes that get its [`environment`](Self::environment).
#[derive(Debug)]
pub struct WallClock {
    folder: tempfile::TempDir,
}

impl WallClock {
    /// A clock that shows the right time.
    ///
    /// # Panics
    /// When there is no C compiler (`cc`, which Rust links with too), or it fails.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("make a folder: {error}"));
        let clock = Self { folder };
        let source = clock.path("wall_clock.c");
        write(&source, SOURCE.as_bytes());
        clock.shift_s(0);
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.library())
            .arg(&source)
            .output()
            .unwrap_or_else(|error| panic!("run `cc` to build the wall clock: {error}"));
        assert!(
            compiled.status.success(),
            "cc: {}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        clock
    }

    /// From now on the clock is so many seconds ahead of the right time, or behind it.
    #[track_caller]
    pub fn shift_s(&self, seconds: i64) {
        // Renamed into place: no reader sees half of it.
        let next = self.path("next");
        write(&next, &seconds.to_ne_bytes());
        std::fs::rename(&next, self.path("shift"))
            .unwrap_or_else(|error| panic!("set the wall clock: {error}"));
    }

    /// What a process needs in its environment to have this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.library()),
            ("STAMP_WALL_CLOCK_FILE", self.path("shift")),
        ]
    }

    fn library(&self) -> PathBuf {
        self.path("wall_clock.so")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn write(path: &PathBuf, bytes: &[u8]) {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(bytes));
    written.unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::WallClock;
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// What a process of this clock says: seconds since 1970, and a monotonic clock's seconds.
    fn ask(clock: &WallClock) -> (f64, f64) {
        let program = "import time; print(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC))";
        let output = Command::new(crate::python())
            .args(["-c", program])
            .envs(clock.environment())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (wall, monotonic) = text.trim().split_once(' ').unwrap();
        (wall.parse().unwrap(), monotonic.parse().unwrap())
    }

    #[test]
    fn the_time_of_day_jumps_both_ways_and_durations_do_not() {
        let clock = WallClock::new();
        let now = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            since.as_secs_f64()
        };
        let mut last = 0.0;
        for shift in [0.0, 3_600.0, -3_600.0] {
            clock.shift_s(shift as i64);
            let (wall, monotonic) = ask(&clock);
            let off = wall - now();
            assert!((off - shift).abs() < 600.0, "{shift}: {off}");
            assert!(monotonic > last, "{monotonic} after {last}");
            last = monotonic;
        }
    }
}
