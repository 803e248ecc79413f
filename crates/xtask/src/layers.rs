//! `cargo xtask layers`: the crates' imports against the table in ARCHITECTURE.md.
//!
//! The rules, as the table's own text states them:
//! 1. every crate of the workspace has a row, and every row a crate;
//! 2. a crate imports only crates of a lower numbered layer, never a sibling;
//! 3. a `dev` crate imports words and logic, and only the binary (the highest layer) may ship it;
//! 4. doors and above may use `dev` and `tests` crates in their own tests (dev-dependencies);
//! 5. `tests` crates may import anything, and are in nobody's shipped code;
//! 6. an outside library that a row names is imported by the crates whose rows name it, all of
//!    them and no other; tests of a crate follow the same rule, `tests` crates do not.

mod metadata;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use metadata::Package;
use table::{Layer, Row};

/// Where the doors are: layers from here up may test against the emulator.
const DOORS: u8 = 2;

/// Reads the table and the imports; one line a difference.
pub(crate) fn run(root: &Path) -> Result<Vec<String>> {
    let rows = table::parse(&crate::read(&root.join("ARCHITECTURE.md"))?)?;
    let packages = metadata::read(root)?;
    let found = differences(&rows, &packages);
    if found.is_empty() {
        println!("layers: {} crates as ARCHITECTURE.md says", packages.len());
    }
    Ok(found)
}

/// Everything in which the crates differ from the table.
fn differences(rows: &[Row], packages: &[Package]) -> Vec<String> {
    let mut found = unlisted(rows, packages);
    let layers: BTreeMap<&str, Layer> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.layer))
        .collect();
    for package in packages {
        let Some(&layer) = layers.get(package.name.as_str()) else {
            continue;
        };
        // A crate may name itself, to switch a feature on for its own tests.
        for import in package
            .imports
            .iter()
            .filter(|import| import.name != package.name)
        {
            let Some(&imported) = layers.get(import.name.as_str()) else {
                continue;
            };
            if let Some(reason) = refused(layer, imported, import.is_dev, top(rows)) {
                found.push(format!(
                    "layers: {} ({layer}) imports {} ({imported}): {reason}",
                    package.name, import.name
                ));
            }
        }
    }
    found.extend(doors(rows, packages));
    found
}

fn unlisted(rows: &[Row], packages: &[Package]) -> Vec<String> {
    let listed: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let present: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let mut found: Vec<String> = present
        .difference(&listed)
        .map(|name| format!("layers: {name} has no row in the table"))
        .collect();
    found.extend(
        listed
            .difference(&present)
            .map(|name| format!("layers: the table lists {name}, which is not in the workspace")),
    );
    found
}

fn top(rows: &[Row]) -> u8 {
    let numbered = rows.iter().filter_map(|row| match row.layer {
        Layer::Numbered(number) => Some(number),
        Layer::Dev | Layer::Tests => None,
    });
    numbered.max().unwrap_or(0)
}

/// Why a crate of one layer may not import a crate of another; `None` when it may.
fn refused(importer: Layer, imported: Layer, is_dev: bool, top: u8) -> Option<&'static str> {
    match (importer, imported) {
        (Layer::Tests, _) => None,
        (Layer::Numbered(number), Layer::Dev | Layer::Tests) if is_dev && number >= DOORS => None,
        (Layer::Numbered(number), Layer::Dev) if !is_dev && number == top => None,
        (_, Layer::Tests) => Some("test crates are for tests"),
        (_, Layer::Dev) => {
            Some("only the binary, and tests of doors and programs, use a dev crate")
        }
        (Layer::Dev, Layer::Numbered(number)) if number < DOORS => None,
        (Layer::Dev, Layer::Numbered(_)) => Some("a dev crate imports words and logic only"),
        (Layer::Numbered(upper), Layer::Numbered(lower)) if lower < upper => None,
        (Layer::Numbered(_), Layer::Numbered(_)) => Some("a crate imports lower layers only"),
    }
}

/// Outside libraries that have a door: who imports them against who may.
fn doors(rows: &[Row], packages: &[Package]) -> Vec<String> {
    let mut may: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        for library in &row.only_importer_of {
            may.entry(library).or_default().insert(&row.name);
        }
    }
    let tests: BTreeSet<&str> = rows
        .iter()
        .filter(|row| row.layer == Layer::Tests)
        .map(|row| row.name.as_str())
        .collect();
    let mut found = Vec::new();
    for (library, may) in may {
        let does: BTreeSet<&str> = packages
            .iter()
            .filter(|package| !tests.contains(package.name.as_str()))
            .filter(|package| package.imports.iter().any(|import| import.name == library))
            .map(|package| package.name.as_str())
            .collect();
        for name in does.difference(&may) {
            let doors = may.iter().copied().collect::<Vec<_>>().join(" and ");
            found.push(format!(
                "layers: {name} imports {library}, whose door is {doors}"
            ));
        }
        for name in may.difference(&does) {
            found.push(format!(
                "layers: the table calls {name} the importer of {library}, which it does not import"
            ));
        }
    }
    found
}
