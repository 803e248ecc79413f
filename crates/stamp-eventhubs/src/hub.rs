//! The contract of a hub and of an open partition, whatever is behind it.

use std::future::Future;

use stamp_model::{BatchLimits, EventBatch, HubIdentity, PartitionId, Text};

use crate::HubError;

/// What the hub says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubProperties {
    /// Names the hub, and tells it apart from an earlier hub of the same name.
    pub identity: HubIdentity,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionId>,
}

/// What the hub says about one partition. A snapshot: it is old when it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProperties {
    /// Sequence number of the oldest event the hub still has. In a partition that never had one
    /// it is 0, and when all are gone it is the number after the last.
    pub begin_sequence: i64,
    /// Sequence number of the newest event, -1 before the first.
    pub last_sequence: i64,
    /// The broker's offset of the newest event, `-1` before the first.
    pub last_offset: Text,
    /// When the newest event was enqueued, microseconds since 1970 UTC by the hub's clock.
    pub last_enqueued_at_us: i64,
    /// Whether the partition holds no event now.
    pub is_empty: bool,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// At the oldest event the hub still has.
    Earliest,
    /// After the newest event: only what is enqueued from now on.
    Latest,
    /// At the first event whose sequence number is greater. When that one is gone the hub starts
    /// at the oldest it has, without a word: the caller sees the gap in the first sequence number.
    /// A number after the newest event is refused with [`HubError::BeyondEnd`]; -1 is
    /// [`StartPosition::Earliest`].
    AfterSequence(i64),
    /// At the first event enqueued at this time or later, microseconds since 1970 UTC. Event Hubs
    /// keeps milliseconds; the time is rounded down, so nothing is left out.
    EnqueuedAt(i64),
}

/// One hub of one namespace. Every call is one attempt.
pub trait EventHub: Clone + Send + Sync + 'static {
    /// An open partition of this hub.
    type Source: PartitionSource;

    /// Asks who the hub is and which partitions it has.
    ///
    /// Cancel safe: nothing changes in the hub.
    ///
    /// # Errors
    /// Any [`HubError`] but [`HubError::OwnershipLost`] and [`HubError::QuotaReaders`].
    fn properties(&self) -> impl Future<Output = Result<HubProperties, HubError>> + Send;

    /// Asks how far a partition reaches. Event Hubs allows 50 such calls a second for a whole
    /// namespace.
    ///
    /// Cancel safe: nothing changes in the hub.
    ///
    /// # Errors
    /// As [`EventHub::properties`]; [`HubError::NotFound`] names an unknown partition.
    fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> impl Future<Output = Result<PartitionProperties, HubError>> + Send;

    /// Opens a partition for reading.
    ///
    /// With an `owner_level` (0 or more) the reader is the only one of its consumer group: it
    /// displaces readers of the same or a lower level and those without one. Without a level up to
    /// five may read.
    ///
    /// Cancel safe: a dropped call leaves at most a link that the hub closes by itself.
    ///
    /// # Errors
    /// Any [`HubError`]. [`HubError::OwnershipLost`]: a reader of a higher level is there. A hub
    /// may accept first and report that by the first [`PartitionSource::next_batch`].
    fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> impl Future<Output = Result<Self::Source, HubError>> + Send;
}

/// An open partition, pulled by its only owner. After an error it is of no more use: close it or
/// drop it, and open another one.
pub trait PartitionSource: Send + 'static {
    /// Pulls the next events, in order, up to `limits`.
    ///
    /// Waits at most `limits.wait_max` for the first event and then brings an empty batch. Once one
    /// has arrived nothing more is waited for: the batch holds what is there. Sequence numbers
    /// ascend inside a batch; where the hub delivers an older event again, a new batch begins. What
    /// was delivered before is passed on as it comes.
    ///
    /// Cancel safe: when the future is dropped, events that it took stay in the source and are the
    /// first of the next call. The same holds for an error: events that arrived before it are given
    /// out first, and the error follows. What comes has no hole: an event that did not arrive is
    /// still in the hub, after the last one that did.
    ///
    /// # Errors
    /// Any [`HubError`]. Say [`HubError::OwnershipLost`] and stop; others may be worth a new
    /// [`EventHub::open`].
    fn next_batch(
        &mut self,
        limits: BatchLimits,
    ) -> impl Future<Output = Result<EventBatch, HubError>> + Send;

    /// Lets the hub know that reading ends. Events that were received and not pulled are still in
    /// the hub. A source that is dropped instead is closed without the goodbye.
    fn close(self) -> impl Future<Output = ()> + Send;
}
