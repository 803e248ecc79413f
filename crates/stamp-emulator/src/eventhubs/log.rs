//! One partition's events, in order, each stored as the encoded message that receivers get.
//!
//! Events lie one after the other in segments, so that appending allocates nothing most of the time
//! and sending copies from consecutive memory. A full segment never changes again and is shared with
//! who sends it, so that nobody holds the log while it copies. Never does I/O; the time is given.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::Retention;
use super::filter::{Bound, Position};

/// A segment is closed when it holds this much. Large enough that a segment's own cost vanishes,
/// small enough that what retention keeps too long (up to one segment) does not matter.
const SEGMENT_BYTES: usize = 256 * 1024;

/// Where and when an event was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its sequence number in the partition.
    pub sequence: i64,
    /// Its offset, an opaque text: here the count of encoded bytes before it.
    pub offset: String,
    /// When it was stored, microseconds since 1970. Whole milliseconds, as on the wire.
    pub enqueued_at_us: i64,
}

/// The position an event is about to get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) sequence: i64,
    pub(crate) offset: u64,
    pub(crate) enqueued_ms: i64,
}

impl Place {
    pub(crate) fn published(self) -> Published {
        Published {
            sequence: self.sequence,
            offset: self.offset.to_string(),
            enqueued_at_us: self.enqueued_ms.saturating_mul(1_000),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    enqueued_ms: i64,
}

/// Consecutive events.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    first: i64,
    base_offset: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Segment {
    /// Sequence number after the last event.
    pub(crate) fn end(&self) -> i64 {
        self.first + as_i64(self.entries.len())
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= SEGMENT_BYTES
    }

    /// Encoded events from `sequence` on, with their sequence numbers.
    pub(crate) fn read(&self, sequence: i64) -> impl Iterator<Item = (i64, &[u8])> {
        let skip = usize::try_from(sequence - self.first).unwrap_or(0);
        (skip..self.entries.len()).filter_map(move |index| {
            let range = self.range(index)?;
            Some((self.first + as_i64(index), &self.bytes[range]))
        })
    }

    fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let start = self.entries.get(index)?.start;
        let end = self
            .entries
            .get(index + 1)
            .map_or(self.bytes.len(), |e| e.start);
        Some(start..end)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    retention: Retention,
    segments: VecDeque<Arc<Segment>>,
    /// Sequence number of the earliest event that is still there; `next` when none is.
    begin: i64,
    next: i64,
    next_offset: u64,
    /// Encoded bytes from `begin` to the end.
    bytes: u64,
    last: Option<Place>,
}

/// A position past the end of the log: the service refuses it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The supplied {what} '{given}' is invalid. The last {what} in the system is '{last}'")]
pub(crate) struct BeyondEnd {
    what: &'static str,
    given: i64,
    last: i64,
}

impl Log {
    pub(crate) fn new(retention: Retention) -> Self {
        Self {
            retention,
            segments: VecDeque::new(),
            begin: 0,
            next: 0,
            next_offset: 0,
            bytes: 0,
            last: None,
        }
    }

    /// Sequence number of the earliest event that is still there.
    pub(crate) fn begin(&self) -> i64 {
        self.begin
    }

    /// Sequence number the next event gets.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Where the latest event went, also when retention took it since.
    pub(crate) fn last(&self) -> Option<Place> {
        self.last
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.next
    }

    /// Appends the event that `encode` writes. Enqueued times never run backwards, whatever the
    /// clock does: positions by time need that.
    pub(crate) fn append(
        &mut self,
        now_us: i64,
        encode: impl FnOnce(&mut Vec<u8>, Place),
    ) -> Place {
        let latest = self.last.map_or(i64::MIN, |last| last.enqueued_ms);
        let place = Place {
            sequence: self.next,
            offset: self.next_offset,
            enqueued_ms: now_us.div_euclid(1_000).max(latest),
        };
        let segment = self.open_segment();
        let start = segment.bytes.len();
        segment.entries.push(Entry {
            start,
            enqueued_ms: place.enqueued_ms,
        });
        encode(&mut segment.bytes, place);
        let size = (segment.bytes.len() - start) as u64;
        self.next += 1;
        self.next_offset += size;
        self.bytes += size;
        self.last = Some(place);
        self.expire(now_us);
        place
    }

    fn open_segment(&mut self) -> &mut Segment {
        if self.segments.back().is_none_or(|s| s.is_full()) {
            let capacity = if self.segments.is_empty() {
                0
            } else {
                SEGMENT_BYTES + 4_096
            };
            self.segments.push_back(Arc::new(Segment {
                first: self.next,
                base_offset: self.next_offset,
                bytes: Vec::with_capacity(capacity),
                entries: Vec::new(),
            }));
        }
        let last = self.segments.len() - 1;
        // Only full segments are shared: this one is nobody else's, and nothing is copied.
        Arc::make_mut(&mut self.segments[last])
    }

    /// Forgets what retention no longer covers.
    pub(crate) fn expire(&mut self, now_us: i64) {
        let oldest_ms = i64::try_from(self.retention.age_max.as_millis())
            .ok()
            .and_then(|age| now_us.div_euclid(1_000).checked_sub(age))
            .unwrap_or(i64::MIN);
        let events_max = i64::try_from(self.retention.events_max).unwrap_or(i64::MAX);
        while let Some((entry, size)) = self.front() {
            let over = self.next - self.begin > events_max
                || self.bytes > self.retention.bytes_max
                || entry.enqueued_ms < oldest_ms;
            if !over {
                break;
            }
            self.pop_front(size);
        }
    }

    /// Forgets every event before `sequence`, as if retention had taken them.
    pub(crate) fn expire_before(&mut self, sequence: i64) {
        while self.begin < sequence {
            let Some((_, size)) = self.front() else { break };
            self.pop_front(size);
        }
    }

    fn front(&self) -> Option<(Entry, u64)> {
        let segment = self.segments.front()?;
        let index = usize::try_from(self.begin - segment.first).ok()?;
        let range = segment.range(index)?;
        Some((segment.entries[index], (range.end - range.start) as u64))
    }

    fn pop_front(&mut self, size: u64) {
        self.begin += 1;
        self.bytes -= size;
        if self.segments.front().is_some_and(|s| s.end() <= self.begin) {
            self.segments.pop_front();
        }
    }

    /// The sequence number a receiver starts at.
    ///
    /// # Errors
    /// [`BeyondEnd`] when the position is past the latest event: the service refuses that, which is
    /// how a consumer notices that a hub was made anew. A position that retention took is no error:
    /// reading begins at the earliest event that is left.
    pub(crate) fn start(&self, position: Position) -> Result<i64, BeyondEnd> {
        let start = match position {
            Position::Earliest => self.begin,
            Position::Latest => self.next,
            Position::Sequence(bound) => {
                let last = self.next - 1;
                if bound.value > last {
                    return Err(BeyondEnd {
                        what: "sequence number",
                        given: bound.value,
                        last,
                    });
                }
                bound.value.saturating_add(i64::from(!bound.inclusive))
            }
            Position::Offset(bound) => self.start_at_offset(bound)?,
            Position::EnqueuedMs(bound) => self.search(|_, entry| !after(entry.enqueued_ms, bound)),
        };
        Ok(start.clamp(self.begin, self.next))
    }

    fn start_at_offset(&self, bound: Bound) -> Result<i64, BeyondEnd> {
        let last = self.last.map_or(-1, |last| as_i64(last.offset));
        if bound.value > last {
            return Err(BeyondEnd {
                what: "offset",
                given: bound.value,
                last,
            });
        }
        Ok(self.search(|segment, entry| {
            let offset = segment.base_offset + entry.start as u64;
            !after(as_i64(offset), bound)
        }))
    }

    /// Sequence number of the first stored event for which `before` is false.
    fn search(&self, before: impl Fn(&Segment, &Entry) -> bool) -> i64 {
        let at = self
            .segments
            .partition_point(|s| s.entries.last().is_some_and(|e| before(s, e)));
        self.segments.get(at).map_or(self.next, |segment| {
            segment.first + as_i64(segment.entries.partition_point(|e| before(segment, e)))
        })
    }

    /// The segment of the event `sequence`, if that is there and in a segment that is full.
    pub(crate) fn sealed(&self, sequence: i64) -> Option<Arc<Segment>> {
        let segment = self.segments.get(self.segment_of(sequence))?;
        (segment.is_full() && segment.first <= sequence).then(|| Arc::clone(segment))
    }

    /// Encoded events from `sequence` on (from the earliest, if that one is gone), with their
    /// sequence numbers.
    pub(crate) fn read(&self, sequence: i64) -> impl Iterator<Item = (i64, &[u8])> {
        let sequence = sequence.max(self.begin);
        let segments = self.segments.range(self.segment_of(sequence)..);
        segments.flat_map(move |segment| segment.read(sequence))
    }

    /// Index of the segment that holds `sequence` or, when it is gone, the first later one.
    fn segment_of(&self, sequence: i64) -> usize {
        self.segments.partition_point(|s| s.end() <= sequence)
    }
}

fn after(value: i64, bound: Bound) -> bool {
    value > bound.value || (bound.inclusive && value == bound.value)
}

/// Counts in a log stay far below the limit of `i64`.
fn as_i64<T: TryInto<i64>>(n: T) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
