//! Rule 12: every attempt, pause, give-up, budget and breaker state is told.

use stamp_resilience::{
    BreakerPolicy, BreakerState, BudgetPolicy, GiveUpReason, Outcome, PauseCause, RetryPolicy,
    idempotent,
};
use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Script, Step, Told, peer, plain, secs};

fn attempt(number: u32, outcome: Outcome, error: Option<&str>) -> Told {
    Told::Attempt {
        number,
        read_back: false,
        outcome,
        error: error.map(str::to_owned),
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_everything_is_told_in_order() {
    let policy = RetryPolicy {
        attempts_max: 3,
        budget: BudgetPolicy {
            ratio: 0.0,
            floor_per_minute: 1,
            burst_max: 5,
        },
        breaker: BreakerPolicy {
            failures: 3,
            ..BreakerPolicy::default()
        },
        ..plain()
    };
    let (peer, recorder) = peer(policy);
    let script = Script::failing(DoorError::Reset);

    let _gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    let told = recorder.told();
    let reset = Some("connection reset");
    assert_eq!(told.len(), 10, "{told:#?}");
    assert_eq!(told[0], Told::Budget { tokens: 5.0 });
    assert_eq!(told[1], attempt(1, Outcome::Transient, reset));
    assert_eq!(told[2], Told::Budget { tokens: 4.0 });
    assert!(matches!(
        told[3],
        Told::Pause {
            cause: PauseCause::BackOff,
            ..
        }
    ));
    assert_eq!(told[4], attempt(2, Outcome::Transient, reset));
    assert!(matches!(told[5], Told::Budget { tokens } if tokens > 3.0 && tokens < 3.01));
    assert!(matches!(
        told[6],
        Told::Pause {
            cause: PauseCause::BackOff,
            ..
        }
    ));
    assert!(matches!(
        told[7],
        Told::Breaker {
            state: "open",
            open_for: Some(_)
        }
    ));
    assert_eq!(told[8], attempt(3, Outcome::Transient, reset));
    assert_eq!(
        told[9],
        Told::GaveUp {
            attempts: 3,
            reason: GiveUpReason::Exhausted
        }
    );
}

#[tokio::test(start_paused = true)]
async fn rule_12_each_outcome_and_each_breaker_state_is_told() {
    let policy = RetryPolicy {
        attempts_max: 20,
        total_deadline: secs(600),
        breaker: BreakerPolicy {
            failures: 4,
            ..BreakerPolicy::default()
        },
        ..plain()
    };
    let (peer, recorder) = peer(policy);
    let cancel = CancellationToken::new();
    let failing = Script::new([
        Step::Fail(DoorError::Reset),
        Step::Fail(DoorError::Busy(None)),
        Step::Fail(DoorError::Lost),
        Step::Hang,
    ]);
    let then = Script::new([Step::Succeed, Step::Fail(DoorError::Refused)]);

    let _gave_up = peer
        .run(idempotent("get"), &cancel, |a| failing.attempt(a))
        .await
        .unwrap_err();
    peer.rest(&cancel).await;
    peer.run("get", &cancel, |a| then.attempt(a)).await.unwrap();
    let _gave_up = peer
        .run("get", &cancel, |a| then.attempt(a))
        .await
        .unwrap_err();

    let told = recorder.told();
    for outcome in Outcome::ALL {
        let is_it =
            |told: &&Told| matches!(told, Told::Attempt { outcome: o, .. } if *o == outcome);
        assert_eq!(told.iter().filter(is_it).count(), 1, "{outcome:?}");
    }
    for state in BreakerState::ALL {
        let is_it =
            |told: &&Told| matches!(told, Told::Breaker { state: s, .. } if *s == state.as_str());
        assert_eq!(told.iter().filter(is_it).count(), 1, "{state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_read_backs_are_told_apart_from_attempts() {
    let (peer, recorder) = peer(plain());
    let script = Script::failing(DoorError::Lost);

    peer.run_reading_back(
        "append",
        &CancellationToken::new(),
        |a| script.attempt(a),
        async |_| Ok(Some(())),
    )
    .await
    .unwrap();

    let read_back = Told::Attempt {
        number: 1,
        read_back: true,
        outcome: Outcome::Success,
        error: None,
    };
    assert!(
        recorder.told().contains(&read_back),
        "{:#?}",
        recorder.told()
    );
}

#[test]
fn rule_12_labels_are_distinct() {
    fn check<T: Copy>(all: &[T], label: impl Fn(T) -> &'static str) {
        let mut labels: Vec<_> = all.iter().map(|value| label(*value)).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), all.len());
    }
    check(&Outcome::ALL, Outcome::as_str);
    check(&PauseCause::ALL, PauseCause::as_str);
    check(&GiveUpReason::ALL, GiveUpReason::as_str);
    check(&BreakerState::ALL, BreakerState::as_str);
}
