//! `schema`: a tenant's schema file.

use std::collections::BTreeSet;
use std::sync::Arc;

use stamp_model::{Event, PartitionId, Readings};
use stamp_schema::{Decoder, EventTime, RejectionCode, SCHEMA_BYTES_MAX, Schema, SchemaError};

/// Bodies that every accepted schema is tried on.
const BODIES: [&str; 4] = [
    "{}",
    r#"{"ts":"2026-03-01T12:00:00Z","data":{"temp":21.5},"a":1,"count":1,"mode":"auto"}"#,
    r#"[{"a":1,"b":{"c":"x"},"ts":1772366400000},{"a":1,"b":{"c":"x"},"ts":1772366400001}]"#,
    r#"{"a":[{"b":null}],"ts":"x"}"#,
];

/// One try: the text of a schema file.
///
/// # Panics
/// When a promise is broken.
pub fn schema(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Schema::parse(&text) {
        Err(error) => {
            let again = Schema::parse(&text).expect_err("it was refused before");
            assert_eq!(error, again);
            check_error(&text, &error);
        }
        Ok(schema) => {
            check_schema(&schema);
            // Comments and empty lines mean nothing.
            let commented = format!("# first\n\n{text}\n\n# last\n");
            if commented.len() <= SCHEMA_BYTES_MAX {
                let again = Schema::parse(&commented).expect("a comment spoils no schema");
                assert_eq!(schema.fingerprint(), again.fingerprint());
                assert_eq!(schema.shape(), again.shape());
                assert_eq!(schema.limits(), again.limits());
                assert_eq!(schema.event_time(), again.event_time());
            }
            check_decoding(Arc::new(schema));
        }
    }
}

/// An error names a place in the file, and says something.
fn check_error(text: &str, error: &SchemaError) {
    let (line, column, message) = match error {
        SchemaError::TooLarge { bytes, max } => {
            assert!(*bytes == text.len() && bytes > max);
            return;
        }
        SchemaError::Toml {
            line,
            column,
            message,
        } => (*line, *column, message),
        SchemaError::Invalid {
            line,
            column,
            message,
            key,
        } => {
            assert!(!key.is_empty());
            (*line, *column, message)
        }
        other => panic!("an error without a place: {other:?}"),
    };
    assert!(!message.is_empty());
    // The end of a file that ends in a new line is a line of its own.
    let lines: Vec<&str> = text.split('\n').collect();
    assert!(
        (1..=lines.len()).contains(&line),
        "line {line} of {}",
        lines.len()
    );
    let columns = lines[line - 1].chars().count() + 1;
    assert!(
        (1..=columns).contains(&column),
        "column {column} of {columns}"
    );
}

/// The rules of docs/schema.md that hold for every schema.
fn check_schema(schema: &Schema) {
    let fields = &schema.shape().fields;
    assert!((1..=512).contains(&fields.len()));
    let mut names = BTreeSet::new();
    for field in fields {
        assert!((1..=128).contains(&field.name.len()));
        assert!(
            names.insert(field.name.to_ascii_lowercase()),
            "a name twice"
        );
        assert!(field.unit.as_ref().is_none_or(|unit| !unit.is_empty()));
    }
    for reserved in ["device_id", "ts", "enqueued_at", "late", "clock_suspect"] {
        assert!(!names.contains(reserved), "{reserved} is taken");
    }
    let limits = schema.limits();
    assert!((1..=64).contains(&limits.depth_max));
    assert!((1..=1 << 20).contains(&limits.body_bytes_max));
    assert!((1..=64 << 20).contains(&limits.decompressed_bytes_max));
    assert!((1..=65_536).contains(&limits.batch_max));
    assert!(limits.batch_max * fields.len() <= 4 << 20);
    if let EventTime::Field {
        ahead_max_us,
        behind_max_us,
    } = schema.event_time()
    {
        assert!(ahead_max_us >= 0 && behind_max_us >= 0);
    }
}

/// Any schema that is accepted can be decoded with, learned or not.
fn check_decoding(schema: Arc<Schema>) {
    let partition = PartitionId::new(0).expect("0 is a partition");
    let mut general = Readings::new(schema.shape(), partition);
    let mut learned = general.clone();
    let mut decoders = (
        Decoder::general(Arc::clone(&schema)),
        Decoder::new(Arc::clone(&schema)),
    );
    for body in BODIES.into_iter().cycle().take(2 * BODIES.len()) {
        let mut event = Event {
            enqueued_at_us: 1_772_366_400_000_000,
            body: body.into(),
            ..Event::default()
        };
        event.hub.device_id = Some("d".into());
        let outcome = decoders.0.decode(&event, &mut general);
        assert_eq!(outcome, decoders.1.decode(&event, &mut learned));
        if let Err(rejection) = outcome {
            assert!(!rejection.detail.is_empty());
            assert_ne!(rejection.code, RejectionCode::DecoderPanic, "{rejection:?}");
        }
    }
    crate::same::assert_same(&general, &learned);
}
