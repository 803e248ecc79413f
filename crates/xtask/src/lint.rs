//! `cargo xtask lint`: every check that is not a test.

use std::path::Path;

use anyhow::Result;

use crate::{docs, layers, process, test, tidy};

/// Runs every check, also after one has failed; one line for each finding of ours, and one for
/// each tool that found something.
pub(crate) fn run(root: &Path) -> Result<Vec<String>> {
    crate::require_workspace(root)?;
    let mut found = Vec::new();
    for arguments in [
        &["fmt", "--all", "--check"][..],
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
        // What the image holds: the tests compile the whole, with what plays Azure.
        &[
            "clippy",
            "--package",
            "stampworks",
            "--no-default-features",
            "--features",
            "service",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    ] {
        let mut command = test::cargo();
        command.args(arguments).current_dir(root);
        if process::status(&mut command)? != 0 {
            found.push(format!(
                "lint: `cargo {}` found something",
                arguments.join(" ")
            ));
        }
    }
    found.extend(layers::run(root)?);
    found.extend(docs::check(root)?);
    let tidy = tidy::run(root)?;
    for note in tidy.noted {
        println!("{note}");
    }
    found.extend(tidy.refused);
    Ok(found)
}
