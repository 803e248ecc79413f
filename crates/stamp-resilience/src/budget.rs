//! The retry budget of one peer: a bucket of tokens, one token a retry.
//!
//! Knows no clock: every call is told the time. In any span of time `t` with `n` operations there
//! are at most `burst-max + ratio * n + floor-per-minute * t` retries.

use tokio::time::Instant;

use crate::policy::BudgetPolicy;

/// Tokens are counted in millionths, so that ten times a tenth is exactly one.
const TOKEN: u64 = 1_000_000;

/// A minute has 6e10 ns and a token 1e6 parts, so one token a minute is a part each 60,000 ns.
const NS_PER_PART: u128 = 60_000;

/// What is left of the retry budget of one peer.
#[derive(Debug)]
pub struct Budget {
    parts: u64,
    parts_max: u64,
    parts_per_operation: u64,
    floor_per_minute: u64,
    refilled_at: Instant,
    /// What the last refill could not make a whole part of, in `NS_PER_PART`ths.
    remainder: u128,
}

impl Budget {
    /// A full bucket.
    #[must_use]
    pub fn new(policy: &BudgetPolicy, now: Instant) -> Self {
        let parts_max = u64::from(policy.burst_max) * TOKEN;
        Self {
            parts: parts_max,
            parts_max,
            parts_per_operation: millionths(policy.ratio),
            floor_per_minute: u64::from(policy.floor_per_minute),
            refilled_at: now,
            remainder: 0,
        }
    }

    /// An operation begins: its share is added. Returns the tokens left.
    pub fn deposit(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.parts = (self.parts + self.parts_per_operation).min(self.parts_max);
        self.level()
    }

    /// Takes the token of one retry, if there is one. Returns the tokens left.
    pub fn withdraw(&mut self, now: Instant) -> (bool, f64) {
        self.refill(now);
        let granted = self.parts >= TOKEN;
        if granted {
            self.parts -= TOKEN;
        }
        (granted, self.level())
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let grown = elapsed.as_nanos() * u128::from(self.floor_per_minute) + self.remainder;
        let parts = u64::try_from(grown / NS_PER_PART).unwrap_or(u64::MAX);
        self.parts = self.parts.saturating_add(parts).min(self.parts_max);
        self.remainder = grown % NS_PER_PART;
        self.refilled_at = now;
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "at most a thousand tokens of a million parts: far below 2^52"
    )]
    fn level(&self) -> f64 {
        self.parts as f64 / TOKEN as f64
    }
}

/// `ratio` is 0 to 0.5 by the policy's rules.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a validated ratio times a million fits"
)]
fn millionths(ratio: f64) -> u64 {
    (ratio * 1e6).round() as u64
}

#[cfg(test)]
mod tests;
