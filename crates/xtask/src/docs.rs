//! `cargo xtask docs`: documents and dashboards that are made from code.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::{dashboards, faults, keys, logs, process, test};

/// A document, and how its text is made.
#[derive(Clone)]
struct Generated {
    path: String,
    made_by: MadeBy,
}

#[derive(Clone, Copy)]
enum MadeBy {
    /// The arguments of the `cargo run` that prints it.
    Program(&'static [&'static str]),
    /// The program itself: the schema of this configuration file.
    Schema(&'static str),
    /// The sources, read here.
    Sources(fn(&Path) -> Result<String>),
    /// The lists of boards here.
    Board(&'static dashboards::File),
}

const DOCUMENTS: &[(&str, MadeBy)] = &[
    (
        "docs/metrics.md",
        MadeBy::Program(&["--package", "stamp-telemetry", "--example", "metrics"]),
    ),
    (faults::PATH, MadeBy::Sources(faults::document)),
    (logs::PATH, MadeBy::Sources(logs::document)),
    // Of the schemas, which are written before it.
    (keys::PATH, MadeBy::Sources(keys::document)),
];

fn generated() -> impl Iterator<Item = Generated> {
    let schemas = keys::FILES
        .iter()
        .map(|(name, _)| (keys::schema_path(name), MadeBy::Schema(name)));
    let documents = DOCUMENTS
        .iter()
        .map(|(path, made_by)| ((*path).to_owned(), *made_by));
    let boards = dashboards::FILES
        .iter()
        .map(|file| (file.path.to_owned(), MadeBy::Board(file)));
    schemas
        .chain(documents)
        .chain(boards)
        .map(|(path, made_by)| Generated { path, made_by })
}

/// Writes every document that is not current.
pub(crate) fn write(root: &Path) -> Result<()> {
    crate::require_workspace(root)?;
    for document in generated() {
        let text = printed(root, &document)?;
        let path = root.join(&document.path);
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
        let old = fs::read_to_string(root.join(&document.path)).unwrap_or_default();
        if old != printed(root, &document)? {
            found.push(format!(
                "docs: {} is not current: run `cargo xtask docs`",
                document.path
            ));
        }
    }
    Ok(found)
}

/// The program, built once.
fn program(root: &Path) -> Result<&'static PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built);
    }
    let built = test::beside_tests(root, "stampworks")?;
    Ok(BUILT.get_or_init(|| built))
}

fn printed(root: &Path, document: &Generated) -> Result<String> {
    match document.made_by {
        MadeBy::Program(arguments) => process::output(
            test::cargo()
                .args(["run", "--quiet"])
                .args(arguments)
                .current_dir(root),
        ),
        MadeBy::Schema(file) => program(root).and_then(|program| {
            process::output(std::process::Command::new(program).args(["config-schema", file]))
        }),
        MadeBy::Sources(make) => make(root),
        MadeBy::Board(file) => file.text(),
    }
    .with_context(|| format!("make {}", document.path))
}
