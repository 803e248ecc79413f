//! What people ask of a move while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stamp_mover::{MoverError, Observed, Progress, RequestError, Verdict, What};
use stamp_placement::device_move::{Act, Outcome, Stage};
use tokio::time::Instant;
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

#[tokio::test(start_paused = true)]
async fn requests_that_were_cut_off_or_replaced_are_told_and_never_passed_over() {
    let world = World::new(2);
    world.live();
    let journal = world.begin();
    world.ask(What::Pause);
    world.ask(What::Pause);
    world.run(journal).await;
    // Somebody replaces the file, and somebody else asks.
    std::fs::remove_file(world.requests_path()).unwrap();
    world.ask(What::RollBack);
    let journal = world.reopen().await;
    let mut mover = world.mover(journal, |_| {});
    let error = mover.run(&CancellationToken::new()).await.unwrap_err();
    assert!(
        matches!(
            error,
            MoverError::Requests(RequestError::Fewer {
                found: 1,
                taken: 2,
                ..
            })
        ),
        "{error:?}"
    );
    drop(mover);
    // Removed and noticed, they are counted anew.
    std::fs::remove_file(world.requests_path()).unwrap();
    let journal = world.reopen().await;
    world.ask(What::RollBack);
    let report = world.run(journal).await;
    assert_eq!(report.taken_back, 2, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_of_an_earlier_move_of_the_same_name_is_not_asked_of_this_one() {
    let world = World::new(2);
    world.live();
    drop(world.begin());
    world.ask(What::RollBack);
    assert_eq!(world.resume().await.taken_back, 2);
    std::fs::remove_file(world.journal_path()).unwrap();
    let report = world.run(world.begin()).await;
    assert_eq!((report.moved, report.taken_back), (2, 0), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_is_told_twice_a_second_however_many_acts_end() {
    struct Counts(AtomicUsize);
    impl Observed for Counts {
        fn acted(&self, _act: Act, _outcome: Outcome) {}
        fn progress(&self, _progress: &Progress) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let world = World::new(100);
    world.live();
    let counts = Arc::new(Counts(AtomicUsize::new(0)));
    let watched = Arc::clone(&counts) as Arc<dyn Observed>;
    let mut mover = world.mover_watched(world.begin(), watched, |_| {});
    let began = Instant::now();
    mover.run(&CancellationToken::new()).await.unwrap();
    assert_eq!(mover.progress().ended(), 100);
    let told = counts.0.load(Ordering::Relaxed);
    let most = began.elapsed().as_millis() / 500 + 2;
    assert!(told as u128 <= most, "{told} times, {most} at most");
}
