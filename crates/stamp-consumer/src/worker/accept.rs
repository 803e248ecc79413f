//! Taking events: each goes to its tenant's lane, to quarantine, or nowhere because it was settled.
//!
//! This is the part of the worker that looks at events; it does no I/O.

use stamp_eventhubs::EventHub;
use stamp_model::{Event, GapRow, QuarantineReason};
use stamp_schema::Decoder;
use tokio::time::Instant;

use super::{LaneId, PartitionWorker, WorkerError};
use crate::buffer::{Active, Position, Rows};
use crate::config::GapPolicy;
use crate::directory::{Route, TenantIndex};
use crate::raw::{quarantined, rejected};

/// Whether a tenant's lane takes another event.
enum Room {
    Free,
    Full,
    Overflow,
}

impl<H: EventHub> PartitionWorker<H> {
    /// Takes what was pulled into the lanes; `true` when a lane has no room for the next event.
    pub(super) fn absorb(&mut self) -> Result<bool, WorkerError> {
        let mut blocked = false;
        while let Some(event) = self.carry.pop_front() {
            if let Some(event) = self.accept(event)? {
                self.carry.push_front(event);
                blocked = true;
                break;
            }
        }
        for lane in self.tally.touched() {
            if let Some(active) = self
                .lanes
                .get_mut(&lane)
                .and_then(|lane| lane.active.as_mut())
            {
                active.recharge();
            }
        }
        self.publish_decoded();
        self.tally.publish(
            &self.shared.metrics,
            self.partition,
            self.shared.directory.tenants(),
        );
        Ok(blocked)
    }

    /// Counts how the bodies were decoded since the last call.
    fn publish_decoded(&mut self) {
        let all = self.decoders.values().map(Decoder::stats);
        let now = all.fold((0, 0), |sum, stats| {
            (sum.0 + stats.hits, sum.1 + stats.fallbacks)
        });
        let before = std::mem::replace(&mut self.decoded, now);
        self.shared
            .metrics
            .decoded(now.0 - before.0, now.1 - before.1);
    }

    /// Takes one event, or gives it back when its tenant has no room now.
    fn accept(&mut self, event: Event) -> Result<Option<Event>, WorkerError> {
        if event.sequence <= self.position.sequence {
            self.tally.taken += 1;
            self.tally.redelivered += 1;
            return Ok(None);
        }
        if let Some(next) = self.next.filter(|&next| event.sequence > next) {
            self.gap(next, event.sequence - 1, event.enqueued_at_us)?;
        }
        if self.settled.remove(&event.sequence) {
            self.tally.settled += 1;
        } else {
            match self.shared.directory.route(&event) {
                Route::Tenant(tenant) => match self.room(tenant, event.sequence) {
                    Room::Free => self.take(tenant, &event),
                    Room::Full => return Ok(Some(event)),
                    Room::Overflow => self.overflow(tenant, &event),
                },
                Route::Quarantine {
                    reason,
                    detail,
                    tenant,
                } => {
                    self.quarantine(&event, None, reason, detail, tenant);
                }
            }
        }
        self.tally.taken += 1;
        self.position = Position {
            sequence: event.sequence,
            offset: event.offset,
            enqueued_at_us: Some(event.enqueued_at_us),
        };
        self.next = Some(event.sequence + 1);
        Ok(None)
    }

    fn room(&self, tenant: TenantIndex, sequence: i64) -> Room {
        let Some(lane) = self.lanes.get(&LaneId::Tenant(tenant)) else {
            return Room::Free;
        };
        let Some(flying) = &lane.flying else {
            return Room::Free;
        };
        if lane.active_bytes() < self.shared.tenant_buffer_max {
            return Room::Free;
        }
        let stalled =
            flying.given_up > 0 || flying.since.elapsed() > self.shared.config.tenant_stall_max;
        // An event that an earlier run may have written to the tenant's tables must not go to
        // quarantine too: it waits until the tables can be asked.
        let fresh =
            sequence > self.fresh_above || lane.written.is_some_and(|written| sequence > written);
        if stalled && fresh {
            Room::Overflow
        } else {
            Room::Full
        }
    }

    fn take(&mut self, tenant: TenantIndex, event: &Event) {
        let shared = &self.shared;
        let schema = &shared.tenants[tenant].schema;
        let decoder = self
            .decoders
            .entry(tenant)
            .or_insert_with(|| Decoder::new(schema.clone()));
        let lane = self.lanes.entry(LaneId::Tenant(tenant)).or_default();
        let partition = self.partition;
        let active = lane.open(&shared.account, &self.position, Instant::now(), || {
            Rows::new(Some(schema.shape()), partition)
        });
        active.last = event.sequence;
        let Some(readings) = &mut active.rows.readings else {
            return;
        };
        let from = readings.len();
        match decoder.decode(event, readings) {
            Ok(_rows) => {
                let late = stamp_rollup::mark_late(readings, from, &shared.windows);
                let suspect = readings.clock_suspect[from..]
                    .iter()
                    .filter(|&&s| s)
                    .count();
                self.tally.reading(tenant, late, suspect);
            }
            Err(rejection) => {
                self.tally
                    .rejected(tenant, rejection.code, &event.hub.source);
                active.rows.push_raw(rejected(event, partition, rejection));
            }
        }
    }

    fn overflow(&mut self, tenant: TenantIndex, event: &Event) {
        let id = self.shared.directory.tenants()[tenant].to_string();
        let detail = format!("the store of {id} takes no rows and its buffer is full");
        self.quarantine(
            event,
            Some(tenant),
            QuarantineReason::TenantBacklog,
            detail,
            Some(id),
        );
    }

    fn quarantine(
        &mut self,
        event: &Event,
        known: Option<TenantIndex>,
        reason: QuarantineReason,
        detail: String,
        tenant: Option<String>,
    ) {
        self.tally.quarantined(known, reason);
        let row = quarantined(event, self.partition, reason, detail, tenant);
        let active = self.stamp_lane();
        active.last = event.sequence;
        active.rows.push_raw(row);
    }

    fn stamp_lane(&mut self) -> &mut Active {
        let lane = self.lanes.entry(LaneId::Stamp).or_default();
        let partition = self.partition;
        lane.open(&self.shared.account, &self.position, Instant::now(), || {
            Rows::new(None, partition)
        })
    }

    /// Records lost sequence numbers. The position moves past them so that they are counted once.
    pub(super) fn gap(
        &mut self,
        first: i64,
        last: i64,
        next_enqueued_at_us: i64,
    ) -> Result<(), WorkerError> {
        let partition = self.partition;
        tracing::error!(%partition, first, last, "the hub lost events that were never read");
        self.shared
            .metrics
            .gap(partition, u64::try_from(last - first + 1).unwrap_or(0));
        self.tally.touch(LaneId::Stamp);
        let active = self.stamp_lane();
        active.last = last;
        active.rows.gaps.push(GapRow {
            partition,
            sequence_first: first,
            sequence_last: last,
            next_enqueued_at_us,
            reason: "retention",
        });
        self.position.sequence = last;
        self.next = Some(last + 1);
        match self.shared.config.on_gap {
            GapPolicy::Continue => Ok(()),
            GapPolicy::Stop => Err(WorkerError::Gap {
                partition,
                first,
                last,
            }),
        }
    }
}
