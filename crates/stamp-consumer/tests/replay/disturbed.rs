//! A replay that is killed, loses replies, or is not alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use stamp_consumer::{ReplayOptions, ReplaySource};
use stamp_lake::Lake;
use stamp_lake::faults::{Fault, RequestKind};

use crate::support::{EVENTS, NOW_US, Rules, World, publish};

/// Runs both sources on a store that fails at its `at`th write as `fault` says, and, when that is a
/// kill, at every request after it: what a killed replay has read makes no difference. Says how many
/// writes were tried.
async fn disturbed(world: &World, at: u64, fault: Fault, seed: u64) -> u64 {
    let tried = Arc::new(AtomicU64::new(0));
    let counted = tried.clone();
    let lake = world.lake.with_faults(move |request| {
        let is_write = matches!(request.kind, RequestKind::Create | RequestKind::Write);
        let number = counted.fetch_add(u64::from(is_write), Ordering::AcqRel);
        match fault {
            Fault::Refuse if number > at || (is_write && number == at) => Fault::Refuse,
            other if is_write && number == at => other,
            _ => Fault::None,
        }
    });
    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        // Its outcome is not looked at: the tables are.
        let _outcome = World::run(&lake, seed, &ReplayOptions::all(source)).await;
    }
    tried.load(Ordering::Acquire)
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_killed_at_any_write_is_finished_by_the_next() {
    let mut at = 0;
    loop {
        let world = World::settled().await;
        let made = disturbed(&world, at, Fault::Refuse, 1).await;
        world.replay(ReplaySource::Rejected).await;
        world.replay(ReplaySource::Quarantine).await;
        world.assert_all_is_back(EVENTS).await;
        if made <= at {
            break;
        }
        at += 1;
    }
    assert!(at > 20, "{at} writes are too few to be a replay");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_at_any_write_adds_nothing_twice() {
    let mut at = 0;
    loop {
        let world = World::settled().await;
        let made = disturbed(&world, at, Fault::LoseReply, 1).await;
        // The disturbed run itself comes to its end; a later one finds nothing to do.
        let rejected = world.replay(ReplaySource::Rejected).await;
        let quarantined = world.replay(ReplaySource::Quarantine).await;
        assert_eq!(
            (rejected.returned, quarantined.returned),
            (0, 0),
            "write {at}"
        );
        world.assert_all_is_back(EVENTS).await;
        if made <= at {
            break;
        }
        at += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn two_replays_at_once_bring_each_event_in_once() {
    for seed in 0..8 {
        let world = World::settled().await;
        let options = [
            ReplayOptions::all(ReplaySource::Rejected),
            ReplayOptions::all(ReplaySource::Quarantine),
        ];
        // Tables of their own: two processes share nothing but the store.
        let [one, two] = [world.lake.with_faults(|_| Fault::None), world.lake.clone()];
        let run = async |lake: &Lake, seed: u64| {
            for options in &options {
                let report = World::run(lake, seed, options).await.unwrap();
                assert_eq!(report.failures, Vec::<String>::new());
            }
        };
        tokio::join!(run(&one, seed), run(&two, seed + 100));
        world.assert_all_is_back(EVENTS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_beside_a_running_service_and_new_events_adds_nothing_twice() {
    let world = World::settled().await;
    let running = world.consume(Rules::Fixed).await;
    publish(&world.hub, EVENTS..2 * EVENTS, NOW_US);
    world.replay(ReplaySource::Rejected).await;
    publish(&world.hub, 2 * EVENTS..3 * EVENTS, NOW_US);
    world.replay(ReplaySource::Quarantine).await;
    running.until_settled(3 * EVENTS - 1).await;
    world.replay(ReplaySource::Quarantine).await;
    running.stop().await;

    world.assert_all_is_back(3 * EVENTS).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any number of replays, each of them disturbed somehow, and then one that is not.
    #[test]
    fn any_kills_and_replays_end_with_each_event_once(
        runs in prop::collection::vec((0_u64..40, any::<bool>(), any::<u64>()), 1..4)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::settled().await;
            for (at, kill, seed) in runs {
                let fault = if kill { Fault::Refuse } else { Fault::LoseReply };
                disturbed(&world, at, fault, seed).await;
            }
            world.replay(ReplaySource::Rejected).await;
            world.replay(ReplaySource::Quarantine).await;
            world.assert_all_is_back(EVENTS).await;
        });
    }
}
