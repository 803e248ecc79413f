//! What a policy must keep to. The one place where the rules of `docs/resilience.md` are enforced
//! on values.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::RetryPolicy;

/// A policy that breaks a rule. The message names the full key, or both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// One value is outside its range.
    #[error("{key} = {value} must be from {range}")]
    OutOfRange {
        /// The full key.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed, such as `10ms to 1m`.
        range: String,
    },
    /// Two values contradict each other.
    #[error(
        "{key} = {} must be {relation} {other} = {}: {reason}",
        text(*value),
        text(*other_value)
    )]
    Conflict {
        /// The full key of the value to change.
        key: String,
        /// What was given.
        value: Duration,
        /// How it must stand to the other, such as `below`.
        relation: &'static str,
        /// The full key of the other value.
        other: String,
        /// What the other is.
        other_value: Duration,
        /// What would go wrong.
        reason: &'static str,
    },
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn check(policy: &RetryPolicy, prefix: &str) -> Result<(), PolicyError> {
    let at = Keys { prefix };
    check_pauses(policy, &at)?;
    check_limits(policy, &at)?;
    check_budget(policy, &at)?;
    check_breaker(policy, &at)
}

fn check_pauses(policy: &RetryPolicy, at: &Keys<'_>) -> Result<(), PolicyError> {
    let first = ("first-pause", policy.first_pause);
    let max = ("pause-max", policy.pause_max);
    let throttled_first = ("throttled-first-pause", policy.throttled_first_pause);
    let throttled_max = ("throttled-pause-max", policy.throttled_pause_max);
    at.within_time(first, 10 * MS..=MINUTE)?;
    at.within_time(max, 10 * MS..=10 * MINUTE)?;
    at.grows(first, max)?;
    at.within_time(throttled_first, 10 * MS..=10 * MINUTE)?;
    at.within_time(throttled_max, 10 * MS..=HOUR)?;
    at.grows(throttled_first, throttled_max)?;
    if throttled_first.1 < first.1 {
        return Err(at.conflict(
            throttled_first,
            "at least",
            first,
            "a peer that asks for fewer requests must not get more",
        ));
    }
    at.within("jitter", policy.jitter, 0.1..=0.9)
}

fn check_limits(policy: &RetryPolicy, at: &Keys<'_>) -> Result<(), PolicyError> {
    let timeout = ("attempt-timeout", policy.attempt_timeout);
    let deadline = ("total-deadline", policy.total_deadline);
    at.within("attempts-max", policy.attempts_max, 1..=20)?;
    at.within_time(timeout, 10 * MS..=10 * MINUTE)?;
    at.within_time(deadline, 20 * MS..=HOUR)?;
    if timeout.1 + policy.first_pause >= deadline.1 {
        return Err(at.conflict(
            timeout,
            "shorter, with first-pause added, than",
            deadline,
            "an attempt that hangs would leave no time for another",
        ));
    }
    if policy.throttled_first_pause >= deadline.1 {
        return Err(at.conflict(
            ("throttled-first-pause", policy.throttled_first_pause),
            "shorter than",
            deadline,
            "a throttled operation could never be tried again",
        ));
    }
    Ok(())
}

fn check_budget(policy: &RetryPolicy, at: &Keys<'_>) -> Result<(), PolicyError> {
    let budget = &policy.budget;
    at.within("budget.ratio", budget.ratio, 0.0..=0.5)?;
    at.within("budget.floor-per-minute", budget.floor_per_minute, 1..=60)?;
    at.within("budget.burst-max", budget.burst_max, 1..=1_000)
}

fn check_breaker(policy: &RetryPolicy, at: &Keys<'_>) -> Result<(), PolicyError> {
    let breaker = &policy.breaker;
    let first = ("breaker.open-first", breaker.open_first);
    let max = ("breaker.open-max", breaker.open_max);
    at.within("breaker.failures", breaker.failures, 2..=1_000)?;
    at.within_time(("breaker.window", breaker.window), SECOND..=10 * MINUTE)?;
    at.within_time(first, 100 * MS..=10 * MINUTE)?;
    at.within_time(max, 100 * MS..=HOUR)?;
    at.grows(first, max)
}

/// A key below the policy's own, with its value.
type Timed = (&'static str, Duration);

struct Keys<'a> {
    prefix: &'a str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        let mut full = String::from(self.prefix);
        if !full.is_empty() {
            full.push('.');
        }
        full.push_str(key);
        full
    }

    fn within<V: PartialOrd + Display>(
        &self,
        key: &str,
        value: V,
        range: RangeInclusive<V>,
    ) -> Result<(), PolicyError> {
        // NaN compares with nothing, so it is in no range.
        if range.contains(&value) {
            return Ok(());
        }
        Err(PolicyError::OutOfRange {
            key: self.full(key),
            value: value.to_string(),
            range: format!("{} to {}", range.start(), range.end()),
        })
    }

    fn within_time(
        &self,
        (key, value): Timed,
        range: RangeInclusive<Duration>,
    ) -> Result<(), PolicyError> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(PolicyError::OutOfRange {
            key: self.full(key),
            value: text(value),
            range: format!("{} to {}", text(*range.start()), text(*range.end())),
        })
    }

    fn grows(&self, first: Timed, max: Timed) -> Result<(), PolicyError> {
        if max.1 >= first.1 * 2 {
            return Ok(());
        }
        Err(self.conflict(
            max,
            "at least twice",
            first,
            "pauses that do not grow come at a regular interval",
        ))
    }

    fn conflict(
        &self,
        key: Timed,
        relation: &'static str,
        other: Timed,
        reason: &'static str,
    ) -> PolicyError {
        PolicyError::Conflict {
            key: self.full(key.0),
            value: key.1,
            relation,
            other: self.full(other.0),
            other_value: other.1,
            reason,
        }
    }
}

fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
