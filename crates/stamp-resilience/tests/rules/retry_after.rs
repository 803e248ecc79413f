//! Rule 6: a server's Retry-After is a lower bound, or we give up, never sooner.

use std::time::Duration;

use stamp_resilience::{BreakerState, GaveUp, PauseCause, RetryPolicy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::TICK;
use crate::support::{DoorError, Script, Step, ms, peer, peer_seeded, plain, secs};

#[tokio::test(start_paused = true)]
async fn rule_06_a_hint_is_a_lower_bound_with_jitter_above_it() {
    let hint = secs(13);

    let mut lengths = Vec::new();
    for seed in 0..100 {
        let (peer, recorder) = peer_seeded(plain(), seed);
        let script = Script::new([Step::Fail(DoorError::Busy(Some(hint))), Step::Succeed]);
        peer.run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await
            .unwrap();

        let seen = script.seen();
        let gap = seen[1].began_at - seen[0].began_at;
        let [(length, PauseCause::RetryAfter)] = recorder.pauses()[..] else {
            panic!("{:?}", recorder.pauses());
        };
        // The interval is 2 s, of which half is drawn.
        assert!(length >= hint && length <= hint + secs(1), "{length:?}");
        assert!(gap >= hint && gap <= length + TICK);
        lengths.push(length);
    }
    lengths.sort();
    assert!(
        lengths[99] - lengths[0] > ms(800),
        "the jitter above the hint is not used"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_06_a_tiny_hint_does_not_shorten_our_own_pause() {
    for hint in [Duration::ZERO, Duration::from_nanos(1), ms(999)] {
        let (peer, recorder) = peer(plain());
        let script = Script::new([Step::Fail(DoorError::Busy(Some(hint))), Step::Succeed]);

        peer.run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await
            .unwrap();

        let length = recorder.lengths()[0];
        assert!(length >= secs(1) && length <= secs(2), "{length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_06_a_hint_that_does_not_fit_is_given_up_at_once() {
    for hint in [secs(60), secs(86_400), Duration::MAX] {
        let (peer, recorder) = peer(plain());
        let script = Script::failing(DoorError::Busy(Some(hint)));
        let began_at = Instant::now();

        let result = peer
            .run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await;

        let Err(GaveUp::RetryAfterTooLong {
            retry_after, left, ..
        }) = result
        else {
            panic!("{result:?}");
        };
        assert_eq!((retry_after, left), (hint, secs(60)));
        assert_eq!((script.count(), recorder.pauses().len()), (1, 0));
        assert_eq!(began_at.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_06_after_giving_up_on_a_hint_nobody_comes_back_sooner() {
    let (peer, _) = peer(plain());
    let busy = Script::failing(DoorError::Busy(Some(secs(300))));
    let other = Script::new([Step::Succeed]);
    let cancel = CancellationToken::new();

    let _gave_up = peer
        .run("put", &cancel, |a| busy.attempt(a))
        .await
        .unwrap_err();
    assert_eq!(peer.breaker_state(), BreakerState::Open);
    tokio::time::advance(secs(299)).await;
    let result = peer.run("get", &cancel, |a| other.attempt(a)).await;

    let Err(GaveUp::BreakerOpen {
        reopens_in,
        last: None,
        ..
    }) = result
    else {
        panic!("{result:?}");
    };
    assert_eq!(reopens_in, secs(1));
    tokio::time::advance(secs(1)).await;
    peer.run("get", &cancel, |a| other.attempt(a))
        .await
        .unwrap();
    assert_eq!(other.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_06_a_hint_is_kept_to_whatever_limit_ends_the_operation() {
    let (peer, _) = peer(RetryPolicy {
        attempts_max: 1,
        ..plain()
    });
    let busy = Script::failing(DoorError::Busy(Some(secs(20))));
    let cancel = CancellationToken::new();

    let exhausted = peer
        .run("put", &cancel, |a| busy.attempt(a))
        .await
        .unwrap_err();
    assert!(matches!(exhausted, GaveUp::Exhausted { .. }));
    tokio::time::advance(secs(19)).await;
    let sooner = peer
        .run("put", &cancel, |a| busy.attempt(a))
        .await
        .unwrap_err();

    assert!(matches!(sooner, GaveUp::BreakerOpen { .. }));
    assert_eq!(busy.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_06_an_operation_that_is_cancelled_closes_nobody_off() {
    let (peer, _) = peer(plain());
    let script = Script::new([Step::Fail(DoorError::Busy(Some(secs(30)))), Step::Succeed]);
    let cancel = CancellationToken::new();

    let run = peer.run("put", &cancel, |a| script.attempt(a));
    let (result, ()) = tokio::join!(run, async { cancel.cancel() });

    assert!(result.unwrap_err().is_cancelled());
    assert_eq!(peer.breaker_state(), BreakerState::Closed);
}
