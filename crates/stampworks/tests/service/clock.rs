//! The host's clock jumps, and the credential of the hub runs out.

use std::ffi::OsString;

use crate::process::Service;
use crate::stamp::{EAGER, ENVIRONMENT, SOON, Stamp, replica, until};
use stamp_interop::WallClock;

/// The configuration, with a key that makes a token for every partition.
fn with_key(stamp: &Stamp, name: &str) -> std::path::PathBuf {
    let config = stamp.config(name, &replica(name, 10, &format!("{EAGER}{SOON}")));
    let key = config.with_file_name("connection-string");
    std::fs::write(&key, stamp.emulator.connection_string("telemetry")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let named = format!(
        "hub = \"telemetry\"\nconnection-string-file = \"{}\"",
        key.display()
    );
    std::fs::write(&config, text.replace("hub = \"telemetry\"", &named)).unwrap();
    config
}

/// Fault scenario 37.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_both_ways_moves_no_row_and_no_partition() {
    let mut stamp = Stamp::new(4).await;
    let clock = WallClock::new();
    let start = |name, jumps: bool| {
        let mut environment: Vec<(&str, OsString)> =
            ENVIRONMENT.map(|(key, value)| (key, value.into())).to_vec();
        if jumps {
            environment.extend(clock.environment().map(|(key, path)| (key, path.into())));
        }
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_stampworks"));
        Service::start_by(program, &with_key(&stamp, name), &environment)
    };
    let (jumping, steady) = (start("a", true), start("b", false));
    stamp
        .until_balanced(&[("a", &jumping, 2), ("b", &steady, 2)])
        .await;
    let claims = || {
        jumping.metric("stamp_ownership_claims_total", &[])
            + steady.metric("stamp_ownership_claims_total", &[])
    };
    let claimed = claims();
    let displaced = stamp.hub.counters().receivers_displaced;
    let hub = stamp.hub.clone();
    let tokens = || hub.counters().put_tokens;

    for (shift_s, renewed) in [(0, 0), (3_600, 2), (-3_600, 0), (0, 0)] {
        let before = tokens();
        clock.shift_s(shift_s);
        (0..3).for_each(|_| stamp.publish(200));
        stamp.until_settled().await;
        if renewed > 0 {
            // An hour later the tokens of its two links are over by its own clock.
            until("tokens are renewed", async || tokens() >= before + renewed).await;
        }
        stamp.until_owned(&[("a", 2), ("b", 2)]).await;
    }

    assert_eq!(claims(), claimed, "partitions moved:\n{}", jumping.log());
    let displaced_now = stamp.hub.counters().receivers_displaced;
    assert_eq!(displaced_now, displaced, "a receiver was displaced");
    jumping.stop();
    steady.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
}
