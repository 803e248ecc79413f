//! The schema language: what is accepted, and where a mistake is shown.

use stamp_model::FieldKind;
use stamp_schema::{EventTime, SCHEMA_BYTES_MAX, Schema, SchemaError};

const HEAD: &str = "version = 1\n[event-time]\nsource = \"enqueued\"\n";

fn refuse(toml: &str) -> SchemaError {
    match Schema::parse(toml) {
        Ok(_) => panic!("accepted: {toml}"),
        Err(error) => error,
    }
}

/// A schema with one field of these lines; the first of them is line 5.
fn field(lines: &str) -> String {
    format!("{HEAD}[[fields]]\n{lines}\n")
}

fn refuse_field(lines: &str) -> (usize, String, String) {
    match refuse(&field(lines)) {
        SchemaError::Invalid {
            line, key, message, ..
        } => (line, key, message),
        other => panic!("{lines}: {other}"),
    }
}

#[test]
fn the_example_of_the_reference_is_a_schema() {
    let page = include_str!("../../../docs/schema.md");
    let (_, rest) = page
        .split_once("```toml\n")
        .expect("the page has an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    let schema = Schema::parse(example).unwrap();
    let kinds: Vec<FieldKind> = schema.shape().fields.iter().map(|f| f.kind).collect();
    for kind in [
        FieldKind::Bool,
        FieldKind::I64,
        FieldKind::F64,
        FieldKind::String,
        FieldKind::Timestamp,
    ] {
        assert!(kinds.contains(&kind), "the example shows {kind:?}");
    }
}

#[test]
fn every_key_and_default_of_the_language_is_in_the_reference() {
    let page = include_str!("../../../docs/schema.md");
    for word in [
        "version",
        "unknown-fields",
        "[event-time]",
        "source",
        "ahead-max",
        "behind-max",
        "[limits]",
        "depth-max",
        "body-max",
        "decompressed-max",
        "batch-max",
        "name",
        "path",
        "type",
        "format",
        "unit",
        "required",
        "min",
        "max",
        "allowed",
        "max-length",
        "rollup",
        "unix-s",
        "unix-ms",
        "unix-us",
        "rfc3339",
        "256KiB",
        "1MiB",
        "4MiB",
        "64MiB",
        "4096",
        "65536",
        "512",
        "5m",
        "7d",
    ] {
        assert!(
            page.contains(&format!("`{word}`")),
            "`{word}` is not explained"
        );
    }
}

#[test]
fn defaults_are_safe() {
    let schema = Schema::parse(&field("name = \"a\"\ntype = \"f64\"")).unwrap();
    let def = &schema.shape().fields[0];
    assert!(def.rollup && !def.required && def.unit.is_none());
    assert_eq!(schema.event_time(), EventTime::Enqueued);
    let limits = schema.limits();
    assert_eq!((limits.depth_max, limits.batch_max), (16, 4_096));
    assert_eq!(
        (limits.body_bytes_max, limits.decompressed_bytes_max),
        (256 << 10, 4 << 20)
    );

    let text = Schema::parse(&field("name = \"a\"\ntype = \"string\"")).unwrap();
    assert!(!text.shape().fields[0].rollup);

    let timed = "version = 1\nevent-time.path = \"t\"\n[[fields]]\nname = \"a\"\ntype = \"bool\"";
    let minute_us = 60_000_000;
    assert_eq!(
        Schema::parse(timed).unwrap().event_time(),
        EventTime::Field {
            ahead_max_us: 5 * minute_us,
            behind_max_us: 7 * 24 * 60 * minute_us,
        }
    );
}

#[test]
fn toml_mistakes_are_shown_with_their_line() {
    for (toml, line) in [
        ("version = \n", 1),
        ("version = 1\nversoin = 2\n", 2),
        (&field("name = \"a\"\ntype = \"f64\"\nmaximum = 3"), 7),
        (&field("name = \"a\"\ntype = \"float\""), 6),
        (&field("name = 7\ntype = \"f64\""), 5),
        (
            &field("name = \"a\"\ntype = \"f64\"\nrequired = \"yes\""),
            7,
        ),
        (
            "version = 1\n[event-time]\npath = \"t\"\nformat = \"iso\"\n",
            4,
        ),
        ("version = 1\nunknown-fields = \"keep\"\n", 2),
    ] {
        match refuse(toml) {
            SchemaError::Toml {
                line: found,
                message,
                ..
            } => {
                assert_eq!(found, line, "{toml}: {message}");
            }
            other => panic!("{toml}: {other}"),
        }
    }
    let shown = refuse("version = 1\nversoin = 2\n").to_string();
    assert!(
        shown.starts_with("line 2, column 1: ") && shown.contains("versoin"),
        "{shown}"
    );
}

#[test]
fn every_rule_of_a_field_is_checked() {
    for (lines, line, key) in [
        ("name = \"device_id\"\ntype = \"f64\"", 5, "fields[0].name"),
        ("name = \"TS\"\ntype = \"f64\"", 5, "fields[0].name"),
        ("name = \"a b\"\ntype = \"f64\"", 5, "fields[0].name"),
        (
            "name = \"\"\npath = \"a\"\ntype = \"f64\"",
            5,
            "fields[0].name",
        ),
        ("name = \"1a\"\ntype = \"f64\"", 5, "fields[0].name"),
        (
            "name = \"a\"\npath = \"\"\ntype = \"f64\"",
            6,
            "fields[0].path",
        ),
        (
            "name = \"a\"\npath = \"a..b\"\ntype = \"f64\"",
            6,
            "fields[0].path",
        ),
        (
            "name = \"a\"\npath = 'a\\b'\ntype = \"f64\"",
            6,
            "fields[0].path",
        ),
        (
            "name = \"a\"\npath = \"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q\"\ntype = \"f64\"",
            6,
            "fields[0].path",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nunit = \"\"",
            7,
            "fields[0].unit",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nmin = 2\nmax = 1.5",
            7,
            "fields[0].min",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nmin = nan",
            7,
            "fields[0].min",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nmax = \"9\"",
            7,
            "fields[0].max",
        ),
        (
            "name = \"a\"\ntype = \"i64\"\nmax = 1.5",
            7,
            "fields[0].max",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nmin = 1",
            7,
            "fields[0].min",
        ),
        ("name = \"a\"\ntype = \"bool\"\nmax = 1", 7, "fields[0].max"),
        (
            "name = \"a\"\ntype = \"bool\"\nallowed = [true]",
            7,
            "fields[0].allowed",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nallowed = []",
            7,
            "fields[0].allowed",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nallowed = [1]",
            7,
            "fields[0].allowed",
        ),
        (
            "name = \"a\"\ntype = \"i64\"\nallowed = [7]\nmax = 5",
            7,
            "fields[0].allowed",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nallowed = [\"abc\"]\nmax-length = 2",
            7,
            "fields[0].allowed",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nmax-length = 2",
            7,
            "fields[0].max-length",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nmax-length = 0",
            7,
            "fields[0].max-length",
        ),
        (
            "name = \"a\"\ntype = \"string\"\nrollup = true",
            7,
            "fields[0].rollup",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\nformat = \"unix-s\"",
            7,
            "fields[0].format",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\n[[fields]]\nname = \"A\"\npath = \"b\"\ntype = \"f64\"",
            8,
            "fields[1].name",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\n[[fields]]\nname = \"b\"\npath = \"a\"\ntype = \"f64\"",
            9,
            "fields[1].path",
        ),
        (
            "name = \"a\"\ntype = \"f64\"\n[[fields]]\nname = \"b\"\npath = \"a.b\"\ntype = \"f64\"",
            9,
            "fields[1].path",
        ),
        (
            "name = \"a\"\npath = \"a.b\"\ntype = \"f64\"\n[[fields]]\nname = \"b\"\npath = \"a\"\ntype = \"f64\"",
            10,
            "fields[1].path",
        ),
    ] {
        let (found_line, found_key, message) = refuse_field(lines);
        assert_eq!(
            (found_line, found_key.as_str()),
            (line, key),
            "{lines}: {message}"
        );
    }
}

#[test]
fn every_rule_of_the_rest_is_checked() {
    let one = "[[fields]]\nname = \"a\"\ntype = \"f64\"\n";
    for (head, key) in [
        ("version = 2\nevent-time.source = \"enqueued\"\n", "version"),
        ("version = 1\nevent-time = {}\n", "event-time"),
        (
            "version = 1\nevent-time = { path = \"t\", source = \"enqueued\" }\n",
            "event-time",
        ),
        (
            "version = 1\nevent-time = { source = \"enqueued\", ahead-max = \"5m\" }\n",
            "event-time",
        ),
        (
            "version = 1\nevent-time = { path = \"t\", ahead-max = \"5\" }\n",
            "event-time.ahead-max",
        ),
        (
            "version = 1\nevent-time = { path = \"t\", behind-max = \"9999d\" }\n",
            "event-time.behind-max",
        ),
        (
            "version = 1\nevent-time = { path = \"a\" }\n",
            "event-time.path",
        ),
        (
            "version = 1\nevent-time = { path = \"a.b\" }\n",
            "event-time.path",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.depth-max = 65\n",
            "limits.depth-max",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.depth-max = 0\n",
            "limits.depth-max",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.body-max = \"2MiB\"\n",
            "limits.body-max",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.body-max = \"7\"\n",
            "limits.body-max",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.decompressed-max = \"65MiB\"\n",
            "limits.decompressed-max",
        ),
        (
            "version = 1\nevent-time.source = \"enqueued\"\nlimits.batch-max = 65537\n",
            "limits.batch-max",
        ),
    ] {
        match refuse(&format!("{head}{one}")) {
            SchemaError::Invalid {
                key: found,
                message,
                ..
            } => assert_eq!(found, key, "{message}"),
            other => panic!("{head}: {other}"),
        }
    }
    assert!(refuse(HEAD).to_string().contains("at least one"));
}

#[test]
fn the_number_of_fields_and_of_values_is_bounded() {
    let fields = |count: usize| -> String {
        (0..count)
            .map(|i| format!("[[fields]]\nname = \"f{i}\"\ntype = \"f64\"\n"))
            .collect()
    };
    assert!(Schema::parse(&format!("{HEAD}{}", fields(512))).is_ok());
    assert!(
        refuse(&format!("{HEAD}{}", fields(513)))
            .to_string()
            .contains("at most 512")
    );
    let wide = format!("{HEAD}[limits]\nbatch-max = 65536\n{}", fields(65));
    assert!(
        refuse(&wide)
            .to_string()
            .contains("lower batch-max to 64527")
    );
    let long = format!("{HEAD}#{}", "x".repeat(SCHEMA_BYTES_MAX));
    assert!(matches!(refuse(&long), SchemaError::TooLarge { .. }));
}

#[test]
fn a_key_with_a_dot_can_be_named() {
    let schema = Schema::parse(&field("name = \"a\"\npath = 'x\\.y.z'\ntype = \"f64\"")).unwrap();
    assert_eq!(schema.shape().fields[0].name, "a");
}

#[test]
fn the_fingerprint_follows_the_meaning_and_not_the_spelling() {
    let print = |toml: &str| Schema::parse(toml).unwrap().fingerprint();
    let base = field("name = \"a\"\ntype = \"f64\"\nmax = 5");
    for same in [
        field("# a comment\ntype = \"f64\"\nmax = 5.0\nname = \"a\"\npath = \"a\"\nrollup = true"),
        format!("{base}[limits]\nbatch-max = 4096\n"),
    ] {
        assert_eq!(print(&base), print(&same), "{same}");
    }
    for other in [
        field("name = \"b\"\ntype = \"f64\"\nmax = 5"),
        field("name = \"a\"\ntype = \"f64\"\nmax = 6"),
        field("name = \"a\"\ntype = \"f64\"\nmax = 5\nrequired = true"),
        field("name = \"a\"\ntype = \"f64\"\nmax = 5\nunit = \"Cel\""),
        field("name = \"a\"\ntype = \"f64\"\nmax = 5\nrollup = false"),
        field("name = \"a\"\ntype = \"f64\"\nmax = 5\npath = \"b\""),
        format!("{base}[limits]\nbatch-max = 4095\n"),
        format!("unknown-fields = \"reject\"\n{base}"),
        base.replace("source = \"enqueued\"", "path = \"t\""),
    ] {
        assert_ne!(print(&base), print(&other), "{other}");
    }
    // Stored in places that outlive a program: it may never change for the same schema.
    assert_eq!(print(&base).to_string(), "43b6877c497207bc");
}
