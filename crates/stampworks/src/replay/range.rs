//! A hub that ends: the real one, cut to a range of each partition.
//!
//! The consumer reads it like any other hub and knows nothing of the range.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stamp_eventhubs::{
    EventHub, HubError, HubProperties, PartitionProperties, PartitionSource, StartPosition,
};
use stamp_model::{BatchLimits, EventBatch, PartitionId};
use tokio::time::timeout;

/// Sequence numbers from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// The last event of each partition that lies in its range, once it is known.
type Ends = Arc<Mutex<BTreeMap<PartitionId, i64>>>;

/// A hub of which only ranges are seen.
#[derive(Clone)]
pub(super) struct RangeHub<H> {
    hub: H,
    ranges: Arc<BTreeMap<PartitionId, Range>>,
    ends: Ends,
}

impl<H> RangeHub<H> {
    pub(super) fn new(hub: H, ranges: BTreeMap<PartitionId, Range>) -> Self {
        Self {
            hub,
            ranges: Arc::new(ranges),
            ends: Ends::default(),
        }
    }

    /// Whether a reader that has taken everything up to `read` of a partition has taken all.
    pub(super) fn is_read(&self, partition: PartitionId, read: i64) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.get(&partition).copied();
        let range = self.ranges.get(&partition);
        range.is_none_or(|range| read >= end.unwrap_or(range.last))
    }

    fn range(&self, partition: PartitionId) -> Range {
        // A partition without a range is not among those that this hub names.
        let none = Range { first: 0, last: -1 };
        self.ranges.get(&partition).copied().unwrap_or(none)
    }
}

impl<H: EventHub> EventHub for RangeHub<H> {
    type Source = RangeSource<H::Source>;

    async fn properties(&self) -> Result<HubProperties, HubError> {
        let mut properties = self.hub.properties().await?;
        properties
            .partitions
            .retain(|partition| self.ranges.contains_key(partition));
        Ok(properties)
    }

    async fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        let range = self.range(partition);
        let reach = self.hub.partition_properties(partition).await?;
        let begin_sequence = reach.begin_sequence.max(range.first);
        let last_sequence = reach.last_sequence.min(range.last);
        Ok(PartitionProperties {
            begin_sequence,
            last_sequence,
            is_empty: last_sequence < begin_sequence,
            ..reach
        })
    }

    async fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<Self::Source, HubError> {
        let range = self.range(partition);
        let after = match start {
            StartPosition::Earliest => range.first - 1,
            StartPosition::AfterSequence(sequence) => sequence.max(range.first - 1),
            StartPosition::Latest => range.last,
            start @ StartPosition::EnqueuedAt(_) => {
                let source = self.hub.open(partition, start, owner_level).await?;
                return Ok(self.cut(source, partition, range, range.first - 1));
            }
        };
        let start = StartPosition::AfterSequence(after);
        let source = self.hub.open(partition, start, owner_level).await?;
        Ok(self.cut(source, partition, range, after))
    }
}

impl<H: EventHub> RangeHub<H> {
    fn cut(
        &self,
        source: H::Source,
        partition: PartitionId,
        range: Range,
        given: i64,
    ) -> RangeSource<H::Source> {
        RangeSource {
            source,
            partition,
            range,
            given,
            ended: given >= range.last,
            ends: self.ends.clone(),
        }
    }
}

/// An open partition that brings nothing after the end of its range.
pub(super) struct RangeSource<S> {
    source: S,
    partition: PartitionId,
    range: Range,
    /// The last event that was given out.
    given: i64,
    ended: bool,
    ends: Ends,
}

impl<S: PartitionSource> PartitionSource for RangeSource<S> {
    async fn next_batch(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        if self.ended {
            // No event will come, so this is the whole wait for the first one.
            let _elapsed = timeout(limits.wait_max, std::future::pending::<()>()).await;
            return Ok(EventBatch::default());
        }
        let mut batch = self.source.next_batch(limits).await?;
        let reached = batch
            .events
            .last()
            .is_some_and(|event| event.sequence >= self.range.last);
        let range = self.range;
        batch
            .events
            .retain(|event| (range.first..=range.last).contains(&event.sequence));
        if let Some(event) = batch.events.last() {
            self.given = self.given.max(event.sequence);
        }
        if reached {
            self.ended = true;
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            ends.insert(self.partition, self.given);
        }
        Ok(batch)
    }

    async fn close(self) {
        self.source.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use stamp_eventhubs::memory::MemoryHub;
    use stamp_model::{Event, HubIdentity};

    const LIMITS: BatchLimits = BatchLimits {
        events_max: 4,
        bytes_max: 1 << 20,
        wait_max: Duration::from_secs(1),
    };

    fn hub(events: u32) -> (MemoryHub, PartitionId) {
        let identity = HubIdentity {
            namespace: "n".into(),
            hub: "h".into(),
            created_at_ms: 1,
        };
        let (hub, partition) = (MemoryHub::new(identity, 2), PartitionId::new(1).unwrap());
        for _ in 0..events {
            hub.append(partition, Event::default());
        }
        (hub, partition)
    }

    async fn read(
        hub: &RangeHub<MemoryHub>,
        partition: PartitionId,
        start: StartPosition,
    ) -> Vec<i64> {
        let mut source = hub.open(partition, start, None).await.unwrap();
        let mut read = Vec::new();
        loop {
            let batch = source.next_batch(LIMITS).await.unwrap();
            if batch.events.is_empty() {
                return read;
            }
            read.extend(batch.events.iter().map(|event| event.sequence));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_outside_the_range_is_seen() {
        let (memory, partition) = hub(20);
        let ranges = BTreeMap::from([(partition, Range { first: 5, last: 12 })]);
        let hub = RangeHub::new(memory, ranges);

        assert_eq!(hub.properties().await.unwrap().partitions, [partition]);
        let reach = hub.partition_properties(partition).await.unwrap();
        assert_eq!((reach.begin_sequence, reach.last_sequence), (5, 12));
        let all: Vec<i64> = (5..=12).collect();
        assert_eq!(read(&hub, partition, StartPosition::Earliest).await, all);
        assert_eq!(
            read(&hub, partition, StartPosition::AfterSequence(1)).await,
            all
        );
        assert_eq!(
            read(&hub, partition, StartPosition::AfterSequence(10)).await,
            [11, 12]
        );
        assert!(!hub.is_read(partition, 11) && hub.is_read(partition, 12));
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_that_ends_in_a_hole_ends_with_the_event_before_it() {
        let (memory, partition) = hub(10);
        memory.skip(partition, 5);
        memory.append(partition, Event::default());
        let ranges = BTreeMap::from([(partition, Range { first: 8, last: 12 })]);
        let hub = RangeHub::new(memory, ranges);

        assert_eq!(read(&hub, partition, StartPosition::Earliest).await, [8, 9]);
        assert!(hub.is_read(partition, 9));
    }
}
