//! The parent of one partition: it holds every branch, what it calls are leaves.
//!
//! Pull, route, decode into the tenant's buffer, flush what is due, move the checkpoint. A slow
//! tenant holds up nobody else: its buffer is bounded and what does not fit goes to quarantine.
//! Nothing here retries: the retry layer runs around single operations, and what it gives up on is
//! kept here and tried again later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use stamp_eventhubs::{EventHub, HubError};
use stamp_model::{
    AppId, BatchLimits, Event, EventBatch, GapRow, Invariant, PartitionId, QuarantineReason,
};
use stamp_resilience::GaveUp;
use stamp_schema::Decoder;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::buffer::{Lane, Position, Rows};
use crate::commit::CommitFailure;
use crate::config::GapPolicy;
use crate::directory::{Route, TenantIndex};
use crate::flush::Flushed;
use crate::memory::Charge;
use crate::raw::{quarantined, rejected};
use crate::reader::{Reader, Step};
use crate::shared::Shared;
use crate::start::{Start, StartError, find_start};
use crate::tally::Tally;

/// Whose lane. Tenants first, so that iteration ends with the stamp's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneId {
    Tenant(TenantIndex),
    Stamp,
}

/// Why a partition's worker ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Where to start could not be found out.
    #[error("partition {partition} cannot start")]
    Start {
        /// Which one.
        partition: PartitionId,
        /// What failed.
        #[source]
        cause: Box<StartError>,
    },
    /// The hub refuses for good.
    #[error("partition {partition} cannot be read")]
    Hub {
        /// Which one.
        partition: PartitionId,
        /// What it said.
        #[source]
        cause: Box<GaveUp<HubError>>,
    },
    /// Another reader with the same or a higher owner level has taken the partition.
    #[error("partition {partition} was taken over by another reader: {detail}")]
    Displaced {
        /// Which one.
        partition: PartitionId,
        /// The hub's words.
        detail: String,
    },
    /// The hub lost events that were never read, and the configuration says to stop.
    #[error("partition {partition} lost events {first} to {last}, and consumer.on-gap is \"stop\"")]
    Gap {
        /// Which one.
        partition: PartitionId,
        /// First lost sequence number.
        first: i64,
        /// Last lost sequence number.
        last: i64,
    },
}

enum Done {
    Flush(LaneId, Result<Flushed, CommitFailure>),
    /// The rest after a flush that was given up is over.
    Rested(LaneId),
    Checkpoint(Position, bool),
}

/// Whether a tenant's lane takes another event.
enum Room {
    Free,
    Full,
    Overflow,
}

/// Reads one partition until told to stop.
pub(crate) struct PartitionWorker<H: EventHub> {
    shared: Arc<Shared<H>>,
    partition: PartitionId,
    app: AppId,
    /// The last event that was taken.
    position: Position,
    /// The sequence number that must come next; unknown before the first event of a fresh start.
    next: Option<i64>,
    /// Events above this were never read by an earlier run.
    fresh_above: i64,
    /// Sequence numbers that are in quarantine already.
    settled: BTreeSet<i64>,
    lanes: BTreeMap<LaneId, Lane>,
    decoders: BTreeMap<TenantIndex, Decoder>,
    /// Events that were pulled and not yet taken.
    carry: VecDeque<Event>,
    tasks: JoinSet<Done>,
    checkpointed: i64,
    checkpointing: bool,
    tally: Tally,
    /// Cuts the retries of flushes when the time to drain is over.
    abandon: CancellationToken,
}

impl<H: EventHub> PartitionWorker<H> {
    pub(crate) fn new(shared: Arc<Shared<H>>, partition: PartitionId) -> Self {
        let app = AppId::new(&shared.stamp, &shared.identity, partition);
        Self {
            app,
            position: Position {
                sequence: stamp_model::START,
                offset: "".into(),
            },
            next: None,
            fresh_above: i64::MAX,
            settled: BTreeSet::new(),
            lanes: BTreeMap::new(),
            decoders: BTreeMap::new(),
            carry: VecDeque::new(),
            tasks: JoinSet::new(),
            checkpointed: stamp_model::START,
            checkpointing: false,
            tally: Tally::default(),
            abandon: CancellationToken::new(),
            shared,
            partition,
        }
    }

    /// Reads until `stop`, then flushes, commits and checkpoints within the time to drain.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), WorkerError> {
        let start = match find_start(&self.shared, self.partition, &self.app, &stop).await {
            Ok(start) => start,
            Err(_) if stop.is_cancelled() => return Ok(()),
            Err(cause) => {
                return Err(WorkerError::Start {
                    partition: self.partition,
                    cause: Box::new(cause),
                });
            }
        };
        let outcome = self.read(start, &stop).await;
        self.drain().await;
        outcome
    }

    async fn read(&mut self, start: Start, stop: &CancellationToken) -> Result<(), WorkerError> {
        let mut reader = Reader::opening(&self.shared, self.partition, start.from, stop);
        self.begin(start)?;
        loop {
            let blocked = self.absorb()?;
            self.start_flushes();
            self.start_checkpoint();
            self.report();
            let freed_account = self.shared.account.clone();
            let freed = freed_account.freed();
            let permit = if blocked { None } else { self.reserve() };
            let tick = self.shared.config.batch_wait_max;
            let turn = async {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Turn::Stop,
                    Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => Turn::Done(done),
                    step = reader.step(self.shared.limits()), if permit.is_some() => Turn::Step(step),
                    () = freed, if permit.is_none() => Turn::Idle,
                }
            };
            match timeout(tick, turn).await.unwrap_or(Turn::Idle) {
                Turn::Stop => {
                    reader.close().await;
                    return Ok(());
                }
                Turn::Done(Ok(done)) => self.landed(done),
                Turn::Done(Err(error)) => {
                    tracing::error!(partition = %self.partition, %error, "a flush task is gone")
                }
                Turn::Step(Step::Batch(batch)) => self.carry_batch(batch),
                Turn::Step(Step::Lost(error)) => reader = self.reopen(error, stop)?,
                Turn::Step(Step::GaveUp(gave_up)) => reader = self.pause(gave_up, stop)?,
                Turn::Idle => {}
            }
            drop(permit);
        }
    }

    fn begin(&mut self, start: Start) -> Result<(), WorkerError> {
        tracing::info!(partition = %self.partition, from = ?start.from, settled = start.settled.len(), "partition opens");
        self.position = start.position;
        self.checkpointed = self.position.sequence;
        self.next = start.next;
        self.fresh_above = start.fresh_above;
        self.settled = start.settled;
        match start.gap {
            Some((first, last, at_us)) => self.gap(first, last, at_us),
            None => Ok(()),
        }
    }

    fn carry_batch(&mut self, batch: EventBatch) {
        self.shared
            .metrics
            .received(self.partition, batch.events.len() as u64);
        if !batch.events.is_sorted_by(|a, b| a.sequence < b.sequence) {
            self.shared.metrics.violated(Invariant::BatchAscends);
        }
        self.carry.extend(batch.events);
    }

    /// Takes what was pulled into the lanes; `true` when a lane has no room for the next event.
    fn absorb(&mut self) -> Result<bool, WorkerError> {
        let mut blocked = false;
        while let Some(event) = self.carry.pop_front() {
            if let Some(event) = self.accept(event)? {
                self.carry.push_front(event);
                blocked = true;
                break;
            }
        }
        for lane in self.tally.touched() {
            if let Some(active) = self
                .lanes
                .get_mut(&lane)
                .and_then(|lane| lane.active.as_mut())
            {
                active.recharge();
            }
        }
        self.tally.publish(
            &self.shared.metrics,
            self.partition,
            self.shared.directory.tenants(),
        );
        Ok(blocked)
    }

    /// Takes one event, or gives it back when its tenant has no room now.
    fn accept(&mut self, event: Event) -> Result<Option<Event>, WorkerError> {
        if event.sequence <= self.position.sequence {
            self.tally.redelivered += 1;
            return Ok(None);
        }
        if let Some(next) = self.next.filter(|&next| event.sequence > next) {
            self.gap(next, event.sequence - 1, event.enqueued_at_us)?;
        }
        if self.settled.remove(&event.sequence) {
            self.tally.settled += 1;
        } else {
            match self.shared.directory.route(&event) {
                Route::Tenant(tenant) => match self.room(tenant, event.sequence) {
                    Room::Free => self.take(tenant, &event),
                    Room::Full => return Ok(Some(event)),
                    Room::Overflow => self.overflow(tenant, &event),
                },
                Route::Quarantine {
                    reason,
                    detail,
                    tenant,
                } => {
                    self.quarantine(&event, None, reason, detail, tenant);
                }
            }
        }
        self.position = Position {
            sequence: event.sequence,
            offset: event.offset,
        };
        self.next = Some(event.sequence + 1);
        Ok(None)
    }

    fn room(&self, tenant: TenantIndex, sequence: i64) -> Room {
        let Some(lane) = self.lanes.get(&LaneId::Tenant(tenant)) else {
            return Room::Free;
        };
        let Some(flying) = &lane.flying else {
            return Room::Free;
        };
        if lane.active_bytes() < self.shared.tenant_buffer_max {
            return Room::Free;
        }
        let stalled =
            flying.given_up > 0 || flying.since.elapsed() > self.shared.config.tenant_stall_max;
        // An event that an earlier run may have written to the tenant's tables must not go to
        // quarantine too: it waits until the tables can be asked.
        let fresh =
            sequence > self.fresh_above || lane.written.is_some_and(|written| sequence > written);
        if stalled && fresh {
            Room::Overflow
        } else {
            Room::Full
        }
    }

    fn take(&mut self, tenant: TenantIndex, event: &Event) {
        let shared = &self.shared;
        let schema = &shared.tenants[tenant].schema;
        let decoder = self
            .decoders
            .entry(tenant)
            .or_insert_with(|| Decoder::new(schema.clone()));
        let lane = self.lanes.entry(LaneId::Tenant(tenant)).or_default();
        let partition = self.partition;
        let active = lane.open(&shared.account, &self.position, Instant::now(), || {
            Rows::new(Some(schema.shape()), partition)
        });
        active.last = event.sequence;
        let Some(readings) = &mut active.rows.readings else {
            return;
        };
        let from = readings.len();
        match decoder.decode(event, readings) {
            Ok(_rows) => {
                let late = stamp_rollup::mark_late(readings, from, &shared.windows);
                let suspect = readings.clock_suspect[from..]
                    .iter()
                    .filter(|&&s| s)
                    .count();
                self.tally.reading(tenant, late, suspect);
            }
            Err(rejection) => {
                self.tally
                    .rejected(tenant, rejection.code, &event.hub.source);
                active.rows.push_raw(rejected(event, partition, rejection));
            }
        }
    }

    fn overflow(&mut self, tenant: TenantIndex, event: &Event) {
        let id = self.shared.directory.tenants()[tenant].to_string();
        let detail = format!("the store of {id} takes no rows and its buffer is full");
        self.quarantine(
            event,
            Some(tenant),
            QuarantineReason::TenantBacklog,
            detail,
            Some(id),
        );
    }

    fn quarantine(
        &mut self,
        event: &Event,
        known: Option<TenantIndex>,
        reason: QuarantineReason,
        detail: String,
        tenant: Option<String>,
    ) {
        self.tally.quarantined(known, reason);
        let row = quarantined(event, self.partition, reason, detail, tenant);
        let active = self.stamp_lane();
        active.last = event.sequence;
        active.rows.push_raw(row);
    }

    fn stamp_lane(&mut self) -> &mut crate::buffer::Active {
        let lane = self.lanes.entry(LaneId::Stamp).or_default();
        let partition = self.partition;
        lane.open(&self.shared.account, &self.position, Instant::now(), || {
            Rows::new(None, partition)
        })
    }

    /// Records lost sequence numbers. The position moves past them so that they are counted once.
    fn gap(&mut self, first: i64, last: i64, next_enqueued_at_us: i64) -> Result<(), WorkerError> {
        let partition = self.partition;
        tracing::error!(%partition, first, last, "the hub lost events that were never read");
        self.shared
            .metrics
            .gap(partition, u64::try_from(last - first + 1).unwrap_or(0));
        self.tally.touch(LaneId::Stamp);
        let active = self.stamp_lane();
        active.last = last;
        active.rows.gaps.push(GapRow {
            partition,
            sequence_first: first,
            sequence_last: last,
            next_enqueued_at_us,
            reason: "retention",
        });
        self.position.sequence = last;
        self.next = Some(last + 1);
        match self.shared.config.on_gap {
            GapPolicy::Continue => Ok(()),
            GapPolicy::Stop => Err(WorkerError::Gap {
                partition,
                first,
                last,
            }),
        }
    }

    /// Memory for one pull, or the largest buffer is flushed early and reading waits.
    fn reserve(&mut self) -> Option<Charge> {
        let bytes = self.shared.limits().bytes_max;
        let charge = self.shared.account.try_reserve(bytes);
        if charge.is_none() {
            let largest = self.lanes.iter().filter(|(_, lane)| lane.flying.is_none());
            let largest = largest
                .max_by_key(|(_, lane)| lane.active_bytes())
                .map(|(&id, _)| id);
            if let Some(id) = largest {
                self.seal(id);
            }
        }
        charge
    }

    fn start_flushes(&mut self) {
        let now = Instant::now();
        let due: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| self.shared.is_due(lane, now))
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            self.seal(id);
        }
    }

    fn seal(&mut self, id: LaneId) {
        let lane = self.lanes.entry(id).or_default();
        if let Some(sealed) = lane.seal(&self.app, Instant::now()) {
            self.spawn_flush(id, sealed);
        }
    }

    fn spawn_flush(&mut self, id: LaneId, sealed: Arc<crate::buffer::Sealed>) {
        let (sink, abandon) = (self.shared.sink(id), self.abandon.clone());
        self.tasks
            .spawn(async move { Done::Flush(id, sink.flush(&sealed, &abandon).await) });
    }

    fn landed(&mut self, done: Done) {
        match done {
            Done::Flush(id, Ok(flushed)) => {
                let Some(lane) = self.lanes.get_mut(&id) else {
                    return;
                };
                if let Some(flying) = lane.flying.take() {
                    lane.written = Some(flying.sealed.last);
                    self.shared.flushed(id, &flushed, &flying);
                }
            }
            Done::Flush(id, Err(failure)) => {
                let name = self.shared.lane_name(id);
                tracing::error!(partition = %self.partition, tenant = name, error = %crate::chain(&failure), "flush given up, its rows are kept");
                if let Some(flying) = self
                    .lanes
                    .get_mut(&id)
                    .and_then(|lane| lane.flying.as_mut())
                {
                    flying.given_up += 1;
                    let (peer, abandon) = (self.shared.lane_peer(id), self.abandon.clone());
                    self.tasks.spawn(async move {
                        peer.rest(&abandon).await;
                        Done::Rested(id)
                    });
                }
            }
            Done::Rested(id) => {
                let flying = self.lanes.get(&id).and_then(|lane| lane.flying.as_ref());
                if let Some(sealed) = flying.map(|flying| flying.sealed.clone()) {
                    self.spawn_flush(id, sealed);
                }
            }
            Done::Checkpoint(position, written) => {
                self.checkpointing = false;
                if written {
                    self.checkpointed = position.sequence;
                    self.shared
                        .metrics
                        .checkpoint(self.partition, position.sequence);
                }
            }
        }
    }

    /// How far a checkpoint may go: before the first row that is not committed.
    fn lowest(&self) -> Position {
        let waiting = self.lanes.values().filter_map(Lane::before);
        waiting
            .min_by_key(|position| position.sequence)
            .unwrap_or(&self.position)
            .clone()
    }

    fn start_checkpoint(&mut self) {
        let position = self.lowest();
        if self.checkpointing || position.sequence <= self.checkpointed {
            return;
        }
        self.checkpointing = true;
        let (shared, partition, abandon) =
            (self.shared.clone(), self.partition, self.abandon.clone());
        self.tasks.spawn(async move {
            let written = shared
                .write_checkpoint(partition, &position, &abandon)
                .await;
            Done::Checkpoint(position, written)
        });
    }

    fn report(&self) {
        let oldest = self
            .lanes
            .iter()
            .filter_map(|(&id, lane)| Some((id, lane.oldest()?)));
        self.shared
            .report(self.partition, &self.position, self.checkpointed, oldest);
    }

    fn reopen(
        &mut self,
        error: HubError,
        stop: &CancellationToken,
    ) -> Result<Reader<H>, WorkerError> {
        let partition = self.partition;
        if let HubError::OwnershipLost { detail, .. } = error {
            return Err(WorkerError::Displaced { partition, detail });
        }
        tracing::warn!(%partition, error = %crate::chain(&error), "the receiver broke, opening another");
        // Events in hand but not taken are read again: the new receiver starts after the last one
        // that was taken.
        self.carry.clear();
        Ok(Reader::opening(
            &self.shared,
            partition,
            self.shared.resume_at(&self.position, self.next),
            stop,
        ))
    }

    fn pause(
        &mut self,
        gave_up: GaveUp<HubError>,
        stop: &CancellationToken,
    ) -> Result<Reader<H>, WorkerError> {
        let partition = self.partition;
        match gave_up {
            GaveUp::Permanent {
                last: HubError::OwnershipLost { detail, .. },
                ..
            } => Err(WorkerError::Displaced { partition, detail }),
            GaveUp::Permanent { .. } => Err(WorkerError::Hub {
                partition,
                cause: Box::new(gave_up),
            }),
            gave_up => {
                tracing::error!(%partition, error = %crate::chain(&gave_up), "partition paused");
                let from = self.shared.resume_at(&self.position, self.next);
                Ok(Reader::resting(&self.shared, partition, from, stop))
            }
        }
    }

    /// Flushes and commits what is buffered, then checkpoints, within `drain-max`.
    async fn drain(&mut self) {
        let deadline = Instant::now() + self.shared.config.drain_max;
        self.carry.clear();
        loop {
            let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
            ids.into_iter().for_each(|id| self.seal(id));
            if self.lanes.values().all(|lane| lane.before().is_none()) || self.tasks.is_empty() {
                break;
            }
            match timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(Ok(done))) => self.landed(done),
                Ok(Some(Err(error))) => {
                    tracing::error!(partition = %self.partition, %error, "a flush task is gone")
                }
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(partition = %self.partition, "time to drain is over, the rest is read again at the next start");
                    self.abandon.cancel();
                    break;
                }
            }
        }
        self.start_checkpoint();
        while let Ok(Some(Ok(done))) = timeout_at(deadline, self.tasks.join_next()).await {
            self.landed(done);
            self.start_checkpoint();
        }
        self.report();
        self.tasks.shutdown().await;
    }
}

enum Turn {
    Stop,
    Done(Result<Done, tokio::task::JoinError>),
    Step(Step),
    Idle,
}

impl<H: EventHub> Shared<H> {
    pub(crate) fn limits(&self) -> BatchLimits {
        BatchLimits {
            events_max: self.config.batch_events_max,
            bytes_max: usize::try_from(self.config.batch_bytes_max.as_u64()).unwrap_or(usize::MAX),
            wait_max: self.config.batch_wait_max,
        }
    }

    fn is_due(&self, lane: &Lane, now: Instant) -> bool {
        let Some(active) = &lane.active else {
            return false;
        };
        let flush_bytes = usize::try_from(self.config.flush_bytes.as_u64()).unwrap_or(usize::MAX);
        active.rows.len() >= self.config.flush_rows
            || lane.active_bytes() >= flush_bytes.min(self.tenant_buffer_max)
            || now.duration_since(active.since) >= self.config.flush_age
    }
}
