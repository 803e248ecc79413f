//! Rule 8: a retry budget per peer, about a tenth of the requests and a small floor.

use stamp_resilience::{BudgetPolicy, GaveUp, RetryPolicy};
use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Script, Step, peer, plain, secs};

fn tight() -> RetryPolicy {
    let budget = BudgetPolicy {
        ratio: 0.1,
        floor_per_minute: 6,
        burst_max: 3,
    };
    RetryPolicy { budget, ..plain() }
}

#[tokio::test(start_paused = true)]
async fn rule_08_retries_stay_within_the_share_of_requests_and_the_floor() {
    let (peer, recorder) = peer(tight());
    let script = Script::failing(DoorError::Reset);
    let cancel = CancellationToken::new();
    let began_at = tokio::time::Instant::now();

    // With their retries they stay below the thousand failures that would open the breaker.
    let operations = 800;
    for _ in 0..operations {
        let _gave_up = peer
            .run("put", &cancel, |a| script.attempt(a))
            .await
            .unwrap_err();
    }

    let retries = script.count() - operations;
    let minutes = began_at.elapsed().as_secs_f64() / 60.0;
    let allowed = 3.0 + 0.1 * operations as f64 + 6.0 * minutes;
    assert!(retries as f64 <= allowed, "{retries} against {allowed}");
    assert!(
        retries as f64 > allowed - 2.0,
        "{retries} of {allowed}: the budget is usable in full"
    );
    assert_eq!(recorder.pauses().len(), retries);
}

#[tokio::test(start_paused = true)]
async fn rule_08_an_empty_budget_gives_up_at_once_with_the_cause() {
    let (peer, _) = peer(tight());
    let script = Script::failing(DoorError::Reset);

    let gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    assert!(matches!(gave_up, GaveUp::Budget { .. }), "{gave_up}");
    assert_eq!(gave_up.call().attempts, 4, "the first and a burst of three");
    assert_eq!(gave_up.last(), Some(&DoorError::Reset));
}

#[tokio::test(start_paused = true)]
async fn rule_08_the_floor_lets_a_quiet_peer_be_retried() {
    let (peer, _) = peer(tight());
    let failing = Script::failing(DoorError::Reset);
    let cancel = CancellationToken::new();
    let _gave_up = peer
        .run("put", &cancel, |a| failing.attempt(a))
        .await
        .unwrap_err();

    tokio::time::advance(secs(10)).await;
    let script = Script::new([Step::Fail(DoorError::Reset), Step::Succeed]);

    peer.run("put", &cancel, |a| script.attempt(a))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_08_success_costs_nothing_and_refills() {
    let (peer, _) = peer(tight());
    let cancel = CancellationToken::new();
    let failing = Script::failing(DoorError::Reset);
    let _gave_up = peer
        .run("put", &cancel, |a| failing.attempt(a))
        .await
        .unwrap_err();
    let fine = Script::new([Step::Succeed]);

    // Ten successes are a token, and no time passes.
    for _ in 0..10 {
        peer.run("put", &cancel, |a| fine.attempt(a)).await.unwrap();
    }
    let script = Script::new([Step::Fail(DoorError::Reset), Step::Succeed]);

    peer.run("put", &cancel, |a| script.attempt(a))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_08_clones_share_one_budget_and_peers_do_not() {
    let (one, _) = peer(tight());
    let (other, _) = peer(tight());
    let cancel = CancellationToken::new();
    let script = Script::failing(DoorError::Reset);
    let attempts = async |peer: stamp_resilience::Peer| {
        let gave_up = peer
            .run("put", &cancel, |a| script.attempt(a))
            .await
            .unwrap_err();
        gave_up.call().attempts
    };

    assert_eq!(attempts(one.clone()).await, 4);
    assert_eq!(attempts(one).await, 1, "the budget of the clone is empty");
    assert_eq!(attempts(other).await, 4);
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_read_back_and_the_attempt_after_it_each_cost_a_retry() {
    let budget = BudgetPolicy {
        ratio: 0.0,
        floor_per_minute: 1,
        burst_max: 1,
    };
    let (peer, _) = peer(RetryPolicy { budget, ..plain() });
    let script = Script::new([Step::Fail(DoorError::Lost), Step::Succeed]);

    let gave_up = peer
        .run_reading_back(
            "append",
            &CancellationToken::new(),
            |a| script.attempt(a),
            async |_| Ok(None),
        )
        .await
        .unwrap_err();

    assert!(matches!(gave_up, GaveUp::Budget { .. }), "{gave_up}");
    assert_eq!((gave_up.call().attempts, gave_up.call().read_backs), (1, 1));
}
