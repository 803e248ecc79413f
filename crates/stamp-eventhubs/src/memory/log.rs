//! One partition: its events, and the readers that may have them.

use std::collections::VecDeque;

use stamp_model::{BatchLimits, Event, PartitionId, Text};

use crate::{HubError, PartitionProperties, StartPosition};

#[derive(Debug, Default)]
pub(super) struct Log {
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
    /// Set by [`Log::rewind_readers`]: where the reader continues.
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

impl Log {
    pub(super) fn append(&mut self, mut event: Event) -> i64 {
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

    /// Takes away every event below `sequence`.
    pub(super) fn expire_before(&mut self, sequence: i64) {
        let gone = self.position(sequence);
        self.events.drain(..gone);
    }

    /// Leaves out sequence numbers.
    pub(super) fn skip(&mut self, count: u32) {
        self.next_sequence += i64::from(count);
    }

    /// Makes every reader go back.
    pub(super) fn rewind_readers(&mut self, sequence: i64) {
        for reader in &mut self.readers {
            reader.rewind_to = Some(sequence);
        }
    }

    /// Forgets everything but the readers, which are told when they read next.
    pub(super) fn delete(&mut self) {
        let mut readers = std::mem::take(&mut self.readers);
        for reader in &mut readers {
            reader.ended.get_or_insert(Ended::HubDeleted);
        }
        *self = Self {
            readers,
            ..Self::default()
        };
    }

    pub(super) fn properties(&self) -> PartitionProperties {
        let begin = self.events.front().map(|event| event.sequence);
        PartitionProperties {
            begin_sequence: begin.unwrap_or(self.next_sequence),
            last_sequence: self.last_sequence(),
            last_offset: self.last_offset.clone().unwrap_or_else(|| "-1".into()),
            last_enqueued_at_us: self.last_enqueued_at_us,
            is_empty: self.events.is_empty(),
        }
    }

    fn last_sequence(&self) -> i64 {
        self.next_sequence - 1
    }

    /// Index of the first event whose sequence number is `sequence` or more.
    fn position(&self, sequence: i64) -> usize {
        self.events
            .partition_point(|event| event.sequence < sequence)
    }

    /// The sequence number that reading starts at.
    pub(super) fn sequence_at(
        &self,
        partition: PartitionId,
        start: StartPosition,
    ) -> Result<i64, HubError> {
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
    pub(super) fn admit(
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

    /// Forgets a reader whose source is gone.
    pub(super) fn forget(&mut self, id: u64) {
        self.readers.retain(|reader| reader.id != id);
    }

    /// Ends a reader, as a lost link does.
    pub(super) fn fail(&mut self, id: u64) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.ended = Some(Ended::Failed);
        }
    }

    /// The events for a reader that would go on at `next`, without waiting.
    pub(super) fn take(
        &mut self,
        partition: PartitionId,
        id: u64,
        next: i64,
        limits: BatchLimits,
    ) -> Result<Vec<Event>, HubError> {
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else {
            return Err(lost("the hub does not know this reader"));
        };
        reader.check(partition)?;
        // Back only: a reader that is not that far yet has nothing to get again.
        let from = reader.rewind_to.take().map_or(next, |to| to.min(next));
        Ok(self.read(from, limits))
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
