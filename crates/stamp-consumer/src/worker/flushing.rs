//! When a lane is flushed, and with whom.
//!
//! By its size alone; by its age, to free memory and at a stop together with the tenant's lanes in the
//! other partitions ([`crate::muster`]).

use std::sync::Arc;
use std::time::Duration;

use stamp_eventhubs::EventHub;
use tokio::time::{Instant, timeout_at};

use super::{Done, LaneId, PartitionWorker};
use crate::buffer::{Lane, Sealed};
use crate::muster::Coming;
use crate::shared::Shared;

/// A flush that was begun this recently will free its memory soon. An older one may be stuck.
const ROOM_SOON: Duration = Duration::from_secs(1);

/// How a lane is to be flushed.
enum Due {
    /// It has as much as a flush may have.
    Full,
    /// It has waited for long enough, or another partition flushes the same tenant.
    Together,
}

impl<H: EventHub> PartitionWorker<H> {
    /// Flushes early what frees the most, unless enough for a pull is being written already: then
    /// the others go on growing, and there are fewer and larger files.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let flying = self.lanes.values().filter_map(|lane| lane.flying.as_ref());
        let soon = flying.filter(|flying| flying.since.elapsed() < ROOM_SOON);
        if soon.map(|flying| flying.sealed.bytes()).sum::<usize>() >= bytes {
            return;
        }
        let still = self.lanes.iter().filter(|(_, lane)| lane.flying.is_none());
        let most = still.max_by_key(|(_, lane)| lane.bytes_together());
        if let Some((id, _)) = most {
            self.seal_together(id);
        }
    }

    pub(super) fn start_flushes(&mut self) {
        let now = Instant::now();
        let due: Vec<(LaneId, Due)> = self
            .lanes
            .iter()
            .filter_map(|(id, lane)| Some((id, self.shared.due(lane, now)?)))
            .collect();
        for (id, due) in due {
            match due {
                Due::Full => self.seal(id),
                Due::Together => self.seal_together(id),
            }
        }
        self.flush_waiting();
    }

    /// Flushes a lane and waits for nobody.
    pub(super) fn seal(&mut self, id: LaneId) {
        if let Some((sealed, _alone)) = self.take_sealed(id) {
            self.spawn_flush(id, sealed, None);
        }
    }

    /// Flushes a lane with those of the other partitions, which are called to it.
    pub(super) fn seal_together(&mut self, id: LaneId) {
        let lane = self.lanes.get(id);
        if let Some(active) = lane.and_then(|lane| lane.active.as_ref()) {
            active.seat.call();
        }
        if let Some((sealed, coming)) = self.take_sealed(id) {
            self.spawn_flush(id, sealed, Some(coming));
        }
    }

    fn take_sealed(&mut self, id: LaneId) -> Option<(Arc<Sealed>, Coming)> {
        let lane = self.lanes.at(id);
        let (sealed, coming) = lane.seal(&self.app, Instant::now())?;
        (!self.must_wait(id, sealed.last)).then_some((sealed, coming))
    }

    pub(super) fn spawn_flush(&mut self, id: LaneId, sealed: Arc<Sealed>, coming: Option<Coming>) {
        let abandon = match id {
            LaneId::Tenant(_) => self.abandon.clone(),
            LaneId::Stamp => self.abandon_overflow.clone(),
        };
        let shared = self.shared.clone();
        let from = (self.partition, self.start);
        self.tasks.spawn(async move {
            let flushed = shared.flush(id, &sealed, coming, from, &abandon).await;
            Done::Flush(id, flushed)
        });
    }

    /// Flushes and commits what is buffered, then checkpoints, within `drain-max`; with the other
    /// partitions unless this one ends `alone`.
    pub(super) async fn drain(&mut self, alone: bool) {
        let deadline = Instant::now() + self.shared.config.drain_max;
        self.carry.clear();
        if self.lanes.values().all(|lane| lane.held.is_none()) {
            self.recoveries.cancel();
        }
        let mut open: Vec<LaneId> = self.lanes.iter().map(|(id, _)| id).collect();
        loop {
            for id in open.drain(..) {
                if alone {
                    self.seal(id);
                } else {
                    self.seal_together(id);
                }
            }
            self.flush_waiting();
            if self.lanes.values().all(|lane| lane.before().is_none()) || self.tasks.is_empty() {
                break;
            }
            match timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(Ok(done))) => {
                    // Rows that came while this one flew, or were held and now go somewhere.
                    open.extend(done.lane());
                    open.push(LaneId::Stamp);
                    self.landed(done);
                }
                Ok(Some(Err(error))) => {
                    // Its lane stays as it is, so the checkpoint stays before its rows.
                    tracing::error!(error = %self.broken(&error), "not everything was flushed");
                }
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(partition = %self.partition, "time to drain is over, the rest is read again at the next start");
                    self.abandon.cancel();
                    break;
                }
            }
        }
        self.recoveries.cancel();
        self.start_checkpoint();
        while let Ok(Some(Ok(done))) = timeout_at(deadline, self.tasks.join_next()).await {
            self.landed(done);
            self.start_checkpoint();
        }
        self.reported_at = None;
        self.report();
        self.tasks.shutdown().await;
    }
}

impl<H: EventHub> Shared<H> {
    fn due(&self, lane: &Lane, now: Instant) -> Option<Due> {
        let active = lane.active.as_ref()?;
        let flush_bytes = usize::try_from(self.config.flush_bytes.as_u64()).unwrap_or(usize::MAX);
        if active.rows.len() >= self.config.flush_rows
            || lane.active_bytes() >= flush_bytes.min(self.tenant_buffer_max)
        {
            return Some(Due::Full);
        }
        let is_old = now.duration_since(active.since) >= self.config.flush_age;
        (is_old || active.seat.is_called()).then_some(Due::Together)
    }
}
