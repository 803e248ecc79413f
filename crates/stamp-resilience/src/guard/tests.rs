//! What production does about an operation inside an operation.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::Nesting;
use crate::{Classify, FailureKind, GaveUp, Observer, Peer, RetryEvent, RetryPolicy};

#[derive(Debug, thiserror::Error)]
#[error("fault")]
struct Fault(FailureKind);

impl Classify for Fault {
    fn kind(&self) -> FailureKind {
        self.0
    }
}

#[derive(Default)]
struct NestedOnly(Mutex<Vec<String>>);

impl Observer for NestedOnly {
    fn event(&self, event: &RetryEvent<'_>) {
        if let RetryEvent::Nested {
            peer,
            operation,
            outer_peer,
            outer_operation,
        } = event
        {
            let line = format!("{peer}: {operation} in {outer_peer}: {outer_operation}");
            self.0.lock().unwrap().push(line);
        }
    }
}

fn counting() -> (Peer, Arc<NestedOnly>) {
    let observer = Arc::new(NestedOnly::default());
    let told = Arc::clone(&observer) as Arc<dyn Observer>;
    let policy = RetryPolicy {
        attempts_max: 3,
        ..RetryPolicy::store()
    };
    let peer = Peer::nesting_as(Nesting::Counted, "store".into(), policy, 1, told);
    (peer.unwrap(), observer)
}

#[tokio::test(start_paused = true)]
async fn rule_05_in_production_an_inner_operation_is_counted_and_gets_one_attempt() {
    let (peer, nested) = counting();
    let cancel = CancellationToken::new();
    let inner_attempts = Mutex::new(0);

    let result = peer
        .run("put", &cancel, async |_| {
            let inner = peer.run("get", &cancel, async |_| {
                *inner_attempts.lock().unwrap() += 1;
                Err::<(), _>(Fault(FailureKind::Transient))
            });
            let gave_up = inner.await.unwrap_err();
            assert!(matches!(gave_up, GaveUp::Exhausted { .. }));
            Err::<(), _>(gave_up.into_last().unwrap())
        })
        .await;

    assert!(matches!(result, Err(GaveUp::Exhausted { .. })));
    assert_eq!(
        *inner_attempts.lock().unwrap(),
        3,
        "three of the outer, one each: not nine"
    );
    let line = "store: get in store: put";
    assert_eq!(*nested.0.lock().unwrap(), [line, line, line]);
}

#[tokio::test(start_paused = true)]
async fn rule_05_in_production_an_inner_operation_is_not_read_back_either() {
    let (peer, nested) = counting();
    let cancel = CancellationToken::new();

    let result = peer
        .run("put", &cancel, async |_| {
            let inner = peer.run_reading_back(
                "append",
                &cancel,
                async |_| Err::<(), _>(Fault(FailureKind::Unknown)),
                async |_| panic!("an inner operation makes one request"),
            );
            let gave_up = inner.await.unwrap_err();
            assert!(matches!(gave_up, GaveUp::Unknown { .. }));
            Err::<(), _>(Fault(FailureKind::Permanent))
        })
        .await;

    assert!(matches!(result, Err(GaveUp::Permanent { .. })));
    assert_eq!(nested.0.lock().unwrap().len(), 1);
}

#[test]
fn rule_05_a_build_with_debug_assertions_panics_and_another_counts() {
    let expected = if cfg!(debug_assertions) {
        Nesting::Panics
    } else {
        Nesting::Counted
    };

    assert_eq!(Nesting::HERE, expected);
}
