//! What one replica holds in the ownership blobs: renewed by compare-and-set, claimed in balance.
//!
//! No row depends on any of it. Two owners of a partition at once cost time, and the marks of the
//! tables keep every row single; so a blob that cannot be read or written changes nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use stamp_lake::{Claim, LakeError, Ownership, Ownerships};
use stamp_model::PartitionId;
use stamp_resilience::{GaveUp, Peer, idempotent};
use stamp_telemetry::{ClaimOutcome, Metrics};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::balance::{View, Watch, until_next_round};
use crate::config::OwnershipConfig;
use crate::owners::Owners;

/// Blobs that are written at the same time.
const WRITES_AT_ONCE: usize = 16;

/// The partitions of one replica, as far as it knows.
pub(crate) struct Holding {
    ownerships: Ownerships,
    peer: Peer,
    metrics: Metrics,
    config: OwnershipConfig,
    me: String,
    partitions: Vec<PartitionId>,
    held: BTreeMap<PartitionId, Ownership>,
    watch: Watch,
    draw: u64,
    /// Where it says who has what.
    owners: Owners,
}

/// A write of one blob that ended.
struct Written {
    partition: PartitionId,
    claim: Result<Claim, GaveUp<LakeError>>,
}

impl Holding {
    /// Holds nothing yet. `seed` tells replicas apart that see the same.
    pub(crate) fn new(
        ownerships: Ownerships,
        peer: Peer,
        metrics: Metrics,
        config: &OwnershipConfig,
        partitions: Vec<PartitionId>,
        seed: u64,
    ) -> Self {
        let me = config
            .owner_id
            .clone()
            .unwrap_or_else(|| random_owner(seed));
        let named = me.bytes().fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        metrics.partitions_owned(0);
        Self {
            watch: Watch::new(config.renew_every, config.expire_after),
            ownerships,
            peer,
            metrics,
            config: config.clone(),
            me,
            partitions,
            held: BTreeMap::new(),
            draw: named,
            owners: Owners::default(),
        }
    }

    /// The same one, which says there who has what.
    pub(crate) fn told_to(self, owners: Owners) -> Self {
        Self { owners, ..self }
    }

    /// How its owner is called in the blobs.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// What it holds.
    pub(crate) fn held(&self) -> BTreeSet<PartitionId> {
        self.held.keys().copied().collect()
    }

    /// How long after the last round the next one begins.
    pub(crate) fn until_next_round(&self) -> Duration {
        until_next_round(self.config.renew_every, self.draw)
    }

    /// No longer renews a partition that the hub gave to another reader. Its blob is left as it is.
    pub(crate) fn forget(&mut self, partition: PartitionId) {
        if self.held.remove(&partition).is_some() {
            self.metrics.partitions_owned(self.held.len());
        }
    }

    /// One round: looks at the blobs, renews what it holds and claims what is due to it, but
    /// nothing of `barred`. When the blobs cannot be read, everything stays as it is.
    pub(crate) async fn round(
        mut self,
        barred: BTreeSet<PartitionId>,
        stop: CancellationToken,
    ) -> Self {
        self.draw = self.draw.wrapping_add(1);
        let Some(listed) = self.list(&stop).await else {
            return self;
        };
        self.owners.are(&listed);
        let expired = self.watch.look(&listed, Instant::now());
        self.compare(&listed);
        self.renew(&stop).await;
        let held = self.held();
        let view = View {
            partitions: &self.partitions,
            listed: &listed,
            expired: &expired,
            held: &held,
            barred: &barred,
            me: &self.me,
        };
        let claims = view.claims(self.draw);
        self.claim(&claims, &listed, &stop).await;
        self.metrics.partitions_owned(self.held.len());
        self
    }

    async fn list(&self, stop: &CancellationToken) -> Option<Vec<Ownership>> {
        let listing = self.peer.run(idempotent("ownership.list"), stop, |_| {
            self.ownerships.list()
        });
        // A round that takes longer would renew too late.
        let failed = match timeout(self.config.renew_every, listing).await {
            Ok(Ok(listed)) => return Some(listed),
            Ok(Err(gave_up)) if gave_up.is_cancelled() => return None,
            Ok(Err(gave_up)) => crate::chain(&gave_up).to_string(),
            Err(_) => format!("no answer within {:?}", self.config.renew_every),
        };
        tracing::warn!(owner = %self.me, held = self.held.len(), error = %failed, "ownership cannot be read: what is held is kept, nothing is claimed");
        self.metrics.ownership_claim(ClaimOutcome::Failed);
        None
    }

    /// Takes what was read for what is: the versions of what is still held, and what is lost.
    fn compare(&mut self, listed: &[Ownership]) {
        let theirs: BTreeMap<PartitionId, &Ownership> = listed
            .iter()
            .map(|ownership| (ownership.partition, ownership))
            .collect();
        let held = std::mem::take(&mut self.held);
        for (partition, mine) in held {
            match theirs.get(&partition) {
                Some(found) if found.owner_id == self.me => {
                    self.held.insert(partition, (*found).clone());
                }
                // A list can be behind; the renewal finds out.
                Some(found) if found.version == mine.version => {
                    self.held.insert(partition, mine);
                }
                None => {
                    self.held.insert(partition, mine);
                }
                Some(found) => self.lost(partition, &found.owner_id),
            }
        }
    }

    async fn renew(&mut self, stop: &CancellationToken) {
        let renewals: Vec<(PartitionId, Option<Ownership>)> = self
            .held
            .iter()
            .map(|(&partition, held)| (partition, Some(held.clone())))
            .collect();
        for written in self.write("ownership.renew", renewals, stop).await {
            let partition = written.partition;
            match written.claim {
                Ok(Claim::Won(ownership)) => {
                    self.held.insert(partition, ownership);
                }
                Ok(Claim::Lost) => {
                    self.held.remove(&partition);
                    self.lost(partition, "unknown");
                }
                // Whether it was renewed is seen in the next round.
                Err(gave_up) => self.failed(partition, &gave_up),
            }
        }
    }

    async fn claim(
        &mut self,
        claims: &[PartitionId],
        listed: &[Ownership],
        stop: &CancellationToken,
    ) {
        let over = |partition| listed.iter().find(|o| o.partition == partition).cloned();
        let claims = claims.iter().map(|&partition| (partition, over(partition)));
        for written in self.write("ownership.claim", claims.collect(), stop).await {
            let partition = written.partition;
            match written.claim {
                Ok(Claim::Won(ownership)) => {
                    tracing::info!(%partition, owner = %self.me, "partition claimed");
                    self.metrics.ownership_claim(ClaimOutcome::Won);
                    self.held.insert(partition, ownership);
                }
                Ok(Claim::Lost) => self.metrics.ownership_claim(ClaimOutcome::Lost),
                // When it was done all the same, the next list has it under this owner's name.
                Err(gave_up) => self.failed(partition, &gave_up),
            }
        }
    }

    /// Writes each blob once, some at a time. An answer that was lost is not asked for again: the
    /// next list has it.
    async fn write(
        &self,
        operation: &'static str,
        blobs: Vec<(PartitionId, Option<Ownership>)>,
        stop: &CancellationToken,
    ) -> Vec<Written> {
        let mut written = Vec::with_capacity(blobs.len());
        for some in blobs.chunks(WRITES_AT_ONCE) {
            let mut writes = JoinSet::new();
            for (partition, over) in some.iter().cloned() {
                let (ownerships, peer) = (self.ownerships.clone(), self.peer.clone());
                let (me, stop) = (self.me.clone(), stop.clone());
                writes.spawn(async move {
                    let claim = peer
                        .run(operation, &stop, |_| {
                            ownerships.claim(partition, &me, over.as_ref())
                        })
                        .await;
                    Written { partition, claim }
                });
            }
            written.extend(writes.join_all().await);
        }
        written
    }

    /// Gives back everything, for a clean stop. What cannot be given back expires.
    pub(crate) async fn release(self) {
        let (ownerships, peer) = (&self.ownerships, &self.peer);
        let never = CancellationToken::new();
        let release_all = async {
            for held in self.held.values() {
                let released = peer
                    .run("ownership.release", &never, |_| ownerships.release(held))
                    .await;
                if let Err(gave_up) = released {
                    tracing::warn!(partition = %held.partition, error = %crate::chain(&gave_up), "not released, it will expire");
                }
            }
        };
        if timeout(self.config.renew_every, release_all).await.is_err() {
            tracing::warn!(owner = %self.me, "not everything was released, the rest will expire");
        }
        self.metrics.partitions_owned(0);
    }

    fn lost(&self, partition: PartitionId, to: &str) {
        tracing::info!(%partition, owner = %self.me, to, "partition lost to another owner");
        self.metrics.ownership_claim(ClaimOutcome::Lost);
    }

    fn failed(&self, partition: PartitionId, gave_up: &GaveUp<LakeError>) {
        if !gave_up.is_cancelled() {
            tracing::warn!(%partition, owner = %self.me, error = %crate::chain(gave_up), "ownership cannot be written");
            self.metrics.ownership_claim(ClaimOutcome::Failed);
        }
    }
}

/// A name like a random UUID. The seed of a configuration can be the same in all replicas, and so
/// can process ids in containers, so the process adds what only it has.
fn random_owner(seed: u64) -> String {
    let own = RandomState::new();
    let half = |salt: u64| own.hash_one((seed, std::process::id(), salt));
    let (high, low) = (half(1), half(2));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        (high & 0x0fff) | 0x4000,
        (low >> 48 & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
