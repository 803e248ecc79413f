//! A limit on how often one place in the program may write a line.
//!
//! A fault that hits every partition and tenant at once says the same thing a thousand times a second, and
//! fills the disk that somebody needs to find it. Each place in the source has a bucket of its own, so
//! that one loud place silences no other. What was left out is told by the next line of that place.
//! Metrics count everything; nothing is known by a log line alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::Format;

/// Lines that one place may write at once.
const BURST: f64 = 100.0;
/// Lines a second that it may go on with: a flush a second of a few tenants on a few partitions.
const PER_SECOND: f64 = 10.0;

/// One place's bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    left_out: u64,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
            left_out: 0,
        }
    }

    /// How many lines were left out before this one, or `None` when this one is too.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * PER_SECOND).min(BURST);
        self.at = self.at.max(now);
        if self.tokens < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Formats as `inner` does, within the limit.
pub(super) struct Limited<F> {
    inner: F,
    format: Format,
    clock: fn() -> Instant,
    /// As many as there are places in the program that log.
    buckets: Mutex<HashMap<Identifier, Bucket>>,
}

impl<F> Limited<F> {
    pub(super) fn new(inner: F, format: Format, clock: fn() -> Instant) -> Self {
        Self {
            inner,
            format,
            clock,
            buckets: Mutex::default(),
        }
    }

    fn take(&self, place: Identifier) -> Option<u64> {
        let now = (self.clock)();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(place).or_insert_with(|| Bucket::full(now));
        bucket.take(now)
    }

    /// A line of the same form that says what is missing before the next one.
    fn tell(&self, writer: &mut Writer<'_>, left_out: u64, of: &Metadata<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let (level, target) = (of.level(), module_path!());
        let (file, line) = (of.file().unwrap_or_default(), of.line().unwrap_or_default());
        match self.format {
            Format::Json => {
                let line = serde_json::json!({
                    "timestamp": time,
                    "level": level.as_str(),
                    "target": target,
                    "message": "lines were left out",
                    "left_out": left_out,
                    "of": format!("{file}:{line}"),
                });
                writeln!(writer, "{line}")
            }
            Format::Text => writeln!(
                writer,
                "{time} {level:>5} {target}: lines were left out left_out={left_out} of={file}:{line}"
            ),
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.take(event.metadata().callsite()) {
            None => Ok(()),
            Some(0) => self.inner.format_event(context, writer, event),
            Some(left_out) => {
                self.tell(&mut writer, left_out, event.metadata())?;
                self.inner.format_event(context, writer, event)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_ten_a_second_and_what_was_left_out_is_told_once() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let passed = (0..250).filter(|_| bucket.take(start).is_some()).count();
        assert_eq!(passed, 100);

        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(later), Some(150));
        let passed = (0..50).filter(|_| bucket.take(later) == Some(0)).count();
        assert_eq!(passed, 9);

        assert_eq!(bucket.take(start + Duration::from_secs(600)), Some(41));
    }

    #[test]
    fn a_clock_that_does_not_move_or_steps_back_gives_no_tokens() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(start);
        while bucket.take(start).is_some() {}

        assert_eq!(
            bucket.take(start.checked_sub(Duration::from_secs(5)).unwrap()),
            None
        );
        assert_eq!(bucket.take(start), None);
    }
}
