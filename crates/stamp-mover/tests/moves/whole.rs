//! Moves in which nothing goes wrong.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use stamp_iothub::memory::{Hook, MemoryRequest, Verdict as Let};
use stamp_mover::Verdict;
use stamp_placement::device_move::Stage;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{KEY, World, report, stamp};

#[tokio::test(start_paused = true)]
async fn every_device_ends_at_its_target_and_as_many_are_let_in_as_before() {
    let world = World::new(5);
    world.live();
    let report = world.run(world.begin()).await;
    assert_eq!(report.verdict, Verdict::Complete, "{report:#?}");
    assert_eq!((report.devices, report.moved, report.under_way), (5, 5, 0));
    assert_eq!((report.before, report.after), (Some(5), Some(5)));
    assert_eq!(report.differences(), 0);
    world.assert_ended(&report, "whole");
    for device in &report.list {
        let (source, target) = (device.source.unwrap(), device.telemetry.unwrap());
        assert!(
            source.last_us < target.first_us,
            "no telemetry in two places at a time"
        );
        assert_eq!(device.at_source.as_deref(), Some("absent"));
    }
    // DPS would have made new keys, and the device could not prove who it is.
    for device in ["press-0", "press-4"] {
        let kind = stamp_iothub::EnrollmentKind::Individual;
        let keys = stamp_iothub::ProvisioningService::attestation(&world.dps, kind, device);
        let own = stamp_iothub::Attestation::symmetric(KEY, KEY);
        assert_eq!(keys.await.unwrap(), own);
    }
    // Telemetry goes on after the move.
    world.assert_each_is_in_one_place("whole");
}

#[tokio::test(start_paused = true)]
async fn no_hub_is_asked_faster_than_its_share_of_the_tier_allows() {
    let world = World::new(30);
    world.live();
    let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let hook: Hook = {
        let asked = Arc::clone(&asked);
        Arc::new(move |request: &MemoryRequest<'_>| {
            let registry = matches!(request.method, "device" | "update" | "delete");
            if request.service == "test.example" && registry {
                asked.lock().unwrap().push(Instant::now());
            }
            Let::Do
        })
    };
    world.set_hook(Some(&hook));
    let mut journal = world.plan();
    journal.source.registry_per_minute = 100;
    let now_us = (world.clock())();
    let journal = stamp_mover::Journal::create(
        &world.journal_path(),
        &journal,
        crate::world::POLICY,
        now_us,
    );
    let began = Instant::now();
    let report = world.run(journal.unwrap()).await;
    assert_eq!(report.moved, 30, "{report:#?}");
    let asked = asked.lock().unwrap();
    // Recorded (1), disabled (2), erased (1: DPS had taken it away), asked about at the end (1).
    assert!(asked.len() >= 30 * 5, "{}", asked.len());
    let (share, burst) = (80, 8);
    for from in asked.iter() {
        let until = *from + Duration::from_secs(60);
        let within = asked
            .iter()
            .filter(|at| (from..&until).contains(at))
            .count();
        assert!(within <= share + burst + 1, "{within} in a minute");
    }
    // 150 requests at 80 a minute: the pace is what takes the time.
    assert!(began.elapsed() > Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn a_device_of_a_group_is_moved_alone_and_can_still_prove_who_it_is() {
    let world = World::of_group(3);
    world.live();
    let mut plan = world.plan();
    plan.devices.truncate(1);
    let now_us = (world.clock())();
    let journal =
        stamp_mover::Journal::create(&world.journal_path(), &plan, crate::world::POLICY, now_us);
    let report = world.run(journal.unwrap()).await;
    assert_eq!(report.verdict, Verdict::Complete, "{report:#?}");
    world.assert_ended(&report, "group");
    assert!(world.hub("test").admits("press-1") && world.hub("test").admits("press-2"));
    assert!(
        world.dps.enrolled("press-1").is_none(),
        "the others have no enrolment of their own"
    );
    let own = stamp_iothub::ProvisioningService::attestation(
        &world.dps,
        stamp_iothub::EnrollmentKind::Individual,
        "press-0",
    );
    let derived = stamp_iothub::derive_device_key(crate::world::KEY, "press-0").unwrap();
    let derived = stamp_iothub::Attestation::symmetric(&derived, &derived);
    assert_eq!(own.await.unwrap(), derived);
}

#[tokio::test(start_paused = true)]
async fn a_verified_device_is_left_at_the_source_when_told_and_erased_by_the_next_run() {
    let world = World::new(2);
    world.live();
    let mut mover = world.mover(world.begin(), |options| options.stop_at_verified = true);
    mover.run(&CancellationToken::new()).await.unwrap();
    let half = report(&mover).await;
    assert_eq!(half.verdict, Verdict::Differs);
    assert!(
        half.list
            .iter()
            .all(|device| device.stage == Stage::Verified),
        "{half:#?}"
    );
    assert_eq!((half.before, half.after), (Some(2), Some(2)));
    drop(mover);
    let whole = world.resume().await;
    assert_eq!(whole.verdict, Verdict::Complete, "{whole:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_taken_back_can_be_moved_again() {
    let world = World::new(1);
    // So that the target keeps the record that the way back disables.
    world.dps.set_leaves_devices(true);
    world.live();
    let mut mover = world.mover(world.begin(), |options| options.stop_at_verified = true);
    mover.run(&CancellationToken::new()).await.unwrap();
    drop(mover);
    world.ask(stamp_mover::What::RollBack);
    let back = world.resume().await;
    assert_eq!(
        (back.taken_back, back.verdict),
        (1, Verdict::Complete),
        "{back:#?}"
    );
    std::fs::remove_file(world.journal_path()).unwrap();
    std::fs::remove_file(world.journal_path().with_extension("jsonl.requests")).unwrap();
    let again = world.run(world.begin()).await;
    assert_eq!(
        (again.moved, again.verdict),
        (1, Verdict::Complete),
        "{again:#?}"
    );
    assert!(world.hubs[&stamp("prod-1")].admits("press-0"));
}
