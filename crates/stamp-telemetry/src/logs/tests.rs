//! What a line looks like, read back from memory.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::{Format, subscriber};
use crate::TelemetryError;

/// A writer that keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A clock that stands.
fn still() -> Instant {
    static AT: OnceLock<Instant> = OnceLock::new();
    *AT.get_or_init(Instant::now)
}

fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = subscriber(format, filter, move || writer.clone(), still).unwrap();
    tracing::subscriber::with_default(subscriber, log);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_has_the_stable_keys_and_the_events_fields() {
    let text = logged(Format::Json, "info", || {
        let span = tracing::info_span!("partition", partition = 3);
        let _inside = span.enter();
        tracing::warn!(tenant = "acme", rows = 7_u64, "flush\nfailed");
    });

    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "stamp_telemetry::logs::tests");
    assert_eq!(line["message"], "flush\nfailed");
    assert_eq!(line["tenant"], "acme");
    assert_eq!(line["rows"], 7);
    assert_eq!(line["span"]["partition"], 3);
    let timestamp = line["timestamp"].as_str().unwrap();
    assert!(
        timestamp.contains('T') && timestamp.ends_with('Z'),
        "{timestamp}"
    );
}

#[test]
fn a_text_line_names_level_target_and_message() {
    let text = logged(Format::Text, "info", || tracing::info!(rows = 7, "flushed"));

    assert!(
        text.contains("INFO stamp_telemetry::logs::tests: flushed rows=7"),
        "{text}"
    );
}

#[test]
fn the_filter_decides_by_module() {
    let text = logged(Format::Text, "warn,stamp_telemetry=debug", || {
        tracing::debug!("ours");
        tracing::info!(target: "elsewhere", "theirs");
    });

    assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
}

#[test]
fn a_filter_that_is_none_is_named() {
    let error = subscriber(Format::Json, "loud=very", std::io::sink, still)
        .err()
        .unwrap();

    assert!(matches!(error, TelemetryError::Filter { .. }));
    assert!(error.to_string().contains("loud=very"), "{error}");
}

#[test]
fn a_place_that_says_too_much_is_cut_off_and_silences_no_other() {
    for format in [Format::Json, Format::Text] {
        let text = logged(format, "info", || {
            for number in 0..1_000 {
                tracing::warn!(number, "again");
            }
            tracing::warn!("something else");
        });

        let again = text.lines().filter(|line| line.contains("again")).count();
        assert_eq!(again, 100, "{text}");
        assert!(text.contains("something else"), "{text}");
    }
}

/// Moves by a minute each time it is asked.
fn hurried() -> Instant {
    static ASKED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    // The first hundred and fifty lines come at once.
    let asked = ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    still() + std::time::Duration::from_secs(asked.saturating_sub(150) * 60)
}

#[test]
fn what_was_left_out_is_said_before_the_next_line_of_that_place() {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = subscriber(Format::Json, "info", move || writer.clone(), hurried).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..152 {
            tracing::error!(number, "again");
        }
    });

    let bytes = kept.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = lines
        .iter()
        .position(|line| line["left_out"].is_u64())
        .unwrap();
    assert_eq!(lines[told]["left_out"], 51, "{text}");
    assert_eq!(lines[told]["level"], "ERROR");
    assert!(
        lines[told]["of"]
            .as_str()
            .unwrap()
            .contains("logs/tests.rs:")
    );
    assert_eq!(lines[told + 1]["number"], 151);
}
