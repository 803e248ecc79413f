//! Rule 11: a policy that breaks a rule is refused when the configuration is loaded.

use std::sync::Arc;
use std::time::Duration;

use stamp_resilience::{NoObserver, Peer, PolicyError, RetryPolicy};

use crate::support::{ms, secs};

/// What `validate` says about the store's policy after `change`.
fn refusal(change: impl FnOnce(&mut RetryPolicy)) -> String {
    let mut policy = RetryPolicy::store();
    change(&mut policy);
    policy.validate("resilience.store").unwrap_err().to_string()
}

#[test]
fn rule_11_the_named_policies_keep_the_rules() {
    RetryPolicy::store().validate("resilience.store").unwrap();
    RetryPolicy::iot_hub()
        .validate("resilience.iot-hub")
        .unwrap();
    RetryPolicy::event_hubs()
        .validate("resilience.eventhubs")
        .unwrap();
    RetryPolicy::device_gateway().validate("gateway").unwrap();
}

#[test]
fn rule_11_a_zero_pause_no_jitter_and_no_limit_are_refused_by_key() {
    let check = |key: &str, change: fn(&mut RetryPolicy)| {
        let text = refusal(change);
        assert!(
            text.starts_with(&format!("resilience.store.{key} = ")),
            "{text}"
        );
        assert!(text.contains(" must be from "), "{text}");
    };

    check("first-pause", |p| p.first_pause = Duration::ZERO);
    check("pause-max", |p| p.pause_max = secs(601));
    check("throttled-first-pause", |p| {
        p.throttled_first_pause = Duration::ZERO
    });
    check("throttled-pause-max", |p| {
        p.throttled_pause_max = Duration::MAX
    });
    check("jitter", |p| p.jitter = 0.0);
    check("jitter", |p| p.jitter = 1.0);
    check("jitter", |p| p.jitter = f64::NAN);
    check("attempts-max", |p| p.attempts_max = 0);
    check("attempts-max", |p| p.attempts_max = u32::MAX);
    check("attempt-timeout", |p| p.attempt_timeout = Duration::ZERO);
    check("attempt-timeout", |p| p.attempt_timeout = Duration::MAX);
    check("total-deadline", |p| p.total_deadline = Duration::MAX);
    check("budget.ratio", |p| p.budget.ratio = 0.51);
    check("budget.ratio", |p| p.budget.ratio = -0.01);
    check("budget.ratio", |p| p.budget.ratio = f64::NAN);
    check("budget.floor-per-minute", |p| p.budget.floor_per_minute = 0);
    check("budget.floor-per-minute", |p| {
        p.budget.floor_per_minute = 61
    });
    check("budget.burst-max", |p| p.budget.burst_max = 0);
    check("breaker.failures", |p| p.breaker.failures = 1);
    check("breaker.window", |p| p.breaker.window = ms(999));
    check("breaker.open-first", |p| {
        p.breaker.open_first = Duration::ZERO
    });
    check("breaker.open-max", |p| p.breaker.open_max = secs(3_601));
}

#[test]
fn rule_11_values_that_contradict_each_other_are_refused_by_both_keys() {
    let check = |key: &str, other: &str, change: fn(&mut RetryPolicy)| {
        let text = refusal(change);
        assert!(
            text.starts_with(&format!("resilience.store.{key} = ")),
            "{text}"
        );
        assert!(
            text.contains(&format!(" resilience.store.{other} = ")),
            "{text}"
        );
    };

    check("pause-max", "first-pause", |p| p.pause_max = p.first_pause);
    check("throttled-pause-max", "throttled-first-pause", |p| {
        p.throttled_pause_max = p.throttled_first_pause + ms(1);
    });
    check("throttled-first-pause", "first-pause", |p| {
        p.throttled_first_pause = p.first_pause / 2
    });
    check("attempt-timeout", "total-deadline", |p| {
        p.total_deadline = p.attempt_timeout
    });
    check("attempt-timeout", "total-deadline", |p| {
        p.total_deadline = p.attempt_timeout + p.first_pause;
    });
    check("throttled-first-pause", "total-deadline", |p| {
        p.throttled_first_pause = secs(150);
        p.throttled_pause_max = secs(300);
    });
    check("breaker.open-max", "breaker.open-first", |p| {
        p.breaker.open_max = p.breaker.open_first
    });
}

#[test]
fn rule_11_the_message_says_what_to_change_and_why() {
    let text = refusal(|p| p.total_deadline = secs(20));

    assert_eq!(
        text,
        "resilience.store.attempt-timeout = 30s must be shorter, with first-pause added, than \
         resilience.store.total-deadline = 20s: an attempt that hangs would leave no time for another"
    );
}

#[test]
fn rule_11_a_peer_cannot_be_made_with_such_a_policy() {
    let policy = RetryPolicy {
        jitter: 0.0,
        ..RetryPolicy::store()
    };

    let error = Peer::new("store", policy, 1, Arc::new(NoObserver)).unwrap_err();

    assert!(matches!(error, PolicyError::OutOfRange { key, .. } if key == "store.jitter"));
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(
        default = "RetryPolicy::store",
        deserialize_with = "RetryPolicy::over_store"
    )]
    store: RetryPolicy,
    #[serde(
        default = "RetryPolicy::event_hubs",
        deserialize_with = "RetryPolicy::over_event_hubs"
    )]
    eventhubs: RetryPolicy,
}

#[test]
fn rule_11_keys_that_are_left_out_keep_the_peers_own_defaults() {
    let text = r#"
        [store]
        attempts-max = 3
        pause-max = "1min 30s"
        immediate-retry = true
        [store.breaker]
        failures = 20
        [eventhubs.budget]
        ratio = 0.2
    "#;

    let config: Config = toml::from_str(text).unwrap();

    let mut store = RetryPolicy::store();
    store.attempts_max = 3;
    store.pause_max = secs(90);
    store.immediate_retry = true;
    store.breaker.failures = 20;
    assert_eq!(config.store, store);
    let mut eventhubs = RetryPolicy::event_hubs();
    eventhubs.budget.ratio = 0.2;
    assert_eq!(config.eventhubs, eventhubs);
}

#[test]
fn rule_11_every_key_can_be_set_and_is_printed_as_it_is_read() {
    let policy = RetryPolicy {
        first_pause: ms(150),
        pause_max: secs(7),
        throttled_first_pause: ms(1_500),
        throttled_pause_max: secs(61),
        jitter: 0.25,
        immediate_retry: true,
        attempts_max: 9,
        attempt_timeout: ms(2_500),
        total_deadline: secs(3_000),
        budget: stamp_resilience::BudgetPolicy {
            ratio: 0.3,
            floor_per_minute: 7,
            burst_max: 8,
        },
        breaker: stamp_resilience::BreakerPolicy {
            failures: 6,
            window: secs(11),
            open_first: secs(2),
            open_max: secs(13),
        },
    };
    let text = toml::to_string(&policy).unwrap();
    assert!(text.contains("first-pause = \"150ms\""), "{text}");

    assert_eq!(toml::from_str::<RetryPolicy>(&text).unwrap(), policy);
    let over_defaults: Config =
        toml::from_str(&format!("[store]\n{}", text.replace("[", "[store."))).unwrap();
    assert_eq!(over_defaults.store, policy);
}

#[test]
fn rule_11_unknown_keys_and_durations_without_a_unit_are_refused_at_their_line() {
    let check = |text: &str, line: &str, what: &str| {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(line) && error.contains(what), "{error}");
    };

    check("[store]\nretries = 3", "line 2", "unknown field `retries`");
    check(
        "[store.breaker]\nopen = 3",
        "line 2",
        "unknown field `open`",
    );
    check(
        "[store]\nfirst-pause = \"200\"",
        "line 2",
        "write it with a unit",
    );
    check("[store]\nfirst-pause = 200", "line 2", "expected a string");
}
