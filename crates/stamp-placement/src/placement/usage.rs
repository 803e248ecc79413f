//! What is used of each stamp.

use stamp_model::StampId;

use crate::fleet::Fleet;
use crate::load::Load;

/// What is used of each stamp of one fleet; nothing, where nothing was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// In the order of the fleet's stamps.
    pub(super) loads: Vec<Load>,
}

impl Usage {
    /// Nothing is used.
    #[must_use]
    pub fn none(fleet: &Fleet) -> Self {
        Self {
            loads: vec![Load::ZERO; fleet.stamps().len()],
        }
    }

    /// Sets what is used of a stamp; `false` when the fleet has no such stamp.
    pub fn set(&mut self, fleet: &Fleet, stamp: &StampId, load: Load) -> bool {
        let slot = fleet.stamp_index(stamp).and_then(|i| self.loads.get_mut(i));
        slot.map(|slot| *slot = load).is_some()
    }

    /// Adds to what is used of a stamp; `false` when the fleet has no such stamp.
    pub fn add(&mut self, fleet: &Fleet, stamp: &StampId, load: Load) -> bool {
        let slot = fleet.stamp_index(stamp).and_then(|i| self.loads.get_mut(i));
        slot.map(|slot| *slot = slot.plus(load)).is_some()
    }

    /// What is used of a stamp; nothing of one that the fleet does not have.
    #[must_use]
    pub fn of(&self, fleet: &Fleet, stamp: &StampId) -> Load {
        let index = fleet.stamp_index(stamp);
        index
            .and_then(|i| self.loads.get(i))
            .copied()
            .unwrap_or_default()
    }
}
