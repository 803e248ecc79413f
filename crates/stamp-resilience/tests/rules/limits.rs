//! Rule 3: attempts and a total deadline, a timeout for each attempt, and cancellation.

use stamp_resilience::{GaveUp, Peer, RetryPolicy, idempotent};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::TICK;
use crate::support::{DoorError, Script, Step, ms, peer, plain, secs};

#[tokio::test(start_paused = true)]
async fn rule_03_attempts_end_at_their_maximum() {
    let (peer, _) = peer(plain());
    let script = Script::failing(DoorError::Reset);

    let gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    assert_eq!(script.count(), 5);
    assert_eq!(gave_up.call().attempts, 5);
    assert_eq!(gave_up.last(), Some(&DoorError::Reset));
    assert!(!gave_up.may_have_happened());
    let numbers: Vec<u32> = script
        .seen()
        .iter()
        .map(|seen| seen.attempt.number)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn rule_03_one_attempt_means_no_retry() {
    let (peer, recorder) = peer(RetryPolicy {
        attempts_max: 1,
        ..plain()
    });
    let script = Script::failing(DoorError::Reset);

    let result = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    assert!(matches!(result, Err(GaveUp::Exhausted { .. })));
    assert_eq!((script.count(), recorder.pauses().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn rule_03_the_deadline_ends_attempts_that_hang_and_is_told_to_each() {
    let policy = RetryPolicy {
        attempts_max: 20,
        attempt_timeout: secs(10),
        total_deadline: secs(25),
        ..plain()
    };
    let (peer, _) = peer(policy);
    let script = Script::new([Step::Hang]);
    let began_at = Instant::now();

    let gave_up = peer
        .run(idempotent("get"), &CancellationToken::new(), |a| {
            script.attempt(a)
        })
        .await
        .unwrap_err();

    assert!(matches!(gave_up, GaveUp::Deadline { .. }), "{gave_up}");
    let took = began_at.elapsed();
    assert!(took <= secs(25) + TICK, "{took:?}");
    let seen = script.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].attempt.timeout_at, began_at + secs(10));
    assert_eq!(seen[2].attempt.timeout_at, began_at + secs(25));
    assert!(gave_up.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn rule_03_a_pause_that_would_pass_the_deadline_is_not_begun() {
    let policy = RetryPolicy {
        first_pause: secs(10),
        pause_max: secs(40),
        throttled_first_pause: secs(10),
        attempt_timeout: secs(5),
        total_deadline: secs(16),
        ..plain()
    };
    let (peer, recorder) = peer(policy);
    let script = Script::failing(DoorError::Reset);
    let began_at = Instant::now();

    let gave_up = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await
        .unwrap_err();

    // 5 to 10 s, then one of 10 to 20 s that cannot fit.
    assert!(matches!(gave_up, GaveUp::Deadline { .. }), "{gave_up}");
    assert_eq!(script.count(), 2);
    let length = recorder.lengths()[0];
    assert!(began_at.elapsed() <= length + TICK, "it gave up at once");
    assert_eq!(gave_up.last(), Some(&DoorError::Reset));
}

#[tokio::test(start_paused = true)]
async fn rule_03_a_permanent_failure_is_not_retried() {
    let (peer, recorder) = peer(plain());
    let script = Script::failing(DoorError::Refused);

    let result = peer
        .run(idempotent("get"), &CancellationToken::new(), |a| {
            script.attempt(a)
        })
        .await;

    assert!(matches!(
        result,
        Err(GaveUp::Permanent {
            last: DoorError::Refused,
            ..
        })
    ));
    assert_eq!((script.count(), recorder.pauses().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn rule_03_cancellation_cuts_a_pause_at_once() {
    let (peer, _) = peer(plain());
    let script = Script::failing(DoorError::Busy(Some(secs(30))));
    let cancel = CancellationToken::new();
    let began_at = Instant::now();

    let run = peer.run("put", &cancel, |a| script.attempt(a));
    let stop = async {
        tokio::time::advance(secs(3)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(run, stop);

    let gave_up = result.unwrap_err();
    assert!(gave_up.is_cancelled());
    assert_eq!(gave_up.call().waited, secs(3));
    assert_eq!(began_at.elapsed(), secs(3));
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_03_cancellation_does_not_touch_an_attempt_that_runs() {
    let (peer, _) = peer(plain());
    let cancel = CancellationToken::new();

    let result = peer
        .run("put", &cancel, async |_| {
            cancel.cancel();
            tokio::time::advance(secs(2)).await;
            Ok::<_, DoorError>("done")
        })
        .await;

    assert_eq!(result.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn rule_03_no_attempt_begins_after_cancellation() {
    let (peer, _) = peer(plain());
    let script = Script::new([Step::Succeed]);
    let cancel = CancellationToken::new();
    cancel.cancel();

    let result = peer.run("put", &cancel, |a| script.attempt(a)).await;

    assert!(matches!(result, Err(GaveUp::Cancelled { last: None, .. })));
    assert_eq!(script.count(), 0);
}

struct Door {
    calls: u32,
}

impl Door {
    async fn append(&mut self, bytes: &[u8]) -> Result<usize, DoorError> {
        tokio::task::yield_now().await;
        self.calls += 1;
        if self.calls < 3 {
            Err(DoorError::Reset)
        } else {
            Ok(bytes.len())
        }
    }
}

async fn append(peer: Peer, mut door: Door, cancel: CancellationToken) -> (usize, u32) {
    let bytes = vec![1, 2, 3];
    let mut tries = peer.begin("append", &cancel);
    let length = loop {
        if let Some(length) = tries.attempt(|_| door.append(&bytes)).await.unwrap() {
            break length;
        }
    };
    (length, door.calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_futures_of_run_and_of_the_steps_can_be_spawned() {
    let policy = RetryPolicy {
        first_pause: ms(10),
        pause_max: ms(20),
        ..plain()
    };
    let (peer, _) = peer(policy);
    let script = std::sync::Arc::new(Script::new([Step::Fail(DoorError::Reset), Step::Succeed]));

    let steps = tokio::spawn(append(
        peer.clone(),
        Door { calls: 0 },
        CancellationToken::new(),
    ));
    let shared = std::sync::Arc::clone(&script);
    let run = tokio::spawn(async move {
        let cancel = CancellationToken::new();
        let by_closure = peer
            .run("put", &cancel, async |a| shared.attempt(a).await)
            .await;
        let read_back = peer
            .run_reading_back(
                "put",
                &cancel,
                |a| shared.attempt(a),
                async |_| Ok(Some(())),
            )
            .await;
        by_closure.and(read_back)
    });

    assert_eq!(steps.await.unwrap(), (3, 3));
    run.await.unwrap().unwrap();
    assert_eq!(script.count(), 3);
}

#[test]
fn the_message_tells_peer_operation_attempts_and_the_cause() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let gave_up = runtime.block_on(async {
        let (peer, _) = peer(plain());
        let script = Script::new([Step::Fail(DoorError::Reset), Step::Fail(DoorError::Refused)]);
        peer.run("table.append", &CancellationToken::new(), |a| {
            script.attempt(a)
        })
        .await
        .unwrap_err()
    });

    let text = gave_up.to_string();
    assert!(
        text.starts_with("store: table.append gave up after 2 attempts in "),
        "{text}"
    );
    assert!(text.ends_with(": the failure is permanent"), "{text}");
    assert!(!text.contains("us ") && !text.contains("ns"), "{text}");
    let source = std::error::Error::source(&gave_up).unwrap();
    assert_eq!(source.to_string(), "not allowed");
}

#[tokio::test(start_paused = true)]
async fn the_future_of_run_holds_one_attempt_and_little_more() {
    let (peer, _) = peer(plain());
    let cancel = CancellationToken::new();
    let attempt = async |_| {
        let state = [0_u8; 8_000];
        tokio::task::yield_now().await;
        Ok::<_, DoorError>(state.len())
    };

    let run = peer.run("put", &cancel, attempt);

    let bytes = std::mem::size_of_val(&run);
    assert!(bytes < 8_000 + 1_500, "{bytes} bytes");
    assert_eq!(run.await.unwrap(), 8_000);
}

#[tokio::test(start_paused = true)]
async fn rule_03_no_pause_begins_after_cancellation_and_no_budget_is_spent() {
    let (peer, recorder) = peer(plain());
    let cancel = CancellationToken::new();

    let result = peer
        .run("put", &cancel, async |_| {
            cancel.cancel();
            Err::<(), _>(DoorError::Reset)
        })
        .await;

    assert!(matches!(
        result,
        Err(GaveUp::Cancelled { last: Some(_), .. })
    ));
    assert_eq!(
        recorder.told().len(),
        3,
        "budget, attempt, give-up: {:?}",
        recorder.told()
    );
}

#[tokio::test(start_paused = true)]
async fn rule_03_steps_that_are_taken_after_the_deadline_make_no_attempt() {
    let (peer, _) = peer(plain());
    let script = Script::new([Step::Succeed]);
    let cancel = CancellationToken::new();
    let mut tries = peer.begin("put", &cancel);
    tokio::time::advance(secs(60)).await;

    let result = tries.attempt(|a| script.attempt(a)).await;

    assert!(
        matches!(result, Err(GaveUp::Deadline { last: None, .. })),
        "{result:?}"
    );
    assert_eq!(script.count(), 0);
}
