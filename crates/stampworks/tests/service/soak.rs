//! A minute of the soak: long enough to find what is plainly broken, short enough for every run.

use std::path::PathBuf;
use std::time::Duration;

use stamp_soak::Plan;

/// Fault scenario 55.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_kills_pauses_and_faults_leaves_every_event_of_the_ledger_once() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_stampworks"));
    let plan = Plan {
        replicas: 2,
        partitions: 4,
        events_per_s: 200,
        ..Plan::new(Duration::from_secs(60), 1, program)
    };

    let report = stamp_soak::run(plan).await.unwrap();

    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(
        report.kills + report.pauses > 0,
        "nothing was tried: {report}"
    );
}
