//! Rows of one partition that wait for their flush, tenant by tenant.
//!
//! A [`Lane`] is one tenant's (or the stamp's own) queue in one partition: at most one buffer that
//! grows and one that is on its way to the tables. Until it is known what the tables have, events
//! are held as they came. Nothing here does I/O.

use std::sync::Arc;

use stamp_model::{AppId, Event, GapRow, PartitionId, RawRow, Readings, START, Shape, Text};
use stamp_telemetry::{LINKS_MAX, TraceContext};
use tokio::time::Instant;

use crate::memory::{Charge, MemoryAccount};
use crate::muster::{Coming, Seat, TABLES};

/// The position of an event, for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Sequence number, [`stamp_model::START`] before the first event.
    pub sequence: i64,
    /// The broker's offset of that event.
    pub offset: Text,
    /// The hub's enqueued time of that event in microseconds; `None` before one was read.
    pub enqueued_at_us: Option<i64>,
}

impl Position {
    /// A copy for keeping: the offset of an event shares the buffer that it was received in.
    pub(crate) fn unshared(&self) -> Self {
        Self {
            offset: Text::from(&*self.offset),
            ..*self
        }
    }
}

/// Rows between two positions of a partition.
#[derive(Debug)]
pub(crate) struct Rows {
    /// A tenant's readings; `None` in the stamp's own lane.
    pub readings: Option<Readings>,
    /// A tenant's rejected events, or the stamp's quarantined ones.
    pub raw: Vec<RawRow>,
    /// Gaps, in the stamp's own lane.
    pub gaps: Vec<GapRow>,
    raw_bytes: usize,
}

impl Rows {
    /// No rows; with a `shape` for a tenant's lane.
    #[must_use]
    pub(crate) fn new(shape: Option<&Shape>, partition: PartitionId) -> Self {
        let readings = shape.map(|shape| Readings::new(shape, partition));
        Self {
            readings,
            raw: Vec::new(),
            gaps: Vec::new(),
            raw_bytes: 0,
        }
    }

    /// Adds an event that is kept as it came.
    pub(crate) fn push_raw(&mut self, row: RawRow) {
        self.raw_bytes += row.size();
        self.raw.push(row);
    }

    /// Which tables they go to, in the order of [`crate::muster`]. Rollups go with readings.
    fn tables(&self) -> [bool; TABLES] {
        let has_readings = self.readings.as_ref().is_some_and(|rows| !rows.is_empty());
        let second = has_readings || !self.gaps.is_empty();
        [!self.raw.is_empty(), second, has_readings]
    }

    /// Rows of every kind.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.readings.as_ref().map_or(0, Readings::len) + self.raw.len() + self.gaps.len()
    }

    /// Bytes held, about.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.readings.as_ref().map_or(0, Readings::heap_bytes)
            + self.raw_bytes
            + self.gaps.len() * size_of::<GapRow>()
    }
}

/// The buffer that grows.
#[derive(Debug)]
pub(crate) struct Active {
    /// The event before the first one in here: how far a checkpoint may go while this waits.
    pub before: Position,
    /// Sequence number of the last event in here.
    pub last: i64,
    /// When the first row came.
    pub since: Instant,
    /// The rows.
    pub rows: Rows,
    /// Traces that messages in here belong to: the first [`LINKS_MAX`] different ones, and none when
    /// no spans are made.
    pub messages: Vec<TraceContext>,
    /// Beside the buffers of the other partitions.
    pub seat: Seat,
    charge: Charge,
}

impl Active {
    /// Notes the trace of an event, when it has one.
    pub(crate) fn trace(&mut self, event: &Event) {
        if self.messages.len() < LINKS_MAX
            && let Some(context) = trace_of(event)
            && !self.messages.contains(&context)
        {
            self.messages.push(context);
        }
    }

    /// Notes an event, which may be older than others in here when it was held.
    pub(crate) fn cover(&mut self, before: &Position, sequence: i64) {
        self.last = self.last.max(sequence);
        if before.sequence < self.before.sequence {
            self.before = before.unshared();
        }
    }

    /// Corrects the memory account to what the rows hold.
    pub(crate) fn recharge(&mut self) {
        let bytes = self.rows.bytes();
        self.charge.set(bytes);
        self.seat.set_bytes(bytes);
    }
}

/// Rows that will not change any more, on their way to the tables.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Whose marks the rows are filtered by.
    pub app: AppId,
    /// How far a checkpoint may go until these are committed.
    pub before: Position,
    /// Sequence number of the last event, the mark they commit under.
    pub last: i64,
    /// When the first row came.
    pub since: Instant,
    /// The rows.
    pub rows: Rows,
    /// Traces that some of the messages belong to.
    pub messages: Vec<TraceContext>,
    charge: Charge,
}

impl Sealed {
    /// Bytes charged, which are freed once these are committed.
    pub(crate) fn bytes(&self) -> usize {
        self.charge.bytes()
    }
}

/// A flush under way, or one that was given up and waits for its next turn.
#[derive(Debug)]
pub(crate) struct Flying {
    /// What is being written.
    pub sealed: Arc<Sealed>,
    /// When it was sealed.
    pub since: Instant,
    /// How often it was given up.
    pub given_up: u32,
}

/// Events of a tenant whose tables have not been asked yet.
#[derive(Debug)]
pub(crate) struct Held {
    /// The event before the first one in here.
    pub before: Position,
    /// In the order they came.
    pub events: Vec<Event>,
    since: Instant,
    charge: Charge,
}

/// It is being found out what a tenant's tables have of the partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovering {
    /// Since when.
    pub since: Instant,
    /// How often it was given up.
    pub given_up: u32,
}

/// One tenant's queue in one partition.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Grows.
    pub active: Option<Active>,
    /// Is being written.
    pub flying: Option<Flying>,
    /// Until the tenant's tables have been asked; then nothing is decoded or flushed.
    pub recovering: Option<Recovering>,
    /// What came meanwhile.
    pub held: Option<Held>,
    /// The mark of the tenant's readings at the start: what is at or below it can no longer become
    /// a reading.
    pub behind: i64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            active: None,
            flying: None,
            recovering: None,
            held: None,
            behind: START,
        }
    }
}

impl Lane {
    /// Keeps an event as it came, until the tables have been asked.
    pub(crate) fn hold(
        &mut self,
        account: &MemoryAccount,
        before: &Position,
        now: Instant,
        event: &Event,
    ) {
        let held = self.held.get_or_insert_with(|| Held {
            before: before.unshared(),
            events: Vec::new(),
            since: now,
            charge: Charge::none(account),
        });
        let event = event.unshared();
        held.charge.set(held.charge.bytes() + event.size());
        held.events.push(event);
    }

    /// Since when, and after how many failures, the lane takes rows but writes none; `None` when
    /// it is not held up or has room for another event below `bytes_max`.
    pub(crate) fn full(&self, bytes_max: usize) -> Option<(Instant, u32)> {
        if let Some(recovering) = self.recovering {
            let bytes = self.held.as_ref().map_or(0, |held| held.charge.bytes());
            return (bytes >= bytes_max).then_some((recovering.since, recovering.given_up));
        }
        let flying = self.flying.as_ref()?;
        (self.active_bytes() >= bytes_max).then_some((flying.since, flying.given_up))
    }

    /// The buffer to append to, opened with `rows` at `before` when there is none.
    pub(crate) fn open(
        &mut self,
        account: &MemoryAccount,
        before: &Position,
        now: impl FnOnce() -> Instant,
        rows: impl FnOnce() -> (Rows, Seat),
    ) -> &mut Active {
        self.active.get_or_insert_with(|| {
            let (rows, seat) = rows();
            Active {
                before: before.unshared(),
                last: before.sequence,
                since: now(),
                rows,
                messages: Vec::new(),
                seat,
                charge: Charge::none(account),
            }
        })
    }

    /// Takes the growing buffer for a flush. Only when none is flying: batches of a table never
    /// overtake each other. The second value has the other partitions' flushes wait for this one.
    pub(crate) fn seal(&mut self, app: &AppId, now: Instant) -> Option<(Arc<Sealed>, Coming)> {
        if self.flying.is_some() {
            return None;
        }
        let Active {
            before,
            last,
            since,
            mut rows,
            messages,
            seat,
            mut charge,
        } = self.active.take()?;
        // Held events came after younger ones of other lanes.
        rows.raw.sort_by_key(|row| row.sequence);
        // Encoding makes no copy of the rows, but partial rollups, which are about as large where
        // devices send several times a window, and the finished files. Rollups of devices that
        // send once a window are larger: that part, of one encoder a core, is in the constant that
        // docs/performance.md states.
        charge.set(rows.bytes() * 2);
        let sealed = Arc::new(Sealed {
            app: app.clone(),
            before,
            last,
            since,
            rows,
            messages,
            charge,
        });
        self.flying = Some(Flying {
            sealed: sealed.clone(),
            since: now,
            given_up: 0,
        });
        let coming = seat.depart(sealed.rows.tables());
        Some((sealed, coming))
    }

    /// How far a checkpoint may go as far as this lane is concerned; `None` when it holds nothing.
    #[must_use]
    pub(crate) fn before(&self) -> Option<&Position> {
        let held = self.held.as_ref().map(|held| &held.before);
        let flying = self.flying.as_ref().map(|flying| &flying.sealed.before);
        let active = self.active.as_ref().map(|active| &active.before);
        let all = [held, flying, active].into_iter().flatten();
        all.min_by_key(|position| position.sequence)
    }

    /// Bytes in the growing buffer.
    #[must_use]
    pub(crate) fn active_bytes(&self) -> usize {
        self.active
            .as_ref()
            .map_or(0, |active| active.charge.bytes())
    }

    /// Bytes in the growing buffers of all partitions; 0 when there is none here.
    pub(crate) fn bytes_together(&self) -> usize {
        let active = self.active.as_ref();
        active.map_or(0, |active| active.seat.bytes_together())
    }

    /// Since when the oldest row waits.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|held| held.since);
        let flying = self.flying.as_ref().map(|flying| flying.sealed.since);
        let active = self.active.as_ref().map(|active| active.since);
        [held, flying, active].into_iter().flatten().min()
    }
}

/// The trace of a message: W3C's `traceparent`, as clients of OpenTelemetry set it, or the
/// `Diagnostic-Id` of the Azure SDKs, which has the same form.
fn trace_of(event: &Event) -> Option<TraceContext> {
    let property = |name: &str| {
        let mut all = event.properties.iter();
        all.find(|(key, _)| &**key == name)
    };
    let (_, text) = property("traceparent").or_else(|| property("Diagnostic-Id"))?;
    TraceContext::parse(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stamp_model::{HubIdentity, StampId};

    use super::*;
    use crate::muster::Muster;

    fn at(sequence: i64) -> Position {
        Position {
            sequence,
            offset: sequence.to_string().into(),
            enqueued_at_us: None,
        }
    }

    fn app() -> AppId {
        let hub = HubIdentity {
            namespace: "n".into(),
            hub: "h".into(),
            created_at_ms: 1,
        };
        AppId::new(
            &StampId::parse("s").unwrap(),
            &hub,
            PartitionId::new(0).unwrap(),
        )
    }

    fn add(lane: &mut Lane, account: &MemoryAccount, sequence: i64) {
        let partition = PartitionId::new(0).unwrap();
        let active = lane.open(account, &at(sequence - 1), Instant::now, || {
            let seat = Muster::new(Duration::ZERO).seat();
            (Rows::new(None, partition), seat)
        });
        active.rows.gaps.push(GapRow {
            partition,
            sequence_first: sequence,
            sequence_last: sequence,
            next_enqueued_at_us: 0,
            reason: "retention",
        });
        active.last = sequence;
        active.recharge();
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_waits_for_the_oldest_row_of_the_lane() {
        let account = MemoryAccount::new(1 << 20);
        let mut lane = Lane::default();
        assert_eq!(lane.before(), None);

        add(&mut lane, &account, 5);
        add(&mut lane, &account, 6);
        assert_eq!(lane.before(), Some(&at(4)));

        let (sealed, _) = lane.seal(&app(), Instant::now()).unwrap();
        add(&mut lane, &account, 9);
        assert_eq!((sealed.last, lane.before()), (6, Some(&at(4))));

        lane.flying = None;
        assert_eq!(lane.before(), Some(&at(8)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_buffer_is_not_sealed_while_the_first_is_flying() {
        let account = MemoryAccount::new(1 << 20);
        let mut lane = Lane::default();
        add(&mut lane, &account, 1);
        let first = lane.seal(&app(), Instant::now());
        add(&mut lane, &account, 2);

        assert!(first.is_some() && lane.seal(&app(), Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn rows_give_their_memory_back_when_they_are_written() {
        let account = MemoryAccount::new(1 << 20);
        let mut lane = Lane::default();
        add(&mut lane, &account, 1);
        let sealed = lane.seal(&app(), Instant::now());
        assert!(account.held() > 0);

        drop(sealed);
        lane.flying = None;
        assert_eq!(account.held(), 0);
    }
}
