//! `cargo xtask soak`: replicas of the real service under kills, pauses and faults, for minutes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{status, succeed};
use crate::test::cargo;
use crate::{interop, require_workspace};

/// How long, and from which seed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Soak {
    minutes: u64,
    seed: u64,
}

impl Soak {
    /// Reads `--minutes M` and `--seed S`; the seed is optional.
    ///
    /// # Errors
    /// Any other argument, a number that is none, or no minutes.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let (mut minutes, mut seed) = (None, 1);
        for pair in arguments.chunks(2) {
            let &[option, value] = pair else {
                bail!("`{}` takes a number", pair[0]);
            };
            let number = value
                .parse()
                .with_context(|| format!("`{option} {value}`: not a number from 0"))?;
            match option {
                "--minutes" => minutes = Some(number),
                "--seed" => seed = number,
                other => bail!("soak takes --minutes and --seed, not `{other}`"),
            }
        }
        match minutes {
            Some(minutes) if (1..=10_000).contains(&minutes) => Ok(Self { minutes, seed }),
            _ => bail!("soak needs --minutes, 1 to 10000"),
        }
    }
}

/// Builds the service and the soak, and runs it.
pub(crate) fn run(root: &Path, soak: &Soak) -> Result<u8> {
    require_workspace(root)?;
    interop::install(root).context("install the interop tools")?;
    let mut build = cargo();
    build
        .current_dir(root)
        .args(["build", "--release", "--bins"])
        .args(["-p", "stampworks", "-p", "stamp-soak"]);
    succeed(&mut build)?;
    // Not by `cargo run`, which takes one package and would build it with other features.
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |at| root.join(at));
    let mut command = Command::new(target.join("release/stamp-soak"));
    command
        .current_dir(root)
        .args(["--seconds", &(soak.minutes * 60).to_string()])
        .args(["--seed", &soak.seed.to_string()]);
    status(&mut command)
}

#[cfg(test)]
mod tests {
    use super::Soak;

    #[test]
    fn minutes_are_asked_for_and_the_seed_has_a_default() {
        let soak = Soak::parse(&["--minutes", "20"]).unwrap();
        assert_eq!(
            soak,
            Soak {
                minutes: 20,
                seed: 1
            }
        );
        let soak = Soak::parse(&["--seed", "7", "--minutes", "1"]).unwrap();
        assert_eq!(
            soak,
            Soak {
                minutes: 1,
                seed: 7
            }
        );
    }

    #[test]
    fn anything_else_is_told_by_its_name() {
        for (arguments, names) in [
            (vec![], "--minutes"),
            (vec!["--minutes", "0"], "--minutes"),
            (vec!["--minutes"], "--minutes"),
            (vec!["--hours", "1"], "--hours"),
            (vec!["--minutes", "long"], "long"),
        ] {
            let error = Soak::parse(&arguments).unwrap_err();
            assert!(error.to_string().contains(names), "{error}");
        }
    }
}
