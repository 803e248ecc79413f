//! Counts of what became of events, published to the metrics now and then instead of per event.

use std::collections::BTreeMap;

use stamp_model::{Invariant, MessageSource, PartitionId, QuarantineReason, TenantId};
use stamp_schema::RejectionCode;
use stamp_telemetry::Metrics;

use crate::directory::TenantIndex;
use crate::quota::Excess;
use crate::worker::LaneId;

/// Notifications of devices, which are counted one by one, before the counts are published.
const NOTIFICATIONS_MAX: usize = 1_000;

#[derive(Debug, Clone, Default)]
struct TenantTally {
    events: u64,
    late: u64,
    suspect: u64,
    /// Among [`Tally::touched`].
    touched: bool,
}

/// What became of the events since the counts were last published.
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
    /// By tenant: every event comes by here, and with many tenants a search would cost more than
    /// all other counting.
    tenants: Vec<TenantTally>,
    /// Tenants that have readings.
    read: Vec<TenantIndex>,
    rejected: BTreeMap<(TenantIndex, RejectionCode), u64>,
    quarantined: BTreeMap<(Option<TenantIndex>, QuarantineReason), u64>,
    over_quota: BTreeMap<(TenantIndex, Excess), u64>,
    notifications: Vec<MessageSource>,
    touched: Vec<TenantIndex>,
    stamp_touched: bool,
}

impl Tally {
    pub(crate) fn reading(&mut self, tenant: TenantIndex, late: usize, suspect: usize) {
        let tally = self.tenant(tenant);
        let is_first = tally.events == 0;
        tally.events += 1;
        tally.late += late as u64;
        tally.suspect += suspect as u64;
        if is_first {
            self.read.push(tenant);
        }
    }

    /// The counts of a tenant whose lane got a row.
    fn tenant(&mut self, tenant: TenantIndex) -> &mut TenantTally {
        if self.tenants.len() <= tenant {
            self.tenants.resize(tenant + 1, TenantTally::default());
        }
        let tally = &mut self.tenants[tenant];
        if !tally.touched {
            tally.touched = true;
            self.touched.push(tenant);
        }
        tally
    }

    pub(crate) fn rejected(
        &mut self,
        tenant: TenantIndex,
        code: RejectionCode,
        source: &MessageSource,
    ) {
        self.tenant(tenant);
        *self.rejected.entry((tenant, code)).or_default() += 1;
        if !source.is_telemetry() {
            self.notifications.push(source.clone());
        }
    }

    pub(crate) fn quarantined(&mut self, tenant: Option<TenantIndex>, reason: QuarantineReason) {
        self.touch_stamp();
        *self.quarantined.entry((tenant, reason)).or_default() += 1;
    }

    /// Says which quota; the event counts as quarantined besides.
    pub(crate) fn over_quota(&mut self, tenant: TenantIndex, excess: Excess) {
        *self.over_quota.entry((tenant, excess)).or_default() += 1;
    }

    /// The stamp's own lane got a row.
    pub(crate) fn touch_stamp(&mut self) {
        self.stamp_touched = true;
    }

    /// The lanes that got rows since the last call.
    pub(crate) fn touched(&mut self) -> impl Iterator<Item = LaneId> + use<> {
        let tenants = std::mem::take(&mut self.touched);
        for &tenant in &tenants {
            self.tenants[tenant].touched = false;
        }
        let stamp = std::mem::take(&mut self.stamp_touched).then_some(LaneId::Stamp);
        tenants.into_iter().map(LaneId::Tenant).chain(stamp)
    }

    /// Whether it is to be published, lest it grow.
    pub(crate) fn is_full(&self) -> bool {
        self.notifications.len() >= NOTIFICATIONS_MAX
    }

    /// Whether every event that was taken became something.
    fn adds_up(&self) -> bool {
        let readings: u64 = self.tenants.iter().map(|tally| tally.events).sum();
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
        let next = Self {
            // Kept from round to round, all zeros but for the touched in between.
            tenants: std::mem::take(&mut self.tenants),
            touched: std::mem::take(&mut self.touched),
            stamp_touched: self.stamp_touched,
            ..Self::default()
        };
        let Self {
            redelivered,
            settled,
            read,
            rejected,
            quarantined,
            over_quota,
            notifications,
            ..
        } = std::mem::replace(self, next);
        metrics.redelivered(partition, redelivered + settled);
        for tenant in read {
            let tally = &mut self.tenants[tenant];
            let TenantTally {
                events,
                late,
                suspect,
                touched,
            } = *tally;
            *tally = TenantTally {
                touched,
                ..TenantTally::default()
            };
            let tenant = &tenants[tenant];
            metrics.readings(tenant, events);
            metrics.late(tenant, late);
            metrics.clock_suspect(tenant, suspect);
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
