//! What all partitions of one process share: the hub, the tables, the limits, the peers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use stamp_eventhubs::{EventHub, PartitionProperties, StartPosition};
use stamp_lake::{Checkpoint, Checkpoints, LakeError, Table};
use stamp_model::{
    AppId, Event, HubIdentity, Invariant, PartitionId, Readings, START, StampId, TenantId,
};
use stamp_resilience::{Classify, FailureKind, Peer, idempotent};
use stamp_rollup::Windows;
use stamp_schema::{Decoder, Schema};
use stamp_telemetry::{FlushAbout, FlushSpan, Metrics, Traces};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buffer::{Flying, Position, Sealed};
use crate::commit::CommitFailure;
use crate::config::ReadConfig;
use crate::consumer::Clock;
use crate::directory::{Directory, TenantIndex};
use crate::flush::{Flushed, Sink};
use crate::memory::MemoryAccount;
use crate::muster::{Coming, Muster};
use crate::owners::Owners;
use crate::progress::Progress;
use crate::quota::{Excess, Load, Meter, Share, SharedMeter};
use crate::recover::{RecoverError, catch_up};
use crate::start::Marks;
use crate::worker::LaneId;

/// One tenant as the workers need it.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) schema: Arc<Schema>,
    pub(crate) sink: Arc<Sink>,
    /// Retry budget and breaker of its store.
    pub(crate) peer: Peer,
    /// Its `readings`, `rollups` and `rejected`, to read back from.
    pub(crate) tables: [Table; 3],
    /// What a replay brought in.
    pub(crate) replays: Table,
    /// A page of one partition at a time is rolled forward.
    pub(crate) rolling_forward: Semaphore,
    /// Its buffers in all partitions.
    pub(crate) muster: Arc<Muster>,
    /// One for all partitions, where one for each would take too much memory.
    pub(crate) decoder: Option<Mutex<Decoder>>,
}

/// How many of the hub's partitions this process reads.
#[derive(Debug)]
pub(crate) struct Owned {
    now: AtomicUsize,
    all: usize,
}

impl Owned {
    pub(crate) fn new(now: usize, all: usize) -> Self {
        Self {
            now: AtomicUsize::new(now),
            all,
        }
    }

    pub(crate) fn set(&self, now: usize) {
        self.now.store(now, Ordering::Relaxed);
    }

    pub(crate) fn share(&self) -> Share {
        Share {
            part: self.now.load(Ordering::Relaxed),
            of: self.all,
        }
    }
}

/// Why a batch is not in all of its tables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlushFailure {
    /// A commit was given up.
    #[error(transparent)]
    Commit(#[from] CommitFailure),
    /// The rows are in; their rollups could not be made from the table.
    #[error("making rollups from the table")]
    RollForward(#[from] RecoverError),
}

/// Shared by the workers of a process.
pub(crate) struct Shared<H> {
    pub(crate) stamp: StampId,
    pub(crate) identity: HubIdentity,
    pub(crate) hub: H,
    pub(crate) config: ReadConfig,
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) owned: Owned,
    /// Of the hub: the ones of other processes, too.
    pub(crate) partitions_all: usize,
    pub(crate) owners: Owners,
    /// By tenant, where it has a quota.
    pub(crate) meters: Vec<Option<SharedMeter>>,
    pub(crate) tenant_buffer_max: usize,
    pub(crate) start_spread: Duration,
    pub(crate) windows: Windows,
    pub(crate) directory: Directory,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) stamp_sink: Arc<Sink>,
    pub(crate) stamp_muster: Arc<Muster>,
    pub(crate) quarantine: Table,
    pub(crate) gaps: Table,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) hub_peer: Peer,
    pub(crate) store_peer: Peer,
    pub(crate) account: MemoryAccount,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    pub(crate) progress: Progress,
    pub(crate) marks: OnceCell<Arc<Marks>>,
    pub(crate) clock: Clock,
}

impl<H: EventHub> Shared<H> {
    pub(crate) fn sink(&self, lane: LaneId) -> Arc<Sink> {
        match lane {
            LaneId::Tenant(tenant) => self.tenants[tenant].sink.clone(),
            LaneId::Stamp => self.stamp_sink.clone(),
        }
    }

    /// The tenant's name, or `-` for the stamp's own lane.
    pub(crate) fn lane_name(&self, lane: LaneId) -> &str {
        match lane {
            LaneId::Tenant(tenant) => self.tenants[tenant].id.as_str(),
            LaneId::Stamp => "-",
        }
    }

    /// Which of its tenant's quotas an event would be over; counts nothing.
    pub(crate) fn excess(&self, tenant: TenantIndex, event: &Event) -> Option<Excess> {
        self.meter(tenant)?.excess(load(event), self.owned.share())
    }

    /// Counts an event against its tenant's quota, or says which one it is over.
    pub(crate) fn admit(&self, tenant: TenantIndex, event: &Event) -> Result<(), Excess> {
        match self.meter(tenant) {
            Some(mut meter) => meter.admit(load(event), self.owned.share()),
            None => Ok(()),
        }
    }

    fn meter(&self, tenant: TenantIndex) -> Option<MutexGuard<'_, Meter>> {
        Some(self.meters[tenant].as_ref()?.lock())
    }

    /// Where to read on after the last event that was taken.
    pub(crate) fn resume_at(&self, position: &Position) -> StartPosition {
        if position.sequence == START {
            StartPosition::Earliest
        } else {
            StartPosition::AfterSequence(position.sequence)
        }
    }

    /// Writes a sealed batch of a lane whose worker began after `start`. Calling it again with the
    /// same batch adds nothing twice. `coming`: flushes of other partitions wait for this one, and
    /// it for them.
    ///
    /// # Errors
    /// The first table's failure; what follows it was not touched by this call.
    pub(crate) async fn flush(
        &self,
        lane: LaneId,
        sealed: &Arc<Sealed>,
        coming: Option<Coming>,
        (partition, start): (PartitionId, i64),
        cancel: &CancellationToken,
    ) -> Result<Flushed, FlushFailure> {
        let span = self.span(lane, sealed, partition);
        let from = (partition, start);
        let flushed = self.write(lane, sealed, coming, from, cancel).await;
        match &flushed {
            Ok(flushed) => span.committed(&flushed.rows()),
            Err(failure) => span.failed(&crate::chain(failure).to_string()),
        }
        flushed
    }

    fn span(&self, lane: LaneId, sealed: &Sealed, partition: PartitionId) -> FlushSpan {
        let tenant = match lane {
            LaneId::Tenant(tenant) => self.tenants[tenant].id.as_str(),
            LaneId::Stamp => "_stamp",
        };
        let about = FlushAbout {
            partition,
            tenant,
            rows: sealed.rows.len(),
            through: sealed.last,
            waited: sealed.since.elapsed(),
        };
        self.traces.flush(&about, &sealed.messages)
    }

    async fn write(
        &self,
        lane: LaneId,
        sealed: &Arc<Sealed>,
        coming: Option<Coming>,
        (partition, start): (PartitionId, i64),
        cancel: &CancellationToken,
    ) -> Result<Flushed, FlushFailure> {
        let sink = self.sink(lane);
        let mut flushed = sink.flush(sealed, start, coming, cancel).await?;
        if let LaneId::Tenant(tenant) = lane
            && flushed.must_roll_forward
        {
            let (tenant, app) = (&self.tenants[tenant], &sealed.app);
            let range = (partition, start, sealed.last);
            flushed.rollups = catch_up(tenant, app, range, &self.account, cancel).await?;
            tracing::info!(tenant = %tenant.id, %app, up_to = sealed.last, rollups = flushed.rollups.rows, "another owner or a lost reply moved the mark, rollups are made from the table");
        }
        Ok(flushed)
    }

    pub(crate) fn flushed(&self, lane: LaneId, flushed: &Flushed, flying: &Flying) {
        let name = self.lane_name(lane);
        let tenant = match lane {
            LaneId::Tenant(tenant) => Some(&self.tenants[tenant].id),
            LaneId::Stamp => None,
        };
        let raw = if tenant.is_some() {
            "rejected"
        } else {
            "quarantine"
        };
        let rows = &flying.sealed.rows;
        let held = rows.readings.as_ref().map_or(0, Readings::len);
        for (table, committed, held) in [
            ("readings", flushed.readings, held),
            ("rollups", flushed.rollups, 0),
            (raw, flushed.raw, rows.raw.len()),
            ("gaps", flushed.gaps, rows.gaps.len()),
        ] {
            if committed.rows > 0 {
                self.metrics
                    .written(tenant, table, committed.rows, committed.bytes);
            }
            let dropped = (held as u64).saturating_sub(committed.rows);
            if dropped > 0 {
                self.metrics.dropped_by_mark(table, dropped);
            }
        }
        if let (Some(tenant), Some(readings), true) =
            (tenant, &rows.readings, flushed.readings.rows > 0)
        {
            self.report_freshness(tenant, readings, flushed.readings.moved);
        }
        let bytes = flushed.readings.bytes + flushed.rollups.bytes + flushed.raw.bytes;
        self.metrics
            .flushed(flying.since.elapsed(), flushed.readings.rows, bytes);
        tracing::info!(
            tenant = name,
            app = %flying.sealed.app,
            through = flying.sealed.last,
            readings = flushed.readings.rows,
            rollups = flushed.rollups.rows,
            raw = flushed.raw.rows,
            "committed"
        );
    }

    /// How long the rows of a commit took that moved the mark from `mark`. Where another attempt or
    /// owner moved it, which of the rows are new is not known: then all of them count.
    fn report_freshness(&self, tenant: &TenantId, readings: &Readings, mark: Option<i64>) {
        let now_us = (self.clock)();
        let rows = readings.sequence.iter().zip(&readings.enqueued_at_us);
        let new = rows.filter(|&(&sequence, _)| sequence > mark.unwrap_or(START));
        self.metrics
            .fresh(tenant, new.map(|(_, &at_us)| now_us - at_us));
    }

    /// Whose budget and breaker the lane's store has.
    pub(crate) fn lane_peer(&self, lane: LaneId) -> Peer {
        match lane {
            LaneId::Tenant(tenant) => self.tenants[tenant].peer.clone(),
            LaneId::Stamp => self.store_peer.clone(),
        }
    }

    /// Moves the checkpoint of a partition forward; when it cannot be, rests and says `false`.
    pub(crate) async fn write_checkpoint(
        &self,
        partition: PartitionId,
        position: &Position,
        cancel: &CancellationToken,
    ) -> bool {
        let checkpoint = Checkpoint {
            sequence: position.sequence,
            offset: position.offset.to_string(),
            hub_created_at_ms: Some(self.identity.created_at_ms),
        };
        let (checkpoints, checkpoint) = (&self.checkpoints, &checkpoint);
        let advanced = self
            .store_peer
            .run(idempotent("checkpoint.write"), cancel, |_| async move {
                checkpoints
                    .advance(partition, checkpoint)
                    .await
                    .map_err(Overtaken)
            })
            .await;
        match advanced {
            Ok(_) => true,
            Err(gave_up) => {
                if !gave_up.is_cancelled() {
                    tracing::warn!(%partition, error = %crate::chain(&gave_up), "the checkpoint stays behind for now");
                }
                self.store_peer.rest(cancel).await;
                false
            }
        }
    }

    /// The range of marks of every partition of this process over all tables. Read once when
    /// nobody else writes them, and anew when replicas do: a partition may come from another one.
    pub(crate) async fn marks(&self) -> Arc<Marks> {
        if self.config.ownership.is_some() {
            return Arc::new(self.read_marks().await);
        }
        let read = || async { Arc::new(self.read_marks().await) };
        self.marks.get_or_init(read).await.clone()
    }

    /// One attempt a table: a tenant whose store is broken must not hold up the others' start. What
    /// could not be read is said in [`Marks::complete`].
    async fn read_marks(&self) -> Marks {
        let apps: Vec<AppId> = self
            .partitions
            .iter()
            .map(|&partition| AppId::new(&self.stamp, &self.identity, partition))
            .collect();
        let own = ("-", [self.quarantine.clone(), self.gaps.clone()].to_vec());
        let tenants = self
            .tenants
            .iter()
            .map(|tenant| (tenant.id.as_str(), tenant.tables.to_vec()));
        let mut marks = Marks {
            range: BTreeMap::new(),
            complete: true,
        };
        for (tenant, tables) in tenants.chain([own]) {
            for table in tables {
                match table.load().await {
                    Ok(snapshot) => marks.add(&snapshot, &apps),
                    Err(error) => {
                        tracing::warn!(tenant, error = %crate::chain(&error), "marks cannot be read");
                        marks.complete = false;
                        // The tenant's other tables are in the same store.
                        break;
                    }
                }
            }
        }
        marks
    }

    /// How far a partition is behind the hub, and how long its unsettled events are still there.
    ///
    /// `reach` is the hub's answer of `silent` ago. What came since is not known, so the worst is
    /// assumed: an event that came right after the answer and was not read.
    pub(crate) fn report_lag(
        &self,
        partition: PartitionId,
        read: &Position,
        settled: &Position,
        reach: &PartitionProperties,
        silent: Duration,
    ) {
        let now_us = (self.clock)();
        let age = |position: &Position| {
            let at_us = position.enqueued_at_us.unwrap_or(now_us);
            Duration::from_micros(u64::try_from(now_us - at_us).unwrap_or(0))
        };
        let behind = u64::try_from(reach.last_sequence - read.sequence).unwrap_or(0);
        let lag = if behind == 0 { silent } else { age(read) };
        self.metrics.lag(partition, behind, lag);
        let all_settled = settled.sequence >= reach.last_sequence;
        let known = all_settled || settled.enqueued_at_us.is_some();
        if let Some(retention) = self.config.hub_retention.filter(|_| known) {
            let oldest = if all_settled { silent } else { age(settled) };
            self.metrics
                .retention_headroom(partition, retention.saturating_sub(oldest));
        }
    }

    /// How far a partition is.
    pub(crate) fn report(
        &self,
        (partition, position): (PartitionId, &Position),
        checkpointed: i64,
    ) {
        if checkpointed > position.sequence {
            self.metrics.violated(Invariant::CheckpointBehindMarks);
        }
        self.progress
            .set(partition, position.sequence, checkpointed);
    }

    /// Since when the oldest row of each lane waits. One where none does says 0: a store that answers fast
    /// would else leave its tenant without a series.
    pub(crate) fn report_ages(
        &self,
        partition: PartitionId,
        oldest: impl Iterator<Item = (LaneId, Option<Instant>)>,
    ) {
        let ages = oldest.filter_map(|(lane, since)| match lane {
            LaneId::Tenant(tenant) => {
                let age = since.map_or(Duration::ZERO, |since| since.elapsed());
                Some((&self.tenants[tenant].id, age))
            }
            LaneId::Stamp => None,
        });
        self.metrics.unflushed(partition, ages);
        self.metrics.buffered(self.account.held() as u64);
    }
}

fn load(event: &Event) -> Load<'_> {
    Load {
        enqueued_at_us: event.enqueued_at_us,
        device_id: event.hub.device_id.as_deref().unwrap_or_default(),
        bytes: event.body.len() as u64,
    }
}

/// Another owner of the partition wrote the checkpoint first: the next attempt reads where it is.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Overtaken(LakeError);

impl Classify for Overtaken {
    fn kind(&self) -> FailureKind {
        match &self.0 {
            LakeError::Conflict { .. } => FailureKind::Transient,
            other => other.kind(),
        }
    }
}
