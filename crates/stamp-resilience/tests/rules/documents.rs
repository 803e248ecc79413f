//! `docs/resilience.md` says what the code does.

use stamp_resilience::{BreakerState, GiveUpReason, Outcome, PauseCause, RetryPolicy};

const PAGE: &str = include_str!("../../../../docs/resilience.md");

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    resilience: Peers,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Peers {
    eventhubs: RetryPolicy,
    store: RetryPolicy,
    reservations: RetryPolicy,
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let (_, block) = PAGE.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();

    let page: Page = toml::from_str(block).unwrap();

    assert_eq!(page.resilience.eventhubs, RetryPolicy::event_hubs());
    assert_eq!(page.resilience.store, RetryPolicy::store());
    assert_eq!(page.resilience.reservations, RetryPolicy::reservations());
}

#[test]
fn every_key_and_every_label_is_documented() {
    let keys = toml::to_string(&RetryPolicy::store()).unwrap();
    let mut section = String::new();
    for line in keys.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.replace(']', ".");
            continue;
        }
        let (key, _) = line.split_once(" = ").unwrap();
        let row = format!("\n| `{section}{key}` |");
        assert!(PAGE.contains(&row), "no row for {section}{key}");
    }

    let labels = Outcome::ALL.map(Outcome::as_str).into_iter();
    let labels = labels.chain(PauseCause::ALL.map(PauseCause::as_str));
    let labels = labels.chain(GiveUpReason::ALL.map(GiveUpReason::as_str));
    let labels = labels.chain(BreakerState::ALL.map(BreakerState::as_str));
    for label in labels {
        assert!(
            PAGE.contains(&format!("`{label}`")),
            "{label} is not explained"
        );
    }
}
