//! One Event Hub: its partitions, who reads them, and what a program may do with it in process.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::config::{Clock, HubConfig};
use super::counters::{CounterCells, Counters};
use super::error::EmulatorError;
use super::faults::Faults;
use super::key;
use super::log::{Log, Published};
use super::message::{OutgoingEvent, Sections};
use super::readers::{self, Registered};
use super::signal::Signal;
use crate::amqp::performative::AmqpError;

/// A handle on one Event Hub of a running emulator. Clones mean the same hub.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<HubShared>,
}

pub(crate) struct HubShared {
    config: HubConfig,
    /// Lower case.
    key: String,
    /// Lower case, `$default` included.
    groups: Vec<String>,
    clock: Clock,
    created_at_ms: AtomicI64,
    /// Grows when the hub is made anew; senders of an older one are detached.
    generation: AtomicU64,
    partitions: Vec<Mutex<Partition>>,
    next_partition: AtomicU32,
    connections: Mutex<Vec<Weak<Signal>>>,
    message_bytes_max: usize,
    pub(crate) faults: Faults,
    pub(crate) counters: CounterCells,
}

impl std::fmt::Debug for HubShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubShared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One partition: its events and its readers, under one lock.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: Log,
    pub(crate) readers: Vec<Registered>,
}

impl Partition {
    /// Wakes the readers that had read everything.
    fn wake(&mut self) {
        for reader in self.readers.iter_mut().filter(|reader| reader.idle) {
            reader.idle = false;
            reader.control.signal.wake();
        }
    }
}

impl Hub {
    pub(crate) fn new(shared: Arc<HubShared>) -> Self {
        Self { shared }
    }

    /// The hub's name as configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// When the hub was made, milliseconds since 1970. Changes with [`Hub::recreate`].
    #[must_use]
    pub fn created_at_ms(&self) -> i64 {
        self.shared.created_at_ms.load(Ordering::Acquire)
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.shared.config.partitions
    }

    /// Stores an event in a partition, in IoT Hub's place. Never waits for a client.
    ///
    /// # Errors
    /// [`EmulatorError::UnknownPartition`] and [`EmulatorError::MessageTooLarge`]; nothing was stored.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an event is published once; the call says so"
    )]
    pub fn publish(
        &self,
        partition: u32,
        message: OutgoingEvent,
    ) -> Result<Published, EmulatorError> {
        let shared = &self.shared;
        let (bytes, bytes_max) = (message.size(), shared.message_bytes_max);
        if bytes > bytes_max {
            return Err(EmulatorError::MessageTooLarge { bytes, bytes_max });
        }
        let now_us = (shared.clock)();
        let mut state = self.partition(partition)?;
        let place = state
            .log
            .append(now_us, |out, place| message.store(out, place));
        state.wake();
        shared.counters.events_published.add(1);
        Ok(place.published())
    }

    /// Stores an event in the partition its key belongs to, with the key as its partition key.
    ///
    /// # Errors
    /// [`EmulatorError::MessageTooLarge`]; nothing was stored.
    pub fn publish_keyed(
        &self,
        key: &str,
        mut message: OutgoingEvent,
    ) -> Result<Published, EmulatorError> {
        message.partition_key = Some(key.into());
        self.publish(key::partition_of(key, self.partitions()), message)
    }

    /// The partition a key belongs to.
    #[must_use]
    pub fn partition_of(&self, key: &str) -> u32 {
        key::partition_of(key, self.partitions())
    }

    /// Sequence number of the latest event of a partition; -1 when it never had one or does not
    /// exist.
    #[must_use]
    pub fn last_sequence(&self, partition: u32) -> i64 {
        self.partition(partition)
            .map_or(-1, |state| state.log.next() - 1)
    }

    /// Sequence number of the earliest event that is still there, or the next one's when none is; 0
    /// when the partition does not exist.
    #[must_use]
    pub fn first_sequence(&self, partition: u32) -> i64 {
        self.partition(partition)
            .map_or(0, |state| state.log.begin())
    }

    /// Forgets the events of a partition before `sequence`, as if retention had taken them.
    pub fn expire_before(&self, partition: u32, sequence: i64) {
        if let Ok(mut state) = self.partition(partition) {
            state.log.expire_before(sequence);
        }
    }

    /// Deletes the hub and makes it anew under its name: a later creation time, no events, sequence
    /// numbers from 0. Attached links end with `amqp:resource-deleted`.
    pub fn recreate(&self) {
        let shared = &self.shared;
        let now_ms = (shared.clock)().div_euclid(1_000);
        shared.generation.fetch_add(1, Ordering::AcqRel);
        let later = |before: i64| Some(now_ms.max(before.saturating_add(1)));
        let _ = shared
            .created_at_ms
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        for partition in &shared.partitions {
            let mut state = lock(partition);
            state.log = Log::new(shared.config.retention);
            for reader in state.readers.drain(..) {
                reader.control.end(deleted());
            }
        }
        shared.each_connection(Signal::wake);
    }

    /// The hub's fault hooks.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was seen on the wire for this hub.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.read()
    }

    fn partition(&self, partition: u32) -> Result<MutexGuard<'_, Partition>, EmulatorError> {
        self.shared
            .partition(partition)
            .ok_or_else(|| EmulatorError::UnknownPartition {
                hub: self.name().to_owned(),
                partition,
                partitions: self.partitions(),
            })
    }
}

impl HubShared {
    pub(crate) fn new(config: HubConfig, clock: Clock, message_bytes_max: usize) -> Arc<Self> {
        let mut groups: Vec<String> = config
            .consumer_groups
            .iter()
            .map(|group| group.to_lowercase())
            .collect();
        groups.push("$default".to_owned());
        let retention = config.retention;
        let partition = || {
            Mutex::new(Partition {
                log: Log::new(retention),
                readers: Vec::new(),
            })
        };
        Arc::new_cyclic(|hub| Self {
            key: config.name.to_lowercase(),
            groups,
            created_at_ms: AtomicI64::new(clock().div_euclid(1_000)),
            clock,
            generation: AtomicU64::new(0),
            partitions: (0..config.partitions).map(|_| partition()).collect(),
            next_partition: AtomicU32::new(0),
            connections: Mutex::default(),
            message_bytes_max,
            faults: Faults::new(hub.clone()),
            counters: CounterCells::default(),
            config,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn partition_count(&self) -> u32 {
        self.config.partitions
    }

    pub(crate) fn created_at_ms(&self) -> i64 {
        self.created_at_ms.load(Ordering::Acquire)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|known| known == group)
    }

    /// The state of a partition, with expired events gone.
    pub(crate) fn partition(&self, partition: u32) -> Option<MutexGuard<'_, Partition>> {
        let state = self.partitions.get(usize::try_from(partition).ok()?)?;
        let mut state = lock(state);
        state.log.expire((self.clock)());
        Some(state)
    }

    /// Reads a partition id a client wrote.
    pub(crate) fn parse_partition(&self, text: &str) -> Option<u32> {
        text.parse().ok().filter(|id| *id < self.config.partitions)
    }

    /// Stores messages a client sent, in one step: their sequence numbers are consecutive. `key` is
    /// the envelope's partition key; without one each message keeps its own.
    pub(crate) fn store(&self, partition: u32, messages: &[Sections<'_>], key: Option<&str>) {
        let now_us = (self.clock)();
        let accept = self.config.accept_iothub_annotations;
        let Some(mut state) = self.partition(partition) else {
            return;
        };
        for message in messages {
            let key = key.or_else(|| message.partition_key());
            state
                .log
                .append(now_us, |out, place| message.store(out, place, key, accept));
        }
        state.wake();
        self.counters.events_stored.add(messages.len() as u64);
    }

    /// The partition for a delivery to the hub itself: by key, else the next one round.
    pub(crate) fn choose_partition(&self, key: Option<&str>) -> u32 {
        match key {
            Some(key) => key::partition_of(key, self.config.partitions),
            None => self.next_partition.fetch_add(1, Ordering::Relaxed) % self.config.partitions,
        }
    }

    /// Remembers a connection that uses this hub.
    pub(crate) fn connect(&self, signal: &Arc<Signal>) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(signal));
        self.counters.connections_opened.add(1);
    }

    pub(crate) fn each_connection(&self, mut act: impl FnMut(&Signal)) {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for signal in connections.iter().filter_map(Weak::upgrade) {
            act(&signal);
        }
    }

    /// Ends the readers of a group; gives how many there were.
    pub(crate) fn end_readers(&self, partition: u32, group: &str, error: &AmqpError) -> usize {
        let ended = self.partition(partition).map_or(0, |mut state| {
            readers::end_all(&mut state.readers, group, error)
        });
        self.counters.receivers_displaced.add(ended as u64);
        ended
    }
}

/// What links of a hub that was made anew end with.
pub(crate) fn deleted() -> AmqpError {
    AmqpError::new("amqp:resource-deleted", "The messaging entity was deleted")
}

/// A panic while a partition was locked leaves a whole log: appending is the last thing that
/// happens to it.
fn lock(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().unwrap_or_else(PoisonError::into_inner)
}
