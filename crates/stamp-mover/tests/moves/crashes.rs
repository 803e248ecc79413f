//! Killed at every request, before and after it was done; replies lost at every request.

use stamp_iothub::memory::Verdict as Let;
use stamp_mover::{Verdict, What};
use tokio_util::sync::CancellationToken;

use crate::world::{AtRequest, World, run_and_kill};

/// A move of so many devices. DPS takes one away from the hub that it leaves, or does not.
fn world(devices: usize, leaves_devices: bool) -> World {
    let world = World::new(devices);
    world.dps.set_leaves_devices(leaves_devices);
    world.live();
    world
}

/// Requests of a move without trouble, the audit not among them.
async fn requests_of_a_move(devices: usize, leaves_devices: bool) -> u64 {
    let world = world(devices, leaves_devices);
    let at = AtRequest::number(u64::MAX, Let::Do);
    let ended = run_and_kill(&world, &at).await;
    ended.unwrap().unwrap();
    at.seen()
}

/// Every way to meet a request, for each request of a move without trouble.
async fn meetings(devices: usize, verdicts: &[Let]) -> Vec<(bool, Let, u64)> {
    let mut all = Vec::new();
    for leaves_devices in [false, true] {
        let requests = requests_of_a_move(devices, leaves_devices).await;
        for verdict in verdicts {
            all.extend((1..=requests).map(|number| (leaves_devices, *verdict, number)));
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_request_before_or_after_it_a_resumed_move_ends_as_if_nothing_had_happened() {
    let meetings = meetings(2, &[Let::Hold, Let::DoAndHold]).await;
    // Two devices: 3 requests to record, 4 to point, 2 to disable, 1 or 2 to erase each.
    assert!(meetings.len() >= 2 * (20 + 22), "{}", meetings.len());
    for (leaves_devices, verdict, number) in meetings {
        let context = format!("killed at request {number}, {verdict:?}, {leaves_devices}");
        let world = world(2, leaves_devices);
        let at = AtRequest::number(number, verdict);
        assert!(run_and_kill(&world, &at).await.is_none(), "{context}");
        let report = world.resume().await;
        assert_eq!(report.verdict, Verdict::Complete, "{context}: {report:#?}");
        assert_eq!(report.moved, 2, "{context}");
        world.assert_ended(&report, &context);
        world.assert_each_is_in_one_place(&context);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_lost_at_any_request_changes_nothing_of_the_end() {
    let verdicts = [
        Let::LoseReply,
        Let::Unreachable,
        Let::Refuse(429, 429_001),
        Let::Refuse(500, 500_001),
    ];
    for (leaves_devices, verdict, number) in meetings(1, &verdicts).await {
        let context = format!("{verdict:?} at request {number}, {leaves_devices}");
        let world = world(1, leaves_devices);
        let at = AtRequest::number(number, verdict);
        world.set_hook(Some(&at.hook));
        let report = world.run(world.begin()).await;
        assert_eq!(report.verdict, Verdict::Complete, "{context}: {report:#?}");
        assert_eq!(report.moved, 1, "{context}");
        world.assert_ended(&report, &context);
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_request_and_then_taken_back_every_device_is_home_or_had_been_erased() {
    let mut back = 0;
    for (leaves_devices, verdict, number) in meetings(2, &[Let::Hold, Let::DoAndHold]).await {
        let context = format!("killed at {number}, {verdict:?}, {leaves_devices}, taken back");
        let world = world(2, leaves_devices);
        let at = AtRequest::number(number, verdict);
        assert!(run_and_kill(&world, &at).await.is_none(), "{context}");
        world.ask(What::RollBack);
        let report = world.resume().await;
        assert_eq!(report.verdict, Verdict::Complete, "{context}: {report:#?}");
        assert_eq!(report.moved + report.taken_back, 2, "{context}");
        world.assert_ended(&report, &context);
        back += report.taken_back;
    }
    assert!(
        back > 100,
        "{back} devices were taken back: most kills are before the erase"
    );
}

#[tokio::test(start_paused = true)]
async fn the_way_back_can_be_killed_at_any_request_too() {
    for leaves_devices in [false, true] {
        let mut number = 1;
        while killed_on_the_way_back(leaves_devices, number).await {
            number += 1;
        }
        assert!(
            number > 12,
            "{number} requests on the way back of two devices"
        );
    }
}

/// Whether the way back has a request of this number.
async fn killed_on_the_way_back(leaves_devices: bool, number: u64) -> bool {
    let context = format!("the way back is killed at request {number}, {leaves_devices}");
    let world = world(2, leaves_devices);
    // Erasing would be next: everything else is done.
    let mut mover = world.mover(world.begin(), |options| options.stop_at_verified = true);
    mover.run(&CancellationToken::new()).await.unwrap();
    drop(mover);
    world.ask(What::RollBack);
    let at = AtRequest::number(number, Let::DoAndHold);
    world.set_hook(Some(&at.hook));
    let mut mover = world.mover(world.reopen().await, |_| {});
    let cancel = CancellationToken::new();
    let was_killed = tokio::select! {
        ended = mover.run(&cancel) => {
            ended.unwrap();
            false
        }
        () = at.reached.notified() => true,
    };
    drop(mover);
    world.set_hook(None);
    let report = world.resume().await;
    assert_eq!(report.verdict, Verdict::Complete, "{context}: {report:#?}");
    assert_eq!(report.taken_back, 2, "{context}");
    world.assert_ended(&report, &context);
    was_killed
}
