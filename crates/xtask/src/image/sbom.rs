//! The bill of materials of the image: CycloneDX 1.6, from what cargo says is linked into the binary and from
//! the system's packages.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::contents::System;
use super::layout::time;
use super::{About, SERVICE, TARGET};
use crate::process;
use crate::test::cargo;

/// The text of the bill. The same tree and the same packages give the same text.
pub(super) fn write(root: &Path, about: &About, system: &System) -> Result<Vec<u8>> {
    let mut components = crates(root)?;
    components.extend(system.packages.iter().map(|(name, version)| {
        json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:deb/debian/{name}@{}?arch=amd64", version.replace('+', "%2B")),
        })
    }));
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time(about.epoch),
            "component": {
                "type": "container",
                "name": "stampworks",
                "version": about.version,
                "bom-ref": format!("stampworks@{}", about.version),
                "properties": [{ "name": "revision", "value": about.revision }],
            },
        },
        "components": components,
    });
    let mut bytes = serde_json::to_vec_pretty(&bill).context("write JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Every crate that is linked in: no dev-dependencies, no build scripts, no macros.
fn crates(root: &Path) -> Result<Vec<Value>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked"])
        .args(SERVICE)
        .args(["--edges", "normal,no-proc-macro", "--target", TARGET])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}|{r}"])
        .current_dir(root);
    let told = process::output(&mut tree)?;
    let mut lines: Vec<&str> = told.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let lock = crate::read(&root.join("Cargo.lock"))?;
    let components = lines.into_iter().map(|line| component(line, &lock));
    components
        .collect::<Option<_>>()
        .context("`cargo tree` says something new")
}

/// One line of `cargo tree`: `name vVERSION[ (path)]|licence|repository`.
fn component(line: &str, lock: &str) -> Option<Value> {
    let mut parts = line.split('|');
    let mut package = parts.next()?.split(' ');
    let (name, version) = (package.next()?, package.next()?.strip_prefix('v')?);
    let (licence, repository) = (parts.next()?, parts.next()?);
    let purl = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"));
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    });
    if !licence.is_empty() {
        // Old manifests separate by a slash what SPDX joins by OR.
        let expression = licence.replace(" / ", "/").replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if repository.starts_with("http") {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    if let Some(checksum) = checksum(lock, name, version) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    Some(component)
}

/// As the lock file has it; crates of the workspace have none.
fn checksum<'l>(lock: &'l str, name: &str, version: &str) -> Option<&'l str> {
    let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let entry = lock
        .split("[[package]]\n")
        .find(|text| text.starts_with(&entry))?;
    let line = entry
        .lines()
        .find_map(|line| line.strip_prefix("checksum = \""))?;
    Some(line.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::component;

    #[test]
    fn a_crate_has_its_licence_its_source_and_the_checksum_of_the_lock_file() {
        let lock = "[[package]]\nname = \"bytes\"\nversion = \"1.2.3\"\nchecksum = \"abc\"\n";

        let component = component("bytes v1.2.3|MIT/Apache-2.0|https://host/bytes", lock).unwrap();

        assert_eq!(component["purl"], "pkg:cargo/bytes@1.2.3");
        assert_eq!(component["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(component["hashes"][0]["content"], "abc");
    }

    #[test]
    fn a_crate_of_the_workspace_needs_no_checksum_and_no_repository() {
        let component =
            component("stamp-model v0.1.0 (/source/crates/stamp-model)|MIT|", "").unwrap();

        assert_eq!(component["name"], "stamp-model");
        assert!(component.get("hashes").is_none());
    }
}
