//! `docs/fault-matrix.md`: which fault is promised what, and which test shows it.
//!
//! A test names the faults that it shows in a line of its documentation, `/// Fault scenario 7.` or
//! `/// Fault scenarios 7, 8 and 9.` This module reads those lines from the sources. It never runs
//! a test: that the named ones pass is what the suite says.

mod scenarios;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

use crate::tidy;
use scenarios::{SCENARIOS, Scenario};

/// Where the document is.
pub(crate) const PATH: &str = "docs/fault-matrix.md";

/// How many lines may lie between the naming line and the function: attributes and more
/// documentation.
const LINES_BETWEEN_MAX: usize = 20;

/// A test and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    test: String,
    path: String,
}

/// The tests of each scenario by its number.
type Found = BTreeMap<usize, Vec<Shown>>;

/// The document as it should be.
///
/// # Errors
/// A line that names a number that is no scenario, or names none, or stands above no test; a
/// scenario that has neither a test nor a reason.
pub(crate) fn document(root: &Path) -> Result<String> {
    let mut found = Found::new();
    for path in tidy::files(root)? {
        if path.ends_with(".rs") {
            shown_in(&path, &crate::read(&root.join(&path))?, &mut found)?;
        }
    }
    render(SCENARIOS, &found)
}

/// Adds what the tests of one source file show.
fn shown_in(path: &str, text: &str, found: &mut Found) -> Result<()> {
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(named) = named_in(line) else {
            continue;
        };
        let place = format!("{path}:{}", at + 1);
        let Some(test) = test_below(&lines[at + 1..]) else {
            bail!("{place}: no test below the line that names a fault scenario");
        };
        let Some(numbers) = named else {
            bail!("{place}: numbers are written `7`, `7 and 8` or `7, 8 and 9`, with a full stop");
        };
        for number in numbers {
            if number == 0 || number > SCENARIOS.len() {
                bail!("{place}: there is no fault scenario {number}");
            }
            found.entry(number).or_default().push(Shown {
                test: test.to_owned(),
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

/// The numbers of a naming line; `None` for any other line, `Some(None)` when they cannot be read.
fn named_in(line: &str) -> Option<Option<Vec<usize>>> {
    let said = line
        .trim()
        .strip_prefix(concat!("/// ", "Fault scenario"))?;
    let numbers = said.strip_prefix('s').unwrap_or(said);
    let numbers = numbers.strip_prefix(' ').and_then(|n| n.strip_suffix('.'));
    let read = |numbers: &str| {
        let numbers = numbers.replace(" and ", ", ");
        numbers.split(", ").map(|n| n.parse().ok()).collect()
    };
    Some(numbers.and_then(read))
}

/// The name of the first function, when an attribute says that it is a test, or when it is a
/// promise of a conformance suite, which a macro runs on every peer.
fn test_below<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let mut is_test = false;
    for line in lines.iter().take(LINES_BETWEEN_MAX).map(|line| line.trim()) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let promise = line.strip_prefix("pub(crate) async ");
        is_test |= promise.is_some();
        let function = promise.or(line.strip_prefix("async ")).unwrap_or(line);
        if let Some(function) = function.strip_prefix("fn ") {
            return is_test.then(|| function.split(['(', '<']).next())?;
        }
    }
    None
}

fn render(scenarios: &[Scenario], found: &Found) -> Result<String> {
    let mut text = String::from(HEAD);
    let mut bare = Vec::new();
    for (number, scenario) in (1..).zip(scenarios) {
        let mut shown = found.get(&number).cloned().unwrap_or_default();
        shown.sort();
        shown.dedup();
        if shown.is_empty() && scenario.untested.is_empty() {
            bare.push(number.to_string());
        }
        let tests = shown
            .iter()
            .map(|shown| format!("[`{}`](../{})", shown.test, shown.path));
        let mut proof: Vec<String> = tests.collect();
        if !scenario.untested.is_empty() {
            proof.push(format!("*Not shown:* {}", scenario.untested));
        }
        writeln!(
            text,
            "| {number} | {} | {} | {} |",
            scenario.fault,
            scenario.promise,
            proof.join("<br>")
        )?;
    }
    if !bare.is_empty() {
        bail!(
            "fault scenarios with neither a test nor a reason: {}",
            bare.join(", ")
        );
    }
    Ok(text)
}

const HEAD: &str = "\
# Fault matrix

What can go wrong, what Stampworks promises then, and the tests that show it. Each test runs in
`cargo xtask test`. A line that says *not shown* tells what of the promise no test here can show, and why.

This page is made by `cargo xtask docs` from the tests themselves: a test names the faults that it
shows in its documentation. [Reliability](reliability.md) has the figures of long runs.

| # | what goes wrong | what is promised | shown by |
|---|---|---|---|
";
