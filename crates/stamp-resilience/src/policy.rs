//! The policy of one peer: pauses, limits, budget and breaker, as the configuration gives them.
//!
//! Plain values and the rules between them. `docs/resilience.md` is the reference page.

mod partial;
mod rule;
mod text;

use std::time::Duration;

pub use rule::PolicyError;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// How the operations against one peer are retried.
///
/// Reads and writes as TOML with kebab-case keys and durations as text (`"200ms"`, `"30s"`,
/// `"2min"`); an unknown key is refused. All keys are required here. A configuration that wants
/// one peer's defaults for the keys it leaves out uses [`RetryPolicy::over_event_hubs`] or
/// [`RetryPolicy::over_store`]:
///
/// ```
/// # use stamp_resilience::RetryPolicy;
/// #[derive(serde::Deserialize)]
/// struct Resilience {
///     #[serde(default = "RetryPolicy::store", deserialize_with = "RetryPolicy::over_store")]
///     store: RetryPolicy,
/// }
/// let config: Resilience = toml::from_str("store.attempts-max = 3").unwrap();
/// assert_eq!(config.store, RetryPolicy { attempts_max: 3, ..RetryPolicy::store() });
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(transform = partial::no_key_is_required)]
pub struct RetryPolicy {
    /// The first pause before jitter, 10 ms to 1 min; each further one is twice as long.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "1m"]))]
    pub first_pause: Duration,
    /// No back-off pause is longer. From twice `first-pause` to 10 min.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "10m"]))]
    pub pause_max: Duration,
    /// As `first-pause`, after the peer asked for fewer requests. From `first-pause` to 10 min.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "10m"]))]
    pub throttled_first_pause: Duration,
    /// As `pause-max`, when throttled. From twice `throttled-first-pause` to 1 h. A `Retry-After`
    /// may ask for more.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "1h"]))]
    pub throttled_pause_max: Duration,
    /// The share of a pause that is drawn at random, 0.1 to 0.9: a pause of `x` lasts from
    /// `(1 - jitter) * x` to `x`. More spreads better, less keeps pauses longer.
    #[schemars(range(min = 0.1, max = 0.9))]
    pub jitter: f64,
    /// Whether the first retry of an operation after a transient failure comes without a pause.
    /// Every later one, and every one after throttling or a timeout, has its pause.
    pub immediate_retry: bool,
    /// Most attempts at one operation, the first included, 1 to 20. 1 means no retry.
    #[schemars(range(min = 1, max = 20))]
    pub attempts_max: u32,
    /// Longest one attempt may take before it is dropped, 10 ms to 10 min. With `first-pause` it
    /// stays below `total-deadline`, so that a first attempt that hangs leaves room for a second.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "10m"]))]
    pub attempt_timeout: Duration,
    /// Longest one operation may take with all attempts and pauses, up to 1 h.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["20ms", "1h"]))]
    pub total_deadline: Duration,
    /// How many of all requests to the peer may be retries.
    pub budget: BudgetPolicy,
    /// When the peer is left alone altogether.
    pub breaker: BreakerPolicy,
}

/// How many of all requests to a peer may be retries: a bucket of tokens, one token a retry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(transform = partial::no_key_is_required)]
pub struct BudgetPolicy {
    /// Tokens that each operation adds, 0 to 0.5: 0.1 lets one request in eleven be a retry.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub ratio: f64,
    /// Tokens that a minute adds, 1 to 60, so that a peer with little traffic can be retried.
    #[schemars(range(min = 1, max = 60))]
    pub floor_per_minute: u32,
    /// Most tokens the bucket holds, and what it starts with, 1 to 1,000: the longest burst of
    /// retries after a calm time.
    #[schemars(range(min = 1, max = 1_000))]
    pub burst_max: u32,
}

/// When a peer is left alone, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(transform = partial::no_key_is_required)]
pub struct BreakerPolicy {
    /// Opens when this many attempts failed within `window` and they are at least half of all
    /// attempts in it, 2 to 1,000.
    #[schemars(range(min = 2, max = 1_000))]
    pub failures: u32,
    /// How far back attempts are counted, 1 s to 10 min, in steps of a tenth.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "10m"]))]
    pub window: Duration,
    /// How long it stays open at first, before jitter, 100 ms to 10 min; doubles with each probe
    /// that fails.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "10m"]))]
    pub open_first: Duration,
    /// It never stays open longer by itself. From twice `open-first` to 1 h.
    #[serde(with = "text")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "1h"]))]
    pub open_max: Duration,
}

impl RetryPolicy {
    /// For an Event Hubs namespace.
    ///
    /// `throttled-first-pause` is twice the 4 s that the service's Python client waits after
    /// `server-busy`, so that the shortest pause after jitter is those 4 s.
    #[must_use]
    pub fn event_hubs() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            throttled_first_pause: Duration::from_secs(8),
            throttled_pause_max: Duration::from_secs(60),
            jitter: 0.5,
            immediate_retry: false,
            attempts_max: 6,
            attempt_timeout: Duration::from_secs(30),
            total_deadline: Duration::from_secs(180),
            budget: BudgetPolicy::default(),
            breaker: BreakerPolicy::default(),
        }
    }

    /// For an object store, such as a tenant's storage account.
    #[must_use]
    pub fn store() -> Self {
        Self {
            first_pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(10),
            throttled_first_pause: Duration::from_secs(2),
            throttled_pause_max: Duration::from_secs(60),
            attempts_max: 5,
            total_deadline: Duration::from_secs(120),
            ..Self::event_hubs()
        }
    }

    /// For the service API of an IoT Hub or DPS.
    ///
    /// `throttled-first-pause` is twice the 10 s that IoT Hub's text asks for, so that the shortest
    /// pause after jitter is those 10 s.
    #[must_use]
    pub fn iot_hub() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            throttled_first_pause: Duration::from_secs(20),
            throttled_pause_max: Duration::from_secs(120),
            attempts_max: 5,
            total_deadline: Duration::from_secs(300),
            ..Self::event_hubs()
        }
    }

    /// For the database of reservations: somebody waits for the answer, and a provisioner that has
    /// none answers from memory.
    #[must_use]
    pub fn reservations() -> Self {
        Self {
            first_pause: Duration::from_millis(20),
            pause_max: Duration::from_millis(200),
            throttled_first_pause: Duration::from_millis(100),
            throttled_pause_max: Duration::from_secs(1),
            jitter: 0.5,
            immediate_retry: true,
            attempts_max: 3,
            attempt_timeout: Duration::from_millis(750),
            total_deadline: Duration::from_millis(1_600),
            budget: BudgetPolicy::default(),
            breaker: BreakerPolicy {
                failures: 5,
                window: Duration::from_secs(10),
                open_first: Duration::from_secs(1),
                open_max: Duration::from_secs(10),
            },
        }
    }

    /// For the connections that a gateway holds for its devices to an IoT Hub.
    ///
    /// Its devices are not alone: what one of them finds out, the breaker tells the others. It opens
    /// on few failures and probes ever more seldom, so that a long outage costs a handful of attempts a
    /// gateway. [`Reconnect`](crate::Reconnect) says when each device makes its first attempt.
    #[must_use]
    pub fn device_gateway() -> Self {
        Self {
            first_pause: Duration::from_secs(60),
            pause_max: Duration::from_secs(600),
            throttled_first_pause: Duration::from_secs(60),
            throttled_pause_max: Duration::from_secs(600),
            attempts_max: 3,
            total_deadline: Duration::from_secs(3_600),
            budget: BudgetPolicy {
                ratio: 0.1,
                floor_per_minute: 1,
                burst_max: 5,
            },
            breaker: BreakerPolicy {
                failures: 3,
                window: Duration::from_secs(600),
                open_first: Duration::from_secs(120),
                open_max: Duration::from_secs(1_800),
            },
            ..Self::event_hubs()
        }
    }

    /// Reads a policy whose missing keys come from [`RetryPolicy::event_hubs`].
    ///
    /// # Errors
    /// What the deserializer reports: an unknown key, a duration without a unit, a wrong type.
    pub fn over_event_hubs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        partial::read_over(Self::event_hubs(), deserializer)
    }

    /// Reads a policy whose missing keys come from [`RetryPolicy::store`].
    ///
    /// # Errors
    /// As [`RetryPolicy::over_event_hubs`].
    pub fn over_store<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        partial::read_over(Self::store(), deserializer)
    }

    /// Reads a policy whose missing keys come from [`RetryPolicy::iot_hub`].
    ///
    /// # Errors
    /// As [`RetryPolicy::over_event_hubs`].
    pub fn over_iot_hub<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        partial::read_over(Self::iot_hub(), deserializer)
    }

    /// Reads a policy whose missing keys come from [`RetryPolicy::reservations`].
    ///
    /// # Errors
    /// As [`RetryPolicy::over_event_hubs`].
    pub fn over_reservations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        partial::read_over(Self::reservations(), deserializer)
    }

    /// Checks every rule between the values. `key` is where the policy stands in the
    /// configuration, such as `resilience.store`, and leads the keys in the message.
    ///
    /// # Errors
    /// [`PolicyError::OutOfRange`] for a value outside its range: a zero pause, no jitter, no
    /// limit. [`PolicyError::Conflict`] for two values that contradict each other: a fixed
    /// interval, an attempt that may use up the deadline.
    pub fn validate(&self, key: &str) -> Result<(), PolicyError> {
        rule::check(self, key)
    }
}

impl Default for BudgetPolicy {
    /// A tenth of all requests, and ten a minute.
    fn default() -> Self {
        Self {
            ratio: 0.1,
            floor_per_minute: 10,
            burst_max: 20,
        }
    }
}

impl Default for BreakerPolicy {
    /// Ten failures in 30 s open it for 5 s at first and 2 min at most.
    fn default() -> Self {
        Self {
            failures: 10,
            window: Duration::from_secs(30),
            open_first: Duration::from_secs(5),
            open_max: Duration::from_secs(120),
        }
    }
}
