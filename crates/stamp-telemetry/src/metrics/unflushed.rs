//! The oldest buffered row of each tenant, over partitions that report on their own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::GaugeVec;
use stamp_model::{PartitionId, Text};

type ByLabel = BTreeMap<Text, f64>;

/// Keeps what each partition last said, so that the gauge can be the largest of them.
///
/// Bounded by partitions times tenant labels.
#[derive(Debug)]
pub(super) struct UnflushedAges {
    gauge: GaugeVec,
    said: Mutex<BTreeMap<PartitionId, ByLabel>>,
}

impl UnflushedAges {
    pub(super) fn new(gauge: GaugeVec) -> Self {
        Self {
            gauge,
            said: Mutex::default(),
        }
    }

    /// Replaces what the partition said; a label may come more than once, the largest age counts.
    pub(super) fn set(&self, partition: PartitionId, ages: impl Iterator<Item = (Text, f64)>) {
        let mut now = ByLabel::new();
        for (label, age) in ages {
            let known = now.entry(label).or_default();
            *known = known.max(age);
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = said.insert(partition, now.clone()).unwrap_or_default();
        for label in before.keys().chain(now.keys()) {
            let ages = said.values().filter_map(|labels| labels.get(label));
            let oldest = ages.copied().fold(0.0, f64::max);
            self.gauge.with_label_values(&[&**label]).set(oldest);
        }
    }
}
