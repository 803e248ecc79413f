//! Rules 1, 2 and 4: exponential, bounded and jittered; one immediate retry; never regular.

use std::time::Duration;

use stamp_resilience::{GaveUp, PauseCause, RetryPolicy, idempotent};
use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Script, Step, ms, peer, peer_seeded, plain, secs};

async fn pauses_of(
    policy: RetryPolicy,
    seed: u64,
    error: DoorError,
) -> Vec<(Duration, PauseCause)> {
    let (peer, recorder) = peer_seeded(policy, seed);
    let script = Script::failing(error);

    let result = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    assert!(matches!(result, Err(GaveUp::Exhausted { .. })));
    recorder.pauses()
}

#[tokio::test(start_paused = true)]
async fn rule_01_a_pause_doubles_up_to_its_cap_and_never_leaves_its_bounds() {
    let policy = RetryPolicy {
        attempts_max: 8,
        ..plain()
    };
    let most = [100, 200, 400, 800, 1_000, 1_000, 1_000].map(ms);

    for seed in 0..200 {
        let pauses = pauses_of(policy.clone(), seed, DoorError::Reset).await;

        assert_eq!(pauses.len(), most.len());
        for ((length, cause), most) in pauses.into_iter().zip(most) {
            // backon multiplies in f32: half a microsecond is its error at a second.
            let slack = Duration::from_nanos(500);
            assert!(
                length >= most / 2 - slack,
                "{length:?} below {:?}",
                most / 2
            );
            assert!(
                length <= most + slack && length <= ms(1_000),
                "{length:?} above {most:?}"
            );
            assert_eq!(cause, PauseCause::BackOff);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_01_throttling_has_a_slower_profile_of_its_own() {
    let pauses = pauses_of(plain(), 1, DoorError::Busy(None)).await;

    let most = [2, 4, 8, 16].map(secs);
    assert_eq!(pauses.len(), most.len());
    for ((length, cause), most) in pauses.into_iter().zip(most) {
        assert!(
            length >= most / 2 && length <= most,
            "{length:?} against {most:?}"
        );
        assert_eq!(cause, PauseCause::Throttled);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_01_the_operation_really_waits_for_the_pause() {
    let (peer, recorder) = peer(plain());
    let script = Script::failing(DoorError::Reset);

    let _gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    let seen = script.seen();
    let gaps = seen
        .windows(2)
        .map(|pair| pair[1].began_at - pair[0].began_at);
    for (gap, length) in gaps.zip(recorder.lengths()) {
        assert!(
            gap >= length && gap <= length + crate::TICK,
            "{gap:?} against {length:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rule_02_at_most_one_retry_is_immediate_and_only_after_a_transient_fault() {
    let policy = RetryPolicy {
        immediate_retry: true,
        ..plain()
    };

    let pauses = pauses_of(policy.clone(), 3, DoorError::Reset).await;
    assert_eq!(pauses[0], (Duration::ZERO, PauseCause::Immediate));
    assert!(pauses[1..].iter().all(|(length, _)| *length >= ms(50)));

    let throttled = pauses_of(policy, 3, DoorError::Busy(None)).await;
    assert!(throttled.iter().all(|(length, _)| *length >= secs(1)));
}

#[tokio::test(start_paused = true)]
async fn rule_02_no_retry_is_immediate_unless_the_policy_says_so() {
    let pauses = pauses_of(plain(), 3, DoorError::Reset).await;

    assert!(pauses.iter().all(|(length, _)| *length >= ms(50)));
}

#[tokio::test(start_paused = true)]
async fn rule_04_pauses_at_the_cap_still_differ_from_each_other() {
    let policy = RetryPolicy {
        attempts_max: 20,
        ..plain()
    };

    let (peer, recorder) = peer(policy);
    let script = Script::failing(DoorError::Reset);
    let _gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    let mut at_cap = recorder.lengths().split_off(4);
    assert_eq!(at_cap.len(), 15);
    at_cap.sort();
    let nearest = at_cap
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .min()
        .unwrap();
    assert!(
        nearest > Duration::ZERO,
        "two pauses were equal to the nanosecond"
    );
    assert!(
        at_cap[14] - at_cap[0] > ms(250),
        "fifteen draws from half a second lie close together"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_01_success_needs_no_pause_and_no_second_attempt() {
    let (peer, recorder) = peer(plain());
    let script = Script::new([Step::Succeed]);

    peer.run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap();

    assert_eq!(script.count(), 1);
    assert_eq!(recorder.pauses(), []);
}

#[tokio::test(start_paused = true)]
async fn rule_02_no_retry_after_an_unknown_outcome_is_immediate() {
    let (peer, recorder) = peer(RetryPolicy {
        immediate_retry: true,
        ..plain()
    });
    let lost = Step::Fail(DoorError::Lost);
    let script = Script::new([lost, Step::Hang, Step::Succeed]);

    peer.run(idempotent("get"), &CancellationToken::new(), |a| {
        script.attempt(a)
    })
    .await
    .unwrap();

    assert!(recorder.lengths().iter().all(|length| *length >= ms(50)));
}
