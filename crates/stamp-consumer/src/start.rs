//! Where a partition starts: the checkpoint is a hint, the tables are the truth.
//!
//! A lost, corrupt or foreign checkpoint never means "start at the latest": when any table has a
//! mark of this partition, reading starts at the oldest event the hub still has and the marks drop
//! what is there already.

use std::collections::{BTreeMap, BTreeSet};

use stamp_eventhubs::{EventHub, HubError, PartitionProperties, StartPosition};
use stamp_lake::{Checkpoint, LakeError};
use stamp_model::{AppId, PartitionId, START};
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
    pub(crate) settled: BTreeSet<i64>,
    /// Lost before a first event could tell: first, last, and an enqueued time after them.
    pub(crate) gap: Option<(i64, i64, i64)>,
}

/// The lowest and the highest mark of each partition over all tables.
pub(crate) type MarkRange = BTreeMap<AppId, (i64, i64)>;

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
    let mut start = match usable_checkpoint(shared, partition, &hub, stop).await? {
        Some(checkpoint) => after(
            Position {
                sequence: checkpoint.sequence,
                offset: checkpoint.offset.into(),
            },
            &hub,
        ),
        None => without_checkpoint(shared, partition, app, &hub, stop).await?,
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
        settled: BTreeSet::new(),
        gap: lost.then_some((next, hub.begin_sequence - 1, hub.last_enqueued_at_us)),
    }
}

/// The checkpoint, unless it is absent, unreadable or not of this hub.
async fn usable_checkpoint<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    hub: &PartitionProperties,
    stop: &CancellationToken,
) -> Result<Option<Checkpoint>, StartError> {
    let read = shared
        .store_peer
        .run(idempotent("checkpoint.read"), stop, |_| {
            shared.checkpoints.read(partition)
        })
        .await;
    let checkpoint = match read {
        Ok(checkpoint) => checkpoint,
        Err(GaveUp::Permanent {
            last: error @ LakeError::CorruptCheckpoint { .. },
            ..
        }) => {
            tracing::error!(%partition, error = %crate::chain(&error), "the checkpoint is not readable, the tables' marks decide");
            shared.metrics.checkpoint_unusable(partition, "corrupt");
            return Ok(None);
        }
        Err(error) => return Err(StartError::Store(error)),
    };
    let Some(checkpoint) = checkpoint else {
        return Ok(None);
    };
    if checkpoint.sequence > hub.last_sequence {
        tracing::error!(%partition, checkpoint = checkpoint.sequence, hub_last = hub.last_sequence, "the checkpoint is of another hub of this name, the tables' marks decide");
        shared.metrics.checkpoint_unusable(partition, "foreign");
        return Ok(None);
    }
    Ok(Some(checkpoint))
}

async fn without_checkpoint<H: EventHub>(
    shared: &Shared<H>,
    partition: PartitionId,
    app: &AppId,
    hub: &PartitionProperties,
    stop: &CancellationToken,
) -> Result<Start, StartError> {
    let marks = shared.marks(stop).await.map_err(StartError::Store)?;
    let known = marks.get(app);
    match (known, shared.config.start) {
        (None, StartPolicy::Latest) => {
            let position = Position {
                sequence: hub.last_sequence,
                offset: hub.last_offset.clone(),
            };
            Ok(after(position, hub))
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
            Ok(Start {
                from: StartPosition::Earliest,
                position: Position {
                    sequence: gap.map_or(START, |first| first - 1),
                    offset: "".into(),
                },
                next: None,
                fresh_above: hub.last_sequence,
                settled: BTreeSet::new(),
                gap: gap.map(|first| (first, hub.begin_sequence - 1, hub.last_enqueued_at_us)),
            })
        }
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
) -> Result<BTreeSet<i64>, StartError> {
    let table = &shared.quarantine;
    shared
        .store_peer
        .run(idempotent("quarantine.read"), stop, |_| async move {
            match table.load().await?.mark(app) {
                Some(mark) if mark > above => table.sequences(partition, above, mark).await,
                _ => Ok(BTreeSet::new()),
            }
        })
        .await
        .map_err(StartError::Store)
}
