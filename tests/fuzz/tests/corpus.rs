//! Every target runs over its corpus, and over seeded changes of it, on the stable toolchain.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail like tests"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use stamp_fuzz::{TARGETS, Target};

/// Changed inputs a target; a few seconds in the dev profile.
const CHANGED: u64 = 3_000;
/// Longest input, as under libFuzzer.
const INPUT_BYTES_MAX: usize = 4_096;

/// SplitMix64: a small generator with a published constant set.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap();
        usize::try_from(self.next() % n).unwrap()
    }
}

/// The files of the target's corpus by name. A corpus that is missing or empty is a failure.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    files
}

/// One to four changes: a bit, a byte, a piece removed, doubled, or taken from another file.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let length = 1 + random.below(16);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            2 => drop(bytes.drain(at..bytes.len().min(at + length))),
            3 => {
                let piece = bytes[at..bytes.len().min(at + length)].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let from = random.below(other.len());
                let piece = &other[from..other.len().min(from + 4 * length)];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

/// Runs one input; when it breaks a promise, says which one it was.
fn run(target: &Target, what: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        eprintln!("{} breaks a promise on {what}: {bytes:02x?}", target.name);
        resume_unwind(panic);
    }
}

#[track_caller]
fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let files = corpus(target);
    for (file, bytes) in &files {
        run(target, file, bytes);
    }
    for seed in 0..CHANGED {
        let mut random = Random(seed);
        let (file, bytes) = &files[random.below(files.len())];
        let (_, other) = &files[random.below(files.len())];
        let mut changed = bytes.clone();
        change(&mut changed, other, &mut random);
        run(target, &format!("{file}, changed by seed {seed}"), &changed);
    }
}

macro_rules! targets {
    ($($promise:ident: $target:literal,)*) => {
        $(#[test]
        fn $promise() {
            check($target);
        })*

        #[test]
        fn every_target_is_run() {
            let mut run = [$($target),*];
            run.sort_unstable();
            assert_eq!(run, TARGETS.map(|target| target.name));
        }
    };
}

targets! {
    values_frames_and_performatives_are_read_as_they_are_written: "amqp_codec",
    a_message_means_the_same_to_two_readers_and_loses_nothing: "amqp_event",
    whatever_a_hub_says_is_events_or_an_end_that_is_named: "amqp_receiver",
    the_tap_changes_and_loses_no_byte_of_a_stream: "amqp_stream",
    the_decoders_are_of_one_opinion_and_rejections_leave_nothing_behind: "body",
    a_configuration_in_force_is_printed_as_it_is_and_no_key_is_shown: "config",
    no_event_gets_a_tenant_out_of_nothing_and_no_tenant_leaves_its_root: "directory",
    whatever_a_client_says_the_next_one_is_served: "emulator",
    a_position_is_read_as_it_was_written_or_not_at_all: "positions",
    a_schema_is_refused_by_line_or_can_be_decoded_with: "schema",
    a_call_of_the_webhook_is_answered_or_refused_and_both_spellings_say_the_same: "webhook",
}
