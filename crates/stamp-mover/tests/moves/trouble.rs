//! Devices that do not come, and records that somebody else changes.

use std::sync::Arc;

use stamp_iothub::memory::{Hook, MemoryRequest, Verdict as Let};
use stamp_iothub::{DeviceStatus, Enrollment};
use stamp_mover::{Verdict, What};
use stamp_placement::device_move::Stage;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_come_is_named_and_keeps_its_place_at_the_source() {
    let world = World::new(3);
    world.live();
    world.dark.lock().unwrap().push("press-1".to_owned());
    let report = world.run(world.begin()).await;
    assert_eq!(
        (report.moved, report.under_way, report.verdict),
        (2, 1, Verdict::Differs)
    );
    assert_eq!(report.stragglers, ["press-1"]);
    let late = &report.list[1];
    assert_eq!(late.stage, Stage::Disabled, "never erased unseen");
    assert_eq!(
        world.hub("test").status("press-1"),
        Some(DeviceStatus::Disabled)
    );
    assert!(
        late.why.as_ref().unwrap().contains("test.example"),
        "what DPS knows: {:?}",
        late.why
    );
    assert_eq!((report.before, report.after), (Some(3), Some(2)));
    assert_eq!(report.nowhere, ["press-1"]);
    assert_eq!(report.differences(), 1);
    // Switched on, it registers, and another run sees it.
    world.dark.lock().unwrap().clear();
    crate::world::wait(std::time::Duration::from_secs(5)).await;
    let whole = world.resume().await;
    assert_eq!(
        (whole.moved, whole.verdict),
        (3, Verdict::Complete),
        "{whole:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_stragglers_stop_a_move_from_beginning_with_further_devices() {
    let world = World::new(10);
    world.live();
    world
        .dark
        .lock()
        .unwrap()
        .extend((0..10).map(|number| format!("press-{number}")));
    let mut mover = world.mover(world.begin(), |options| {
        options.stragglers_max = 2;
        options.under_way_max = 3;
    });
    mover
        .run(&tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    let report = crate::world::report(&mover).await;
    let begun = report
        .list
        .iter()
        .filter(|device| device.stage != Stage::Planned)
        .count();
    assert_eq!((begun, report.stragglers.len()), (3, 3), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_enrolment_that_somebody_else_points_elsewhere_waits_for_a_person() {
    let world = World::new(1);
    world.live();
    let hook: Hook = {
        let dps = world.dps.clone();
        Arc::new(move |request: &MemoryRequest<'_>| {
            // After it was recorded, before it is pointed.
            if request.method == "twin" {
                let other = Enrollment::individual("press-0", None).pointed_to("prod-2.example");
                dps.enroll(&other);
            }
            Let::Do
        })
    };
    world.set_hook(Some(&hook));
    let report = world.run(world.begin()).await;
    assert_eq!(report.persons, ["press-0"]);
    let why = report.list[0].why.clone().unwrap();
    assert_eq!(
        why,
        "enrolment press-0 was pointed to prod-2.example by somebody else"
    );
    world.set_hook(None);
    world
        .dps
        .enroll(&Enrollment::individual("press-0", None).pointed_to("test.example"));
    world.ask(What::Continue);
    let whole = world.resume().await;
    assert_eq!(
        (whole.moved, whole.verdict),
        (1, Verdict::Complete),
        "{whole:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_made_anew_at_the_source_is_not_erased() {
    let world = World::new(1);
    world.live();
    let mut mover = world.mover(world.begin(), |options| options.stop_at_verified = true);
    mover
        .run(&tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    drop(mover);
    world.hub("test").remove("press-0");
    world.hub("test").put("press-0", DeviceStatus::Disabled);
    let report = world.resume().await;
    assert_eq!(report.persons, ["press-0"], "{report:#?}");
    assert!(
        report.list[0]
            .why
            .as_ref()
            .unwrap()
            .contains("somebody else")
    );
    assert_eq!(
        world.hub("test").status("press-0"),
        Some(DeviceStatus::Disabled)
    );
}

#[tokio::test(start_paused = true)]
async fn missing_records_and_refused_credentials_are_told_by_device_and_hub() {
    let world = World::new(2);
    world.live();
    world.hub("test").remove("press-0");
    world.dark.lock().unwrap().push("press-0".to_owned());
    let hook: Hook = Arc::new(
        |request: &MemoryRequest<'_>| match (request.method, request.id) {
            ("enrollment", "press-1") => Let::Refuse(401, 401_002),
            _ => Let::Do,
        },
    );
    world.set_hook(Some(&hook));
    let report = world.run(world.begin()).await;
    assert_eq!(report.persons, ["press-0", "press-1"], "{report:#?}");
    let why = |number: usize| report.list[number].why.clone().unwrap();
    assert_eq!(why(0), "device press-0 is not at test.example");
    assert!(
        why(1).contains("dps.example") && why(1).contains("401002"),
        "{}",
        why(1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_for_long_leaves_the_move_to_another_run() {
    let world = World::new(1);
    world.live();
    let hook: Hook = Arc::new(|request: &MemoryRequest<'_>| match request.service {
        "dps.example" => Let::Unreachable,
        _ => Let::Do,
    });
    world.set_hook(Some(&hook));
    let report = world.run(world.begin()).await;
    assert_eq!((report.under_way, report.verdict), (1, Verdict::Differs));
    assert!(
        report.list[0]
            .why
            .as_ref()
            .unwrap()
            .contains("cannot reach dps.example"),
        "{report:#?}"
    );
    world.set_hook(None);
    assert_eq!(world.resume().await.verdict, Verdict::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_disabled_before_the_move_is_not_let_in_by_it() {
    let world = World::new(1);
    world.live();
    world.hub("test").put("press-0", DeviceStatus::Disabled);
    let report = world.run(world.begin()).await;
    assert_eq!(report.persons, ["press-0"], "{report:#?}");
    let why = report.list[0].why.clone().unwrap();
    assert!(why.contains("press-0 is disabled at test.example"), "{why}");
    assert!(!world.hub("prod-1").admits("press-0"));
    let enrolled = world.dps.enrolled("press-0").unwrap();
    assert_eq!(enrolled.only_hub(), Some("test.example"));
    world.ask(What::RollBack);
    assert_eq!(world.resume().await.taken_back, 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_the_target_lets_in_already_is_not_taken_for_the_one_that_is_moved() {
    let world = World::new(1);
    world.dark.lock().unwrap().push("press-0".to_owned());
    world.live();
    // Another one of the same name, which sends.
    world.hub("prod-1").put("press-0", DeviceStatus::Enabled);
    let clock = world.clock();
    let sends = async {
        loop {
            let prod = crate::world::stamp("prod-1");
            world.sightings.tell(&prod, "press-0", clock());
            crate::world::wait(std::time::Duration::from_secs(1)).await;
        }
    };
    let report = tokio::select! {
        report = world.run(world.begin()) => report,
        () = sends => unreachable!("it sends for ever"),
    };
    assert!(world.hub("test").admits("press-0"), "{report:#?}");
    assert_eq!(report.persons, ["press-0"]);
    assert_eq!(report.in_both, ["press-0"]);
    let why = report.list[0].why.clone().unwrap();
    assert!(why.contains("let in at prod-1.example already"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_registration_of_another_device_of_the_group_is_not_enrolled_under_this_ones_name() {
    let world = World::of_group(2);
    world.live();
    let mut plan = world.plan();
    plan.devices.truncate(1);
    plan.devices[0].registration = "press-1".to_owned();
    let now_us = (world.clock())();
    let path = world.journal_path();
    let journal = stamp_mover::Journal::create(&path, &plan, crate::world::POLICY, now_us);
    let report = world.run(journal.unwrap()).await;
    assert_eq!(report.persons, ["press-0"], "{report:#?}");
    let why = report.list[0].why.clone().unwrap();
    assert_eq!(
        why,
        "registration press-1 at dps.example is of device press-1, not press-0"
    );
    assert!(world.dps.enrolled("press-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn records_that_no_line_of_the_journal_can_hold_are_refused_and_the_journal_stays_readable() {
    let world = World::new(1);
    world.live();
    let id = stamp_model::DeviceId::parse("press-0".into()).unwrap();
    let tags = serde_json::json!({ "tags": { "note": "x".repeat(2 << 20) } });
    let hub = world.hub("test");
    stamp_iothub::DeviceRegistry::patch_twin(hub, &id, "t1", &tags)
        .await
        .unwrap();
    let report = world.run(world.begin()).await;
    assert_eq!(report.persons, ["press-0"]);
    let why = report.list[0].why.clone().unwrap();
    assert!(why.contains("can be kept"), "{why}");
    assert_eq!(world.resume().await.persons, ["press-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_does_not_grow_while_a_service_stays_away() {
    let world = World::new(1);
    world.live();
    let hook: Hook = Arc::new(|request: &MemoryRequest<'_>| match request.service {
        "dps.example" => Let::Unreachable,
        _ => Let::Do,
    });
    world.set_hook(Some(&hook));
    let mut mover = world.mover(world.begin(), |_| {});
    let cancel = tokio_util::sync::CancellationToken::new();
    mover.run(&cancel).await.unwrap();
    let length = || std::fs::metadata(world.journal_path()).unwrap().len();
    let before = length();
    for _ in 0..10 {
        mover.run(&cancel).await.unwrap();
    }
    assert_eq!(length(), before);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_somebody_disabled_meanwhile_is_not_let_in_by_the_way_back() {
    let world = World::new(1);
    world.dps.set_leaves_devices(true);
    world.live();
    let mut mover = world.mover(world.begin(), |options| options.stop_at_verified = true);
    mover
        .run(&tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    drop(mover);
    world.hub("test").put("press-0", DeviceStatus::Disabled);
    world.ask(What::RollBack);
    let report = world.resume().await;
    assert_eq!(
        world.hub("test").status("press-0"),
        Some(DeviceStatus::Disabled)
    );
    assert_eq!((report.taken_back, report.verdict), (1, Verdict::Differs));
    assert_eq!(report.nowhere, ["press-0"]);
}
