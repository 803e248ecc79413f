//! The catalogue as `docs/metrics.md`.

use std::fmt::Write;

use super::{Definition, Kind, all};

const HEAD: &str = "\
# Metrics

Generated from the catalogue in `crates/stamp-telemetry/src/catalogue`: change it there and run
`cargo xtask docs`.

A process serves these at `/metrics`. Every series carries the constant label `stamp`. No label
ever holds a device id.

| metric | kind | unit | labels |
|---|---|---|---|
";

/// The whole document.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for definition in all() {
        row(&mut text, definition);
    }
    for definition in all() {
        section(&mut text, definition);
    }
    text
}

fn row(text: &mut String, definition: &Definition) {
    let labels: Vec<String> = definition
        .labels
        .iter()
        .map(|label| format!("`{}`", label.name))
        .collect();
    line(
        text,
        &format!(
            "| [`{name}`](#{name}) | {} | {} | {} |",
            definition.kind.name(),
            definition.unit.name(),
            labels.join(", "),
            name = definition.name,
        ),
    );
}

fn section(text: &mut String, definition: &Definition) {
    line(text, &format!("\n## {}\n", definition.name));
    line(text, definition.help);
    line(text, definition.reading);
    if !definition.labels.is_empty() {
        line(text, "");
    }
    for label in definition.labels {
        line(text, &format!("- `{}`: {}", label.name, label.values));
    }
    if let Kind::Histogram { buckets, reason } = definition.kind {
        let bounds: Vec<String> = buckets.iter().map(f64::to_string).collect();
        line(
            text,
            &format!("\nBuckets: {}. Why: {reason}.", bounds.join(", ")),
        );
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _written = writeln!(text, "{content}");
}
