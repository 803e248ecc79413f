//! Where a partition starts: the checkpoint is a hint, the tables are the truth.
//!
//! A lost, corrupt or foreign checkpoint never means "start at the latest": when any table has a
//! mark of this partition, reading starts at the oldest event the hub still has and the marks drop
//! what is there already.

use std::collections::BTreeMap;

use stamp_eventhubs::{EventHub, HubError, PartitionProperties, StartPosition};
use stamp_lake::{Checkpoint, LakeError, Snapshot};
use stamp_model::{AppId, PartitionId, START, Sequences};
use stamp_resilience::{GaveUp, idempotent};
use tokio_util::sync::CancellationToken;

use crate::buffer::Position;
use crate::config::StartPolicy;
use crate::shared::Shared;

/// Why a partition's start could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The hub did not say how far the partition reaches.
    #[error("asking the hub")]
    Hub(#[source] GaveUp<HubError>),
    /// The store did not say how far the tables are.
    #[error("asking the store")]
    Store(#[source] GaveUp<LakeError>),
}

/// Where and with what knowledge a worker begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) from: StartPosition,
    /// The last event that counts as taken.
    pub(crate) position: Position,
    /// The sequence number that must come first, when it is known.
    pub(crate) next: Option<i64>,
    /// Events above this were never read by an earlier run.
    pub(crate) fresh_above: i64,
    /// In quarantine already.
    pub(crate) settled: Sequences,
    /// Lost before a first event could tell: first, last, and an enqueued time after them.
    pub(crate) gap: Option<(i64, i64, i64)>,
}

/// The lowest and the highest mark of each partition over all tables.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) range: BTreeMap<AppId, (i64, i64)>,
    /// Whether every table could be read.
    pub(crate) complete: bool,
}

impl Marks {
    pub(crate) fn add(&mut self, snapshot: &Snapshot, apps: &[AppId]) {
        for app in apps {
            if let Some(mark) = snapshot.mark(app) {
                let range = self.range.entry(app.clone()).or_insert((mark, mark));
                *range = (range.0.min(mark), range.1.max(mark));
            }
        }
    }
}

pub(crate) async fn find_start<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    app: &AppId,
    stop: &CancellationToken,
) -> Result<Start, StartError> {
    let hub = shared
        .hub_peer
        .run(idempotent("partition.properties"), stop, |_| {
            shared.hub.partition_properties(partition)
        })
        .await
        .map_err(StartError::Hub)?;
    let mut start = match read_hint(shared, partition, &hub, stop).await? {
        Hint::At(checkpoint) => {
            let offset = checkpoint.offset.into();
            after(
                Position {
                    sequence: checkpoint.sequence,
                    offset,
                    enqueued_at_us: None,
                },
                &hub,
            )
        }
        Hint::Absent => from_marks(shared, partition, app, &hub, true).await,
        Hint::Unusable => from_marks(shared, partition, app, &hub, false).await,
    };
    start.settled =
        quarantined_above(shared, partition, app, start.position.sequence, stop).await?;
    Ok(start)
}

fn after(position: Position, hub: &PartitionProperties) -> Start {
    let next = position.sequence + 1;
    let lost = hub.begin_sequence > next && hub.last_sequence >= next;
    Start {
        from: StartPosition::AfterSequence(position.sequence),
        position,
        next: Some(next),
        fresh_above: hub.last_sequence,
        settled: Sequences::default(),
        gap: lost.then_some((next, hub.begin_sequence - 1, hub.last_enqueued_at_us)),
    }
}

/// What the checkpoint blob is good for.
enum Hint {
    /// There is none.
    Absent,
    /// There was one that says nothing about this hub; it is out of the way now.
    Unusable,
    /// Start here.
    At(Checkpoint),
}

async fn read_hint<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    hub: &PartitionProperties,
    stop: &CancellationToken,
) -> Result<Hint, StartError> {
    let read = shared
        .store_peer
        .run(idempotent("checkpoint.read"), stop, |_| {
            shared.checkpoints.read(partition)
        })
        .await;
    let reason = match read {
        Ok(None) => return Ok(Hint::Absent),
        Ok(Some(checkpoint)) if is_of_this_hub(shared, &checkpoint, hub) => {
            return Ok(Hint::At(checkpoint));
        }
        Ok(Some(checkpoint)) => {
            tracing::error!(
                %partition,
                checkpoint = checkpoint.sequence,
                hub_last = hub.last_sequence,
                "the checkpoint is of another hub of this name, it is set aside"
            );
            "foreign"
        }
        Err(GaveUp::Permanent {
            last: error @ LakeError::CorruptCheckpoint { .. },
            ..
        }) => {
            tracing::error!(
                %partition,
                error = %crate::chain(&error),
                "the checkpoint is not readable, it is set aside"
            );
            "corrupt"
        }
        Err(error) => return Err(StartError::Store(error)),
    };
    shared.metrics.checkpoint_unusable(partition, reason);
    // Left where it is it would keep the right one from being written.
    shared
        .store_peer
        .run(idempotent("checkpoint.set_aside"), stop, |_| {
            shared.checkpoints.set_aside(partition)
        })
        .await
        .map_err(StartError::Store)?;
    Ok(Hint::Unusable)
}

fn is_of_this_hub<H>(
    shared: &Shared<H>,
    checkpoint: &Checkpoint,
    hub: &PartitionProperties,
) -> bool {
    let created = shared.identity.created_at_ms;
    checkpoint.sequence <= hub.last_sequence
        && checkpoint
            .hub_created_at_ms
            .is_none_or(|theirs| theirs == created)
}

/// The start without a usable checkpoint. `may_be_new`: whether the partition may never have been
/// read before.
async fn from_marks<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    app: &AppId,
    hub: &PartitionProperties,
    may_be_new: bool,
) -> Start {
    let marks = shared.marks().await;
    let known = marks.range.get(app);
    match (known, shared.config.start) {
        // "Latest" is only for a partition that surely was never read.
        (None, StartPolicy::Latest) if may_be_new && marks.complete => {
            let position = Position {
                sequence: hub.last_sequence,
                offset: hub.last_offset.clone(),
                enqueued_at_us: None,
            };
            after(position, hub)
        }
        (known, _) => {
            if let Some((low, high)) = known {
                tracing::warn!(app = %app, low, high, "no usable checkpoint but marks: reading from the oldest event");
                shared.metrics.checkpoint_unusable(partition, "lost");
            }
            // Below the lowest mark everything was read once, so what is gone between it and the
            // oldest event is lost for certain.
            let gap = known
                .map(|&(low, _)| low + 1)
                .filter(|&next| hub.begin_sequence > next);
            Start {
                from: StartPosition::Earliest,
                position: Position {
                    sequence: gap.map_or(START, |first| first - 1),
                    offset: "".into(),
                    enqueued_at_us: None,
                },
                // Retention may take events between this question and the first pull, also some that
                // another owner has taken and not written.
                next: Some(oldest(hub)),
                fresh_above: hub.last_sequence,
                settled: Sequences::default(),
                gap: gap.map(|first| (first, hub.begin_sequence - 1, hub.last_enqueued_at_us)),
            }
        }
    }
}

/// The sequence number of the oldest event there is, or of the next one to come.
fn oldest(hub: &PartitionProperties) -> i64 {
    if hub.is_empty {
        hub.last_sequence + 1
    } else {
        hub.begin_sequence
    }
}

/// What is above the start and in quarantine already. An event went there because of the tenant's
/// state at that time, so a second look could route it elsewhere: these are not looked at again.
async fn quarantined_above<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    app: &AppId,
    above: i64,
    stop: &CancellationToken,
) -> Result<Sequences, StartError> {
    let table = &shared.quarantine;
    shared
        .store_peer
        .run(idempotent("quarantine.read"), stop, |_| async move {
            let newest = table.newest().await?;
            match newest.and_then(|snapshot| snapshot.mark(app)) {
                Some(mark) if mark > above => {
                    table
                        .sequences_since(partition, above, mark, app.hub_created_at_us())
                        .await
                }
                _ => Ok(Sequences::default()),
            }
        })
        .await
        .map_err(StartError::Store)
}
