//! How far each partition is, for whoever waits for it: the demo, the status page, tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stamp_model::PartitionId;

/// How far one partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Sequence number of the last event that was taken, -1 before the first.
    pub read: i64,
    /// Sequence number of the checkpoint: everything up to it is in the tables.
    pub settled: i64,
}

/// How far all partitions of a consumer are. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    partitions: Arc<Mutex<BTreeMap<PartitionId, PartitionProgress>>>,
}

impl Progress {
    pub(crate) fn set(&self, partition: PartitionId, read: i64, settled: i64) {
        let mut partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.insert(partition, PartitionProgress { read, settled });
    }

    /// A snapshot by partition; a partition is missing until it was opened.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<PartitionId, PartitionProgress> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
