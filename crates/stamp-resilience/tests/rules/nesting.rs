//! Rule 5: never two layers. What production does is tested beside the guard.

use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Script, Step, peer, plain};

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
#[should_panic(expected = "store: get is run inside an attempt of store: put")]
async fn rule_05_an_operation_inside_an_operation_panics_in_tests() {
    let (peer, _) = peer(plain());
    let cancel = CancellationToken::new();
    let inner = Script::new([Step::Succeed]);

    let _never = peer
        .run("put", &cancel, async |_| {
            peer.run("get", &cancel, |a| inner.attempt(a))
                .await
                .map_err(|_| DoorError::Reset)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn rule_05_operations_one_after_the_other_and_side_by_side_are_fine() {
    let (peer, _) = peer(plain());
    let cancel = CancellationToken::new();
    let script = Script::new([Step::Fail(DoorError::Reset), Step::Succeed]);
    let other = Script::new([Step::Fail(DoorError::Reset), Step::Succeed]);

    let (one, two) = tokio::join!(
        peer.run("put", &cancel, |a| script.attempt(a)),
        peer.run("get", &cancel, |a| other.attempt(a)),
    );
    one.and(two).unwrap();
    peer.run("put", &cancel, |a| script.attempt(a))
        .await
        .unwrap();
}
