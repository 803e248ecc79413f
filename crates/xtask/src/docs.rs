//! `cargo xtask docs`: documents and dashboards that are made from code.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{dashboards, faults, logs, process, test};

/// A document, and how its text is made.
#[derive(Clone, Copy)]
struct Generated {
    path: &'static str,
    made_by: MadeBy,
}

#[derive(Clone, Copy)]
enum MadeBy {
    /// The arguments of the `cargo run` that prints it.
    Program(&'static [&'static str]),
    /// The sources, read here.
    Sources(fn(&Path) -> Result<String>),
    /// The lists of boards here.
    Board(&'static dashboards::File),
}

const DOCUMENTS: &[Generated] = &[
    Generated {
        path: "docs/metrics.md",
        made_by: MadeBy::Program(&["--package", "stamp-telemetry", "--example", "metrics"]),
    },
    Generated {
        path: faults::PATH,
        made_by: MadeBy::Sources(faults::document),
    },
    Generated {
        path: logs::PATH,
        made_by: MadeBy::Sources(logs::document),
    },
];

fn generated() -> impl Iterator<Item = Generated> {
    let boards = dashboards::FILES.iter().map(|file| Generated {
        path: file.path,
        made_by: MadeBy::Board(file),
    });
    DOCUMENTS.iter().copied().chain(boards)
}

/// Writes every document that is not current.
pub(crate) fn write(root: &Path) -> Result<()> {
    crate::require_workspace(root)?;
    for document in generated() {
        let text = printed(root, &document)?;
        let path = root.join(document.path);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            println!("docs: {} is current", document.path);
            continue;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("docs: {} was written", document.path);
    }
    Ok(())
}

/// One line for every document that is not current.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for document in generated() {
        let old = fs::read_to_string(root.join(document.path)).unwrap_or_default();
        if old != printed(root, &document)? {
            found.push(format!(
                "docs: {} is not current: run `cargo xtask docs`",
                document.path
            ));
        }
    }
    Ok(found)
}

fn printed(root: &Path, document: &Generated) -> Result<String> {
    match document.made_by {
        MadeBy::Program(arguments) => process::output(
            test::cargo()
                .args(["run", "--quiet"])
                .args(arguments)
                .current_dir(root),
        ),
        MadeBy::Sources(make) => make(root),
        MadeBy::Board(file) => file.text(),
    }
    .with_context(|| format!("make {}", document.path))
}
