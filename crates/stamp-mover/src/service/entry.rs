//! One move as the service keeps it in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use stamp_model::StampId;
use stamp_placement::device_move::{Act, Outcome};
use stamp_telemetry::MoverMetrics;
use tokio::sync::Notify;

use super::folder::Ordered;
use super::order::MoveId;
use crate::journal::Journal;
use crate::metrics::Observed;
use crate::mover::{Glimpse, Progress};
use crate::report::Report;

/// Most names of devices in a summary.
const NAMES_MAX: usize = 100;

/// Where a move stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Acts are under way, or will be by themselves.
    Running,
    /// Devices are late, or a service was away: it looks again by itself.
    Waiting,
    /// Every device that has not ended is paused.
    Paused,
    /// Every device that has not ended is paused or waits for a person.
    Held,
    /// Its journal or its services cannot be used; it is tried again by itself.
    Failed,
    /// Every device is moved or taken back.
    Ended,
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }

    /// Where a move stands in which nothing is due.
    pub(crate) fn at_rest(progress: &Progress) -> Self {
        let open = progress.devices - progress.ended();
        match open {
            0 => Self::Ended,
            open if progress.paused == open => Self::Paused,
            open if progress.paused + progress.persons == open => Self::Held,
            _ => Self::Waiting,
        }
    }
}

/// What can change of an entry.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    /// Why it is [`State::Failed`].
    pub(crate) why: Option<String>,
    /// The stamp that the devices leave, once the journal was read.
    pub(crate) from: Option<StampId>,
    pub(crate) began_us: Option<i64>,
    pub(crate) progress: Progress,
    /// Its devices while it has not ended: no other move may have them.
    pub(crate) devices: Arc<BTreeSet<String>>,
    /// While it runs.
    pub(crate) glimpse: Option<Glimpse>,
    /// The last report, without its list of devices.
    pub(crate) report: Option<Report>,
}

/// One move.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: MoveId,
    pub(crate) ordered: Ordered,
    /// Somebody asked something.
    pub(crate) wake: Notify,
    inner: Mutex<Inner>,
    metrics: MoverMetrics,
}

impl Entry {
    pub(crate) fn new(id: MoveId, ordered: Ordered, metrics: MoverMetrics) -> Self {
        let inner = Inner {
            state: State::Running,
            why: None,
            from: None,
            began_us: None,
            progress: Progress::default(),
            devices: Arc::default(),
            glimpse: None,
            report: None,
        };
        Self {
            id,
            ordered,
            wake: Notify::new(),
            inner: Mutex::new(inner),
            metrics,
        }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state
    }

    /// Takes in what its journal says.
    pub(crate) fn journal_is(&self, journal: &Journal) {
        let names = journal.devices().iter();
        let names = names.map(|moving| moving.planned.device.as_str().to_owned());
        let devices = Arc::new(names.collect());
        let mut inner = self.inner();
        inner.from = Some(journal.source().clone());
        inner.began_us = Some(journal.began_us());
        inner.devices = devices;
    }

    /// It is in another state now. An ended one holds its devices no more.
    pub(crate) fn is(&self, state: State, why: Option<String>) {
        let mut inner = self.inner();
        if inner.state != state || inner.why != why {
            let why = why.as_deref().unwrap_or_default();
            tracing::info!(id = %self.id, state = state.as_str(), why, "a move");
        }
        (inner.state, inner.why) = (state, why);
        if state == State::Ended {
            inner.devices = Arc::default();
            inner.glimpse = None;
        }
        drop(inner);
        self.metrics.state(self.id.as_str(), state.as_str());
        if state == State::Ended {
            self.metrics.ended(self.id.as_str());
        }
    }

    /// Keeps a report's figures and some of its names.
    pub(crate) fn reported(&self, report: &Report) {
        let cut = |names: &[String]| names.iter().take(NAMES_MAX).cloned().collect();
        let report = Report {
            in_both: cut(&report.in_both),
            nowhere: cut(&report.nowhere),
            returning: cut(&report.returning),
            stragglers: cut(&report.stragglers),
            persons: cut(&report.persons),
            problems: cut(&report.problems),
            list: Vec::new(),
            from: report.from.clone(),
            ..*report
        };
        self.inner().report = Some(report);
    }
}

impl Observed for Entry {
    fn acted(&self, act: Act, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Refused(_) => "refused".to_owned(),
            other => word(&other),
        };
        self.metrics.acted(&word(&act), &outcome);
        if self.state() == State::Waiting {
            self.is(State::Running, None);
        }
    }

    fn progress(&self, progress: &Progress) {
        let stages: Vec<(String, usize)> = progress
            .stages
            .iter()
            .map(|(stage, count)| (word(stage), *count))
            .collect();
        let stages = stages.iter().map(|(stage, count)| (stage.as_str(), *count));
        let held_up = (progress.stragglers, progress.persons);
        self.metrics.progress(self.id.as_str(), stages, held_up);
        self.inner().progress = progress.clone();
    }
}

/// A stage, act or outcome as the journal writes it.
pub(crate) fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use stamp_placement::device_move::Stage;

    use super::*;

    #[test]
    fn a_move_at_rest_says_what_it_waits_for() {
        let progress = |ended: usize, open: usize, paused, persons| Progress {
            devices: ended + open,
            stages: [(Stage::Erased, ended), (Stage::Disabled, open)].into(),
            paused,
            persons,
            stragglers: open - paused - persons,
        };
        for (ended, open, paused, persons, state) in [
            (2, 0, 0, 0, State::Ended),
            (1, 3, 3, 0, State::Paused),
            (1, 3, 2, 1, State::Held),
            (1, 3, 0, 3, State::Held),
            (1, 3, 1, 1, State::Waiting),
            (0, 3, 0, 0, State::Waiting),
        ] {
            let progress = progress(ended, open, paused, persons);
            assert_eq!(State::at_rest(&progress), state, "{progress:?}");
        }
    }
}
