//! The memory of a consumer is bounded by its configuration, whatever devices send.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at once when something is wrong"
)]

use std::process::Command;

const MIB: u64 = 1 << 20;

/// `buffer-max` of the consumer that is looked at: the default of a stamp.
const BUFFER_MAX_MIB: u64 = 64;

/// What a process may hold besides `buffer-max`; docs/performance.md states it and says of what
/// it consists. Two thirds of it were measured.
const CONSTANT_MIB: u64 = 192;

/// Runs the whole way from AMQP to committed tables in a process of its own, whose input is made
/// by another one. Gives its largest resident set.
fn peak_memory_bytes(arguments: &[&str]) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_stampworks"))
        .args(["bench", "--only", "whole", "--json"])
        .args(["--buffer-max", &format!("{BUFFER_MAX_MIB}MiB")])
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    results["peak_memory_bytes"].as_u64().unwrap()
}

#[track_caller]
fn assert_bounded(arguments: &[&str]) {
    let peak = peak_memory_bytes(arguments);
    // An idle process takes more than this: the kernel did tell.
    assert!(peak > 4 * MIB, "{peak} bytes");
    let bound = (BUFFER_MAX_MIB + CONSTANT_MIB) * MIB;
    assert!(peak < bound, "{} of {} MiB", peak / MIB, bound / MIB);
}

#[test]
fn a_backlog_of_one_partition_stays_within_the_buffer_and_a_constant() {
    assert_bounded(&["--events", "400000", "--transport", "plain"]);
}

#[test]
fn many_rollup_rows_of_several_partitions_stay_within_it_too() {
    assert_bounded(&[
        "--events",
        "400000",
        "--partitions",
        "4",
        "--interval",
        "60s",
        "--transport",
        "tls",
    ]);
}
