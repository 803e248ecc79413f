//! Small rules of the house that no other tool checks.
//!
//! - a Rust file above 600 lines is named, above 900 refused;
//! - no ignored test, no unfinished code, no lint switched off without a checked reason;
//! - every decision in `docs/adr` is linked from ARCHITECTURE.md;
//! - every relative link of a document leads to a file.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold what tools made or installed.
const NOT_OURS: &[&str] = &["target", "data", "node_modules"];

/// Above this a file should be split.
const LINES_LONG: usize = 600;
/// Above this it must be.
const LINES_MAX: usize = 900;

/// What source may not say, and why. Split, so that this file does not say it either.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        concat!("#[", "ignore"),
        "a test that is not run proves nothing",
    ),
    (concat!("to", "do!("), "whole capabilities only"),
    (concat!("unimplemented", "!("), "whole capabilities only"),
    (
        concat!("#[", "allow("),
        "use #[expect(lint, reason = \"...\")]",
    ),
    (
        concat!("#![", "allow("),
        "use #![expect(lint, reason = \"...\")]",
    ),
];

/// What a look at the files found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Fails the check.
    pub(crate) refused: Vec<String>,
    /// To be shown only.
    pub(crate) noted: Vec<String>,
}

/// Looks at every source file and document below the workspace's folder.
pub(crate) fn run(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    let paths = files(root)?;
    for path in &paths {
        let text = crate::read(&root.join(path))?;
        if path.ends_with(".rs") {
            source(path, &text, &mut findings);
        } else {
            let folder = Path::new(path)
                .parent()
                .map_or_else(|| root.to_owned(), |p| root.join(p));
            links(
                path,
                &text,
                |link| folder.join(link).exists(),
                &mut findings,
            );
        }
    }
    let architecture = crate::read(&root.join("ARCHITECTURE.md"))?;
    decisions(
        paths.iter().map(String::as_str),
        &architecture,
        &mut findings,
    );
    Ok(findings)
}

/// Rust sources and documents, in order, relative to the root.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().context("type of a file")?.is_dir() {
                if !NOT_OURS.contains(&&*name) && !name.starts_with('.') {
                    folders.push(entry.path());
                }
            } else if name.ends_with(".rs") || name.ends_with(".md") {
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap_or(&path);
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn source(path: &str, text: &str, findings: &mut Findings) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.refused.push(format!(
            "tidy: {path} has {lines} lines, at most {LINES_MAX}"
        ));
    } else if lines > LINES_LONG {
        findings
            .noted
            .push(format!("tidy: {path} has {lines} lines: split it"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for (word, reason) in FORBIDDEN {
            if line.contains(word) {
                findings
                    .refused
                    .push(format!("tidy: {path}:{number}: `{word}`: {reason}"));
            }
        }
    }
}

fn decisions<'a>(
    paths: impl Iterator<Item = &'a str>,
    architecture: &str,
    findings: &mut Findings,
) {
    let is_decision = |path: &&str| {
        path.starts_with("docs/adr/") && path.ends_with(".md") && !path.ends_with("/README.md")
    };
    for path in paths.filter(is_decision) {
        if !architecture.contains(&format!("({path})")) {
            findings
                .refused
                .push(format!("tidy: {path} is not linked from ARCHITECTURE.md"));
        }
    }
}

/// Checks the targets of `[text](target)` outside of code blocks; `exists` is told the file part.
fn links(path: &str, text: &str, exists: impl Fn(&str) -> bool, findings: &mut Findings) {
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for after in line.split("](").skip(1) {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !target.contains("://") && !exists(file) {
                findings
                    .refused
                    .push(format!("tidy: {path}:{number}: no file at {target}"));
            }
        }
    }
}
