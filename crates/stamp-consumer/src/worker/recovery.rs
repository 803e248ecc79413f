//! Before events are taken it is found out what the tables of every tenant have of them.
//!
//! A tenant whose store does not answer holds up the start for a bounded time only. After that its
//! events are held as they came, and everybody else goes on.

use stamp_eventhubs::EventHub;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Done, LaneId, PartitionWorker, WorkerError};
use crate::buffer::{Position, Recovering};
use crate::directory::TenantIndex;
use crate::recover::{RecoverError, Recovered, recover};

impl<H: EventHub> PartitionWorker<H> {
    /// Asks the tables of all tenants, and waits until each has answered or failed once, at most
    /// `tenant-stall-max`.
    pub(super) async fn recover_tenants(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let now = Instant::now();
        for tenant in 0..self.shared.tenants.len() {
            let lane = self.lanes.at(LaneId::Tenant(tenant));
            lane.recovering = Some(Recovering {
                since: now,
                given_up: 0,
            });
            self.spawn_recovery(tenant, false);
        }
        let deadline = now + self.shared.config.tenant_stall_max;
        let mut unheard = self.shared.tenants.len();
        while unheard > 0 {
            let joined = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                joined = timeout_at(deadline, self.tasks.join_next()) => joined,
            };
            match joined {
                Ok(Some(Ok(done))) => {
                    unheard -= usize::from(self.is_first_word(&done));
                    self.landed(done);
                }
                Ok(Some(Err(error))) => return Err(self.broken(&error)),
                Ok(None) => return Ok(()),
                Err(_) => {
                    tracing::warn!(partition = %self.partition, "the tables of some tenants do not answer, their events are held");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a tenant's tables say something, or fail, for the first time.
    fn is_first_word(&self, done: &Done) -> bool {
        let Done::Recovered(tenant, _) = done else {
            return false;
        };
        let lane = self.lanes.get(LaneId::Tenant(*tenant));
        let state = lane.and_then(|lane| lane.recovering);
        state.is_some_and(|state| state.given_up == 0)
    }

    /// Asks the tables of one tenant; `after_rest`, when that was given up before.
    fn spawn_recovery(&mut self, tenant: TenantIndex, after_rest: bool) {
        let (shared, partition, app) = (self.shared.clone(), self.partition, self.app.clone());
        let (above, cancel) = (self.start, self.recoveries.clone());
        self.tasks.spawn(async move {
            let it = &shared.tenants[tenant];
            if after_rest {
                it.peer.rest(&cancel).await;
            }
            let found = recover(it, partition, &app, above, &shared.account, &cancel).await;
            Done::Recovered(tenant, found)
        });
    }

    /// Takes note that what follows the last event is lost.
    pub(super) fn lose(&mut self) {
        if self.before_loss.is_none() && self.asks_tables() {
            self.before_loss = Some(self.position.unshared());
        }
    }

    /// Where a checkpoint must stay until all tables were asked. Lost events of a tenant may be in
    /// its `readings` and not in its `rollups`. They come no more, so nothing is held for them; and
    /// the next start looks at nothing up to the checkpoint.
    pub(super) fn before_unasked_loss(&self) -> Option<&Position> {
        self.before_loss.as_ref().filter(|_| self.asks_tables())
    }

    fn asks_tables(&self) -> bool {
        self.lanes.values().any(|lane| lane.recovering.is_some())
    }

    /// Takes note of what was found, and takes the events that were held.
    pub(super) fn recovered(
        &mut self,
        tenant: TenantIndex,
        found: Result<Recovered, RecoverError>,
    ) {
        let Some(lane) = self.lanes.get_mut(LaneId::Tenant(tenant)) else {
            return;
        };
        match found {
            Ok(Recovered { settled, behind }) => {
                lane.recovering = None;
                lane.behind = behind;
                let held = lane.held.take();
                self.settled.union(&settled);
                if let Some(held) = held {
                    self.tally.released += held.events.len() as u64;
                    for event in &held.events {
                        self.place(tenant, event, Some(&held.before));
                    }
                }
            }
            Err(error) => {
                if let Some(state) = &mut lane.recovering {
                    state.given_up += 1;
                }
                if !self.recoveries.is_cancelled() {
                    let name = &self.shared.tenants[tenant].id;
                    tracing::error!(partition = %self.partition, tenant = %name, error = %crate::chain(&error), "what the tables have is not known, events are held");
                    self.spawn_recovery(tenant, true);
                }
            }
        }
    }
}
