//! Counts of one round of taking events, published to the metrics once instead of per event.

use std::collections::{BTreeMap, BTreeSet};

use stamp_model::{Invariant, MessageSource, PartitionId, QuarantineReason, TenantId};
use stamp_schema::RejectionCode;
use stamp_telemetry::Metrics;

use crate::directory::TenantIndex;
use crate::quota::Excess;
use crate::worker::LaneId;

#[derive(Debug, Default)]
struct TenantTally {
    events: u64,
    late: u64,
    suspect: u64,
}

/// What became of the events of one round.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Events that were taken; with those released, the sum of all the others.
    pub(crate) taken: u64,
    /// Delivered again by the hub, dropped by position.
    pub(crate) redelivered: u64,
    /// In a table since an earlier run, dropped.
    pub(crate) settled: u64,
    /// Put aside until the tenant's tables have been asked.
    pub(crate) held: u64,
    /// Put aside before, and now become something.
    pub(crate) released: u64,
    tenants: BTreeMap<TenantIndex, TenantTally>,
    rejected: BTreeMap<(TenantIndex, RejectionCode), u64>,
    quarantined: BTreeMap<(Option<TenantIndex>, QuarantineReason), u64>,
    over_quota: BTreeMap<(TenantIndex, Excess), u64>,
    notifications: Vec<MessageSource>,
    touched: BTreeSet<LaneId>,
}

impl Tally {
    pub(crate) fn reading(&mut self, tenant: TenantIndex, late: usize, suspect: usize) {
        self.touched.insert(LaneId::Tenant(tenant));
        let tally = self.tenants.entry(tenant).or_default();
        tally.events += 1;
        tally.late += late as u64;
        tally.suspect += suspect as u64;
    }

    pub(crate) fn rejected(
        &mut self,
        tenant: TenantIndex,
        code: RejectionCode,
        source: &MessageSource,
    ) {
        self.touched.insert(LaneId::Tenant(tenant));
        *self.rejected.entry((tenant, code)).or_default() += 1;
        if !source.is_telemetry() {
            self.notifications.push(source.clone());
        }
    }

    pub(crate) fn quarantined(&mut self, tenant: Option<TenantIndex>, reason: QuarantineReason) {
        self.touched.insert(LaneId::Stamp);
        *self.quarantined.entry((tenant, reason)).or_default() += 1;
    }

    /// Says which quota; the event counts as quarantined besides.
    pub(crate) fn over_quota(&mut self, tenant: TenantIndex, excess: Excess) {
        *self.over_quota.entry((tenant, excess)).or_default() += 1;
    }

    pub(crate) fn touch(&mut self, lane: LaneId) {
        self.touched.insert(lane);
    }

    /// The lanes that got rows since the last call.
    pub(crate) fn touched(&mut self) -> BTreeSet<LaneId> {
        std::mem::take(&mut self.touched)
    }

    /// Whether every event that was taken became something.
    fn adds_up(&self) -> bool {
        let readings: u64 = self.tenants.values().map(|tally| tally.events).sum();
        let rejected: u64 = self.rejected.values().sum();
        let quarantined: u64 = self.quarantined.values().sum();
        self.taken + self.released
            == readings + rejected + quarantined + self.redelivered + self.settled + self.held
    }

    /// Adds the counts to the metrics and starts over.
    pub(crate) fn publish(
        &mut self,
        metrics: &Metrics,
        partition: PartitionId,
        tenants: &[TenantId],
    ) {
        if !self.adds_up() {
            metrics.violated(Invariant::EveryEventAccounted);
        }
        let Self {
            redelivered,
            settled,
            tenants: readings,
            rejected,
            quarantined,
            over_quota,
            notifications,
            ..
        } = std::mem::take(self);
        metrics.redelivered(partition, redelivered + settled);
        for (tenant, tally) in readings {
            let tenant = &tenants[tenant];
            metrics.readings(tenant, tally.events);
            metrics.late(tenant, tally.late);
            metrics.clock_suspect(tenant, tally.suspect);
        }
        for ((tenant, code), count) in rejected {
            metrics.rejected(&tenants[tenant], code.code(), count);
        }
        for ((tenant, reason), count) in quarantined {
            metrics.quarantined(tenant.map(|tenant| &tenants[tenant]), reason, count);
        }
        for ((tenant, excess), count) in over_quota {
            metrics.over_quota(&tenants[tenant], excess.label(), count);
        }
        for source in notifications {
            metrics.notifications(&source, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_became_nothing_is_noticed() {
        let mut tally = Tally {
            taken: 4,
            ..Tally::default()
        };
        tally.reading(0, 0, 0);
        tally.rejected(0, RejectionCode::MissingField, &MessageSource::Telemetry);
        tally.quarantined(None, QuarantineReason::NoDevice);
        assert!(!tally.adds_up());

        tally.redelivered = 1;
        assert!(tally.adds_up());
    }
}
