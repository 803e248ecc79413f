//! Small rules of the house that no other tool checks.
//!
//! - a Rust file above 600 lines is named, above 900 refused;
//! - no ignored test, no unfinished code, no lint switched off without a checked reason;
//! - every decision in `docs/adr` is linked from ARCHITECTURE.md;
//! - every relative link of a document leads to a file.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process;

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

/// Looks at every file that git knows or would add.
pub(crate) fn run(root: &Path) -> Result<Findings> {
    let listed = process::output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    let mut findings = Findings::default();
    for path in listed.lines().filter(|path| root.join(path).is_file()) {
        if path.ends_with(".rs") {
            source(path, &crate::read(&root.join(path))?, &mut findings);
        } else if path.ends_with(".md") {
            let folder = root.join(path);
            let folder = folder.parent().unwrap_or(root);
            let text = crate::read(&root.join(path))?;
            links(
                path,
                &text,
                |link| folder.join(link).exists(),
                &mut findings,
            );
        }
    }
    let architecture = crate::read(&root.join("ARCHITECTURE.md"))?;
    decisions(listed.lines(), &architecture, &mut findings);
    Ok(findings)
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
