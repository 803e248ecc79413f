//! Counts of one round of taking events, published to the metrics once instead of per event.

use std::collections::{BTreeMap, BTreeSet};

use stamp_model::{MessageSource, PartitionId, QuarantineReason, TenantId};
use stamp_schema::RejectionCode;
use stamp_telemetry::Metrics;

use crate::directory::TenantIndex;
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
    /// Delivered again by the hub, dropped by position.
    pub(crate) redelivered: u64,
    /// In quarantine since an earlier run, dropped.
    pub(crate) settled: u64,
    tenants: BTreeMap<TenantIndex, TenantTally>,
    rejected: BTreeMap<(TenantIndex, RejectionCode), u64>,
    quarantined: BTreeMap<(Option<TenantIndex>, QuarantineReason), u64>,
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

    pub(crate) fn touch(&mut self, lane: LaneId) {
        self.touched.insert(lane);
    }

    /// The lanes that got rows since the last call.
    pub(crate) fn touched(&mut self) -> BTreeSet<LaneId> {
        std::mem::take(&mut self.touched)
    }

    /// Adds the counts to the metrics and starts over.
    pub(crate) fn publish(
        &mut self,
        metrics: &Metrics,
        partition: PartitionId,
        tenants: &[TenantId],
    ) {
        let Self {
            redelivered,
            settled,
            tenants: readings,
            rejected,
            quarantined,
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
        for source in notifications {
            metrics.notifications(&source, 1);
        }
    }
}
