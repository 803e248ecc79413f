//! What a replay brings in, and what it says of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stamp_consumer::{ReplayOptions, ReplayReport, ReplaySource};
use stamp_lake::faults::{Fault, RequestKind};

use crate::support::{EVENTS, NOW_US, World, partition};

#[tokio::test(start_paused = true)]
async fn what_was_refused_comes_back_once_and_is_in_the_rollups() {
    let world = World::settled().await;
    assert_eq!(world.rows("readings").await.len(), 4);

    let rejected = world.replay(ReplaySource::Rejected).await;
    let quarantined = world.replay(ReplaySource::Quarantine).await;

    assert_eq!((rejected.read, rejected.returned), (4, 4));
    assert_eq!(quarantined.read, 8);
    assert_eq!(
        (quarantined.returned, quarantined.moved_to_rejected),
        (4, 4)
    );
    world.assert_all_is_back(EVENTS).await;

    let again = world.replay(ReplaySource::Rejected).await;
    assert_eq!((again.read, again.returned, again.already_there), (8, 0, 4));
    assert_eq!(again.still_rejected, BTreeMap::from([("wrong_type", 4)]));
    let again = world.replay(ReplaySource::Quarantine).await;
    assert_eq!(
        (again.already_there, again.returned, again.moved_to_rejected),
        (8, 0, 0)
    );
    world.assert_all_is_back(EVENTS).await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let world = World::settled().await;
    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        let refusing = world.lake.with_faults(|request| match request.kind {
            RequestKind::Read | RequestKind::List => Fault::None,
            _ => Fault::Refuse,
        });
        let options = ReplayOptions {
            dry_run: true,
            ..ReplayOptions::all(source)
        };
        let said = World::run(&refusing, 1, &options).await.unwrap();
        let done = world.replay(source).await;
        assert_eq!(
            ReplayReport {
                dry_run: false,
                ..said
            },
            done
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_asked_for_is_run_again() {
    let world = World::settled().await;
    let options = ReplayOptions {
        partition: Some(partition(1)),
        from_sequence: Some(2),
        to_sequence: Some(6),
        reasons: ["out_of_range".to_owned()].into(),
        since_us: Some(NOW_US + 5 * 20_000_000),
        until_us: Some(NOW_US + 6 * 20_000_000),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    let report = World::run(&world.lake, 1, &options).await.unwrap();
    assert_eq!((report.read, report.returned), (1, 1));

    let other = ReplayOptions {
        reasons: ["missing_field".to_owned()].into(),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    assert_eq!(World::run(&world.lake, 1, &other).await.unwrap().read, 0);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_store_refuses_is_named_and_the_events_are_counted() {
    let world = World::settled().await;
    let lake = world.lake.with_faults(|request| match request.path {
        path if path.contains("/replays/") && request.is_commit() => Fault::Refuse,
        _ => Fault::None,
    });
    let report = World::run(&lake, 1, &ReplayOptions::all(ReplaySource::Rejected))
        .await
        .unwrap();

    assert_eq!((report.returned, report.not_done), (0, 4));
    assert!(
        report.failures[0].contains("alpha"),
        "{:?}",
        report.failures
    );
    world.replay(ReplaySource::Rejected).await;
    world.replay(ReplaySource::Quarantine).await;
    world.assert_all_is_back(EVENTS).await;
}

#[tokio::test(start_paused = true)]
async fn events_of_a_tenant_whose_tables_cannot_be_asked_are_counted_and_asked_for_once() {
    let world = World::settled().await;
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let lake = world.lake.with_faults(move |request| match request.path {
        path if path.contains("alpha/readings/") => {
            counted.fetch_add(1, Ordering::Relaxed);
            Fault::Refuse
        }
        _ => Fault::None,
    });
    let options = ReplayOptions::all(ReplaySource::Quarantine);

    let report = World::run(&lake, 1, &options).await.unwrap();

    assert_eq!((report.read, report.not_done, report.returned), (8, 8, 0));
    assert!(
        report.failures[0].contains("alpha"),
        "{:?}",
        report.failures
    );
    // Two operations with their attempts, and not one for each event.
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= 10, "{asked} requests");
}
