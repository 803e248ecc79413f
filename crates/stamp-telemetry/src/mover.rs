//! The handles of the service of moves: what it answers, and where its moves stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{GaugeVec, IntCounterVec};
use stamp_model::StampId;

use crate::catalogue::mover as catalogue;
use crate::{MoveMetrics, Registry, TelemetryError};

/// The metrics of a service of moves. Cloning is cheap and gives the same metrics.
#[derive(Debug, Clone)]
pub struct MoverMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    moves: GaugeVec,
    state: GaugeVec,
    open: GaugeVec,
    requests: IntCounterVec,
    /// Of all moves together.
    sums: MoveMetrics,
    known: Mutex<BTreeMap<String, Known>>,
}

/// What was last told of a move.
#[derive(Debug, Default)]
struct Known {
    state: Option<&'static str>,
    stages: BTreeMap<String, usize>,
    stragglers: usize,
    persons: usize,
}

impl MoverMetrics {
    /// Registers the metrics of the service of this name. `states` are all that a move can have.
    ///
    /// # Errors
    /// [`TelemetryError::Registered`] when they are in the registry already.
    pub fn new(
        registry: &Registry,
        name: &StampId,
        states: &[&'static str],
    ) -> Result<Self, TelemetryError> {
        let registration = registry.of(name);
        let inner = Inner {
            moves: registration.gauges(&catalogue::MOVES)?,
            state: registration.gauges(&catalogue::STATE)?,
            open: registration.gauges(&catalogue::OPEN)?,
            requests: registration.counters(&catalogue::REQUESTS)?,
            sums: MoveMetrics::new(registry, name)?,
            known: Mutex::default(),
        };
        for state in states {
            inner.moves.with_label_values(&[state]).set(0.0);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// A request that was answered. Both are of a closed set.
    pub fn answered(&self, route: &str, outcome: &str) {
        self.0.requests.with_label_values(&[route, outcome]).inc();
    }

    /// An act of a move ended. Both are of a closed set.
    pub fn acted(&self, act: &str, outcome: &str) {
        self.0.sums.acted(act, outcome);
    }

    /// A move stands somewhere else now.
    pub fn state(&self, id: &str, state: &'static str) {
        let mut known = self.known();
        let before = known.entry(id.to_owned()).or_default().state.replace(state);
        if before == Some(state) {
            return;
        }
        if let Some(before) = before {
            // Gone already when the move had ended before.
            let _gone = self.0.state.remove_label_values(&[id, before]);
            self.0.moves.with_label_values(&[before]).dec();
        }
        self.0.moves.with_label_values(&[state]).inc();
        self.0.state.with_label_values(&[id, state]).set(1.0);
    }

    /// How far a move is that has not ended: devices by stage, late ones, and those that wait for a
    /// person.
    pub fn progress<'a>(
        &self,
        id: &str,
        stages: impl Iterator<Item = (&'a str, usize)>,
        (stragglers, persons): (usize, usize),
    ) {
        let mut known = self.known();
        let of = known.entry(id.to_owned()).or_default();
        of.stages = stages
            .map(|(stage, count)| (stage.to_owned(), count))
            .collect();
        (of.stragglers, of.persons) = (stragglers, persons);
        let ended = ["erased", "rolled-back"];
        let open = of.stages.iter();
        let open = open.filter(|(stage, _)| !ended.contains(&stage.as_str()));
        let open: usize = open.map(|(_, count)| count).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of devices, far below 2^53"
        )]
        self.0.open.with_label_values(&[id]).set(open as f64);
        self.sum_up(&known);
    }

    /// A move has ended: it has no series of its own any more.
    pub fn ended(&self, id: &str) {
        let mut known = self.known();
        if let Some(of) = known.get_mut(id) {
            if let Some(state) = of.state {
                let _gone = self.0.state.remove_label_values(&[id, state]);
            }
            of.stages.clear();
            (of.stragglers, of.persons) = (0, 0);
        }
        // It has none when it had ended before this process began.
        let _gone = self.0.open.remove_label_values(&[id]);
        self.sum_up(&known);
    }

    /// A move is kept no more.
    pub fn forgotten(&self, id: &str) {
        self.ended(id);
        let forgotten = self.known().remove(id);
        if let Some(state) = forgotten.and_then(|of| of.state) {
            self.0.moves.with_label_values(&[state]).dec();
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum_up(&self, known: &BTreeMap<String, Known>) {
        let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut stragglers, mut persons) = (0, 0);
        for of in known.values() {
            for (stage, count) in &of.stages {
                *stages.entry(stage).or_default() += count;
            }
            stragglers += of.stragglers;
            persons += of.persons;
        }
        self.0.sums.devices(stages.into_iter());
        self.0.sums.held_up(stragglers, persons);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_has_series_of_its_own_until_it_has_ended_and_is_counted_until_it_is_forgotten() {
        let registry = Registry::new();
        let name = StampId::parse("mover").unwrap();
        let metrics = MoverMetrics::new(&registry, &name, &["running", "held", "ended"]).unwrap();
        let holds = |line: &str| registry.text().contains(&format!("{line}\n"));
        for id in ["a", "b"] {
            metrics.state(id, "running");
            let stages = [("erased", 1), ("disabled", 2)];
            metrics.progress(id, stages.into_iter(), (1, 0));
        }
        metrics.state("a", "held");
        metrics.state("a", "held");
        for line in [
            "stamp_mover_moves{stamp=\"mover\",state=\"running\"} 1",
            "stamp_mover_moves{stamp=\"mover\",state=\"held\"} 1",
            "stamp_mover_move_state{move=\"a\",stamp=\"mover\",state=\"held\"} 1",
            "stamp_mover_open_devices{move=\"a\",stamp=\"mover\"} 2",
            "stamp_move_devices{stage=\"disabled\",stamp=\"mover\"} 4",
            "stamp_move_stragglers{stamp=\"mover\"} 2",
        ] {
            assert!(holds(line), "{line} is not in {}", registry.text());
        }
        metrics.state("a", "ended");
        metrics.ended("a");
        assert!(!registry.text().contains("move=\"a\""));
        assert!(holds(
            "stamp_mover_moves{stamp=\"mover\",state=\"ended\"} 1"
        ));
        assert!(holds(
            "stamp_move_devices{stage=\"disabled\",stamp=\"mover\"} 2"
        ));
        metrics.forgotten("a");
        assert!(holds(
            "stamp_mover_moves{stamp=\"mover\",state=\"ended\"} 0"
        ));
    }
}
