//! The services that a process calls: breakers and budgets of the retry layer.

use std::time::Duration;

use crate::model::Input;
use crate::parts::{Cell, Level, Row, Section, numbers, words};
use crate::sample::Samples;
use crate::text;

/// Below this share of its tokens a budget is worth a look.
const BUDGET_LOW: f64 = 0.2;

/// The section of peers.
pub(crate) fn section(input: &Input<'_>) -> Section {
    let samples = input.samples;
    let columns = vec![
        words("peer", "Called service"),
        words("breaker", "Breaker"),
        numbers("budget", "Retry budget"),
        numbers("attempts", "Attempts"),
        numbers("failed", "Failed"),
        numbers("gave_up", "Given up"),
        numbers("paused_seconds", "Paused"),
    ];
    let breakers = samples.states("stamp_breaker_state", "peer", "state");
    let attempts = samples.by("stamp_retry_attempts_total", "peer");
    let failed = failed(samples);
    let gave_up = samples.by("stamp_retry_give_ups_total", "peer");
    let paused = samples.by("stamp_retry_pause_seconds_sum", "peer");
    let tokens = samples.by("stamp_retry_budget_tokens", "peer");
    let limits = samples.by("stamp_retry_budget_limit_tokens", "peer");
    let mut rows = Vec::new();
    for (&peer, &state) in &breakers {
        let of = |sums: &std::collections::BTreeMap<&str, f64>| {
            sums.get(peer).copied().unwrap_or_default()
        };
        let budget = match (tokens.get(peer), limits.get(peer)) {
            (Some(&tokens), Some(&limit)) => {
                let low = limit > 0.0 && tokens / limit < BUDGET_LOW;
                Cell::of(tokens, limit, text::number).at(Level::warn_if(low))
            }
            // It is told with the first retry.
            _ => Cell::none(),
        };
        let cells = vec![
            Cell::name(peer),
            breaker(state),
            budget,
            Cell::number(of(&attempts)),
            Cell::number(of(&failed)),
            Cell::number(of(&gave_up)),
            Cell::span(of(&paused)),
        ];
        rows.push(Row::new(peer.to_owned(), &columns, cells));
    }
    let about = "While a breaker is open nobody is called. The budget pays for retries: \
                 with an empty one a fault is given up at once.";
    Section::new(
        ("peers", "Called services"),
        about.to_owned(),
        columns,
        rows,
        "Nobody was called yet.",
    )
}

/// A breaker's state, as a word that says it without colour too.
pub(crate) fn breaker(state: &str) -> Cell {
    let level = match state {
        "closed" => Level::Fine,
        "half_open" => Level::Warn,
        _ => Level::Bad,
    };
    Cell::code(state).at(level)
}

/// Attempts that neither succeeded nor found out that it cannot be, by peer.
fn failed(samples: &Samples) -> std::collections::BTreeMap<&str, f64> {
    let mut sums = std::collections::BTreeMap::new();
    for sample in samples.of("stamp_retry_attempts_total") {
        if sample.label("outcome") != "success" {
            *sums.entry(sample.label("peer")).or_default() += sample.value;
        }
    }
    sums
}

/// How long "of late" is, for a heading.
pub(crate) fn of_late(input: &Input<'_>) -> String {
    let span = input.history.recent_span(input.uptime);
    let whole = Duration::from_secs(span.as_secs());
    text::span(whole.as_secs_f64())
}
