//! `cargo xtask supply-chain`: what the dependencies are, and whether all of them are wanted.
//!
//! - `cargo deny`: banned crates, licences, sources, against `deny.toml`; known vulnerabilities where their
//!   database can be fetched, and else it is said that they were not looked for;
//! - `cargo machete`: dependencies that a manifest names and no source uses;
//! - no dependency needs a newer compiler than the workspace says that it needs.
//!
//! It changes nothing but `target/tools`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::test::cargo;
use crate::{interop, process, require_workspace};

/// The version that is built into `target/tools` where the machine has none.
const MACHETE_VERSION: &str = "0.9.2";

/// Runs every check, also after one has failed; one line for each that found something.
pub(crate) fn run(root: &Path) -> Result<Vec<String>> {
    require_workspace(root)?;
    let mut found = compilers(root)?;
    let deny = deny(root).context("cargo deny")?;
    let mut checks = vec![&["--locked", "check", "bans", "licenses", "sources"][..]];
    if interop::answers(Command::new(&deny).args(["fetch", "db"]).current_dir(root)) {
        checks.push(&["--locked", "check", "--disable-fetch", "advisories"]);
    } else {
        println!(
            "supply-chain: the database of advisories cannot be fetched: they were NOT checked"
        );
    }
    for arguments in checks {
        if process::status(Command::new(&deny).args(arguments).current_dir(root))? != 0 {
            let check = arguments.join(" ");
            found.push(format!(
                "supply-chain: `cargo deny {check}` found something"
            ));
        }
    }
    let machete = machete(root).context("cargo machete")?;
    let mut unused = Command::new(machete);
    unused
        .args(["--with-metadata", "--skip-target-dir", "."])
        .current_dir(root);
    if process::status(&mut unused)? != 0 {
        found.push("supply-chain: `cargo machete` found dependencies that nothing uses".into());
    }
    Ok(found)
}

/// `cargo deny`, from the machine or installed now.
fn deny(root: &Path) -> Result<std::path::PathBuf> {
    if interop::answers(Command::new("cargo-deny").arg("--version")) {
        return Ok("cargo-deny".into());
    }
    let (pins, tools) = (root.join("crates/xtask"), root.join("target/tools"));
    std::fs::create_dir_all(&tools).with_context(|| format!("make {}", tools.display()))?;
    interop::install_python(&pins, "supply-chain.txt", &tools, "cargo-deny")?;
    Ok(tools.join("cargo-deny/bin/cargo-deny"))
}

/// `cargo machete`, from the machine or built now.
fn machete(root: &Path) -> Result<std::path::PathBuf> {
    if interop::answers(Command::new("cargo-machete").arg("--version")) {
        return Ok("cargo-machete".into());
    }
    let tools = root.join("target/tools");
    let program = tools.join("bin/cargo-machete");
    if !interop::answers(Command::new(&program).arg("--version")) {
        println!("supply-chain: building cargo-machete {MACHETE_VERSION} into target/tools");
        process::succeed(
            cargo()
                .args(["install", "cargo-machete", "--locked"])
                .args(["--version", MACHETE_VERSION, "--root"])
                .arg(&tools),
        )?;
    }
    Ok(program)
}

/// One line for each package of the lockfile that needs a newer compiler than this workspace says.
fn compilers(root: &Path) -> Result<Vec<String>> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root);
    let metadata = serde_json::from_str(&process::output(&mut command)?)
        .context("read what `cargo metadata` prints")?;
    newer(&metadata)
}

fn newer(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let named = |name: &str| packages.iter().find(|package| package["name"] == name);
    let ours = named("stampworks").and_then(|package| version(&package["rust_version"]));
    let ours = ours.context("`stampworks` has no rust-version")?;
    let newer = packages
        .iter()
        .filter(|package| version(&package["rust_version"]).is_some_and(|needed| needed > ours));
    let line = |package: &Value| {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let (name, version, needed) = (text("name"), text("version"), text("rust_version"));
        let (major, minor) = ours;
        format!(
            "supply-chain: {name} {version} needs Rust {needed}, and rust-version says {major}.{minor}"
        )
    };
    Ok(newer.map(line).collect())
}

/// Major and minor; a patch of a compiler takes no feature away.
fn version(value: &Value) -> Option<(u32, u32)> {
    let mut parts = value.as_str()?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_that_needs_a_newer_compiler_is_named() {
        let package = |name: &str, needed: Value| json!({"name": name, "version": "1.2.3", "rust_version": needed});
        let metadata = json!({"packages": [
            package("stampworks", json!("1.88")),
            package("old", json!("1.60.0")),
            package("same", json!("1.88.2")),
            package("silent", Value::Null),
            package("newer", json!("1.90")),
        ]});
        assert_eq!(
            newer(&metadata).unwrap(),
            ["supply-chain: newer 1.2.3 needs Rust 1.90, and rust-version says 1.88"]
        );
    }

    #[test]
    fn the_pins_have_a_hash_for_every_file_that_may_be_installed() {
        let pins = include_str!("../supply-chain.txt");
        assert!(pins.matches("--hash=sha256:").count() >= 2, "{pins}");
    }
}
