//! Rule 13: after giving up the data stays with the caller, who rests and goes on.

use stamp_resilience::{BreakerPolicy, GaveUp, PauseCause, RetryPolicy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::TICK;
use crate::support::{DoorError, Script, Step, ms, peer, peer_seeded, plain, secs};

#[tokio::test(start_paused = true)]
async fn rule_13_a_rest_is_as_long_as_the_longest_pause_less_its_jitter() {
    for seed in 0..50 {
        let (peer, recorder) = peer_seeded(plain(), seed);
        let began_at = Instant::now();

        peer.rest(&CancellationToken::new()).await;

        let [(length, PauseCause::Rest)] = recorder.pauses()[..] else {
            panic!("{:?}", recorder.pauses());
        };
        assert!(length >= ms(500) && length <= secs(1), "{length:?}");
        assert!(began_at.elapsed() >= length && began_at.elapsed() <= length + TICK);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_rest_outlasts_the_open_breaker_and_is_cut_by_cancellation() {
    let (peer, recorder) = peer(plain());
    let busy = Script::failing(DoorError::Busy(Some(secs(900))));
    let cancel = CancellationToken::new();
    let _gave_up = peer
        .run("put", &cancel, |a| busy.attempt(a))
        .await
        .unwrap_err();

    peer.rest(&cancel).await;
    let length = recorder.lengths()[0];
    assert!(length >= secs(900) && length <= secs(901), "{length:?}");

    cancel.cancel();
    let began_at = Instant::now();
    peer.rest(&cancel).await;
    assert_eq!(began_at.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn rule_13_nothing_is_lost_over_an_outage_and_the_peer_is_not_stormed() {
    let policy = RetryPolicy {
        breaker: BreakerPolicy {
            failures: 5,
            open_max: secs(60),
            ..BreakerPolicy::default()
        },
        ..plain()
    };
    let (peer, _) = peer(policy);
    let cancel = CancellationToken::new();
    let outage_ends_at = Instant::now() + secs(3_600);
    let steps = std::cell::Cell::new(0_u32);
    let mut batch = Some(vec![1, 2, 3]);
    let mut stored = Vec::new();

    while let Some(rows) = batch.take() {
        let result = peer
            .run("append", &cancel, async |_| {
                steps.set(steps.get() + 1);
                if Instant::now() < outage_ends_at {
                    Err(DoorError::Reset)
                } else {
                    Ok(())
                }
            })
            .await;
        match result {
            Ok(()) => stored.push(rows),
            Err(GaveUp::Permanent { .. } | GaveUp::Cancelled { .. }) => panic!("{result:?}"),
            Err(_) => {
                batch = Some(rows);
                peer.rest(&cancel).await;
            }
        }
    }

    assert_eq!(stored, [[1, 2, 3]]);
    // 5 that open it, then a probe each 30 to 60 s.
    assert!(
        steps.get() <= 5 + 3_600 / 30 + 5,
        "{} attempts in an hour",
        steps.get()
    );
    assert!(
        Instant::now() < outage_ends_at + secs(62),
        "it came back soon after the outage"
    );
}

#[tokio::test(start_paused = true)]
async fn rule_13_the_error_of_the_door_comes_back_by_value() {
    let (peer, _) = peer(plain());
    let script = Script::new([Step::Fail(DoorError::Refused)]);

    let gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    assert_eq!(gave_up.into_last(), Some(DoorError::Refused));
}
