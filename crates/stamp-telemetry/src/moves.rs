//! The handles of a move: how far its devices are, and what its acts came to.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec, IntCounterVec};
use stamp_model::StampId;

use crate::catalogue::moves as catalogue;
use crate::{Registry, TelemetryError};

/// The metrics of one move, registered under the stamp that the devices leave.
#[derive(Debug)]
pub struct MoveMetrics {
    devices: GaugeVec,
    acts: IntCounterVec,
    stragglers: Gauge,
    persons: Gauge,
    /// Stages that were told: one that has emptied says 0 and does not vanish.
    stages: Mutex<BTreeSet<String>>,
}

impl MoveMetrics {
    /// Registers the metrics of a move from `stamp`.
    ///
    /// # Errors
    /// [`TelemetryError::Registered`] when this stamp's are in the registry already.
    pub fn new(registry: &Registry, stamp: &StampId) -> Result<Self, TelemetryError> {
        let registration = registry.of(stamp);
        Ok(Self {
            devices: registration.gauges(&catalogue::DEVICES)?,
            acts: registration.counters(&catalogue::ACTS)?,
            stragglers: registration.gauge(&catalogue::STRAGGLERS)?,
            persons: registration.gauge(&catalogue::PERSONS)?,
            stages: Mutex::default(),
        })
    }

    /// An act ended. Both are of a closed set.
    pub fn acted(&self, act: &str, outcome: &str) {
        self.acts.with_label_values(&[act, outcome]).inc();
    }

    /// How many devices are at each stage that has any, of a closed set of stages.
    pub fn devices<'a>(&self, by_stage: impl Iterator<Item = (&'a str, usize)>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        for stage in stages.iter() {
            self.devices.with_label_values(&[stage]).set(0.0);
        }
        for (stage, count) in by_stage {
            self.devices.with_label_values(&[stage]).set(number(count));
            if !stages.contains(stage) {
                stages.insert(stage.to_owned());
            }
        }
    }

    /// How many devices are late, and how many wait for a person.
    pub fn held_up(&self, stragglers: usize, persons: usize) {
        self.stragglers.set(number(stragglers));
        self.persons.set(number(persons));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of devices, far below 2^53"
)]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_has_emptied_says_0() {
        let registry = Registry::new();
        let stamp = StampId::parse("weu-test").unwrap();
        let metrics = MoveMetrics::new(&registry, &stamp).unwrap();
        metrics.devices([("planned", 2)].into_iter());
        metrics.devices([("erased", 2)].into_iter());
        metrics.acted("erase-source", "done");
        metrics.held_up(1, 0);
        let text = registry.text();
        for line in [
            "stamp_move_devices{stage=\"planned\",stamp=\"weu-test\"} 0",
            "stamp_move_devices{stage=\"erased\",stamp=\"weu-test\"} 2",
            "stamp_move_acts_total{act=\"erase-source\",outcome=\"done\",stamp=\"weu-test\"} 1",
            "stamp_move_stragglers{stamp=\"weu-test\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
