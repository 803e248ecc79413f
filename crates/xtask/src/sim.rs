//! `cargo xtask sim`: more seeds of the simulation than a test run has, or one seed again.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process::status;
use crate::require_workspace;
use crate::test::cargo;

/// Seeds that are run when none are asked for: what the build machine runs.
const SEEDS: u64 = 200;

/// From so many seeds on, building the simulation optimised takes less time than it saves.
const OPTIMISED_FROM: u64 = 1_000;

/// The test that takes its seeds from the environment.
const TEST: &str = "seeds_of_faults_kills_and_zombies_lose_nothing_and_double_nothing";

/// Which seeds are run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    first: u64,
    count: u64,
}

impl Seeds {
    /// Reads `--seeds N` and `--seed K`, both optional.
    ///
    /// # Errors
    /// Any other argument, or a number that is none.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut seeds = Self {
            first: 0,
            count: SEEDS,
        };
        for pair in arguments.chunks(2) {
            let &[option, value] = pair else {
                bail!("`{}` takes a number", pair[0]);
            };
            let number = value
                .parse()
                .with_context(|| format!("`{option} {value}`: not a number from 0"))?;
            match option {
                "--seeds" => seeds.count = number,
                "--seed" => seeds.first = number,
                other => bail!("sim takes --seeds and --seed, not `{other}`"),
            }
        }
        Ok(seeds)
    }

    /// How the simulation is built: as all tests are, or with the profile of its own for many seeds.
    fn profile(&self) -> &'static [&'static str] {
        if self.count < OPTIMISED_FROM {
            &[]
        } else {
            &["--profile", "sim"]
        }
    }
}

/// Runs the seeds; a failing one is printed with the command that repeats it.
///
/// Not by the test runner, which would end a long run.
pub(crate) fn run(root: &Path, seeds: &Seeds) -> Result<u8> {
    require_workspace(root)?;
    let mut command = cargo();
    command
        .current_dir(root)
        .env("STAMP_SIM_SEED", seeds.first.to_string())
        .env("STAMP_SIM_SEEDS", seeds.count.to_string())
        // All packages, so that nothing outside is built again with other features.
        .args(["test", "--workspace", "--test", "simulation"])
        .args(seeds.profile())
        .arg("--")
        .args(["--exact", TEST, "--nocapture"]);
    status(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_seeds_command_names_one_seed() {
        let seeds = Seeds::parse(&["--seeds", "1", "--seed", "67"]).unwrap();

        assert_eq!(
            seeds,
            Seeds {
                first: 67,
                count: 1
            }
        );
        assert_eq!(Seeds::parse(&[]).unwrap().count, SEEDS);
    }

    #[test]
    fn a_long_run_is_built_optimised_and_one_seed_is_not() {
        let profile = |count: &str| Seeds::parse(&["--seeds", count]).unwrap().profile();
        assert_eq!(profile("1"), &[] as &[&str]);
        assert_eq!(profile("10000"), ["--profile", "sim"]);
    }

    #[test]
    fn anything_else_is_told_by_its_name() {
        for (arguments, names) in [
            (vec!["--seeds"], "--seeds"),
            (vec!["--seeds", "many"], "many"),
            (vec!["--speed", "1"], "--speed"),
        ] {
            let error = Seeds::parse(&arguments).unwrap_err();
            assert!(error.to_string().contains(names), "{error}");
        }
    }
}
