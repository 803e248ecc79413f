//! What a line looks like, read back from memory.

use std::io::Write;
use std::sync::{Arc, Mutex};

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

fn logged(format: Format, filter: &str, log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
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
    let error = subscriber(Format::Json, "loud=very", std::io::sink)
        .err()
        .unwrap();

    assert!(matches!(error, TelemetryError::Filter { .. }));
    assert!(error.to_string().contains("loud=very"), "{error}");
}
