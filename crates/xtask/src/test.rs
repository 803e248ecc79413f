//! `cargo xtask test`: everything that continuous integration runs as a test.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{self, Kept};
use crate::{interop, require_workspace};

/// The test runner's version, installed below `target/tools` where the machine has none.
const NEXTEST_VERSION: &str = "0.9.143";

/// Installs the interop tools, runs every test, and ends with the runner's own closing lines.
///
/// The code is the runner's, or that of the documentation tests when only those failed. Both run
/// in any case: one failure does not hide the other.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<u8> {
    require_workspace(root)?;
    interop::install(root).context("install the interop tools")?;
    let (runner_code, runner_lines) = run_tests(root, arguments)?;
    let (doc_code, doc_lines) = run_doc_tests(root)?;

    println!("\ndocumentation tests (exit code {doc_code}):");
    for line in closing_doc_lines(&doc_lines) {
        println!("  {line}");
    }
    println!("tests (exit code {runner_code}):");
    for line in closing_lines(&runner_lines) {
        println!("{line}");
    }
    Ok(if runner_code == 0 {
        doc_code
    } else {
        runner_code
    })
}

fn run_tests(root: &Path, arguments: &[&str]) -> Result<(u8, Vec<String>)> {
    let mut command = nextest(root)?;
    command.args(["run", "--workspace"]).current_dir(root);
    // The output passes through a pipe, so the runner cannot see the terminal itself.
    if std::io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    process::shown_and_kept(command.args(arguments), Kept::Stderr)
}

fn run_doc_tests(root: &Path) -> Result<(u8, Vec<String>)> {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--doc", "--no-fail-fast"])
        .current_dir(root);
    process::shown_and_kept(&mut command, Kept::Stdout)
}

/// `cargo nextest`, from the machine or installed now.
fn nextest(root: &Path) -> Result<Command> {
    if interop::answers(cargo().args(["nextest", "--version"])) {
        let mut command = cargo();
        command.arg("nextest");
        return Ok(command);
    }
    let tools = root.join("target/tools");
    let program = tools.join("bin/cargo-nextest");
    if !interop::answers(Command::new(&program).args(["nextest", "--version"])) {
        println!("test: `cargo nextest` is missing: building {NEXTEST_VERSION} into target/tools");
        process::succeed(
            cargo()
                .args(["install", "cargo-nextest", "--locked"])
                .args(["--version", NEXTEST_VERSION, "--root"])
                .arg(&tools),
        )?;
    }
    let mut command = Command::new(program);
    command.arg("nextest");
    Ok(command)
}

/// The cargo that runs this program, without what that one told about this package: build scripts
/// that look at it would take every call for a change and build half of all crates again.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_this_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds a program of the workspace beside one of its tests, whichever: libraries then have the features that all
/// tests together give them, and none is compiled again for it. The path of the executable.
pub(crate) fn beside_tests(root: &Path, program: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--locked", "--workspace", "--test", "tools"])
        .args(["--bin", program])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root);
    executable(&process::output_beside_errors(&mut command)?, program)
}

/// The executable of a program, from what cargo told in JSON.
pub(crate) fn executable(told: &str, program: &str) -> Result<PathBuf> {
    let mut executables = told.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        (target["name"] == program && target["kind"][0] == "bin").then_some(())?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executables
        .next_back()
        .with_context(|| format!("cargo built no executable `{program}`"))
}

fn is_of_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// From the runner's summary on; everything when there is none, because then it says why.
fn closing_lines(lines: &[String]) -> &[String] {
    let summary = lines.iter().rposition(|line| line.contains("Summary ["));
    let from = summary.unwrap_or_else(|| lines.len().saturating_sub(20));
    &lines[from..]
}

/// One line a crate, failures among them.
fn closing_doc_lines(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{cargo, closing_doc_lines, closing_lines};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn cargo_is_not_told_about_this_package() {
        assert!(
            std::env::var_os("CARGO_PKG_NAME").is_some(),
            "cargo runs tests with it"
        );

        let command = cargo();

        let mut changes = command.get_envs();
        assert!(changes.any(|(name, value)| name == "CARGO_PKG_NAME" && value.is_none()));
    }

    #[test]
    fn the_closing_lines_start_at_the_last_summary() {
        let shown = lines("PASS a\nSummary [ 1s] old\nPASS b\n     Summary [ 2s] 2 tests\nFAIL c");

        assert_eq!(
            closing_lines(&shown),
            lines("     Summary [ 2s] 2 tests\nFAIL c")
        );
    }

    #[test]
    fn a_run_without_a_summary_shows_its_last_lines() {
        let shown = lines("error: could not compile");

        assert_eq!(closing_lines(&shown), shown);
    }

    #[test]
    fn crates_without_documentation_tests_are_left_out() {
        let shown = lines(
            "running 0 tests\ntest result: ok. 0 passed; 0 failed; 0 ignored\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored",
        );

        assert_eq!(
            closing_doc_lines(&shown),
            ["test result: FAILED. 1 passed; 1 failed; 0 ignored"]
        );
    }
}
