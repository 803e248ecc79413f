//! What may be given away while the database is away: a bounded part of each stamp, kept back for
//! that and shared out among the provisioners beforehand. Counting only; no I/O, no clock.
//!
//! Each of `replicas` provisioners has the same part of every hard limit. With the database, nobody
//! books above the hard limit less all parts; without it, each gives away at most its own part. What
//! was given away and is written down later may take the stamp into the parts: whoever sees that
//! gives away less by as much, until there is room again. So all bookings together never pass a hard
//! limit, whatever the replicas do and in whatever order; a property test says so.

use std::collections::BTreeMap;

use stamp_model::StampId;
use stamp_placement::{Axis, Fleet, Load, Stamp};

use crate::decide::Used;

/// Parts of a whole that a share is counted in.
const MILLION: u128 = 1_000_000;

/// The part that every provisioner has of each limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of a million, for all provisioners together.
    share_ppm: u32,
    replicas: u32,
}

impl Part {
    /// No reserve.
    pub(crate) const NONE: Self = Self {
        share_ppm: 0,
        replicas: 1,
    };

    /// `share` of each limit, 0 to 1, among `replicas` provisioners. The same everywhere.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is 0 to 1"
    )]
    pub(crate) fn new(share: f64, replicas: u32) -> Self {
        Self {
            share_ppm: (share.clamp(0.0, 1.0) * 1e6).round() as u32,
            replicas: replicas.max(1),
        }
    }

    /// One provisioner's part.
    fn of(self, hard: u64) -> u64 {
        let part = u128::from(hard) * u128::from(self.share_ppm) / MILLION;
        u64::try_from(part / u128::from(self.replicas)).unwrap_or(u64::MAX)
    }

    /// What may be booked of a stamp while the database is there.
    pub(crate) fn limits(self, stamp: &Stamp) -> Load {
        let mut limits = Load::ZERO;
        for axis in Axis::ALL {
            let hard = stamp.capacity[axis].hard;
            limits[axis] = hard.saturating_sub(self.of(hard).saturating_mul(self.replicas.into()));
        }
        limits
    }

    /// What one provisioner may have given away of a stamp and not written down, when this much is
    /// booked.
    fn allowed(self, stamp: &Stamp, booked: Load) -> Load {
        let (limits, mut allowed) = (self.limits(stamp), Load::ZERO);
        for axis in Axis::ALL {
            let over = booked[axis].saturating_sub(limits[axis]);
            allowed[axis] = self.of(stamp.capacity[axis].hard).saturating_sub(over);
        }
        allowed
    }
}

/// What one provisioner has given away and may still give away.
#[derive(Debug)]
pub(crate) struct Reserve {
    part: Part,
    allowed: BTreeMap<StampId, Load>,
    given: BTreeMap<StampId, Load>,
    /// Of what was given away: what is written down, and not in `allowed` yet.
    written: BTreeMap<StampId, Load>,
}

impl Reserve {
    /// Nothing may be given away before the first [`Reserve::sync`].
    pub(crate) fn new(part: Part) -> Self {
        Self {
            part,
            allowed: BTreeMap::new(),
            given: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// Takes what is booked now. To be called only when nothing was [`Reserve::written`] since `booked`
    /// was read.
    pub(crate) fn sync(&mut self, fleet: &Fleet, booked: &Used) {
        let of = |stamp: &Stamp| {
            let booked = booked.get(&stamp.id).copied().unwrap_or_default();
            (stamp.id.clone(), self.part.allowed(stamp, booked))
        };
        self.allowed = fleet.stamps().iter().map(of).collect();
        for (stamp, needs) in std::mem::take(&mut self.written) {
            self.taken_back(&stamp, needs);
        }
    }

    /// Gives away; the first axis without room when it may not.
    pub(crate) fn give(&mut self, stamp: &StampId, needs: Load) -> Result<(), Axis> {
        let allowed = self.allowed.get(stamp).copied().unwrap_or_default();
        let given = self.given.entry(stamp.clone()).or_default();
        let after = given.plus(needs);
        let full = |axis: &Axis| needs[*axis] > 0 && after[*axis] > allowed[*axis];
        match Axis::ALL.into_iter().find(full) {
            Some(axis) => Err(axis),
            None => {
                *given = after;
                Ok(())
            }
        }
    }

    /// Counts what was given away before a restart, whatever is allowed.
    pub(crate) fn was_given(&mut self, stamp: &StampId, needs: Load) {
        let given = self.given.entry(stamp.clone()).or_default();
        *given = given.plus(needs);
    }

    /// Something that was given away is written down. It counts until the next [`Reserve::sync`], which
    /// sees it in the database: were the database gone again before, it would be given away twice.
    pub(crate) fn written(&mut self, stamp: &StampId, needs: Load) {
        let written = self.written.entry(stamp.clone()).or_default();
        *written = written.plus(needs);
    }

    /// Something was not given away after all.
    pub(crate) fn taken_back(&mut self, stamp: &StampId, needs: Load) {
        if let Some(given) = self.given.get_mut(stamp) {
            *given = given.minus(needs);
        }
    }

    /// What is given away and not yet written down, by stamp.
    pub(crate) fn given(&self) -> &Used {
        &self.given
    }

    /// The largest share of what is allowed that is given away, over stamps and axes; 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share for a person")]
    pub(crate) fn used_ratio(&self) -> f64 {
        let mut highest: f64 = 0.0;
        for (stamp, given) in &self.given {
            let allowed = self.allowed.get(stamp).copied().unwrap_or_default();
            for axis in Axis::ALL.into_iter().filter(|&axis| given[axis] > 0) {
                highest = highest.max(given[axis] as f64 / allowed[axis].max(1) as f64);
            }
        }
        highest.min(1.0)
    }
}

#[cfg(test)]
mod tests;
