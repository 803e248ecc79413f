//! What the public interface cannot bring about: results that come late.

use std::time::Duration;

use tokio::time::Instant;

use super::{Breaker, BreakerState, HINT_MAX, Ticket};
use crate::pause::Jitter;
use crate::policy::{BreakerPolicy, RetryPolicy};

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    breaker: Breaker,
    jitter: Jitter,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let breaker = BreakerPolicy {
            failures: 2,
            window: 10 * SECOND,
            open_first: 4 * SECOND,
            open_max: 60 * SECOND,
        };
        let policy = RetryPolicy {
            breaker,
            ..RetryPolicy::store()
        };
        let now = Instant::now();
        Self {
            breaker: Breaker::new(&policy, now),
            jitter: Jitter::seeded(1, "store"),
            now,
        }
    }

    fn admit(&mut self) -> Ticket {
        self.breaker.admit(self.now, self.now + SECOND).unwrap().0
    }

    fn fail(&mut self, ticket: Ticket) {
        let _change = self
            .breaker
            .record_failure(ticket, self.now, &mut self.jitter);
    }

    fn answer(&mut self, ticket: Ticket) {
        let _change = self.breaker.record_answer(ticket, self.now);
    }

    fn opened() -> Self {
        let mut bench = Self::new();
        for _ in 0..2 {
            let ticket = bench.admit();
            bench.fail(ticket);
        }
        assert_eq!(bench.breaker.state(), BreakerState::Open);
        bench
    }
}

#[test]
fn rule_09_attempts_that_began_before_it_opened_change_nothing() {
    let mut bench = Bench::opened();
    bench.answer(Ticket::Ordinary);
    assert_eq!(bench.breaker.state(), BreakerState::Open);

    bench.now += 4 * SECOND;
    let probe = bench.admit();
    bench.answer(Ticket::Ordinary);
    bench.fail(Ticket::Ordinary);
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);

    bench.answer(probe);
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
}

#[test]
fn rule_09_an_earlier_probe_says_nothing_about_a_later_one() {
    let mut bench = Bench::opened();
    bench.now += 4 * SECOND;
    let first = bench.admit();
    let _change = bench.breaker.abandon(first, bench.now);
    let second = bench.admit();

    bench.answer(first);
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);
    bench.fail(second);
    assert_eq!(bench.breaker.state(), BreakerState::Open);
}

#[test]
fn rule_09_a_failure_counts_for_nine_tenths_of_a_window_and_not_for_a_whole_one() {
    let check = |apart: Duration, state: BreakerState| {
        let mut bench = Bench::new();
        let ticket = bench.admit();
        bench.fail(ticket);
        bench.now += apart;
        let ticket = bench.admit();
        bench.fail(ticket);
        assert_eq!(bench.breaker.state(), state, "{apart:?} apart");
    };

    check(Duration::from_millis(9_000), BreakerState::Open);
    check(Duration::from_millis(9_999), BreakerState::Open);
    check(Duration::from_millis(10_000), BreakerState::Closed);
    check(Duration::from_millis(15_500), BreakerState::Closed);
    check(Duration::from_secs(1_000_000), BreakerState::Closed);
}

#[test]
fn rule_06_a_hint_only_ever_lengthens_the_time_it_is_open() {
    let mut bench = Bench::opened();
    let _change = bench.breaker.leave_alone(100 * SECOND, bench.now);
    let _change = bench.breaker.leave_alone(SECOND, bench.now);
    assert_eq!(bench.breaker.closed_off(bench.now), Some(100 * SECOND));

    let _change = bench.breaker.leave_alone(Duration::MAX, bench.now);
    assert_eq!(bench.breaker.closed_off(bench.now), Some(HINT_MAX));
}

#[test]
fn rule_09_a_breaker_that_a_person_holds_is_moved_by_nothing_else() {
    let mut bench = Bench::opened();
    let _change = bench.breaker.hold_open();

    assert_eq!(bench.breaker.leave_alone(SECOND, bench.now), None);
    bench.answer(Ticket::Ordinary);
    bench.now += HINT_MAX;

    assert_eq!(bench.breaker.state(), BreakerState::Open);
    assert_eq!(bench.breaker.closed_off(bench.now), Some(60 * SECOND));
}

#[test]
fn rule_09_it_still_opens_after_years_of_quiet() {
    let mut bench = Bench::new();
    for _ in 0..30 {
        bench.now += Duration::from_secs(10_000_003);
        let ticket = bench.admit();
        bench.fail(ticket);
        assert_eq!(bench.breaker.state(), BreakerState::Closed);
    }

    let ticket = bench.admit();
    bench.fail(ticket);
    assert_eq!(bench.breaker.state(), BreakerState::Open);
}
