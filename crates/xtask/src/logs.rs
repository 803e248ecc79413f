//! `docs/logs.md`: every line at WARN or above that the programs can write, and what to do about it.
//!
//! The lines are read from the sources, so none can be missing; what to do is a list here. It reads
//! text, not syntax: `tracing::warn!(` and `tracing::error!(` with a message as last argument, which is
//! how all of them are written.

mod advice;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::tidy;
use advice::ADVICE;

/// Where the document is.
pub(crate) const PATH: &str = "docs/logs.md";

/// What is no part of a service: the emulator stands in for Azure, and this program builds.
const APART: [&str; 2] = ["crates/stamp-emulator/", "crates/xtask/"];

/// A line by message.
type Lines = BTreeMap<String, Line>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    levels: BTreeSet<&'static str>,
    crates: BTreeSet<String>,
}

/// The document as it should be.
///
/// # Errors
/// A line without advice, advice for a line that is gone, or a line that cannot be read.
pub(crate) fn document(root: &Path) -> Result<String> {
    let mut lines = Lines::new();
    for path in tidy::files(root)? {
        if is_program(&path) {
            let text = crate::read(&root.join(&path))?;
            lines_in(&path, &text, &mut lines)?;
        }
    }
    render(&lines, ADVICE)
}

fn is_program(path: &str) -> bool {
    let mut parts = path.split('/');
    let source = parts.next() == Some("crates") && parts.nth(1) == Some("src");
    let apart = APART.iter().any(|prefix| path.starts_with(prefix));
    source && path.ends_with(".rs") && !path.ends_with("tests.rs") && !apart
}

fn lines_in(path: &str, text: &str, lines: &mut Lines) -> Result<()> {
    let name = path.split('/').nth(1).unwrap_or_default();
    for (level, call) in [("ERROR", "tracing::error!("), ("WARN", "tracing::warn!(")] {
        for (at, _) in text.match_indices(call) {
            let number = text[..at].lines().count() + 1;
            let message = message(&text[at + call.len()..])
                .with_context(|| format!("{path}:{number}: no message in this log line"))?;
            let line = lines.entry(message).or_default();
            line.levels.insert(level);
            line.crates.insert(name.to_owned());
        }
    }
    Ok(())
}

/// The last text of the arguments that begin here.
fn message(arguments: &str) -> Option<String> {
    let mut depth = 1_usize;
    let mut last = None;
    let mut characters = arguments.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let text = quoted(&arguments[at + 1..])?;
                last = Some(text.to_owned());
                characters = skip(arguments, at + text.len() + 2);
            }
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return last;
                }
            }
            _ => {}
        }
    }
    None
}

/// Up to the closing quote.
fn quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[..at]),
            _ => {}
        }
    }
    None
}

fn skip(text: &str, to: usize) -> std::str::CharIndices<'_> {
    let mut characters = text.char_indices();
    while characters.offset() < to && characters.next().is_some() {}
    characters
}

fn render(lines: &Lines, advice: &[(&str, &str)]) -> Result<String> {
    let known: BTreeMap<&str, &str> = advice.iter().copied().collect();
    let stale = known.keys().find(|message| !lines.contains_key(**message));
    if let Some(stale) = stale {
        bail!("crates/xtask/src/logs/advice.rs: no program says {stale:?} any more");
    }
    let mut text = String::from(HEAD);
    for level in ["ERROR", "WARN"] {
        let _ = write!(
            text,
            "\n## {level}\n\n| message | from | what to do |\n|---|---|---|\n"
        );
        for (message, line) in lines {
            if line.levels.first() != Some(&level) {
                continue;
            }
            let Some(advice) = known.get(message.as_str()) else {
                bail!("crates/xtask/src/logs/advice.rs: what to do about {message:?} is not said");
            };
            let from: Vec<_> = line.crates.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "| {message} | {} | {advice} |", from.join(", "));
        }
    }
    Ok(text)
}

const HEAD: &str = r#"# Log lines that a person should see

Made by `cargo xtask docs` from the sources. The services write to stderr, one JSON object a line
(`telemetry.log-format = "json"`), with the keys `timestamp` (RFC 3339, UTC), `level`, `target`, `message`, inside a span
`span`, and the fields of the event beside them. These keys, and the messages below, are stable: a change of
one is a change of this page.

No line says anything that a [metric](metrics.md) does not: alert on [metrics](operations/README.md), and read lines for the
details. No line has a payload or a secret.

One place in the program may write 100 lines at once and 10 a second. After that its lines are left out, and the next one that
is not is preceded by `lines were left out` with how many (`left_out`) and the place (`of`).

A message that is written at both levels stands under ERROR.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Lines> {
        let mut lines = Lines::new();
        lines_in("crates/stamp-x/src/y.rs", text, &mut lines)?;
        Ok(lines)
    }

    #[test]
    fn the_message_is_the_last_text_whatever_stands_before_it() {
        let text = r#"
            tracing::warn!(tenant, why = %chain(&error), kind = "a)b", "not \"done\"");
            tracing::error!(
                "gone",
            );
        "#;

        let found = lines(text).unwrap();

        let all: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(all, ["gone", r#"not \"done\""#]);
        assert_eq!(found["gone"].levels, BTreeSet::from(["ERROR"]));
    }

    #[test]
    fn a_line_without_a_message_is_named_with_its_place() {
        let error = lines("\ntracing::error!(%error);").unwrap_err();

        assert!(error.to_string().contains("y.rs:2"), "{error}");
    }

    #[test]
    fn advice_must_be_there_for_each_line_and_for_no_other() {
        let lines = lines("tracing::warn!(\"slow\")").unwrap();

        assert!(
            render(&lines, &[("slow", "wait")])
                .unwrap()
                .contains("| slow | `stamp-x` | wait |")
        );
        let missing = render(&lines, &[]).unwrap_err();
        assert!(missing.to_string().contains("\"slow\""), "{missing}");
        let stale = render(&lines, &[("slow", "wait"), ("gone", "weep")]).unwrap_err();
        assert!(stale.to_string().contains("\"gone\""), "{stale}");
    }

    #[test]
    fn only_what_the_services_are_made_of_counts() {
        for (path, counts) in [
            ("crates/stamp-lake/src/commit.rs", true),
            ("crates/stamp-lake/src/scan/tests.rs", false),
            ("crates/stamp-lake/tests/suite.rs", false),
            ("crates/stamp-emulator/src/net.rs", false),
            ("tests/soak/src/main.rs", false),
        ] {
            assert_eq!(is_program(path), counts, "{path}");
        }
    }
}
