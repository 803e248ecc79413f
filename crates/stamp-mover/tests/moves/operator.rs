//! What people ask of a move while it runs.

use std::time::Duration;

use stamp_mover::{Verdict, What};
use stamp_placement::device_move::Stage;
use tokio_util::sync::CancellationToken;

use crate::world::{World, report, wait};

#[tokio::test(start_paused = true)]
async fn a_paused_move_begins_nothing_and_goes_on_where_it_was() {
    let world = World::new(4);
    world.live();
    let journal = world.begin();
    world.ask(What::Pause);
    let mut mover = world.mover(journal, |_| {});
    mover.run(&CancellationToken::new()).await.unwrap();
    let paused = report(&mover).await;
    assert_eq!((paused.under_way, paused.verdict), (4, Verdict::Differs));
    assert_eq!(mover.progress().paused, 4);
    world.assert_each_is_in_one_place("paused");
    drop(mover);
    // Without being told it stays paused.
    assert_eq!(world.resume().await.under_way, 4);
    world.ask(What::Continue);
    let whole = world.resume().await;
    assert_eq!(
        (whole.moved, whole.verdict),
        (4, Verdict::Complete),
        "{whole:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_aborted_move_leaves_untouched_devices_alone_and_finishes_the_others() {
    let world = World::new(6);
    world.live();
    let mut mover = world.mover(world.begin(), |options| options.under_way_max = 2);
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let cancel = cancel.clone();
        async move {
            mover.run(&cancel).await.unwrap();
            report(&mover).await
        }
    });
    wait(Duration::from_secs(3)).await;
    world.ask(What::Abort);
    let report = running.await.unwrap();
    assert_eq!(report.verdict, Verdict::Complete, "{report:#?}");
    assert!(report.moved > 0 && report.taken_back > 0, "{report:#?}");
    assert_eq!(report.moved + report.taken_back, 6);
    world.assert_ended(&report, "aborted");
    for device in report
        .list
        .iter()
        .filter(|device| device.stage == Stage::RolledBack)
    {
        let target = &world.hubs[&device.target];
        assert_eq!(target.status(&device.device), None, "it was never touched");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_move_is_taken_back_when_it_is_asked_to() {
    for seconds in [1, 2, 5, 12, 20] {
        let world = World::new(4);
        world.live();
        let mut mover = world.mover(world.begin(), |_| {});
        let running = tokio::spawn(async move {
            mover.run(&CancellationToken::new()).await.unwrap();
            report(&mover).await
        });
        wait(Duration::from_secs(seconds)).await;
        world.ask(What::RollBack);
        let report = running.await.unwrap();
        let context = format!("taken back after {seconds} s");
        assert_eq!(
            (report.taken_back, report.verdict),
            (4, Verdict::Complete),
            "{context}: {report:#?}"
        );
        world.assert_ended(&report, &context);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_mover_finishes_its_acts_and_leaves_a_journal_to_go_on_with() {
    let world = World::new(4);
    world.live();
    let mut mover = world.mover(world.begin(), |_| {});
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let cancel = cancel.clone();
        async move { mover.run(&cancel).await }
    });
    wait(Duration::from_millis(700)).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    let whole = world.resume().await;
    assert_eq!(
        (whole.moved, whole.verdict),
        (4, Verdict::Complete),
        "{whole:#?}"
    );
}
