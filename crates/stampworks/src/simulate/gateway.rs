//! Devices behind gateways: those of one gateway share a retry budget and a circuit breaker.
//!
//! Budget, breaker, pauses and draws are those of `stamp-resilience`, with the time of the simulation. Their
//! order is that of its `Tries`: after a failure first the number of attempts, then the breaker, then the
//! budget. A device whose attempt is given up rests, and begins anew.

use std::time::Duration;

use stamp_resilience::pieces::{Breaker, Budget, Jitter, Pauses, Span, Ticket};
use stamp_resilience::{Reconnect, RetryPolicy};
use tokio::time::Instant;

/// Devices behind one gateway.
pub(super) const GATEWAY_DEVICES: u32 = 200;

struct Gateway {
    breaker: Breaker,
    budget: Budget,
}

/// All gateways of one hub.
pub(super) struct Gateways {
    policy: RetryPolicy,
    reconnect: Reconnect,
    /// Any moment; only distances from it are used.
    origin: Instant,
    gateways: Vec<Gateway>,
    ordinary: Vec<Span>,
    throttled: Vec<Span>,
}

/// What a failed attempt leads to.
pub(super) struct Next {
    pub(super) pause: Duration,
    /// Attempts of the operation so far; 0 when it was given up.
    pub(super) attempts: u8,
}

impl Gateways {
    /// As many gateways as `devices` need.
    pub(super) fn new(devices: u32, reconnect: Reconnect) -> Self {
        let policy = RetryPolicy::device_gateway();
        let origin = Instant::now();
        let gateway = |_| Gateway {
            breaker: Breaker::new(&policy, origin),
            budget: Budget::new(&policy.budget, origin),
        };
        let mut pauses = Pauses::new(&policy);
        Self {
            gateways: (0..devices.div_ceil(GATEWAY_DEVICES))
                .map(gateway)
                .collect(),
            ordinary: (1..policy.attempts_max)
                .map(|_| pauses.next_ordinary())
                .collect(),
            throttled: (1..policy.attempts_max)
                .map(|_| pauses.next_throttled(None))
                .collect(),
            policy,
            reconnect,
            origin,
        }
    }

    /// Bytes they hold.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.gateways)
    }

    fn at(&self, now_s: u64) -> Instant {
        self.origin + Duration::from_secs(now_s)
    }

    /// Leave for one attempt of a device, the `attempts`th after 0; or how long to wait before asking
    /// again.
    pub(super) fn admit(
        &mut self,
        gateway: u32,
        attempts: u8,
        now_s: u64,
        jitter: &mut Jitter,
    ) -> Result<Ticket, Duration> {
        let now = self.at(now_s);
        let timeout_at = now + self.policy.attempt_timeout;
        let spread = self.reconnect.first();
        let gateway = &mut self.gateways[gateway as usize];
        if attempts == 0 {
            gateway.budget.deposit(now);
        }
        let admitted = gateway.breaker.admit(now, timeout_at);
        // All its devices wait for the same breaker, so they must not come together when it opens.
        let later = |reopens_in| jitter.draw(spread.not_below(reopens_in));
        admitted.map(|(ticket, _)| ticket).map_err(later)
    }

    /// The attempt had an answer.
    pub(super) fn answered(&mut self, gateway: u32, ticket: Ticket, now_s: u64) {
        let now = self.at(now_s);
        self.gateways[gateway as usize]
            .breaker
            .record_answer(ticket, now);
    }

    /// The attempt failed, and was the `attempts`th, from 1.
    pub(super) fn failed(
        &mut self,
        gateway: u32,
        ticket: Ticket,
        attempts: u8,
        retry_after: Option<Duration>,
        now_s: u64,
        jitter: &mut Jitter,
    ) -> Next {
        let now = self.at(now_s);
        let (rest, hint) = (
            self.reconnect.after(1, None),
            retry_after.unwrap_or_default(),
        );
        let spans = if retry_after.is_some() {
            &self.throttled
        } else {
            &self.ordinary
        };
        let Gateway { breaker, budget } = &mut self.gateways[gateway as usize];
        breaker.record_failure(ticket, now, jitter);
        let closed_off = breaker.closed_off(now);
        let next = spans.get(usize::from(attempts) - 1);
        if let (Some(span), None) = (next, closed_off)
            && budget.withdraw(now).0
        {
            let pause = jitter.draw(span.not_below(hint));
            return Next { pause, attempts };
        }
        let least = closed_off.unwrap_or_default().max(hint);
        Next {
            pause: jitter.draw(rest.not_below(least)),
            attempts: 0,
        }
    }

    /// The longest pause without a hint, in seconds: the longest rest, or the breaker's longest opening
    /// with a spread after it.
    pub(super) fn longest_s(&self) -> u64 {
        let spread = self.reconnect.pause_max();
        (self.policy.breaker.open_max + spread).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_with_a_dead_hub_makes_a_handful_of_attempts_an_hour() {
        let reconnect = Reconnect::new(500_000, 360, 0.5, Duration::from_secs(300));
        let mut jitter = Jitter::seeded(1, "test");
        let mut gateways = Gateways::new(GATEWAY_DEVICES, reconnect);
        let mut attempts = 0;
        // Somebody asks every second.
        for now_s in 0..3_600 {
            if let Ok(ticket) = gateways.admit(0, 0, now_s, &mut jitter) {
                attempts += 1;
                let next = gateways.failed(0, ticket, 1, None, now_s, &mut jitter);
                assert!(next.pause >= Duration::from_secs(30));
            }
        }
        assert!((4..=12).contains(&attempts), "{attempts}");
    }

    #[test]
    fn an_empty_budget_ends_the_operation_and_not_the_device() {
        let reconnect = Reconnect::new(500_000, 360, 0.5, Duration::from_secs(300));
        let mut jitter = Jitter::seeded(1, "test");
        let mut gateways = Gateways::new(1, reconnect);
        let burst = gateways.policy.budget.burst_max as usize;
        let ordinary = |made: usize| u8::from(made < burst);
        for made in 0..burst + 3 {
            // An answer after each failure keeps the breaker closed.
            let ticket = gateways.admit(0, 1, 0, &mut jitter).unwrap();
            let next = gateways.failed(0, ticket, 1, None, 0, &mut jitter);
            assert_eq!(next.attempts, ordinary(made));
            for _ in 0..2 {
                gateways.answered(0, Ticket::Ordinary, 0);
            }
        }
    }

    /// Why a device alone is simulated without them.
    #[test]
    fn neither_budget_nor_breaker_ever_holds_back_a_device_alone() {
        let policy = RetryPolicy::iot_hub();
        let reconnect = Reconnect::new(500_000, 360, 0.5, Duration::from_secs(300));
        let mut jitter = Jitter::seeded(1, "test");
        let mut now = Instant::now();
        let mut breaker = Breaker::new(&policy, now);
        let mut budget = Budget::new(&policy.budget, now);
        budget.deposit(now);
        for failures in 1..200 {
            let (ticket, _) = breaker.admit(now, now + policy.attempt_timeout).unwrap();
            breaker.record_failure(ticket, now, &mut jitter);
            assert!(budget.withdraw(now).0, "after {failures}");
            now += reconnect.after(failures, None).least;
        }
    }
}
