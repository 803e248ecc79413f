//! A real process, killed at random moments on real storage, leaves every row exactly once.

use std::time::Duration;

use crate::process::Service;
use crate::stamp::{KEY_VARIABLE, Stamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_interop::ACCOUNT_KEY;

/// Kills when nothing else is asked for.
const KILLS: u64 = 20;
/// How many there are, and the seed of their moments: see CONTRIBUTING.md.
const KILLS_VARIABLE: &str = "STAMP_KILLS";
const SEED_VARIABLE: &str = "STAMP_KILLS_SEED";

/// A number from the environment, or `default` where there is none.
fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Fault scenario 1.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_leave_every_row_exactly_once() {
    let (kills, seed) = (asked(KILLS_VARIABLE, KILLS), asked(SEED_VARIABLE, 20));
    let mut stamp = Stamp::new(2).await;
    // Small flushes and short waits: as many commits, and so as many moments to die in, as can be.
    let more = "[consumer]\nflush-rows = 150\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\nbatch-events-max = 60\n\
                [resilience]\nstart-spread = \"1ms\"";
    let config = stamp.config("s-1", more);
    let environment = [(KEY_VARIABLE, ACCOUNT_KEY)];
    let mut random = StdRng::seed_from_u64(seed);

    for _ in 0..kills {
        stamp.publish(random.random_range(200..800));
        let mut service = Service::start(&config, &environment);
        service.wait_for("partition opens");
        service.watch(Duration::from_millis(random.random_range(0..1_500)));
        drop(service);
    }
    let mut service = Service::start(&config, &environment);
    service.wait_for("starting");
    stamp.until_settled().await;

    service.stop();
    let events: i64 = (0..2)
        .map(|number| stamp.hub.last_sequence(number) + 1)
        .sum();
    assert_eq!(u64::try_from(events).unwrap(), stamp.sent());
    stamp.assert_complete().await;
    println!("{kills} kills of seed {seed}, {events} events, 0 differences");
    stamp.emulator.stop().await;
}
