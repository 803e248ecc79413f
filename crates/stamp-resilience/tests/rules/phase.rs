//! Rule 7: instances are never in phase, and one instance is repeatable.
//!
//! The seeds are fixed, so each statistic has one value for ever; the bounds say what it may be.

use std::time::Duration;

use stamp_resilience::{NoObserver, PauseCause, Peer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::TICK;
use crate::support::{DoorError, Script, peer_seeded, plain, secs};

const INSTANCES: u64 = 1_000;

/// The 99.9 % quantile of chi-square with 19 degrees of freedom.
const CHI_SQUARE_MAX: f64 = 43.8;

/// Of twenty equal buckets from `least` to `most`, against the uniform distribution.
fn chi_square(values: &[Duration], least: Duration, most: Duration) -> f64 {
    let mut buckets = [0_u32; 20];
    for value in values {
        let share = (*value - least).as_secs_f64() / (most - least).as_secs_f64();
        buckets[((share * 20.0) as usize).min(19)] += 1;
    }
    let expected = values.len() as f64 / 20.0;
    buckets
        .iter()
        .map(|&count| (f64::from(count) - expected).powi(2) / expected)
        .sum()
}

/// Most values in any stretch of `width`.
fn crowd(values: &[Duration], width: Duration) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort();
    let upto = |from: Duration| {
        sorted
            .iter()
            .filter(|v| **v >= from && **v < from + width)
            .count()
    };
    sorted.iter().map(|from| upto(*from)).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn rule_07_instances_that_start_together_spread_evenly() {
    let mut starts = Vec::new();
    for seed in 0..INSTANCES {
        let (peer, recorder) = peer_seeded(plain(), seed);
        peer.spread(secs(10), &CancellationToken::new()).await;
        let [(length, PauseCause::StartUp)] = recorder.pauses()[..] else {
            panic!("{:?}", recorder.pauses());
        };
        starts.push(length);
    }

    assert!(starts.iter().all(|start| *start <= secs(10)));
    let chi_square = chi_square(&starts, Duration::ZERO, secs(10));
    assert!(chi_square < CHI_SQUARE_MAX, "{chi_square}");
    // 10 are expected in a hundredth of the time, 30 would be six standard deviations off.
    let crowd = crowd(&starts, secs(10) / 100);
    assert!(crowd < 30, "{crowd} instances start within 100 ms");
}

#[tokio::test(start_paused = true)]
async fn rule_07_instances_that_fail_together_come_back_apart() {
    let mut firsts = Vec::new();
    let mut thirds = Vec::new();
    for seed in 0..INSTANCES {
        let (peer, recorder) = peer_seeded(plain(), seed);
        let script = Script::failing(DoorError::Reset);
        let _gave_up = peer
            .run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await;
        let lengths = recorder.lengths();
        firsts.push(lengths[0]);
        thirds.push(lengths[0] + lengths[1] + lengths[2]);
    }

    let first = plain().first_pause;
    let chi_square = chi_square(&firsts, first / 2, first);
    assert!(chi_square < CHI_SQUARE_MAX, "{chi_square}");
    // 350 ms wide and bell-shaped: the fullest 3.5 ms holds about 20.
    let crowd = crowd(&thirds, Duration::from_micros(3_500));
    assert!(
        crowd < 45,
        "{crowd} instances make their fourth attempt within 3.5 ms"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_07_the_same_seed_gives_the_same_pauses_and_another_does_not() {
    let mut runs = Vec::new();
    for seed in [42, 42, 43] {
        let (peer, recorder) = peer_seeded(plain(), seed);
        let script = Script::failing(DoorError::Reset);
        let _gave_up = peer
            .run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await;
        runs.push(recorder.lengths());
    }

    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn rule_07_peers_of_one_process_differ_though_they_share_its_seed() {
    let cancel = CancellationToken::new();
    let mut waited = Vec::new();
    for name in ["eventhubs", "store"] {
        let peer = Peer::new(name, plain(), 42, std::sync::Arc::new(NoObserver)).unwrap();
        let began_at = Instant::now();
        peer.spread(secs(10), &cancel).await;
        waited.push(began_at.elapsed());
    }

    assert!(waited[0].abs_diff(waited[1]) > TICK, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn rule_07_cancellation_cuts_the_spread() {
    let (peer, _) = peer_seeded(plain(), 1);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let began_at = Instant::now();

    peer.spread(secs(10), &cancel).await;

    assert_eq!(began_at.elapsed(), Duration::ZERO);
}
