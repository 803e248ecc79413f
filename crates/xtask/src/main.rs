//! The project's own commands: `cargo xtask test | sim | soak | fuzz | image | supply-chain | tools |
//! layers | lint | docs | help`.
//!
//! Everything a person or a build machine types beyond plain cargo lives here, so that both type
//! the same. This program never edits a source file except the generated documents of `docs`, and
//! installs only below `target/` (and, as root and when a program is missing, with apt-get).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its result"
)]

mod dashboards;
mod docs;
#[cfg(test)]
mod documented;
mod faults;
mod fuzz;
mod image;
mod interop;
mod keys;
mod layers;
mod lint;
mod logs;
mod process;
mod sim;
mod soak;
mod supply_chain;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  test [-- ARGS]  install the interop tools once (target/interop), then run every test:
                  `cargo nextest run --workspace ARGS` and the documentation tests
                  example: cargo xtask test -- -E 'package(stamp-lake)'
  sim [--seeds N] [--seed K]
                  the simulation of whole consumers: N seeds (200) from K (0); a seed that fails
                  is printed with the command that repeats it
  soak --minutes M [--seed S]
                  replicas of the real service, blobs and a hub behind fault proxies, kills and
                  pauses from seed S (1); recounted at the end (5: something is not there once)
  fuzz [TARGET] [--minutes M | --keep]
                  the fuzz targets under libFuzzer, M minutes (10) each, or keep the smallest
                  inputs that reach all that was reached; needs the nightly toolchain
  image [--profile NAME] [--out DIR]
                  the service's container image, without a daemon: an OCI layout, an archive of it
                  and its bill of materials in DIR (target/image), built with the profile (dist)
  supply-chain    cargo deny (bans, licences, sources; advisories where their database can be fetched),
                  cargo machete, and no dependency newer than `rust-version`
  tools           only install the interop tools
  layers          compare the crates' imports with the table in ARCHITECTURE.md
  lint            rustfmt, clippy with warnings as errors, layers, generated documents, tidy
  docs [--check]  write the generated documents (docs/metrics.md, docs/configuration-keys.md,
                  docs/schemas/*.json, dashboards/*.json and others), or only compare them
  help            this text

Exit codes: 0 ok, 1 a check or test failed or could not run, 2 usage; `test` passes on the
runner's own code.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test", rest @ ..] => match rest {
            [] => test::run(&root(), &[]),
            ["--", runner_arguments @ ..] => test::run(&root(), runner_arguments),
            _ => return usage("test takes arguments for the runner after `--`"),
        },
        ["sim", rest @ ..] => match sim::Seeds::parse(rest) {
            Ok(seeds) => sim::run(&root(), &seeds),
            Err(error) => return usage(&format!("{error:#}")),
        },
        ["soak", rest @ ..] => match soak::Soak::parse(rest) {
            Ok(soak) => soak::run(&root(), &soak),
            Err(error) => return usage(&format!("{error:#}")),
        },
        ["fuzz", rest @ ..] => match fuzz::Plan::parse(rest) {
            Ok(plan) => fuzz::run(&root(), &plan),
            Err(error) => return usage(&format!("{error:#}")),
        },
        ["image", rest @ ..] => match image::Image::parse(rest) {
            Ok(image) => image::run(&root(), &image).map(|()| 0),
            Err(error) => return usage(&format!("{error:#}")),
        },
        ["tools"] => interop::install(&root()).map(|()| 0),
        ["supply-chain"] => supply_chain::run(&root()).map(code),
        ["layers"] => layers::run(&root()).map(code),
        ["lint"] => lint::run(&root()).map(code),
        ["docs"] => docs::write(&root()).map(|()| 0),
        ["docs", "--check"] => docs::check(&root()).map(code),
        ["help" | "--help" | "-h"] | [] => {
            print!("{HELP}");
            Ok(0)
        }
        other => return usage(&format!("unknown command `{}`", other.join(" "))),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("xtask: {message}\n\n{HELP}");
    ExitCode::from(2)
}

/// Prints what a check found; 0 when it found nothing, else 1.
fn code(differences: Vec<String>) -> u8 {
    for difference in &differences {
        println!("{difference}");
    }
    u8::from(!differences.is_empty())
}

/// The workspace's folder: two above this crate's.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Reads a text file, naming it when that fails.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Fails unless `path` is the workspace's folder, so that a moved binary does not write elsewhere.
fn require_workspace(root: &Path) -> Result<()> {
    if root.join("Cargo.lock").is_file() && root.join("crates").is_dir() {
        return Ok(());
    }
    bail!(
        "{} is not the workspace: run `cargo xtask` inside it",
        root.display()
    )
}
