//! Rule 10: only what is idempotent is repeated; an unknown outcome is read back first.

use std::cell::Cell;

use stamp_resilience::{GaveUp, Next, RetryPolicy, idempotent};
use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Script, Step, ms, peer, plain, secs};

const LOST: Step = Step::Fail(DoorError::Lost);
const RESET: Step = Step::Fail(DoorError::Reset);

#[tokio::test(start_paused = true)]
async fn rule_10_a_lost_answer_is_returned_and_not_repeated() {
    let (peer, _) = peer(plain());
    let script = Script::new([RESET, LOST, Step::Succeed]);

    let gave_up = peer
        .run("append", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    assert!(matches!(
        gave_up,
        GaveUp::Unknown {
            last: DoorError::Lost,
            ..
        }
    ));
    assert!(gave_up.may_have_happened());
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_10_a_timeout_is_an_unknown_outcome() {
    let (peer, _) = peer(plain());
    let script = Script::new([Step::Hang, Step::Succeed]);

    let gave_up = peer
        .run("append", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    assert!(matches!(gave_up, GaveUp::TimedOut { after, .. } if after >= secs(10)));
    assert!(gave_up.may_have_happened());
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_10_an_idempotent_operation_is_repeated_after_both() {
    let (peer, _) = peer(plain());
    let script = Script::new([LOST, Step::Hang, Step::Succeed]);

    peer.run(idempotent("get"), &CancellationToken::new(), |a| {
        script.attempt(a)
    })
    .await
    .unwrap();

    assert_eq!(script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn rule_10_a_read_back_that_finds_it_done_ends_the_operation() {
    let (peer, recorder) = peer(plain());
    let script = Script::new([LOST, Step::Succeed]);

    let version = peer
        .run_reading_back(
            "append",
            &CancellationToken::new(),
            async |a| script.attempt(a).await.map(|()| 1),
            async |_| Ok(Some(7)),
        )
        .await;

    assert_eq!(version.unwrap(), 7);
    assert_eq!(script.count(), 1);
    assert!(
        recorder.lengths()[0] >= ms(50),
        "a request under way gets time to land"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_10_a_read_back_that_finds_nothing_lets_it_be_tried_again() {
    let (peer, recorder) = peer(plain());
    let script = Script::new([Step::Hang, LOST, Step::Succeed]);
    let reads = Cell::new(0);

    peer.run_reading_back(
        "append",
        &CancellationToken::new(),
        |a| script.attempt(a),
        async |_| {
            reads.set(reads.get() + 1);
            Ok(None)
        },
    )
    .await
    .unwrap();

    assert_eq!((script.count(), reads.get()), (3, 2));
    assert_eq!(
        recorder.pauses().len(),
        2,
        "one pause before each read-back"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_10_a_transient_fault_needs_no_read_back() {
    let (peer, _) = peer(plain());
    let script = Script::new([RESET, RESET, Step::Succeed]);

    let result = peer
        .run_reading_back(
            "append",
            &CancellationToken::new(),
            |a| script.attempt(a),
            async |_| panic!("the fault says that it was not done"),
        )
        .await;

    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_10_read_backs_that_fail_are_retried_and_then_the_outcome_stays_unknown() {
    let (peer, _) = peer(plain());
    let script = Script::new([LOST]);
    let reads = Script::new([RESET, Step::Hang, LOST, RESET]);

    let gave_up = peer
        .run_reading_back(
            "append",
            &CancellationToken::new(),
            |a| script.attempt(a),
            async |a| reads.attempt(a).await.map(Some),
        )
        .await
        .unwrap_err();

    assert!(matches!(gave_up, GaveUp::Exhausted { .. }), "{gave_up}");
    assert!(gave_up.may_have_happened());
    assert_eq!((gave_up.call().attempts, gave_up.call().read_backs), (1, 5));
    assert!(
        gave_up.to_string().contains("and may have been done"),
        "{gave_up}"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_10_the_last_attempt_is_still_read_back() {
    let (peer, _) = peer(RetryPolicy {
        attempts_max: 1,
        ..plain()
    });
    let script = Script::new([LOST]);
    let cancel = CancellationToken::new();

    let found = peer
        .run_reading_back(
            "append",
            &cancel,
            |a| script.attempt(a),
            async |_| Ok(Some(())),
        )
        .await;
    let absent = peer
        .run_reading_back("append", &cancel, |a| script.attempt(a), async |_| Ok(None))
        .await
        .unwrap_err();

    found.unwrap();
    assert!(matches!(absent, GaveUp::Exhausted { .. }));
    assert!(!absent.may_have_happened(), "it was read to be not done");
    assert_eq!(script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_10_cancellation_before_the_read_back_says_that_it_may_have_been_done() {
    let (peer, _) = peer(plain());
    let cancel = CancellationToken::new();

    let gave_up = peer
        .run_reading_back(
            "append",
            &cancel,
            async |_| {
                cancel.cancel();
                Err::<(), _>(DoorError::Lost)
            },
            async |_| panic!("no attempt begins after cancellation"),
        )
        .await
        .unwrap_err();

    assert!(gave_up.is_cancelled() && gave_up.may_have_happened());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "an unknown outcome is read back, never repeated")]
async fn rule_10_steps_that_skip_the_read_back_are_a_mistake() {
    let (peer, _) = peer(plain());
    let script = Script::new([LOST]);
    let cancel = CancellationToken::new();
    let mut tries = peer.begin_reading_back("append", &cancel);

    assert_eq!(tries.attempt(|a| script.attempt(a)).await.unwrap(), None);
    assert_eq!(tries.next(), Next::ReadBack);
    let _never = tries.attempt(|a| script.attempt(a)).await;
}
