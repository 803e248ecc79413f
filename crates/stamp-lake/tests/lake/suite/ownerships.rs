//! What ownership promises on every store that compares before it sets.

use stamp_lake::faults::{Fault, RequestKind};
use stamp_lake::{Claim, Lake, Ownership, Ownerships};
use stamp_resilience::{Classify, FailureKind};

use super::partition;

/// Every promise.
pub(crate) async fn all(lake: &Lake) {
    a_partition_has_the_owner_who_claimed_it_first(lake).await;
    a_renewal_is_lost_to_whoever_claimed_meanwhile(lake).await;
    what_is_released_has_no_owner_and_can_be_claimed(lake).await;
    a_lost_reply_is_unknown_and_found_by_listing(lake).await;
}

pub(crate) fn group(lake: &Lake, name: &str) -> Ownerships {
    lake.ownerships("Contoso.servicebus.windows.net", "Telemetry", name)
        .unwrap()
}

fn won(claim: Claim) -> Ownership {
    match claim {
        Claim::Won(ownership) => ownership,
        Claim::Lost => panic!("the claim was lost"),
    }
}

fn owners(listed: &[Ownership]) -> Vec<(u32, &str)> {
    let owner = |found: &'_ Ownership| found.partition.number();
    listed
        .iter()
        .map(|found| (owner(found), found.owner_id.as_str()))
        .collect()
}

pub(crate) async fn a_partition_has_the_owner_who_claimed_it_first(lake: &Lake) {
    let group = group(lake, "First");
    assert_eq!(group.list().await.unwrap(), []);

    won(group.claim(partition(11), "a", None).await.unwrap());
    won(group.claim(partition(2), "b", None).await.unwrap());
    let late = group.claim(partition(2), "a", None).await.unwrap();

    assert_eq!(late, Claim::Lost);
    let lower = lake
        .ownerships("contoso.servicebus.windows.net", "telemetry", "first")
        .unwrap();
    let listed = lower.list().await.unwrap();
    assert_eq!(owners(&listed), [(2, "b"), (11, "a")]);
    assert!(listed.iter().all(|found| found.last_modified_ms.is_some()));
}

pub(crate) async fn a_renewal_is_lost_to_whoever_claimed_meanwhile(lake: &Lake) {
    let group = group(lake, "renewal");
    let first = won(group.claim(partition(0), "a", None).await.unwrap());
    let renewed = won(group.claim(partition(0), "a", Some(&first)).await.unwrap());
    assert_ne!(first.version, renewed.version);

    // As another replica sees it.
    let listed = group.list().await.unwrap();
    won(group
        .claim(partition(0), "b", Some(&listed[0]))
        .await
        .unwrap());

    let again = group.claim(partition(0), "a", Some(&renewed)).await;
    assert_eq!(again.unwrap(), Claim::Lost);
    assert!(!group.release(&renewed).await.unwrap());
    assert_eq!(owners(&group.list().await.unwrap()), [(0, "b")]);
}

pub(crate) async fn what_is_released_has_no_owner_and_can_be_claimed(lake: &Lake) {
    let group = group(lake, "release");
    let held = won(group.claim(partition(0), "a", None).await.unwrap());

    assert!(group.release(&held).await.unwrap());

    let listed = group.list().await.unwrap();
    assert_eq!(owners(&listed), [(0, "")]);
    won(group
        .claim(partition(0), "b", Some(&listed[0]))
        .await
        .unwrap());
    assert_eq!(owners(&group.list().await.unwrap()), [(0, "b")]);
}

pub(crate) async fn a_lost_reply_is_unknown_and_found_by_listing(lake: &Lake) {
    let faulty = lake.with_faults(|request| match request.kind {
        RequestKind::Create => Fault::LoseReply,
        _ => Fault::None,
    });
    let group = group(&faulty, "lost");

    let error = group.claim(partition(0), "a", None).await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    let listed = group.list().await.unwrap();
    assert_eq!(owners(&listed), [(0, "a")]);
    won(group
        .claim(partition(0), "a", Some(&listed[0]))
        .await
        .unwrap());
}
