//! CPU time and memory of this process, as the kernel counts them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Which CPU time is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// Of all threads of the process.
    Process,
    /// Of the calling thread.
    Thread,
}

/// A running measurement.
pub(crate) struct Stopwatch {
    scope: Scope,
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start(scope: Scope) -> Self {
        Self {
            scope,
            wall: Instant::now(),
            cpu: cpu(scope),
        }
    }

    /// Wall and CPU seconds since the start.
    pub(crate) fn seconds(&self) -> (f64, f64) {
        (
            self.wall.elapsed().as_secs_f64(),
            (cpu(self.scope) - self.cpu).as_secs_f64(),
        )
    }
}

fn cpu(scope: Scope) -> Duration {
    let clock = match scope {
        Scope::Process => ClockId::ProcessCPUTime,
        Scope::Thread => ClockId::ThreadCPUTime,
    };
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// Largest resident set of this process so far, in bytes; 0 where the system does not tell.
pub(crate) fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU seconds of another process so far; 0 where the system does not tell.
pub(crate) fn cpu_s_of(process: u32) -> f64 {
    /// Of a second: the kernel's unit towards programs, whatever its own is.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The program's name is in brackets and may hold anything; `utime` and `stime` are the 12th and 13th after it.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}
