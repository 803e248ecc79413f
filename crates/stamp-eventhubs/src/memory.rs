//! A hub inside the process, for tests, simulations and benches.
//!
//! It keeps the promises of the real one that a consumer depends on: order, positions, retention
//! that takes old events away, owner levels, the identity that changes when a hub is made again.
//! Faults happen when they are asked for and never otherwise, and there is no clock: an event's
//! enqueued time is the one it was appended with. Waiting for events uses tokio's timer, so a
//! paused clock works.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stamp_model::{BatchLimits, Event, EventBatch, HubIdentity, PartitionId, Text};
use tokio::sync::Notify;

use crate::{
    EventHub, HubError, HubProperties, PartitionProperties, PartitionSource, StartPosition,
};

#[cfg(test)]
mod tests;

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

#[derive(Debug, Default)]
struct Log {
    events: VecDeque<Event>,
    next_sequence: i64,
    next_offset: u64,
    last_offset: Option<Text>,
    last_enqueued_at_us: i64,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    id: u64,
    owner_level: Option<i64>,
    /// Set by [`MemoryHub::redeliver`]: where the reader continues.
    rewind_to: Option<i64>,
    /// Why it may not read any more. It is forgotten when its source is dropped.
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Displaced,
    Failed,
    HubDeleted,
}

/// Readers without an owner level that Event Hubs allows for a partition and consumer group.
const READERS_MAX: usize = 5;

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
        self.with_log(partition, |log| {
            let gone = log.position(sequence);
            log.events.drain(..gone);
        });
    }

    /// Leaves out `count` sequence numbers, so that the next event comes after a gap.
    ///
    /// # Panics
    /// As [`MemoryHub::append`].
    pub fn skip(&self, partition: PartitionId, count: u32) {
        self.with_log(partition, |log| log.next_sequence += i64::from(count));
    }

    /// Makes all readers of the partition go back to `sequence` with their next batch: events they
    /// have had are delivered again.
    ///
    /// # Panics
    /// As [`MemoryHub::append`].
    pub fn redeliver(&self, partition: PartitionId, sequence: i64) {
        self.with_log(partition, |log| {
            for reader in &mut log.readers {
                reader.rewind_to = Some(sequence);
            }
        });
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
        for log in &mut state.partitions {
            let mut readers = std::mem::take(&mut log.readers);
            for reader in &mut readers {
                reader.ended.get_or_insert(Ended::HubDeleted);
            }
            *log = Log {
                readers,
                ..Log::default()
            };
        }
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
        let log = state.log(partition)?;
        Ok(PartitionProperties {
            begin_sequence: log
                .events
                .front()
                .map_or(log.next_sequence, |event| event.sequence),
            last_sequence: log.last_sequence(),
            last_offset: log.last_offset.clone().unwrap_or_else(|| "-1".into()),
            last_enqueued_at_us: log.last_enqueued_at_us,
            is_empty: log.events.is_empty(),
        })
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
            log.readers.retain(|reader| reader.id != self.reader);
        }
    }
}

impl MemorySource {
    /// Takes what is there, without waiting.
    fn take(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        let mut state = self.shared.state();
        let fault = state.fault(Operation::NextBatch(self.partition));
        let log = state.log(self.partition)?;
        let Some(reader) = log
            .readers
            .iter_mut()
            .find(|reader| reader.id == self.reader)
        else {
            return Err(lost("the hub does not know this reader"));
        };
        if let Err(error) = fault {
            reader.ended = Some(Ended::Failed);
            return Err(error);
        }
        reader.check(self.partition)?;
        self.next = reader.rewind_to.take().unwrap_or(self.next);
        let events = log.read(self.next, limits);
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
        let entity = format!("{}/Partitions/{partition}", self.identity.hub);
        self.partitions
            .get_mut(index(partition))
            .ok_or_else(|| HubError::NotFound {
                entity,
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

impl Log {
    fn append(&mut self, mut event: Event) -> i64 {
        let sequence = self.next_sequence;
        let offset = Text::from(self.next_offset.to_string());
        self.next_sequence += 1;
        self.next_offset += event.size() as u64;
        self.last_offset = Some(offset.clone());
        self.last_enqueued_at_us = event.enqueued_at_us;
        event.sequence = sequence;
        event.offset = offset;
        self.events.push_back(event);
        sequence
    }

    fn last_sequence(&self) -> i64 {
        self.next_sequence - 1
    }

    /// Index of the first event whose sequence number is `sequence` or more.
    fn position(&self, sequence: i64) -> usize {
        self.events
            .partition_point(|event| event.sequence < sequence)
    }

    fn sequence_at(&self, partition: PartitionId, start: StartPosition) -> Result<i64, HubError> {
        Ok(match start {
            StartPosition::Earliest => 0,
            StartPosition::Latest => self.next_sequence,
            StartPosition::AfterSequence(sequence) if sequence >= self.next_sequence => {
                return Err(HubError::BeyondEnd {
                    partition,
                    detail: format!("{sequence} is after the newest, {}", self.last_sequence()),
                });
            }
            StartPosition::AfterSequence(sequence) => sequence.saturating_add(1),
            StartPosition::EnqueuedAt(at_us) => self
                .events
                .iter()
                .find(|event| event.enqueued_at_us >= at_us - at_us.rem_euclid(1_000))
                .map_or(self.next_sequence, |event| event.sequence),
        })
    }

    /// Lets a reader in and displaces those it outranks.
    fn admit(
        &mut self,
        partition: PartitionId,
        id: u64,
        owner_level: Option<i64>,
    ) -> Result<(), HubError> {
        let reading = || self.readers.iter().filter(|reader| reader.ended.is_none());
        if reading().filter_map(|reader| reader.owner_level).max() > owner_level {
            return Err(ownership_lost(partition));
        }
        if owner_level.is_some() {
            for reader in &mut self.readers {
                reader.ended.get_or_insert(Ended::Displaced);
            }
        } else if reading().count() >= READERS_MAX {
            return Err(HubError::QuotaReaders {
                partition,
                detail: format!("{READERS_MAX} readers without an owner level are open"),
            });
        }
        self.readers.push(Reader {
            id,
            owner_level,
            rewind_to: None,
            ended: None,
        });
        Ok(())
    }

    fn read(&self, from: i64, limits: BatchLimits) -> Vec<Event> {
        let mut bytes = 0;
        self.events
            .range(self.position(from)..)
            .take(limits.events_max.max(1))
            .take_while(|event| {
                let room = bytes < limits.bytes_max || bytes == 0;
                bytes += event.size();
                room
            })
            .cloned()
            .collect()
    }
}

impl Reader {
    fn check(&self, partition: PartitionId) -> Result<(), HubError> {
        match self.ended {
            None => Ok(()),
            Some(Ended::Displaced) => Err(ownership_lost(partition)),
            Some(Ended::Failed) => Err(lost("the source failed before")),
            Some(Ended::HubDeleted) => Err(HubError::Refused {
                condition: "amqp:resource-deleted".to_owned(),
                detail: "the hub was deleted".to_owned(),
            }),
        }
    }
}

fn lost(detail: &str) -> HubError {
    HubError::ConnectionLost {
        detail: detail.to_owned(),
    }
}

fn ownership_lost(partition: PartitionId) -> HubError {
    HubError::OwnershipLost {
        partition,
        detail: "a reader with the same or a higher owner level is open".to_owned(),
    }
}

fn index(partition: PartitionId) -> usize {
    partition.number() as usize
}
