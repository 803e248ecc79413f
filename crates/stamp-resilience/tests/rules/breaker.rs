//! Rule 9: a breaker per peer, opened by failures in a window, half-open by exactly one probe.

use std::sync::Arc;
use std::time::Duration;

use stamp_resilience::{BreakerPolicy, BreakerState, GaveUp, Peer, RetryPolicy};
use tokio_util::sync::CancellationToken;

use crate::support::{DoorError, Recorder, Script, Step, Told, peer, plain, secs};

fn touchy() -> RetryPolicy {
    let breaker = BreakerPolicy {
        failures: 3,
        window: secs(10),
        open_first: secs(4),
        open_max: secs(10),
    };
    RetryPolicy {
        attempts_max: 1,
        breaker,
        ..plain()
    }
}

async fn fail(peer: &Peer, error: DoorError, times: usize) {
    let script = Script::failing(error);
    for _ in 0..times {
        let _gave_up = peer
            .run("put", &CancellationToken::new(), |a| script.attempt(a))
            .await
            .unwrap_err();
    }
    assert_eq!(script.count(), times, "the breaker let them all out");
}

fn openings(recorder: &Recorder) -> Vec<Duration> {
    let opening = |told: Told| match told {
        Told::Breaker { open_for, .. } => open_for,
        Told::Attempt { .. }
        | Told::Pause { .. }
        | Told::GaveUp { .. }
        | Told::Budget { .. }
        | Told::Nested { .. } => None,
    };
    recorder.told().into_iter().filter_map(opening).collect()
}

#[tokio::test(start_paused = true)]
async fn rule_09_it_opens_after_so_many_failures_and_lets_nothing_out() {
    let (peer, _) = peer(touchy());
    fail(&peer, DoorError::Reset, 2).await;
    assert_eq!(peer.breaker_state(), BreakerState::Closed);
    fail(&peer, DoorError::Lost, 1).await;
    assert_eq!(peer.breaker_state(), BreakerState::Open);
    let script = Script::new([Step::Succeed]);

    let result = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    let Err(GaveUp::BreakerOpen {
        reopens_in,
        last: None,
        ..
    }) = result
    else {
        panic!("{result:?}");
    };
    assert!(
        reopens_in >= secs(2) && reopens_in <= secs(4),
        "{reopens_in:?}"
    );
    assert_eq!(script.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_09_an_operation_under_way_does_not_retry_against_an_open_breaker() {
    let (peer, recorder) = peer(RetryPolicy {
        attempts_max: 10,
        ..touchy()
    });
    let script = Script::failing(DoorError::Reset);

    let result = peer
        .run("put", &CancellationToken::new(), |a| script.attempt(a))
        .await;

    assert!(
        matches!(result, Err(GaveUp::BreakerOpen { last: Some(_), .. })),
        "{result:?}"
    );
    assert_eq!((script.count(), recorder.pauses().len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn rule_09_permanent_failures_and_old_ones_do_not_open_it() {
    let (peer, _) = peer(touchy());

    fail(&peer, DoorError::Refused, 50).await;
    for _ in 0..20 {
        fail(&peer, DoorError::Reset, 1).await;
        tokio::time::advance(secs(5)).await;
    }

    assert_eq!(peer.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn rule_09_failures_that_are_fewer_than_half_do_not_open_it() {
    let (peer, _) = peer(touchy());
    let fine = Script::new([Step::Succeed]);

    for _ in 0..30 {
        fail(&peer, DoorError::Reset, 1).await;
        for _ in 0..2 {
            peer.run("put", &CancellationToken::new(), |a| fine.attempt(a))
                .await
                .unwrap();
        }
    }

    assert_eq!(peer.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn rule_09_half_open_lets_exactly_one_probe_out() {
    let (peer, _) = peer(touchy());
    fail(&peer, DoorError::Reset, 3).await;
    tokio::time::advance(secs(4)).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let probes = Arc::new(Script::new([Step::Succeed]));

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (peer, gate, probes) = (peer.clone(), Arc::clone(&gate), Arc::clone(&probes));
        tasks.spawn(async move {
            let attempt = async |attempt| {
                gate.notified().await;
                probes.attempt(attempt).await
            };
            peer.run("put", &CancellationToken::new(), attempt).await
        });
    }
    let mut refused = 0;
    while refused < 19 {
        let result = tasks.join_next().await.unwrap().unwrap();
        assert!(
            matches!(result, Err(GaveUp::BreakerOpen { .. })),
            "{result:?}"
        );
        refused += 1;
    }
    assert_eq!(peer.breaker_state(), BreakerState::HalfOpen);
    gate.notify_one();

    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(probes.count(), 1);
    assert_eq!(peer.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn rule_09_each_failed_probe_keeps_it_open_longer_up_to_a_cap() {
    let (peer, recorder) = peer(touchy());
    fail(&peer, DoorError::Reset, 3).await;
    for _ in 0..4 {
        tokio::time::advance(*openings(&recorder).last().unwrap()).await;
        fail(&peer, DoorError::Reset, 1).await;
        assert_eq!(peer.breaker_state(), BreakerState::Open);
    }

    let most = [4, 8, 10, 10, 10].map(secs);
    let openings = openings(&recorder);
    assert_eq!(openings.len(), most.len());
    for (opening, most) in openings.into_iter().zip(most) {
        assert!(
            opening >= most / 2 && opening <= most,
            "{opening:?} against {most:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rule_09_a_probe_that_is_answered_closes_it_even_with_a_refusal() {
    let (peer, recorder) = peer(touchy());
    fail(&peer, DoorError::Reset, 3).await;
    tokio::time::advance(secs(4)).await;

    fail(&peer, DoorError::Refused, 1).await;
    assert_eq!(peer.breaker_state(), BreakerState::Closed);

    // Closed is as new: the count and the growth begin again.
    fail(&peer, DoorError::Reset, 2).await;
    assert_eq!(peer.breaker_state(), BreakerState::Closed);
    fail(&peer, DoorError::Reset, 1).await;
    assert!(openings(&recorder)[1] <= secs(4));
}

#[tokio::test(start_paused = true)]
async fn rule_09_a_probe_that_is_dropped_leaves_its_place_to_the_next() {
    let (peer, _) = peer(touchy());
    fail(&peer, DoorError::Reset, 3).await;
    tokio::time::advance(secs(4)).await;
    let hanging = Script::new([Step::Hang]);
    let fine = Script::new([Step::Succeed]);
    let cancel = CancellationToken::new();

    let dropped = tokio::time::timeout(secs(1), peer.run("put", &cancel, |a| hanging.attempt(a)));
    assert!(dropped.await.is_err());
    peer.run("put", &cancel, |a| fine.attempt(a)).await.unwrap();

    assert_eq!((hanging.count(), fine.count()), (1, 1));
    assert_eq!(peer.breaker_state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn rule_09_a_person_can_hold_it_open_and_close_it() {
    let (peer, _) = peer(touchy());
    let fine = Script::new([Step::Succeed]);
    let cancel = CancellationToken::new();

    peer.hold_breaker_open();
    tokio::time::advance(secs(86_400)).await;
    let held = peer.run("put", &cancel, |a| fine.attempt(a)).await;
    assert!(matches!(held, Err(GaveUp::BreakerOpen { reopens_in, .. }) if reopens_in == secs(10)));
    peer.close_breaker();

    peer.run("put", &cancel, |a| fine.attempt(a)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_09_one_peer_that_is_open_does_not_close_off_another() {
    let (broken, _) = peer(touchy());
    let (healthy, _) = peer(touchy());
    fail(&broken, DoorError::Reset, 3).await;
    let fine = Script::new([Step::Succeed]);

    healthy
        .run("put", &CancellationToken::new(), |a| fine.attempt(a))
        .await
        .unwrap();

    assert_eq!(broken.breaker_state(), BreakerState::Open);
}
