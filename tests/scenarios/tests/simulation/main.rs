//! Whole consumers on a simulated hub and a store that fails, from one seed.
//!
//! Time is simulated; what happens is drawn from the seed and nothing else, so a seed repeats its
//! run to the byte. `STAMP_SIM_SEEDS` says how many seeds are run (default 40), `STAMP_SIM_SEED`
//! the first one (default 0); `cargo xtask sim` sets both. `STAMP_SIM_LOG` names a file for the log
//! of a seed that fails. What is simulated and what is not: docs/simulation.md.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::print_stdout, reason = "how much a test went through")]

mod actor;
mod chance;
mod check;
mod consumer;
mod host;
mod hub;
mod model;
mod oracle;
mod points;
mod replicas;
mod setup;
mod tables;
mod workload;
mod world;
mod wrong;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use check::Tally;
use consumer::Program;
use world::{Outcome, run};

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Runs numbers on all processors and returns the lowest that fails, with what is wrong.
fn first_failure(
    numbers: std::ops::Range<u64>,
    judge: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(numbers.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(why) = judge(number) {
                        let mut failed = failed.lock().unwrap();
                        if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                            *failed = Some((number, why));
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
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let all: Mutex<Tally> = Mutex::default();
    // All of them, whatever fails: a long run tells every seed to look at.
    first_failure(first..first + count, |seed| {
        let outcome = run(seed, Program::Consumer);
        if let Err(why) = sound(&outcome) {
            println!("seed {seed}: {why}\nagain: cargo xtask sim --seeds 1 --seed {seed}");
            failed.lock().unwrap().push(seed);
        }
        all.lock().unwrap().add(outcome.tally);
        Ok(())
    });
    println!(
        "{count} seeds from {first}: {:?}",
        all.into_inner().unwrap()
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds fail: {failed:?}",
        failed.len()
    );
    println!("no difference");
}

#[test]
fn the_same_seed_twice_gives_byte_equal_logs() {
    let first = from_environment("STAMP_SIM_SEED", 0);
    let failure = first_failure(first..first + 12, |seed| {
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
fn some_seeds_meet_every_kind_of_trouble() {
    let logs: Mutex<Vec<String>> = Mutex::default();
    first_failure(0..40, |seed| {
        let log = run(seed, Program::Consumer).log;
        logs.lock().unwrap().push(log);
        Ok(())
    });
    let logs = logs.into_inner().unwrap().concat();
    let troubles = [
        "Refuse",
        "LoseReply",
        "Tear { done: true }",
        "Tear { done: false }",
        "Throttle",
        "StaleList",
        "hangs: Some",
        "hangs: true",
        "Freeze(",
        "Thaw(",
        "Redeliver(",
        "Skip(",
        "expire 0",
        "ended: Killed",
        "ended: Stopped",
        "sharing: OneByOne",
        "lost: ",
        "balanced after a frozen replica woke up",
        "balanced after a replica died",
        "balanced after a replica joined",
    ];
    for trouble in troubles {
        assert!(logs.contains(trouble), "no {trouble}");
    }
    let is_lost_race = |line: &str| {
        line.contains("Create ") && line.contains("_delta_log") && line.ends_with("reply failed")
    };
    assert!(logs.lines().any(is_lost_race), "no commit met another one");
    let is_failed_open = |line: &str| line.contains("hub open ") && line.ends_with("fails");
    assert!(logs.lines().any(is_failed_open), "no failed opening");
    let is_killed_commit = |line: &str| line.contains("_delta_log") && line.ends_with("dies");
    assert!(logs.lines().any(is_killed_commit), "no kill at a commit");
    let overflows = |line: &str| line.contains("check,") && !line.contains("backlog: 0");
    assert!(logs.lines().any(overflows), "no event found no room");
    let is_over = |line: &str| line.contains("check,") && !line.contains("over_quota: 0");
    assert!(logs.lines().any(is_over), "no event was over its quota");
}
