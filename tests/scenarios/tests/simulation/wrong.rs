//! Programs that are wrong on purpose: each must be caught, and for the right reason.

use stamp_lake::faults::Lie;

use crate::consumer::Program;
use crate::model::Variant;
use crate::world::run;
use crate::{first_failure, sound};

/// Seeds within which each wrong variant must be caught.
const WRONG_SEEDS: u64 = 1_000;
/// Seeds that the model must pass when nothing is wrong with it.
const RIGHT_SEEDS: u64 = 30;

/// The first seed that catches a wrong program, and that it is caught for the right reason.
fn caught(program: Program, reason: &str) {
    let failure = first_failure(0..WRONG_SEEDS, |seed| sound(&run(seed, program)));
    let (seed, why) = failure.unwrap_or_else(|| panic!("{program:?} was not caught"));
    assert!(why.contains(reason), "{program:?}, seed {seed}: {why}");
    println!(
        "{program:?}: caught at seed {seed}: {}",
        why.lines().next().unwrap_or("")
    );
}

fn passes(program: Program) {
    let failure = first_failure(0..RIGHT_SEEDS, |seed| sound(&run(seed, program)));
    assert_eq!(failure, None);
}

#[test]
fn the_model_of_the_protocol_is_sound_when_nothing_is_wrong_with_it() {
    passes(Program::Model(Variant::Right));
}

#[test]
fn a_program_that_asks_for_marks_behind_is_sound_as_long_as_they_are_refused() {
    passes(Program::Model(Variant::ReliesOnGuard));
}

#[test]
fn rows_that_are_not_filtered_by_the_mark_are_caught() {
    caught(
        Program::Model(Variant::NoMarkFilter),
        "2 times instead of 1",
    );
}

#[test]
fn a_mark_that_is_not_read_again_after_a_conflict_is_caught() {
    caught(
        Program::Model(Variant::MarkReadOnce),
        "2 times instead of 1",
    );
}

#[test]
fn a_checkpoint_before_the_commit_is_caught() {
    caught(
        Program::Model(Variant::CheckpointFirst),
        "0 times although the checkpoint is",
    );
}

#[test]
fn a_table_that_is_left_out_is_caught() {
    caught(Program::Model(Variant::SkipTable), "0 times although the");
}

#[test]
fn a_lake_without_the_guard_of_the_marks_is_caught() {
    caught(
        Program::Model(Variant::GuardRemoved),
        "2 times instead of 1",
    );
}

#[test]
fn a_gap_that_is_not_recorded_is_caught() {
    caught(Program::Model(Variant::GapNotRecorded), "0 times although");
}

#[test]
fn settled_quarantine_rows_that_are_not_looked_at_are_caught() {
    caught(Program::Deceived(Lie::NoRowsFound), "quarantine");
}
