//! An open partition, one that is being opened, or one that rests after opening was given up.
//!
//! The one recovery for a broken receiver is to drop it and open another after the last event that
//! was taken. Opening counts as done only with a first pull, so a hub that accepts and then drops
//! every link is backed off from like one that refuses.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use stamp_eventhubs::{EventHub, HubError, PartitionSource, StartPosition};
use stamp_model::{BatchLimits, EventBatch, PartitionId};
use stamp_resilience::{GaveUp, idempotent};
use stamp_telemetry::PartitionState;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

type Opened<S> = Result<(S, EventBatch), GaveUp<HubError>>;

enum State<S> {
    /// Was given up; the worker replaces the reader.
    Ended,
    Opening(Pin<Box<dyn Future<Output = Opened<S>> + Send>>),
    Open(S),
}

/// What one step of reading brought.
pub(crate) enum Step {
    /// Events, or none within the wait.
    Batch(EventBatch),
    /// The receiver is of no more use.
    Lost(HubError),
    /// The retry layer gave up opening.
    GaveUp(GaveUp<HubError>),
}

/// The reading side of a worker.
pub(crate) struct Reader<H: EventHub> {
    shared: Arc<Shared<H>>,
    partition: PartitionId,
    state: State<H::Source>,
}

impl<H: EventHub> Reader<H> {
    /// Begins to open the partition.
    pub(crate) fn opening(
        shared: &Arc<Shared<H>>,
        partition: PartitionId,
        from: StartPosition,
        stop: &CancellationToken,
    ) -> Self {
        Self::after(Before::Spread, shared, partition, from, stop)
    }

    /// Rests after opening was given up, and then begins to open.
    pub(crate) fn resting(
        shared: &Arc<Shared<H>>,
        partition: PartitionId,
        from: StartPosition,
        stop: &CancellationToken,
    ) -> Self {
        Self::after(Before::Rest, shared, partition, from, stop)
    }

    fn after(
        before: Before,
        shared: &Arc<Shared<H>>,
        partition: PartitionId,
        from: StartPosition,
        stop: &CancellationToken,
    ) -> Self {
        let opened = open(before, shared.clone(), partition, from, stop.clone());
        Self {
            shared: shared.clone(),
            partition,
            state: State::Opening(opened),
        }
    }

    /// The next batch, or why there is none.
    ///
    /// Cancel safety: dropping the future loses neither events nor progress in opening.
    pub(crate) async fn step(&mut self, limits: BatchLimits) -> Step {
        match &mut self.state {
            State::Ended => std::future::pending().await,
            State::Opening(opened) => match opened.await {
                Ok((source, batch)) => {
                    self.state = State::Open(source);
                    self.shared
                        .metrics
                        .partition_state(self.partition, PartitionState::Reading);
                    Step::Batch(batch)
                }
                Err(gave_up) => {
                    self.shared
                        .metrics
                        .partition_state(self.partition, PartitionState::Paused);
                    self.state = State::Ended;
                    Step::GaveUp(gave_up)
                }
            },
            State::Open(source) => match source.next_batch(limits).await {
                Ok(batch) => Step::Batch(batch),
                Err(error) => Step::Lost(error),
            },
        }
    }

    /// Says goodbye to the hub when the partition is open.
    pub(crate) async fn close(self) {
        self.shared
            .metrics
            .partition_state(self.partition, PartitionState::Draining);
        if let State::Open(source) = self.state {
            source.close().await;
        }
    }
}

/// What comes before opening.
enum Before {
    Spread,
    Rest,
}

fn open<H: EventHub>(
    before: Before,
    shared: Arc<Shared<H>>,
    partition: PartitionId,
    from: StartPosition,
    stop: CancellationToken,
) -> Pin<Box<dyn Future<Output = Opened<H::Source>> + Send>> {
    Box::pin(async move {
        match before {
            Before::Spread => {
                shared
                    .metrics
                    .partition_state(partition, PartitionState::Opening);
                shared.hub_peer.spread(shared.start_spread, &stop).await;
            }
            Before::Rest => shared.hub_peer.rest(&stop).await,
        }
        let level = Some(shared.config.owner_level).filter(|&level| level >= 0);
        let (hub, limits) = (&shared.hub, shared.limits());
        shared
            .hub_peer
            .run(idempotent("partition.open"), &stop, |_| async move {
                let mut source = hub.open(partition, from, level).await?;
                let batch = source.next_batch(limits).await?;
                Ok((source, batch))
            })
            .await
    })
}
