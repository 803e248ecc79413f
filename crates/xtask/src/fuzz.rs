//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, and what is kept of their findings.
//!
//! docs/fuzzing.md says what the targets promise. libFuzzer works in `fuzz/corpus` and leaves what
//! it breaks in `fuzz/artifacts`, both outside version control; `tests/fuzz/corpus` is what every
//! test run goes through.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::interop::answers;
use crate::process::{output, status, succeed};
use crate::require_workspace;
use crate::test::cargo;

/// The version of cargo-fuzz, installed below `target/tools`.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Minutes for each target when none are asked for.
const MINUTES: u64 = 10;

/// Longest input that is tried and kept, in bytes: long enough for every branch, short enough to be
/// read by a person.
const INPUT_BYTES_MAX: usize = 4_096;

/// Most bytes that are kept of one target, so that the corpus of all stays below a megabyte.
const KEPT_BYTES_MAX: u64 = 100 << 10;

/// Memory: a single allocation above the first is a finding, the whole process above the second.
const ALLOCATION_MIB_MAX: u32 = 256;
const MEMORY_MIB_MAX: u32 = 2_048;

/// Seconds after which one input is a finding.
const INPUT_S_MAX: u32 = 20;

/// A program in `fuzz/`, its dictionary, and whether it needs the lake or a program.
struct Target {
    name: &'static str,
    dictionary: &'static str,
    lake: bool,
}

const TARGETS: [Target; 11] = [
    target("amqp_codec", "amqp", false),
    target("amqp_event", "amqp", false),
    target("amqp_receiver", "amqp", false),
    target("amqp_stream", "amqp", false),
    target("body", "json", false),
    target("emulator", "amqp", false),
    target("schema", "schema", false),
    target("config", "config", true),
    target("directory", "names", true),
    target("positions", "names", true),
    target("webhook", "webhook", true),
];

const fn target(name: &'static str, dictionary: &'static str, lake: bool) -> Target {
    Target {
        name,
        dictionary,
        lake,
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    target: Option<&'static str>,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    /// Look for findings this long, each target.
    Run { minutes: u64 },
    /// Keep the smallest inputs that together reach all that was reached.
    Keep,
}

impl Plan {
    /// Reads `[TARGET] [--minutes M | --keep]`.
    ///
    /// # Errors
    /// A target that does not exist, another option, or a number that is none.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let (target, options) = match arguments {
            [name, options @ ..] if !name.starts_with("--") => (Some(find(name)?), options),
            options => (None, options),
        };
        let what = match options {
            [] => What::Run { minutes: MINUTES },
            ["--minutes", number] => What::Run {
                minutes: number
                    .parse()
                    .with_context(|| format!("`--minutes {number}`: not a number from 0"))?,
            },
            ["--keep"] => What::Keep,
            other => bail!(
                "fuzz takes a target and --minutes M or --keep, not `{}`",
                other.join(" ")
            ),
        };
        Ok(Self { target, what })
    }
}

fn find(name: &str) -> Result<&'static str> {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.map(|target| target.name).with_context(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        format!("no target `{name}`; there are {}", names.join(", "))
    })
}

/// Runs the plan, one target after the other; stops at the first finding, with libFuzzer's code.
pub(crate) fn run(root: &Path, plan: &Plan) -> Result<u8> {
    require_workspace(root)?;
    let tool = cargo_fuzz(root)?;
    let wanted = |target: &&Target| plan.target.is_none_or(|name| name == target.name);
    for target in TARGETS.iter().filter(wanted) {
        let code = match plan.what {
            What::Run { minutes } => look(root, &tool, target, minutes)?,
            What::Keep => keep(root, &tool, target)?,
        };
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// cargo-fuzz below `target/tools`, after the nightly toolchain was found.
fn cargo_fuzz(root: &Path) -> Result<PathBuf> {
    if !answers(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
        bail!(
            "libFuzzer's coverage needs the nightly toolchain, which is not installed: \
             `rustup toolchain install nightly --profile minimal`. Without it, \
             `cargo nextest run -p stamp-fuzz` goes through the corpus that is kept"
        );
    }
    let tools = root.join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    let pinned = output(Command::new(&program).arg("--version"))
        .is_ok_and(|version| version.trim().ends_with(CARGO_FUZZ_VERSION));
    if !pinned {
        println!("fuzz: building cargo-fuzz {CARGO_FUZZ_VERSION} into target/tools");
        succeed(
            cargo()
                .args(["install", "cargo-fuzz", "--locked", "--force"])
                .args(["--version", CARGO_FUZZ_VERSION, "--root"])
                .arg(&tools),
        )?;
    }
    Ok(program)
}

/// `cargo fuzz run TARGET` with the nightly toolchain, up to the corpus folders.
fn fuzz(root: &Path, tool: &Path, target: &Target) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(root)
        // Which cargo and compiler run this program must not decide which run that one.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTDOC")
        .args(["run", "nightly"])
        .arg(tool)
        // No sanitizer: the code is safe Rust, and building all of it for one takes an hour.
        .args(["run", "--fuzz-dir", "fuzz", "--sanitizer", "none"]);
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        command.arg("--target-dir").arg(root.join("target/fuzz"));
    }
    if target.lake {
        command.args(["--features", "lake"]);
    }
    command.arg(target.name);
    command
}

fn look(root: &Path, tool: &Path, target: &Target, minutes: u64) -> Result<u8> {
    let found = work_folder(root, target)?;
    let mut command = fuzz(root, tool, target);
    command.args([found, kept_folder(root, target)]).arg("--");
    command.args([
        format!("-dict=fuzz/dict/{}.dict", target.dictionary),
        format!("-max_total_time={}", minutes * 60),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_S_MAX}"),
        format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        "-print_final_stats=1".to_owned(),
    ]);
    status(&mut command)
}

/// Replaces what is kept by the inputs that together reach all that is reached so far. Files named
/// `found-*` stay: each of them was a finding.
fn keep(root: &Path, tool: &Path, target: &Target) -> Result<u8> {
    let (found, kept) = (work_folder(root, target)?, kept_folder(root, target));
    let chosen = root
        .join("fuzz/corpus")
        .join(format!("{}.kept", target.name));
    if chosen.exists() {
        fs::remove_dir_all(&chosen).with_context(|| format!("empty {}", chosen.display()))?;
    }
    fs::create_dir_all(&chosen).with_context(|| format!("make {}", chosen.display()))?;
    let mut command = fuzz(root, tool, target);
    command.args([&chosen, &found, &kept]).arg("--");
    command.args([
        "-set_cover_merge=1".to_owned(),
        // By branches alone: how often each is taken would keep ten times as many.
        "-use_counters=0".to_owned(),
        format!("-max_len={INPUT_BYTES_MAX}"),
    ]);
    let code = status(&mut command)?;
    if code == 0 {
        replace(&kept, &chosen).with_context(|| format!("replace {}", kept.display()))?;
    }
    Ok(code)
}

/// Takes the chosen files, smallest first, as long as they fit.
fn replace(kept: &Path, chosen: &Path) -> Result<()> {
    let mut bytes = 0;
    for (path, size) in files(kept)? {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("found-"))
        {
            bytes += size;
        } else {
            fs::remove_file(path)?;
        }
    }
    let (mut count, mut left) = (0, 0);
    for (path, size) in files(chosen)? {
        bytes += size;
        if bytes > KEPT_BYTES_MAX {
            left += 1;
        } else if let Some(name) = path.file_name() {
            fs::copy(&path, kept.join(name))?;
            count += 1;
        }
    }
    println!(
        "fuzz: {count} files kept in {}, {left} do not fit",
        kept.display()
    );
    Ok(())
}

/// Files of a folder with their sizes, smallest first.
fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.len()));
    }
    files.sort_by(|(a, a_size), (b, b_size)| (a_size, a).cmp(&(b_size, b)));
    Ok(files)
}

fn work_folder(root: &Path, target: &Target) -> Result<PathBuf> {
    let folder = root.join("fuzz/corpus").join(target.name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn kept_folder(root: &Path, target: &Target) -> PathBuf {
    root.join("tests/fuzz/corpus").join(target.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_target_a_dictionary_and_a_corpus() {
        let root = crate::root();
        let mut programs: Vec<String> = files(&root.join("fuzz/fuzz_targets"))
            .unwrap()
            .iter()
            .map(|(path, _)| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        programs.sort();
        let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        targets.sort_unstable();
        assert_eq!(programs, targets);
        for target in &TARGETS {
            let dictionary = format!("fuzz/dict/{}.dict", target.dictionary);
            assert!(root.join(&dictionary).is_file(), "{dictionary}");
            let sizes = files(&kept_folder(&root, target)).unwrap();
            let bytes: u64 = sizes.iter().map(|(_, size)| size).sum();
            assert!(
                (1..=2 * KEPT_BYTES_MAX).contains(&bytes),
                "{}: {bytes}",
                target.name
            );
        }
    }

    #[test]
    fn a_plan_is_a_target_and_minutes() {
        let plan = Plan::parse(&["body", "--minutes", "3"]).unwrap();
        assert_eq!(
            plan,
            Plan {
                target: Some("body"),
                what: What::Run { minutes: 3 }
            }
        );
        let all = Plan::parse(&[]).unwrap();
        assert_eq!(
            (all.target, all.what),
            (None, What::Run { minutes: MINUTES })
        );
        assert_eq!(Plan::parse(&["--keep"]).unwrap().what, What::Keep);
        for (arguments, names) in [
            (vec!["soul"], "soul"),
            (vec!["--minutes", "many"], "many"),
            (vec!["body", "--minutes"], "--minutes"),
            (vec!["--hours", "1"], "--hours"),
        ] {
            let error = Plan::parse(&arguments).unwrap_err();
            assert!(error.to_string().contains(names), "{error}");
        }
    }

    #[test]
    fn what_was_a_finding_stays_and_the_rest_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, chosen) = (folder.path().join("kept"), folder.path().join("chosen"));
        for (path, bytes) in [
            (kept.join("found-overflow"), 10),
            (kept.join("old"), 10),
            (chosen.join("a"), 20),
            (chosen.join("b"), usize::try_from(KEPT_BYTES_MAX).unwrap()),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        }

        replace(&kept, &chosen).unwrap();

        let mut names: Vec<_> = files(&kept)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        names.sort();
        assert_eq!(names, [kept.join("a"), kept.join("found-overflow")]);
    }
}
