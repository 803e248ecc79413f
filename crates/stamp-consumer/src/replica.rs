//! A replica that shares the partitions: starts and stops workers as its ownership moves.
//!
//! A worker that loses its partition commits what it has, or leaves it to the next owner when some of
//! it overflowed, and ends; the others go on. Rounds and
//! workers run beside each other, so a slow store of the blobs holds up no reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stamp_eventhubs::EventHub;
use stamp_model::PartitionId;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::OwnershipConfig;
use crate::consumer::ConsumerError;
use crate::ownership::Holding;
use crate::shared::Shared;
use crate::worker::{PartitionWorker, WorkerError};

type Ended = (PartitionId, Result<(), WorkerError>);

/// How one worker is told to end.
struct Tokens {
    stop: CancellationToken,
    /// Told before `stop`, when the partition is another owner's.
    lost: CancellationToken,
}

/// The workers of a replica, and what it holds.
pub(crate) struct Replica<H: EventHub> {
    shared: Arc<Shared<H>>,
    config: OwnershipConfig,
    workers: JoinSet<Ended>,
    /// The stop of each worker that runs, also of one that drains.
    running: BTreeMap<PartitionId, Tokens>,
    /// When the hub gave a partition to another reader.
    displaced: BTreeMap<PartitionId, Instant>,
    /// At rest between two rounds.
    holding: Option<Holding>,
    rounds: JoinSet<Holding>,
}

impl<H: EventHub> Replica<H> {
    pub(crate) fn new(shared: Arc<Shared<H>>, config: OwnershipConfig, holding: Holding) -> Self {
        Self {
            shared,
            config,
            workers: JoinSet::new(),
            running: BTreeMap::new(),
            displaced: BTreeMap::new(),
            holding: Some(holding),
            rounds: JoinSet::new(),
        }
    }

    /// Runs until `stop`, or until a worker fails for another reason than a lost partition. Then
    /// all workers drain and what is held is given back.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), ConsumerError> {
        let spread = self.shared.start_spread;
        self.shared.store_peer.spread(spread, &stop).await;
        let mut ticks = interval(self.config.renew_every);
        let outcome = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(ended) = self.workers.join_next() => {
                    if let Some(error) = self.ended(ended) {
                        tracing::error!(error = %crate::chain(&error), "a worker ended, stopping the others");
                        break Err(error);
                    }
                }
                Some(round) = self.rounds.join_next() => match round {
                    Ok(holding) => {
                        ticks.reset_after(holding.until_next_round());
                        self.follow(holding, &stop);
                    }
                    Err(error) => break Err(ConsumerError::Panicked(error.to_string())),
                },
                _ = ticks.tick(), if self.rounds.is_empty() => self.begin_round(&stop),
            }
        };
        stop.cancel();
        self.wind_down(outcome).await
    }

    fn begin_round(&mut self, stop: &CancellationToken) {
        let expire_after = self.config.expire_after;
        self.displaced.retain(|_, at| at.elapsed() < expire_after);
        if let Some(holding) = self.holding.take() {
            // What still drains here, and what the hub has just given away.
            let held = holding.held();
            let mut barred: BTreeSet<PartitionId> = self.displaced.keys().copied().collect();
            barred.extend(self.running.keys().filter(|p| !held.contains(p)));
            self.rounds.spawn(holding.round(barred, stop.clone()));
        }
    }

    /// Starts and stops workers until they are the ones of `holding`.
    fn follow(&mut self, mut holding: Holding, stop: &CancellationToken) {
        for &partition in self.displaced.keys() {
            holding.forget(partition);
        }
        let held = holding.held();
        for (partition, worker) in &self.running {
            if !held.contains(partition) {
                worker.lost.cancel();
                worker.stop.cancel();
            }
        }
        for partition in held {
            if self.running.contains_key(&partition) {
                continue;
            }
            let (stop, lost) = (stop.child_token(), CancellationToken::new());
            let worker = PartitionWorker::new(self.shared.clone(), partition);
            let worker = worker.run(stop.clone(), lost.clone());
            self.running.insert(partition, Tokens { stop, lost });
            self.workers.spawn(async move { (partition, worker.await) });
        }
        self.tell_running();
        self.holding = Some(holding);
    }

    fn tell_running(&self) {
        let running: Vec<PartitionId> = self.running.keys().copied().collect();
        self.shared.owned.set(running.len());
        self.shared.owners.read_here(&running);
    }

    /// Takes note of a worker that ended; what ends the service with it, if anything.
    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Option<ConsumerError> {
        let (partition, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => return Some(ConsumerError::Panicked(error.to_string())),
        };
        self.running.remove(&partition);
        self.tell_running();
        self.shared.metrics.partition_left(partition);
        match outcome {
            Ok(()) => None,
            Err(WorkerError::Displaced { detail, .. }) => {
                tracing::warn!(%partition, detail, "the hub gave the partition to another reader");
                self.displaced.insert(partition, Instant::now());
                if let Some(holding) = &mut self.holding {
                    holding.forget(partition);
                }
                None
            }
            Err(error) => Some(ConsumerError::Worker(error)),
        }
    }

    async fn wind_down(mut self, outcome: Result<(), ConsumerError>) -> Result<(), ConsumerError> {
        let mut first = outcome;
        while let Some(ended) = self.workers.join_next().await {
            if let (Some(error), Ok(())) = (self.ended(ended), &first) {
                first = Err(error);
            }
        }
        // It was told to stop before the workers were waited for.
        let last_round = timeout(self.config.renew_every, self.rounds.join_next()).await;
        if let Ok(Some(Ok(holding))) = last_round {
            self.holding = Some(holding);
        }
        if let Some(holding) = self.holding.take() {
            tracing::info!(owner = holding.me(), "giving back the partitions");
            holding.release().await;
        }
        first
    }
}
