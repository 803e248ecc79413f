//! Taking events: each goes to its tenant's lane, to quarantine, or nowhere because it was settled.
//!
//! This is the part of the worker that looks at events; it does no I/O.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stamp_eventhubs::EventHub;
use stamp_model::{Event, GapRow, QuarantineReason, START, Sequences};
use stamp_schema::{Decoder, RejectionCode};
use tokio::time::Instant;

use super::{LaneId, PartitionWorker, WorkerError};
use crate::buffer::{Active, Position, Rows};
use crate::config::GapPolicy;
use crate::directory::{Route, TenantIndex};
use crate::raw::{quarantined, rejected};

/// Most rows of `gaps` for one loss. Events of one tenant that are settled between those of another
/// that are not would make a row each.
const GAP_PARTS_MAX: usize = 1_000;

/// Whether a tenant's lane takes another event.
enum Room {
    Free,
    /// It is not known yet whether the tenant's tables have it; there is room to wait.
    Unknown,
    Full,
    Overflow,
}

impl<H: EventHub> PartitionWorker<H> {
    /// Takes what was pulled into the lanes; `true` when a lane has no room for the next event.
    pub(super) fn absorb(&mut self) -> Result<bool, WorkerError> {
        let mut events = std::mem::take(&mut self.carry);
        let mut taken = 0;
        // Looked at where they lie: moving events of some hundred bytes is a good part of the work.
        for event in &mut events {
            if !self.accept(event)? {
                break;
            }
            taken += 1;
        }
        events.drain(..taken);
        let blocked = !events.is_empty();
        self.carry = events;
        for lane in self.tally.touched() {
            if let Some(active) = self
                .lanes
                .get_mut(lane)
                .and_then(|lane| lane.active.as_mut())
            {
                active.recharge();
            }
        }
        Ok(blocked)
    }

    /// Adds what was counted since the last call to the metrics.
    pub(super) fn publish(&mut self) {
        let (learned, general) = std::mem::take(&mut self.decoded);
        self.shared.metrics.decoded(learned, general);
        self.tally.publish(
            &self.shared.metrics,
            self.partition,
            self.shared.directory.tenants(),
        );
    }

    /// Takes one event; `false` when its tenant has no room now. One that was taken has no offset
    /// any more: it is the worker's position.
    fn accept(&mut self, event: &mut Event) -> Result<bool, WorkerError> {
        if event.sequence <= self.position.sequence {
            self.tally.taken += 1;
            self.tally.redelivered += 1;
            return Ok(true);
        }
        if let Some(next) = self.next.filter(|&next| event.sequence > next) {
            self.gap(next, event.sequence - 1, event.enqueued_at_us)?;
        }
        if self.settled.contains(event.sequence) {
            self.tally.settled += 1;
        } else {
            match self.shared.directory.route(event) {
                Route::Tenant(tenant) => match self.room(tenant, event) {
                    Room::Free => self.place(tenant, event, None),
                    Room::Unknown => self.hold(tenant, event),
                    Room::Full => return Ok(false),
                    Room::Overflow => self.overflow(tenant, event),
                },
                Route::Quarantine {
                    reason,
                    detail,
                    tenant,
                } => {
                    self.quarantine(event, None, reason, (detail, tenant), None);
                }
            }
        }
        self.tally.taken += 1;
        self.position = Position {
            sequence: event.sequence,
            offset: std::mem::take(&mut event.offset),
            enqueued_at_us: Some(event.enqueued_at_us),
        };
        self.next = Some(event.sequence + 1);
        Ok(true)
    }

    fn room(&self, tenant: TenantIndex, event: &Event) -> Room {
        let Some(lane) = self.lanes.get(LaneId::Tenant(tenant)) else {
            return Room::Free;
        };
        let asking = lane.recovering.is_some();
        let Some((since, given_up)) = lane.full(self.shared.tenant_buffer_max) else {
            return if asking { Room::Unknown } else { Room::Free };
        };
        if !asking && self.shared.excess(tenant, event).is_some() {
            // It goes to quarantine, and a flood must not make the others wait.
            return Room::Free;
        }
        let stalled = given_up > 0 || since.elapsed() > self.shared.config.tenant_stall_max;
        // An event that an earlier run may have written to the tenant's tables must not go to
        // quarantine too: it waits until the tables have been asked.
        if stalled && (!asking || event.sequence > self.fresh_above) {
            Room::Overflow
        } else {
            Room::Full
        }
    }

    fn hold(&mut self, tenant: TenantIndex, event: &Event) {
        let lane = self.lanes.at(LaneId::Tenant(tenant));
        lane.hold(&self.shared.account, &self.position, Instant::now(), event);
        self.tally.held += 1;
    }

    /// Puts an event where it belongs now that the tenant's tables have been asked. `before`: the
    /// event that a checkpoint may go up to, when it is not the last one that was taken.
    pub(super) fn place(&mut self, tenant: TenantIndex, event: &Event, before: Option<&Position>) {
        let lane = self.lanes.get(LaneId::Tenant(tenant));
        let behind = lane.map_or(START, |lane| lane.behind);
        if self.settled.contains(event.sequence) {
            self.tally.settled += 1;
        } else if event.sequence <= behind {
            let id = self.shared.directory.tenants()[tenant].to_string();
            let detail = format!("the readings of {id} are complete up to {behind}");
            let reason = QuarantineReason::BehindMark;
            self.quarantine(event, Some(tenant), reason, (detail, Some(id)), before);
        } else if let Err(excess) = self.shared.admit(tenant, event) {
            self.tally.over_quota(tenant, excess);
            let id = self.shared.directory.tenants()[tenant].to_string();
            let detail = format!("over the quota of {} of {id}", excess.label());
            let reason = QuarantineReason::OverQuota;
            self.divert(tenant, event.sequence);
            self.quarantine(event, Some(tenant), reason, (detail, Some(id)), before);
        } else {
            self.take(tenant, event, before);
        }
    }

    fn take(&mut self, tenant: TenantIndex, event: &Event, before: Option<&Position>) {
        let shared = &self.shared;
        let schema = &shared.tenants[tenant].schema;
        let mut of_all = shared.tenants[tenant].decoder.as_ref().map(lock);
        let decoder = match &mut of_all {
            Some(of_all) => of_all,
            None => self
                .decoders
                .entry(tenant)
                .or_insert_with(|| Decoder::new(schema.clone())),
        };
        let lane = self.lanes.at(LaneId::Tenant(tenant));
        let partition = self.partition;
        let before = before.unwrap_or(&self.position);
        let active = lane.open(&shared.account, before, Instant::now, || {
            let rows = Rows::new(Some(schema.shape()), partition);
            (rows, shared.tenants[tenant].muster.seat())
        });
        active.cover(before, event.sequence);
        if shared.traces.is_on() {
            active.trace(event);
        }
        let Some(readings) = &mut active.rows.readings else {
            return;
        };
        let (from, before) = (readings.len(), decoder.stats());
        let decoded = decoder.decode(event, readings);
        let after = decoder.stats();
        self.decoded.0 += after.hits - before.hits;
        self.decoded.1 += after.fallbacks - before.fallbacks;
        match decoded {
            Ok(_rows) => {
                let late = stamp_rollup::mark_late(readings, from, &shared.windows);
                let suspect = readings.clock_suspect[from..]
                    .iter()
                    .filter(|&&s| s)
                    .count();
                self.tally.reading(tenant, late, suspect);
            }
            Err(rejection) => {
                if rejection.code == RejectionCode::DecoderPanic {
                    tracing::error!(%partition, sequence = event.sequence, detail = rejection.detail, "the decoder panicked, the event is rejected: please report it");
                }
                self.tally
                    .rejected(tenant, rejection.code, &event.hub.source);
                active.rows.push_raw(rejected(event, partition, rejection));
            }
        }
    }

    fn overflow(&mut self, tenant: TenantIndex, event: &Event) {
        let id = self.shared.directory.tenants()[tenant].to_string();
        let detail = format!("the store of {id} takes no rows and its buffer is full");
        let reason = QuarantineReason::TenantBacklog;
        self.divert(tenant, event.sequence);
        self.quarantine(event, Some(tenant), reason, (detail, Some(id)), None);
    }

    /// `about`: the detail for a person, and the tenant that is known or claimed.
    fn quarantine(
        &mut self,
        event: &Event,
        known: Option<TenantIndex>,
        reason: QuarantineReason,
        about: (String, Option<String>),
        before: Option<&Position>,
    ) {
        self.tally.quarantined(known, reason);
        let row = quarantined(event, self.partition, reason, about.0, about.1);
        let traced = self.shared.traces.is_on();
        let active = self.stamp_lane(before, event.sequence);
        if traced {
            active.trace(event);
        }
        active.rows.push_raw(row);
    }

    fn stamp_lane(&mut self, before: Option<&Position>, sequence: i64) -> &mut Active {
        let lane = self.lanes.at(LaneId::Stamp);
        let partition = self.partition;
        let before = before.unwrap_or(&self.position);
        let active = lane.open(&self.shared.account, before, Instant::now, || {
            let seat = self.shared.stamp_muster.seat();
            (Rows::new(None, partition), seat)
        });
        active.cover(before, sequence);
        active
    }

    /// Records lost sequence numbers, unless they are in the tables already. The position moves
    /// past them so that they are counted once.
    pub(super) fn gap(
        &mut self,
        first: i64,
        last: i64,
        next_enqueued_at_us: i64,
    ) -> Result<(), WorkerError> {
        let partition = self.partition;
        let lost = lost(&self.settled, first, last);
        self.lose();
        for &(first, last) in &lost {
            tracing::error!(%partition, first, last, "the hub lost events that were never read");
            self.shared
                .metrics
                .gap(partition, u64::try_from(last - first + 1).unwrap_or(0));
            self.tally.touch_stamp();
            let active = self.stamp_lane(None, last);
            active.rows.gaps.push(GapRow {
                partition,
                sequence_first: first,
                sequence_last: last,
                next_enqueued_at_us,
                reason: "retention",
            });
        }
        if let (Some(&(first, _)), Some(&(_, last))) = (lost.first(), lost.last()) {
            self.divert_all(first, last);
        }
        self.position.sequence = last;
        self.next = Some(last + 1);
        match (self.shared.config.on_gap, lost.first(), lost.last()) {
            (GapPolicy::Stop, Some(&(first, _)), Some(&(_, last))) => Err(WorkerError::Gap {
                partition,
                first,
                last,
            }),
            _ => Ok(()),
        }
    }
}

/// A decoder whose panic was caught is as good as before: what it knows is checked each time.
fn lock(decoder: &Mutex<Decoder>) -> MutexGuard<'_, Decoder> {
    decoder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts of a range that are in no table, ascending.
fn lost(settled: &Sequences, first: i64, last: i64) -> Vec<(i64, i64)> {
    // Beyond what is settled all is lost, and need not be looked at one by one.
    let known_to = settled
        .last()
        .map_or(first - 1, |known| known.clamp(first - 1, last));
    let mut parts = settled.missing(first..=known_to, GAP_PARTS_MAX);
    let looked_at = if parts.len() == GAP_PARTS_MAX {
        // The rest counts as lost, in one piece with the last part.
        parts.last().map_or(known_to, |part| part.1)
    } else {
        known_to
    };
    match parts.last_mut() {
        Some(part) if part.1 == looked_at && looked_at < last => part.1 = last,
        _ if looked_at < last => parts.push((looked_at + 1, last)),
        _ => {}
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_table_has_is_lost() {
        let settled: Sequences = [12, 13, 17].into_iter().collect();
        for (first, last, parts) in [
            (12, 13, vec![]),
            (10, 19, vec![(10, 11), (14, 16), (18, 19)]),
            (10, 15, vec![(10, 11), (14, 15)]),
            (14, 30, vec![(14, 16), (18, 30)]),
            (20, 30, vec![(20, 30)]),
            (17, 17, vec![]),
        ] {
            assert_eq!(lost(&settled, first, last), parts, "{first} to {last}");
        }
        assert_eq!(lost(&Sequences::default(), 5, 9), [(5, 9)]);
    }

    #[test]
    fn a_gap_has_a_bounded_number_of_parts_and_misses_nothing() {
        let settled: Sequences = (0..10_000).step_by(2).collect();
        let parts = lost(&settled, 0, 20_000);

        assert_eq!(parts.len(), GAP_PARTS_MAX);
        assert_eq!((parts[0], parts[1]), ((1, 1), (3, 3)));
        assert_eq!(parts.last().map(|part| part.1), Some(20_000));
    }
}
