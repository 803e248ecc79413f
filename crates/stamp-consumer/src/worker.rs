//! The parent of one partition: it holds every branch, what it calls are leaves.
//!
//! Pull, route, decode into the tenant's buffer, flush what is due, move the checkpoint. A slow
//! tenant holds up nobody else: its buffer is bounded and what does not fit goes to quarantine.
//! Nothing here retries: the retry layer runs around single operations, and what it gives up on is
//! kept here and tried again later.

mod accept;
mod diverted;
mod flushing;
mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stamp_eventhubs::{EventHub, HubError, PartitionProperties};
use stamp_model::{AppId, BatchLimits, Event, EventBatch, Invariant, PartitionId, Sequences};
use stamp_resilience::GaveUp;
use stamp_schema::Decoder;
use stamp_telemetry::PartitionState;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::buffer::{Lane, Position};
use crate::directory::TenantIndex;
use crate::flush::Flushed;
use crate::lanes::Lanes;
use crate::memory::Charge;
use crate::reader::{Reader, Step};
use crate::recover::{RecoverError, Recovered};
use crate::shared::{FlushFailure, Shared};
use crate::start::{Start, StartError, find_start};
use crate::tally::Tally;
use diverted::Diverted;

/// How often the hub is asked how far a partition reaches. Event Hubs allows 50 such calls a second
/// for a whole namespace; this is at most 3.2 for 32 partitions.
const REACH_EVERY: Duration = Duration::from_secs(10);

/// How often counts and the ages of what waits are published: a scrape comes less often, and with many
/// tenants it would cost more than the events.
const REPORT_EVERY: Duration = Duration::from_secs(1);

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
    /// A flush of the partition panicked: a fault of ours. Its rows are read again at the next start.
    #[error("partition {partition}: a flush ended in a panic: {detail}")]
    Panicked {
        /// Which one.
        partition: PartitionId,
        /// As far as it is known.
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
    /// What a tenant's tables have, or that they did not say.
    Recovered(TenantIndex, Result<Recovered, RecoverError>),
    Flush(LaneId, Result<Flushed, FlushFailure>),
    /// The rest after a flush that was given up is over.
    Rested(LaneId),
    Checkpoint(Position, bool),
    /// How far the partition reaches, when the hub said so.
    Reach(Option<PartitionProperties>),
}

impl Done {
    /// Whose lane may be flushed again.
    fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Recovered(tenant, _) => Some(LaneId::Tenant(*tenant)),
            Self::Flush(lane, _) | Self::Rested(lane) => Some(*lane),
            Self::Checkpoint(..) | Self::Reach(_) => None,
        }
    }
}

/// Reads one partition until told to stop.
pub(crate) struct PartitionWorker<H: EventHub> {
    shared: Arc<Shared<H>>,
    partition: PartitionId,
    app: AppId,
    /// The last event that was taken.
    position: Position,
    /// The sequence number that must come next; unknown before the start was found.
    next: Option<i64>,
    /// Events above this were never read by an earlier run.
    fresh_above: i64,
    /// Where this worker began: what is at or below it is in the tables.
    start: i64,
    /// Sequence numbers above it that are in some table already.
    settled: Sequences,
    lanes: Lanes,
    diverted: Diverted,
    /// The event before the first loss that came while some tenant's tables were not asked yet.
    before_loss: Option<Position>,
    /// Of tenants that have none for all partitions.
    decoders: BTreeMap<TenantIndex, Decoder>,
    /// Bodies decoded by a learned shape, and by the general decoder, since they were published.
    decoded: (u64, u64),
    /// Whether the hub is being asked how far the partition reaches, and when it was last.
    asking: bool,
    asked_at: Option<Instant>,
    /// How far it reached by the hub's last answer, and when that came.
    reach: Option<(PartitionProperties, Instant)>,
    /// Events that were pulled and not yet taken.
    carry: VecDeque<Event>,
    tasks: JoinSet<Done>,
    checkpointed: i64,
    checkpointing: bool,
    reported_at: Option<Instant>,
    tally: Tally,
    /// Cuts the retries of flushes when the time to drain is over.
    abandon: CancellationToken,
    /// Ends the flush of the stamp's own lane alone.
    abandon_overflow: CancellationToken,
    /// Ends what asks the tables of tenants that nothing waits for.
    recoveries: CancellationToken,
}

impl<H: EventHub> PartitionWorker<H> {
    pub(crate) fn new(shared: Arc<Shared<H>>, partition: PartitionId) -> Self {
        let app = AppId::new(&shared.stamp, &shared.identity, partition);
        let abandon = CancellationToken::new();
        Self {
            app,
            position: Position {
                sequence: stamp_model::START,
                offset: "".into(),
                enqueued_at_us: None,
            },
            decoded: (0, 0),
            asking: false,
            asked_at: None,
            reach: None,
            next: None,
            fresh_above: i64::MAX,
            start: stamp_model::START,
            settled: Sequences::default(),
            lanes: Lanes::new(shared.tenants.len()),
            diverted: Diverted::default(),
            before_loss: None,
            decoders: BTreeMap::new(),
            carry: VecDeque::new(),
            tasks: JoinSet::new(),
            checkpointed: stamp_model::START,
            checkpointing: false,
            reported_at: None,
            tally: Tally::default(),
            recoveries: abandon.child_token(),
            abandon_overflow: abandon.child_token(),
            abandon,
            shared,
            partition,
        }
    }

    /// Reads until `stop`, then flushes, commits and checkpoints within the time to drain. `lost`
    /// says before `stop` that the partition is another owner's.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        lost: CancellationToken,
    ) -> Result<(), WorkerError> {
        let Some(start) = self.find_start(&stop).await? else {
            return Ok(());
        };
        let outcome = self.read(start, &stop).await;
        let is_displaced = matches!(outcome, Err(WorkerError::Displaced { .. }));
        if (is_displaced || lost.is_cancelled()) && self.has_overflow() {
            self.leave().await;
        } else {
            self.drain(lost.is_cancelled()).await;
        }
        outcome
    }

    /// Where to read from; `None` when told to stop before that is known.
    ///
    /// An outage of hub or store that began after the partition was given to this process is none
    /// of its errors: it rests and asks again, as for anything else that was given up.
    async fn find_start(&self, stop: &CancellationToken) -> Result<Option<Start>, WorkerError> {
        let (shared, partition) = (&self.shared, self.partition);
        loop {
            let found = tokio::select! {
                biased;
                // A store that hangs must not hold up a stop: nothing was taken yet.
                () = stop.cancelled() => return Ok(None),
                found = find_start(shared, partition, &self.app, stop) => found,
            };
            let cause = match found {
                Ok(start) => return Ok(Some(start)),
                Err(cause) => cause,
            };
            let peer = match &cause {
                StartError::Hub(GaveUp::Permanent { .. })
                | StartError::Store(GaveUp::Permanent { .. }) => {
                    return Err(WorkerError::Start {
                        partition,
                        cause: Box::new(cause),
                    });
                }
                StartError::Hub(_) => &shared.hub_peer,
                StartError::Store(_) => &shared.store_peer,
            };
            tracing::error!(%partition, error = %crate::chain(&cause), "partition paused before its start is known");
            shared
                .metrics
                .partition_state(partition, PartitionState::Paused);
            peer.rest(stop).await;
        }
    }

    async fn read(&mut self, start: Start, stop: &CancellationToken) -> Result<(), WorkerError> {
        let (from, gap) = (start.from, start.gap);
        self.begin(start);
        self.recover_tenants(stop).await?;
        if self
            .next
            .is_some_and(|next| next > self.position.sequence + 1)
        {
            // Gone already, whether it was ever read or not.
            self.lose();
        }
        if let Some((first, last, at_us)) = gap {
            self.gap(first, last, at_us)?;
        }
        let mut reader = Reader::opening(&self.shared, self.partition, from, stop);
        loop {
            let blocked = self.absorb()?;
            self.start_flushes();
            self.start_checkpoint();
            self.ask_reach();
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
                Turn::Done(Err(error)) => return Err(self.broken(&error)),
                Turn::Step(Step::Batch(batch)) => self.carry_batch(batch),
                Turn::Step(Step::Lost(error)) => reader = self.reopen(error, stop)?,
                Turn::Step(Step::GaveUp(gave_up)) => reader = self.pause(gave_up, stop)?,
                Turn::Idle => {}
            }
            drop(permit);
        }
    }

    fn broken(&self, error: &tokio::task::JoinError) -> WorkerError {
        WorkerError::Panicked {
            partition: self.partition,
            detail: error.to_string(),
        }
    }

    fn begin(&mut self, start: Start) {
        tracing::info!(partition = %self.partition, from = ?start.from, settled = start.settled.len(), "partition opens");
        self.position = start.position;
        self.start = self.position.sequence;
        self.checkpointed = self.position.sequence;
        self.next = start.next;
        self.fresh_above = start.fresh_above;
        self.settled = start.settled;
    }

    fn carry_batch(&mut self, batch: EventBatch) {
        let bytes: usize = batch.events.iter().map(|event| event.body.len()).sum();
        let events = batch.events.len() as u64;
        self.shared
            .metrics
            .received(self.partition, events, bytes as u64);
        if !batch.events.is_sorted_by(|a, b| a.sequence < b.sequence) {
            self.shared.metrics.violated(Invariant::BatchAscends);
        }
        if self.carry.is_empty() {
            self.carry = batch.events.into();
        } else {
            self.carry.extend(batch.events);
        }
    }

    /// Memory for one pull, or the largest buffer is flushed early and reading waits.
    fn reserve(&mut self) -> Option<Charge> {
        let bytes = self.shared.limits().bytes_max;
        let charge = self.shared.account.try_reserve(bytes);
        if charge.is_none() {
            self.make_room(bytes);
        }
        charge
    }

    fn landed(&mut self, done: Done) {
        match done {
            Done::Recovered(tenant, found) => self.recovered(tenant, found),
            Done::Flush(id, Ok(flushed)) => {
                let Some(lane) = self.lanes.get_mut(id) else {
                    return;
                };
                if let Some(flying) = lane.flying.take() {
                    self.shared.flushed(id, &flushed, &flying);
                }
            }
            Done::Flush(id, Err(failure)) => {
                let name = self.shared.lane_name(id);
                tracing::error!(partition = %self.partition, tenant = name, error = %crate::chain(&failure), "flush given up, its rows are kept");
                if let Some(flying) = self.lanes.get_mut(id).and_then(|lane| lane.flying.as_mut()) {
                    flying.given_up += 1;
                    let (peer, abandon) = (self.shared.lane_peer(id), self.abandon.clone());
                    self.tasks.spawn(async move {
                        peer.rest(&abandon).await;
                        Done::Rested(id)
                    });
                }
            }
            Done::Rested(id) => {
                let flying = self.lanes.get(id).and_then(|lane| lane.flying.as_ref());
                if let Some(sealed) = flying.map(|flying| flying.sealed.clone()) {
                    self.spawn_flush(id, sealed, None);
                }
            }
            Done::Reach(reach) => {
                self.asking = false;
                let is_new = reach.is_some();
                if let Some(reach) = reach {
                    self.reach = Some((reach, Instant::now()));
                }
                self.report_lag(is_new);
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

    /// Asks the hub now and then how far the partition reaches, for the lag. One attempt: the next
    /// one comes anyway, and nothing depends on it.
    fn ask_reach(&mut self) {
        let due = self.asked_at.is_none_or(|at| at.elapsed() >= REACH_EVERY);
        if self.asking || !due {
            return;
        }
        self.asking = true;
        self.asked_at = Some(Instant::now());
        let (shared, partition) = (self.shared.clone(), self.partition);
        self.tasks.spawn(async move {
            let reach = shared.hub.partition_properties(partition).await;
            if let Err(error) = &reach {
                tracing::debug!(%partition, error = %crate::chain(error), "lag is not known");
            }
            Done::Reach(reach.ok())
        });
    }

    /// Also when the hub did not answer: then its last answer counts, and how old that is.
    fn report_lag(&self, is_new: bool) {
        if let Some((reach, at)) = &self.reach {
            let settled = self.lowest();
            let silent = if is_new { Duration::ZERO } else { at.elapsed() };
            self.shared
                .report_lag(self.partition, &self.position, &settled, reach, silent);
        }
    }

    /// How far a checkpoint may go: before the first row that is not committed.
    fn lowest(&self) -> Position {
        let waiting = self.lanes.values().filter_map(Lane::before);
        waiting
            .chain(self.before_unasked_loss())
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

    fn report(&mut self) {
        let at = (self.partition, &self.position);
        self.shared.report(at, self.checkpointed);
        let now = Instant::now();
        let is_full = self.tally.is_full();
        if is_full || self.reported_at.is_none_or(|at| now - at >= REPORT_EVERY) {
            self.reported_at = Some(now);
            self.publish();
            let lanes = self.lanes.iter();
            let oldest = lanes.map(|(id, lane)| (id, lane.oldest()));
            self.shared.report_ages(self.partition, oldest);
        }
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
            self.shared.resume_at(&self.position),
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
                let from = self.shared.resume_at(&self.position);
                Ok(Reader::resting(&self.shared, partition, from, stop))
            }
        }
    }
}

enum Turn {
    Stop,
    Done(Result<Done, tokio::task::JoinError>),
    Step(Step),
    Idle,
}

impl<H: EventHub> Shared<H> {
    /// Of one pull.
    pub(crate) fn limits(&self) -> BatchLimits {
        BatchLimits {
            events_max: self.config.batch_events_max,
            bytes_max: self.config.pull_bytes(self.partitions.len()),
            wait_max: self.config.batch_wait_max,
        }
    }
}
