//! What becomes of a kept event under the rules of today. Looks, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use stamp_lake::Snapshot;
use stamp_model::{AppId, PartitionId, Readings, START};
use stamp_resilience::{GaveUp, idempotent};
use stamp_schema::Decoder;
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Outcome};
use super::{Replay, ReplayError, at, store};
use crate::directory::{Route, TenantIndex};

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It belongs into this tenant's tables, unless it is there already.
    BringIn {
        tenant: TenantIndex,
        outcome: Outcome,
    },
    /// The service may still write it itself.
    Waiting,
    /// Nothing: the tenant's tables could not be asked, which was told once.
    Unknown,
    /// It was refused by one tenant, and its device is another one's today, or nobody's.
    OtherTenant,
    /// Still not valid.
    StillRejected(&'static str),
    /// Still nobody's.
    NoTenant(&'static str),
}

/// Decides event by event.
pub(super) struct Judge<'a> {
    replay: &'a Replay,
    /// Whose `rejected` it is; `None` for quarantine.
    of: Option<TenantIndex>,
    decoders: BTreeMap<TenantIndex, (Decoder, Readings)>,
    marks: BTreeMap<TenantIndex, Vec<Option<Snapshot>>>,
    checkpoints: BTreeMap<PartitionId, i64>,
    /// Tenants whose tables could not be asked: not again for each of their events.
    unknown: BTreeSet<TenantIndex>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(replay: &'a Replay, of: Option<TenantIndex>) -> Self {
        Self {
            replay,
            of,
            decoders: BTreeMap::new(),
            marks: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    pub(super) async fn verdict(
        &mut self,
        kept: &Kept,
        cancel: &CancellationToken,
    ) -> Result<Verdict, ReplayError> {
        let tenant = match (self.replay.directory.route(&kept.event), self.of) {
            (Route::Tenant(tenant), None) => tenant,
            (Route::Tenant(tenant), Some(of)) if tenant == of => tenant,
            (_, Some(_)) => return Ok(Verdict::OtherTenant),
            (Route::Quarantine { reason, .. }, None) => {
                return Ok(Verdict::NoTenant(reason.code()));
            }
        };
        if self.unknown.contains(&tenant) {
            return Ok(Verdict::Unknown);
        }
        match self.is_settled(tenant, kept, cancel).await {
            Ok(true) => {}
            Ok(false) => return Ok(Verdict::Waiting),
            Err(error) => {
                self.unknown.insert(tenant);
                return Err(error);
            }
        }
        let outcome = match (self.refused(tenant, kept), self.of) {
            (None, _) => Outcome::Reading,
            (Some(_), None) => Outcome::Rejected,
            (Some(reason), Some(_)) => return Ok(Verdict::StillRejected(reason)),
        };
        Ok(Verdict::BringIn { tenant, outcome })
    }

    /// Why the tenant's schema of today refuses the event.
    fn refused(&mut self, tenant: TenantIndex, kept: &Kept) -> Option<&'static str> {
        let schema = &self.replay.targets[tenant].schema;
        let (decoder, scratch) = self.decoders.entry(tenant).or_insert_with(|| {
            let scratch = Readings::new(schema.shape(), kept.partition);
            (Decoder::new(schema.clone()), scratch)
        });
        let refused = decoder.decode(&kept.event, scratch).err();
        // Afresh and not only emptied: the dictionaries would keep every text.
        *scratch = Readings::new(schema.shape(), kept.partition);
        refused.map(|rejection| rejection.code.code())
    }

    /// Whether the ordinary path is done with the event, so that it can never write it itself.
    async fn is_settled(
        &mut self,
        tenant: TenantIndex,
        kept: &Kept,
        cancel: &CancellationToken,
    ) -> Result<bool, ReplayError> {
        let app = self.replay.app(kept.partition);
        // Of an earlier hub of this name: nobody reads that one any more.
        if kept.event.enqueued_at_us < app.hub_created_at_us() {
            return Ok(true);
        }
        let sequence = kept.event.sequence;
        Ok(sequence <= self.mark(tenant, &app, cancel).await?
            || sequence <= self.checkpoint(kept.partition, cancel).await?)
    }

    /// The lowest mark of the partition in `readings` and `rollups`. Rows above that of `rollups`
    /// may be rolled forward by a service that starts; what a replay brings in is not among them.
    async fn mark(
        &mut self,
        tenant: TenantIndex,
        app: &AppId,
        cancel: &CancellationToken,
    ) -> Result<i64, ReplayError> {
        if !self.marks.contains_key(&tenant) {
            let target = &self.replay.targets[tenant];
            let read = target
                .peer
                .run(idempotent("table.load"), cancel, |_| async {
                    let mut snapshots = Vec::new();
                    for table in target.marked() {
                        snapshots.push(table.newest().await.map_err(at(table))?);
                    }
                    Ok(snapshots)
                });
            let snapshots = read
                .await
                .map_err(|cause| store(target.id.as_str(), cause))?;
            self.marks.insert(tenant, snapshots);
        }
        Ok(self.known_mark(tenant, app))
    }

    fn known_mark(&self, tenant: TenantIndex, app: &AppId) -> i64 {
        let snapshots = self.marks.get(&tenant).into_iter().flatten();
        let mark = |snapshot: &Option<Snapshot>| snapshot.as_ref()?.mark(app);
        let marks = snapshots.map(|snapshot| mark(snapshot).unwrap_or(START));
        marks.min().unwrap_or(START)
    }

    /// How far the service's own word goes that all is in some table: its checkpoint, when it says
    /// of which hub it is. One without that may be another program's and proves nothing here.
    async fn checkpoint(
        &mut self,
        partition: PartitionId,
        cancel: &CancellationToken,
    ) -> Result<i64, ReplayError> {
        if let Some(&checkpoint) = self.checkpoints.get(&partition) {
            return Ok(checkpoint);
        }
        let replay = self.replay;
        let read = replay
            .peer
            .run(idempotent("checkpoint.read"), cancel, |_| async {
                replay
                    .checkpoints
                    .read(partition)
                    .await
                    .map_err(at(&replay.quarantine))
            });
        let created_at_ms = Some(replay.identity.created_at_ms);
        let checkpoint = match read.await {
            Ok(checkpoint) => checkpoint.filter(|found| found.hub_created_at_ms == created_at_ms),
            // Not readable: the marks alone decide.
            Err(GaveUp::Permanent { .. }) => None,
            Err(cause) => return Err(store("the stamp", cause)),
        };
        let sequence = checkpoint.map_or(START, |checkpoint| checkpoint.sequence);
        self.checkpoints.insert(partition, sequence);
        Ok(sequence)
    }

    /// The partitions whose checkpoint is ahead of the tenant's mark, with what it says. A replay
    /// writes that into the tenant's tables before it brings anything in.
    pub(super) fn to_settle(&self, tenant: TenantIndex) -> Vec<(AppId, i64)> {
        let checkpoints = self.checkpoints.iter();
        let apps =
            checkpoints.map(|(&partition, &sequence)| (self.replay.app(partition), sequence));
        apps.filter(|(app, sequence)| *sequence > self.known_mark(tenant, app))
            .collect()
    }
}
