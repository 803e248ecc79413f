//! A tenant's mark waits for those of its events that go to quarantine, and for gaps.
//!
//! An event that found no room, or was over its tenant's quota, is in no table until quarantine has
//! it. A mark above it in the tenant's tables would say that it is there: another owner, or the next
//! start, would take it for written, and it would be lost. So a flush of the tenant waits until
//! quarantine has what was diverted before it was sealed. The same for a loss: another owner may have
//! its events in hand, drops them once a mark is above them, and moves the checkpoint on. Then nobody
//! would know of them but the row of `gaps`, so that must be there first.

use std::collections::BTreeMap;

use stamp_eventhubs::EventHub;
use tokio::time::{Instant, timeout_at};

use super::{Done, LaneId, PartitionWorker};
use crate::buffer::Lane;
use crate::directory::TenantIndex;

/// Events of tenants that went to quarantine instead of to their tables.
#[derive(Debug, Default)]
pub(super) struct Diverted {
    /// The first and the last one of each tenant that may not be in quarantine yet.
    range: BTreeMap<TenantIndex, (i64, i64)>,
    /// Sealed batches, and how far quarantine must be before they are written.
    waiting: BTreeMap<TenantIndex, i64>,
}

impl<H: EventHub> PartitionWorker<H> {
    /// Takes note of an event that goes to quarantine.
    pub(super) fn divert(&mut self, tenant: TenantIndex, sequence: i64) {
        let range = self.diverted.range.entry(tenant);
        let range = range.or_insert((sequence, sequence));
        *range = (sequence.min(range.0), sequence.max(range.1));
    }

    /// Takes note of a loss, which may have been of any tenant's events.
    pub(super) fn divert_all(&mut self, first: i64, last: i64) {
        for tenant in 0..self.shared.tenants.len() {
            self.divert(tenant, first);
            self.divert(tenant, last);
        }
    }

    /// Whether events of a tenant are on their way to quarantine and may not be there yet.
    pub(super) fn has_overflow(&self) -> bool {
        let mut ranges = self.diverted.range.values();
        ranges.any(|&(_, last)| !self.quarantine_has(last))
    }

    /// Leaves what is not committed to the next owner, who reads it again. Events that this one had
    /// no room for would come into quarantine beside the rows that the next one makes of them.
    pub(super) async fn leave(&mut self) {
        tracing::warn!(partition = %self.partition, "the partition is another owner's, what overflowed here is left to it");
        let deadline = Instant::now() + self.shared.config.drain_max;
        self.recoveries.cancel();
        self.abandon_overflow.cancel();
        // Flushes under way are ended as they are: readings that are in need their rollups, and the
        // next owner may have looked already.
        while let Ok(Some(joined)) = timeout_at(deadline, self.tasks.join_next()).await {
            if let Ok(done @ Done::Flush(_, Ok(_))) = joined {
                self.landed(done);
            }
        }
        self.abandon.cancel();
        self.tasks.shutdown().await;
        self.reported_at = None;
        self.report();
    }

    /// Whether a batch up to `sealed_last` that was just sealed must wait. Then the stamp's lane is
    /// sealed too, so that it does not wait for long.
    pub(super) fn must_wait(&mut self, id: LaneId, sealed_last: i64) -> bool {
        let LaneId::Tenant(tenant) = id else {
            return false;
        };
        let Some(&(first, last)) = self.diverted.range.get(&tenant) else {
            return false;
        };
        if self.quarantine_has(last) {
            self.diverted.range.remove(&tenant);
            return false;
        }
        let up_to = last.min(sealed_last);
        if up_to < first || self.quarantine_has(up_to) {
            return false;
        }
        self.diverted.waiting.insert(tenant, up_to);
        self.seal(LaneId::Stamp);
        true
    }

    /// Starts the flushes that have waited for long enough.
    pub(super) fn flush_waiting(&mut self) {
        let waiting: Vec<(TenantIndex, i64)> = self
            .diverted
            .waiting
            .iter()
            .map(|(&tenant, &last)| (tenant, last))
            .collect();
        for (tenant, last) in waiting {
            if !self.quarantine_has(last) {
                // One buffer of it flies at a time: the next one may hold what is waited for.
                self.seal(LaneId::Stamp);
                continue;
            }
            self.diverted.waiting.remove(&tenant);
            let id = LaneId::Tenant(tenant);
            let flying = self.lanes.get(id).and_then(|lane| lane.flying.as_ref());
            if let Some(sealed) = flying.map(|flying| flying.sealed.clone()) {
                self.spawn_flush(id, sealed, None);
            }
        }
    }

    /// Whether everything for quarantine up to a sequence number is there.
    fn quarantine_has(&self, up_to: i64) -> bool {
        let stamp = self.lanes.get(LaneId::Stamp).and_then(Lane::before);
        stamp.is_none_or(|before| before.sequence >= up_to)
    }
}
