//! What a person and Prometheus see of a running move.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use stamp_mover::{Observed, Progress};
use stamp_placement::device_move::{Act, Outcome};
use stamp_telemetry::MoveMetrics;

/// A bar on a terminal, and metrics.
pub(super) struct Watch {
    bar: ProgressBar,
    metrics: MoveMetrics,
}

impl Watch {
    pub(super) fn new(metrics: MoveMetrics) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len} devices  {msg}");
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(0)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            false => ProgressBar::hidden(),
        };
        Self { bar, metrics }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observed for Watch {
    fn acted(&self, act: Act, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Done => "done",
            Outcome::Absent => "absent",
            Outcome::NotDone => "not-done",
            Outcome::Unknown => "unknown",
            Outcome::Refused(_) => "refused",
        };
        self.metrics.acted(&word(&act), outcome);
    }

    fn progress(&self, progress: &Progress) {
        self.bar.set_length(progress.devices as u64);
        self.bar.set_position(progress.ended() as u64);
        self.bar.set_message(say(progress));
        let words: Vec<(String, usize)> = progress
            .stages
            .iter()
            .map(|(stage, count)| (word(stage), *count))
            .collect();
        self.metrics
            .devices(words.iter().map(|(stage, count)| (stage.as_str(), *count)));
        self.metrics.held_up(progress.stragglers, progress.persons);
    }
}

/// The stages that are not the end, and what holds devices up.
fn say(progress: &Progress) -> String {
    let open = progress.stages.iter().filter(|(stage, _)| !stage.is_end());
    let mut parts: Vec<String> = open
        .map(|(stage, count)| format!("{count} {}", word(stage)))
        .collect();
    for (count, what) in [
        (progress.stragglers, "late"),
        (progress.persons, "for a person"),
        (progress.paused, "paused"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// A stage or act as the journal and the metrics write it.
pub(super) fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
