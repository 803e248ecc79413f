//! What checkpoints promise on every store.

use std::sync::Barrier;

use stamp_lake::faults::{Fault, RequestKind};
use stamp_lake::{Advanced, Checkpoint, Checkpoints, Lake, LakeError};
use stamp_resilience::{Classify, FailureKind};

use super::partition;

/// Every promise of every store.
pub(crate) async fn all(lake: &Lake) {
    a_checkpoint_only_moves_forward(lake).await;
    a_hub_that_was_made_again_starts_its_checkpoint_again(lake).await;
    names_are_in_lower_case_and_groups_are_apart(lake).await;
    a_lost_reply_is_unknown_and_found_by_reading(lake).await;
}

/// The promise of stores that compare before they set.
pub(crate) async fn all_with_compare_and_set(lake: &Lake) {
    of_two_writers_at_once_one_must_read_again(lake).await;
}

fn group(lake: &Lake, name: &str) -> Checkpoints {
    lake.checkpoints("Contoso.servicebus.windows.net", "Telemetry", name)
}

fn at(sequence: i64) -> Checkpoint {
    Checkpoint {
        sequence,
        offset: (sequence * 312).to_string(),
        hub_created_at_ms: Some(1),
    }
}

/// Fault scenario 44.
pub(crate) async fn a_hub_that_was_made_again_starts_its_checkpoint_again(lake: &Lake) {
    let group = group(lake, "again");
    group.advance(partition(0), &at(100)).await.unwrap();

    let again = Checkpoint {
        hub_created_at_ms: Some(2),
        ..at(3)
    };
    let moved = group.advance(partition(0), &again).await.unwrap();

    assert_eq!(moved, Advanced::Moved);
    assert_eq!(group.read(partition(0)).await.unwrap(), Some(again.clone()));
    // Another SDK does not say which hub it means: its position still never goes back.
    let theirs = Checkpoint {
        hub_created_at_ms: None,
        ..at(2)
    };
    let stays = group.advance(partition(0), &theirs).await.unwrap();
    assert_eq!(stays, Advanced::Already { sequence: 3 });
}

pub(crate) async fn a_checkpoint_only_moves_forward(lake: &Lake) {
    let group = group(lake, "$Default");
    assert_eq!(group.read(partition(0)).await.unwrap(), None);

    for (to, expected, then) in [
        (10, Advanced::Moved, 10),
        (10, Advanced::Already { sequence: 10 }, 10),
        (9, Advanced::Already { sequence: 10 }, 10),
        (11, Advanced::Moved, 11),
    ] {
        assert_eq!(
            group.advance(partition(0), &at(to)).await.unwrap(),
            expected
        );
        assert_eq!(group.read(partition(0)).await.unwrap(), Some(at(then)));
    }
    assert_eq!(group.read(partition(1)).await.unwrap(), None);
}

pub(crate) async fn names_are_in_lower_case_and_groups_are_apart(lake: &Lake) {
    group(lake, "Cold")
        .advance(partition(3), &at(1))
        .await
        .unwrap();

    let lower = lake.checkpoints("contoso.servicebus.windows.net", "telemetry", "cold");

    assert_eq!(lower.read(partition(3)).await.unwrap(), Some(at(1)));
    assert_eq!(group(lake, "hot").read(partition(3)).await.unwrap(), None);
}

/// Fault scenario 9.
pub(crate) async fn a_lost_reply_is_unknown_and_found_by_reading(lake: &Lake) {
    let faulty = lake.with_faults(|request| match request.kind {
        RequestKind::Create => Fault::LoseReply,
        _ => Fault::None,
    });
    let group = group(&faulty, "lost");

    let error = group.advance(partition(0), &at(5)).await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    assert_eq!(group.read(partition(0)).await.unwrap(), Some(at(5)));
    let again = group.advance(partition(0), &at(5)).await.unwrap();
    assert_eq!(again, Advanced::Already { sequence: 5 });
}

/// Needs a multi-threaded runtime: both writers wait for each other.
pub(crate) async fn of_two_writers_at_once_one_must_read_again(lake: &Lake) {
    group(lake, "race")
        .advance(partition(0), &at(0))
        .await
        .unwrap();
    let both_have_read = Barrier::new(2);
    let waiting = lake.with_faults(move |request| {
        if request.kind == RequestKind::Write {
            // Other tasks of this thread must go on while it waits.
            tokio::task::block_in_place(|| both_have_read.wait());
        }
        Fault::None
    });

    let writers = [at(1), at(2)].map(|to| {
        let group = group(&waiting, "race");
        tokio::spawn(async move { (group.advance(partition(0), &to).await, to) })
    });

    let mut won = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            (Ok(Advanced::Moved), to) => won.push(to),
            (Err(LakeError::Conflict { .. }), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
    assert_eq!(won.len(), 1, "both or none were told that they moved it");
    let found = group(lake, "race").read(partition(0)).await.unwrap();
    assert_eq!(found.as_ref(), won.first());
}
