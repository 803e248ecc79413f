//! Whole consumers on a simulated hub and a store that fails, from one seed.
//!
//! Time is simulated; what happens is drawn from the seed and nothing else, so a seed repeats its
//! run to the byte. `STAMP_SIM_SEEDS` says how many seeds are run (default 40), `STAMP_SIM_SEED`
//! the first one (default 0); `cargo xtask sim` sets both.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod actor;
mod chance;
mod check;
mod hub;
mod model;
mod workload;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Variant;
use world::{Outcome, Program, run};

/// Seeds within which each wrong variant must be caught.
const WRONG_SEEDS: u64 = 100;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Runs seeds on all processors and returns the first that fails, with what is wrong.
fn first_failure(
    seeds: std::ops::Range<u64>,
    judge: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(why) = judge(seed) {
                        let mut failed = failed.lock().unwrap();
                        if failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *failed = Some((seed, why));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn sound(outcome: &Outcome) -> Result<(), String> {
    if outcome.differences.is_empty() {
        return Ok(());
    }
    if let Ok(path) = std::env::var("STAMP_SIM_LOG") {
        std::fs::write(path, &outcome.log).unwrap();
    }
    Err(outcome.differences.join("\n"))
}

#[test]
fn seeds_of_faults_kills_and_zombies_lose_nothing_and_double_nothing() {
    let first = from_environment("STAMP_SIM_SEED", 0);
    let count = from_environment("STAMP_SIM_SEEDS", 40);
    let failure = first_failure(first..first + count, |seed| {
        sound(&run(seed, Program::Consumer))
    });
    if let Some((seed, why)) = failure {
        panic!("seed {seed}: {why}\nagain: cargo xtask sim --seeds 1 --seed {seed}");
    }
    println!("{count} seeds from {first}: no difference");
}

#[test]
fn the_same_seed_twice_gives_byte_equal_logs() {
    let first = from_environment("STAMP_SIM_SEED", 0);
    let failure = first_failure(first..first + 6, |seed| {
        let (one, two) = (
            run(seed, Program::Consumer).log,
            run(seed, Program::Consumer).log,
        );
        assert!(one.lines().count() > 100, "the log of seed {seed} is empty");
        if one == two {
            return Ok(());
        }
        let mut lines = one.lines().zip(two.lines());
        let (a, b) = lines.find(|(a, b)| a != b).unwrap_or(("one is longer", ""));
        Err(format!("the logs part at\n{a}\n{b}"))
    });
    assert_eq!(failure, None);
}

#[test]
fn a_dozen_seeds_meet_every_kind_of_trouble() {
    let logs: String = (0..12)
        .map(|seed| run(seed, Program::Consumer).log)
        .collect();
    let troubles = [
        "Refuse",
        "LoseReply",
        "Throttle",
        "StaleList",
        "hangs: Some",
        "ended: killed",
        "ended: stopped",
        "hub open 0 Earliest fails",
        "expire 0",
    ];
    for trouble in troubles {
        assert!(logs.contains(trouble), "no {trouble}");
    }
    let is_lost_race = |line: &str| {
        line.contains("Create ") && line.contains("_delta_log") && line.ends_with("reply failed")
    };
    assert!(logs.lines().any(is_lost_race), "no commit met another one");
    let is_killed_commit = |line: &str| line.contains("_delta_log") && line.ends_with("dies");
    assert!(logs.lines().any(is_killed_commit), "no kill at a commit");
}

#[test]
fn the_model_of_the_protocol_is_sound_when_nothing_is_wrong_with_it() {
    let right = Program::Model(Variant::Right);
    assert_eq!(first_failure(0..20, |seed| sound(&run(seed, right))), None);
}

/// The first seed that catches a wrong variant, and that it is caught for the right reason.
fn caught(variant: Variant, reason: &str) {
    let program = Program::Model(variant);
    let failure = first_failure(0..WRONG_SEEDS, |seed| sound(&run(seed, program)));
    let (seed, why) = failure.unwrap_or_else(|| panic!("{variant:?} was not caught"));
    assert!(why.contains(reason), "{variant:?}, seed {seed}: {why}");
}

#[test]
fn rows_that_are_not_filtered_by_the_mark_are_caught() {
    caught(Variant::NoMarkFilter, "2 times instead of 1");
}

#[test]
fn a_mark_that_is_not_read_again_after_a_conflict_is_caught() {
    caught(Variant::MarkReadOnce, "2 times instead of 1");
}

#[test]
fn a_checkpoint_before_the_commit_is_caught() {
    caught(Variant::CheckpointFirst, "although the checkpoint is");
}

#[test]
fn a_table_that_is_left_out_is_caught() {
    caught(Variant::SkipTable, "although the");
}
