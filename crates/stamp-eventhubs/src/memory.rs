//! A hub inside the process, for tests, simulations and benches.
//!
//! It keeps the promises of the real one that a consumer depends on: order, positions, retention
//! that takes old events away, owner levels, the identity that changes when a hub is made again.
//! Faults happen when they are asked for and never otherwise, and there is no clock: an event's
//! enqueued time is the one it was appended with. Waiting for events uses tokio's timer, so a
//! paused clock works.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stamp_model::{BatchLimits, Event, EventBatch, HubIdentity, PartitionId};
use tokio::sync::Notify;

use crate::{
    EventHub, HubError, HubProperties, PartitionProperties, PartitionSource, StartPosition,
};

mod log;
#[cfg(test)]
mod tests;

use log::Log;

/// What can be made to fail by [`MemoryHub::fail_next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`EventHub::properties`]
    Properties,
    /// [`EventHub::partition_properties`] of this partition.
    PartitionProperties(PartitionId),
    /// [`EventHub::open`] of this partition.
    Open(PartitionId),
    /// [`PartitionSource::next_batch`] of this partition, by whichever reader calls next.
    NextBatch(PartitionId),
}

/// How often the hub was asked, so that a test can tell one attempt from two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Calls of [`EventHub::properties`] and [`EventHub::partition_properties`].
    pub properties: u64,
    /// Calls of [`EventHub::open`].
    pub opens: u64,
    /// Calls of [`PartitionSource::next_batch`].
    pub batches: u64,
    /// Events that were given out.
    pub events: u64,
}

/// A hub inside the process. Clones are handles of the same hub.
#[derive(Debug, Clone)]
pub struct MemoryHub {
    shared: Arc<Shared>,
}

/// An open partition of a [`MemoryHub`].
#[derive(Debug)]
pub struct MemorySource {
    shared: Arc<Shared>,
    partition: PartitionId,
    reader: u64,
    /// Sequence number of the next event to give out.
    next: i64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    identity: HubIdentity,
    partitions: Vec<Log>,
    faults: Vec<(Operation, HubError)>,
    counters: Counters,
    readers_made: u64,
}

impl MemoryHub {
    /// A hub without events, with `partitions` partitions numbered from 0 (at most 1,024).
    #[must_use]
    pub fn new(identity: HubIdentity, partitions: u32) -> Self {
        let logs = (0..partitions)
            .map_while(PartitionId::new)
            .map(|_| Log::default())
            .collect();
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    identity,
                    partitions: logs,
                    faults: Vec::new(),
                    counters: Counters::default(),
                    readers_made: 0,
                }),
                changed: Notify::new(),
            }),
        }
    }

    /// Appends an event and returns its sequence number. The hub sets sequence number and offset;
    /// everything else, the enqueued time with it, stays as given.
    ///
    /// # Panics
    /// When there is no such partition: the test is wrong.
    pub fn append(&self, partition: PartitionId, event: Event) -> i64 {
        let sequence = self.with_log(partition, |log| log.append(event));
        self.shared.changed.notify_waiters();
        sequence
    }

    /// Takes away every event below `sequence`, as retention does.
    ///
    /// # Panics
    /// As [`MemoryHub::append`].
    pub fn expire_before(&self, partition: PartitionId, sequence: i64) {
        self.with_log(partition, |log| log.expire_before(sequence));
    }

    /// Leaves out `count` sequence numbers, so that the next event comes after a gap.
    ///
    /// # Panics
    /// As [`MemoryHub::append`].
    pub fn skip(&self, partition: PartitionId, count: u32) {
        self.with_log(partition, |log| log.skip(count));
    }

    /// Makes all readers of the partition go back to `sequence` with their next batch: events they
    /// have had are delivered again.
    ///
    /// # Panics
    /// As [`MemoryHub::append`].
    pub fn redeliver(&self, partition: PartitionId, sequence: i64) {
        self.with_log(partition, |log| log.rewind_readers(sequence));
        self.shared.changed.notify_waiters();
    }

    /// The next call of `operation` fails with `error`. Several errors for one operation come in
    /// the order they were asked for, one a call. A failed `NextBatch` ends its reader, as a lost
    /// link does; a reader that is waiting is woken.
    pub fn fail_next(&self, operation: Operation, error: HubError) {
        self.state().faults.push((operation, error));
        self.shared.changed.notify_waiters();
    }

    /// Deletes the hub and makes it again under the same name: no events, sequence numbers from 0,
    /// another creation time, and every reader has lost its link.
    pub fn recreate(&self, created_at_ms: i64) {
        let mut state = self.state();
        state.identity.created_at_ms = created_at_ms;
        state.partitions.iter_mut().for_each(Log::delete);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// How often the hub was asked so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state().counters
    }

    fn with_log<T>(&self, partition: PartitionId, change: impl FnOnce(&mut Log) -> T) -> T {
        let mut state = self.state();
        let log = state.partitions.get_mut(index(partition));
        change(log.expect("the partition exists"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl EventHub for MemoryHub {
    type Source = MemorySource;

    async fn properties(&self) -> Result<HubProperties, HubError> {
        let mut state = self.state();
        state.counters.properties += 1;
        state.fault(Operation::Properties)?;
        let partitions = 0..u32::try_from(state.partitions.len()).unwrap_or(u32::MAX);
        Ok(HubProperties {
            identity: state.identity.clone(),
            partitions: partitions.map_while(PartitionId::new).collect(),
        })
    }

    async fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        let mut state = self.state();
        state.counters.properties += 1;
        state.fault(Operation::PartitionProperties(partition))?;
        Ok(state.log(partition)?.properties())
    }

    async fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<MemorySource, HubError> {
        let mut state = self.state();
        state.counters.opens += 1;
        state.fault(Operation::Open(partition))?;
        state.readers_made += 1;
        let reader = state.readers_made;
        let log = state.log(partition)?;
        let next = log.sequence_at(partition, start)?;
        log.admit(partition, reader, owner_level)?;
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(MemorySource {
            shared: Arc::clone(&self.shared),
            partition,
            reader,
            next,
        })
    }
}

impl PartitionSource for MemorySource {
    async fn next_batch(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        self.shared.state().counters.batches += 1;
        let shared = Arc::clone(&self.shared);
        let deadline = tokio::time::Instant::now() + limits.wait_max;
        loop {
            // Listening begins before looking, so nothing that happens between is missed.
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            let batch = self.take(limits)?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return self.take(limits);
            }
        }
    }

    async fn close(self) {}
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        if let Ok(log) = self.shared.state().log(self.partition) {
            log.forget(self.reader);
        }
    }
}

impl MemorySource {
    /// Takes what is there, without waiting.
    fn take(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        let mut state = self.shared.state();
        if let Err(error) = state.fault(Operation::NextBatch(self.partition)) {
            state.log(self.partition)?.fail(self.reader);
            return Err(error);
        }
        let log = state.log(self.partition)?;
        let events = log.take(self.partition, self.reader, self.next, limits)?;
        if let Some(last) = events.last() {
            self.next = last.sequence + 1;
        }
        state.counters.events += events.len() as u64;
        Ok(EventBatch { events })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere does not spoil the state: every change of it is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn log(&mut self, partition: PartitionId) -> Result<&mut Log, HubError> {
        let hub = &self.identity.hub;
        self.partitions
            .get_mut(index(partition))
            .ok_or_else(|| HubError::NotFound {
                entity: format!("{hub}/Partitions/{partition}"),
                detail: "the hub has no such partition".to_owned(),
            })
    }

    fn fault(&mut self, operation: Operation) -> Result<(), HubError> {
        match self.faults.iter().position(|(of, _)| *of == operation) {
            Some(found) => Err(self.faults.remove(found).1),
            None => Ok(()),
        }
    }
}

fn index(partition: PartitionId) -> usize {
    partition.number() as usize
}
