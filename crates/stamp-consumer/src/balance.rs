//! Which partitions a replica claims: its balanced share, by what the ownership blobs say.
//!
//! Pure: no blob is read or written here, and the time is handed in. Owners are told apart by name
//! only, so processors of other SDKs count like replicas of the stamp.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stamp_lake::Ownership;
use stamp_model::PartitionId;
use tokio::time::Instant;

/// Tells which owners have stopped renewing, without comparing the clocks of two machines: an
/// owner is gone when this process has watched one version of its blob for long enough.
#[derive(Debug)]
pub(crate) struct Watch {
    expire_after: Duration,
    /// The most that one look adds to what was watched.
    step_max: Duration,
    /// Each partition's version, and how long it was watched.
    seen: BTreeMap<PartitionId, (String, Duration)>,
    looked_at: Option<Instant>,
}

impl Watch {
    /// For looks every `renew_every`. Of a longer time between two looks only one and a half of
    /// that counts: when the store was down nobody could renew, and all would seem gone at once.
    pub(crate) fn new(renew_every: Duration, expire_after: Duration) -> Self {
        Self {
            expire_after,
            step_max: renew_every * 3 / 2,
            seen: BTreeMap::new(),
            looked_at: None,
        }
    }

    /// The partitions of `listed` whose owner has stopped renewing.
    pub(crate) fn look(&mut self, listed: &[Ownership], now: Instant) -> BTreeSet<PartitionId> {
        let step = self
            .looked_at
            .map_or(Duration::ZERO, |at| now.duration_since(at))
            .min(self.step_max);
        self.looked_at = Some(now);
        let mut seen = BTreeMap::new();
        for ownership in listed {
            let watched = match self.seen.remove(&ownership.partition) {
                Some((version, watched)) if version == ownership.version => watched + step,
                _ => Duration::ZERO,
            };
            seen.insert(ownership.partition, (ownership.version.clone(), watched));
        }
        self.seen = seen;
        self.seen
            .iter()
            .filter(|(_, (_, watched))| *watched >= self.expire_after)
            .map(|(&partition, _)| partition)
            .collect()
    }
}

/// What one replica knows when it decides.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// All partitions of the hub.
    pub(crate) partitions: &'a [PartitionId],
    /// The blobs, one a partition at most.
    pub(crate) listed: &'a [Ownership],
    /// Whose owner has stopped renewing.
    pub(crate) expired: &'a BTreeSet<PartitionId>,
    /// What this replica holds.
    pub(crate) held: &'a BTreeSet<PartitionId>,
    /// What it cannot take now, whoever owns it: its own worker is still draining it, or the hub
    /// gave it to another reader.
    pub(crate) barred: &'a BTreeSet<PartitionId>,
    /// The owner name of this replica.
    pub(crate) me: &'a str,
}

impl View<'_> {
    /// The partitions to claim now, in this order: all free ones up to this replica's share, or
    /// else at most one from an owner that has at least two more.
    ///
    /// The share is the number of partitions over the number of owners that live, rounded up. The
    /// same view and `draw` give the same answer; different draws keep replicas with the same view
    /// apart.
    pub(crate) fn claims(&self, draw: u64) -> Vec<PartitionId> {
        let others = self.others();
        let share = self.partitions.len().div_ceil(others.len() + 1);
        let room = share.saturating_sub(self.held.len());
        let mut draws = Draws(draw);
        let owned: BTreeSet<PartitionId> = others.values().flatten().copied().collect();
        let mut free: Vec<PartitionId> = self
            .partitions
            .iter()
            .copied()
            .filter(|p| !owned.contains(p) && !self.held.contains(p) && !self.barred.contains(p))
            .collect();
        if !free.is_empty() {
            draws.shuffle(&mut free);
            free.truncate(room);
            return free;
        }
        if room == 0 {
            return Vec::new();
        }
        self.one_of_the_richest(&others, &mut draws)
            .into_iter()
            .collect()
    }

    /// The other owners that live, and what they have.
    fn others(&self) -> BTreeMap<&str, Vec<PartitionId>> {
        let mut others: BTreeMap<&str, Vec<PartitionId>> = BTreeMap::new();
        for ownership in self.listed {
            let partition = ownership.partition;
            let owner = ownership.owner_id.as_str();
            let nobody = owner.is_empty() || owner == self.me;
            let is_ours = self.held.contains(&partition);
            let exists = self.partitions.contains(&partition);
            if exists && !nobody && !is_ours && !self.expired.contains(&partition) {
                others.entry(owner).or_default().push(partition);
            }
        }
        others
    }

    fn one_of_the_richest(
        &self,
        others: &BTreeMap<&str, Vec<PartitionId>>,
        draws: &mut Draws,
    ) -> Option<PartitionId> {
        let most = others.values().map(Vec::len).max()?;
        if most < self.held.len() + 2 {
            return None;
        }
        let mut loot: Vec<PartitionId> = others
            .values()
            .filter(|theirs| theirs.len() == most)
            .flatten()
            .copied()
            .filter(|partition| !self.barred.contains(partition))
            .collect();
        draws.shuffle(&mut loot);
        loot.first().copied()
    }
}

/// How long to the next round: `renew_every` less a random fifth. Replicas whose rounds fell
/// together for good would renew between each other's look and claim, and no claim would ever win.
pub(crate) fn until_next_round(renew_every: Duration, draw: u64) -> Duration {
    let fifth_ms = u64::try_from((renew_every / 5).as_millis()).unwrap_or(u64::MAX);
    let less_ms = Draws(!draw).next() % fifth_ms.saturating_add(1);
    renew_every.saturating_sub(Duration::from_millis(less_ms))
}

/// A short series of numbers from one seed: splitmix64, by its published constants.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle(&mut self, list: &mut [PartitionId]) {
        for last in (1..list.len()).rev() {
            let bound = last as u64 + 1;
            let other = usize::try_from(self.next() % bound).unwrap_or(0);
            list.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests;
