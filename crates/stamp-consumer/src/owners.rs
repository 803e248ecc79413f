//! Who reads which partition, for the status page. Nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stamp_lake::Ownership;
use stamp_model::PartitionId;
use stamp_status::OwnerFacts;

/// As far as this process knows. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the ownership blobs, as they were last read.
    claimed: BTreeMap<PartitionId, String>,
    here: BTreeSet<PartitionId>,
}

impl Owners {
    /// What the ownership blobs say.
    pub(crate) fn are(&self, listed: &[Ownership]) {
        let claimed = listed
            .iter()
            .map(|ownership| (ownership.partition, ownership.owner_id.clone()));
        self.known().claimed = claimed.collect();
    }

    /// What this process reads.
    pub(crate) fn read_here(&self, partitions: &[PartitionId]) {
        self.known().here = partitions.iter().copied().collect();
    }

    /// Every partition that somebody is known to read.
    pub(crate) fn facts(&self) -> Vec<OwnerFacts> {
        let known = self.known();
        let all: BTreeSet<PartitionId> = known.claimed.keys().chain(&known.here).copied().collect();
        let facts = all.into_iter().map(|partition| OwnerFacts {
            partition: partition.number(),
            owner: known.claimed.get(&partition).cloned(),
            is_here: known.here.contains(&partition),
        });
        facts.collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_here_whatever_the_blobs_say() {
        let partition = |number| PartitionId::new(number).unwrap();
        let claimed = |number, owner: &str| Ownership {
            partition: partition(number),
            owner_id: owner.to_owned(),
            version: "1".to_owned(),
            last_modified_ms: None,
        };
        let owners = Owners::default();
        assert_eq!(owners.facts(), []);

        owners.are(&[claimed(0, "other"), claimed(1, "")]);
        owners.read_here(&[partition(0), partition(2)]);

        let fact = |partition, owner: Option<&str>, is_here| OwnerFacts {
            partition,
            owner: owner.map(str::to_owned),
            is_here,
        };
        let expected = [
            fact(0, Some("other"), true),
            fact(1, Some(""), false),
            fact(2, None, true),
        ];
        assert_eq!(owners.facts(), expected);
    }
}
