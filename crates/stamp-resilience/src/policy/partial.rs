//! A policy table in which any key may be missing, laid over a peer's defaults.

use serde::{Deserialize, Deserializer};

use super::text::Text;
use super::{BreakerPolicy, BudgetPolicy, RetryPolicy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PartialPolicy {
    first_pause: Option<Text>,
    pause_max: Option<Text>,
    throttled_first_pause: Option<Text>,
    throttled_pause_max: Option<Text>,
    jitter: Option<f64>,
    immediate_retry: Option<bool>,
    attempts_max: Option<u32>,
    attempt_timeout: Option<Text>,
    total_deadline: Option<Text>,
    budget: Option<PartialBudget>,
    breaker: Option<PartialBreaker>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PartialBudget {
    ratio: Option<f64>,
    floor_per_minute: Option<u32>,
    burst_max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PartialBreaker {
    failures: Option<u32>,
    window: Option<Text>,
    open_first: Option<Text>,
    open_max: Option<Text>,
}

/// What a schema of configurations says of a policy: the table is laid over its peer's defaults.
pub(super) fn no_key_is_required(schema: &mut schemars::Schema) {
    schema.remove("required");
}

pub(super) fn read_over<'de, D: Deserializer<'de>>(
    base: RetryPolicy,
    from: D,
) -> Result<RetryPolicy, D::Error> {
    PartialPolicy::deserialize(from).map(|given| given.over(base))
}

impl PartialPolicy {
    fn over(self, base: RetryPolicy) -> RetryPolicy {
        let budget = base.budget;
        let breaker = base.breaker;
        RetryPolicy {
            first_pause: self.first_pause.map_or(base.first_pause, |t| t.0),
            pause_max: self.pause_max.map_or(base.pause_max, |t| t.0),
            throttled_first_pause: self
                .throttled_first_pause
                .map_or(base.throttled_first_pause, |t| t.0),
            throttled_pause_max: self
                .throttled_pause_max
                .map_or(base.throttled_pause_max, |t| t.0),
            jitter: self.jitter.unwrap_or(base.jitter),
            immediate_retry: self.immediate_retry.unwrap_or(base.immediate_retry),
            attempts_max: self.attempts_max.unwrap_or(base.attempts_max),
            attempt_timeout: self.attempt_timeout.map_or(base.attempt_timeout, |t| t.0),
            total_deadline: self.total_deadline.map_or(base.total_deadline, |t| t.0),
            budget: match self.budget {
                Some(given) => given.over(budget),
                None => budget,
            },
            breaker: match self.breaker {
                Some(given) => given.over(breaker),
                None => breaker,
            },
        }
    }
}

impl PartialBudget {
    fn over(self, base: BudgetPolicy) -> BudgetPolicy {
        BudgetPolicy {
            ratio: self.ratio.unwrap_or(base.ratio),
            floor_per_minute: self.floor_per_minute.unwrap_or(base.floor_per_minute),
            burst_max: self.burst_max.unwrap_or(base.burst_max),
        }
    }
}

impl PartialBreaker {
    fn over(self, base: BreakerPolicy) -> BreakerPolicy {
        BreakerPolicy {
            failures: self.failures.unwrap_or(base.failures),
            window: self.window.map_or(base.window, |t| t.0),
            open_first: self.open_first.map_or(base.open_first, |t| t.0),
            open_max: self.open_max.map_or(base.open_max, |t| t.0),
        }
    }
}
