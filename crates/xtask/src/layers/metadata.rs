//! The crates of the workspace and what they import, from `cargo metadata`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) imports: Vec<Import>,
}

/// A dependency as the manifest names it, outside libraries included.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) name: String,
    /// Only for the crate's own tests and benches.
    pub(super) is_dev: bool,
}

/// Asks cargo, without the network and without resolving outside libraries.
pub(super) fn read(root: &Path) -> Result<Vec<Package>> {
    let printed = process::output(
        crate::test::cargo()
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--offline",
            ])
            .current_dir(root),
    )?;
    let document: Value = serde_json::from_str(&printed).context("output of cargo metadata")?;
    parse(&document).context("cargo metadata has another form than expected")
}

/// `None` when a part is missing.
pub(super) fn parse(document: &Value) -> Option<Vec<Package>> {
    let packages = document["packages"].as_array()?;
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Option<Package> {
    let dependencies = value["dependencies"].as_array()?;
    let imports: Option<Vec<Import>> = dependencies.iter().map(import).collect();
    Some(Package {
        name: value["name"].as_str()?.to_owned(),
        imports: imports?,
    })
}

/// A kind of null is a plain dependency; `build` counts like one.
fn import(value: &Value) -> Option<Import> {
    Some(Import {
        name: value["name"].as_str()?.to_owned(),
        is_dev: value["kind"].as_str() == Some("dev"),
    })
}
