//! What the status page shows of a consumer that no metric says.
//!
//! Everything here is read from atomics, or under locks that are taken once a commit or once a round of
//! ownership; never under one that an event waits for.

use std::time::Duration;

use stamp_eventhubs::EventHub;
use stamp_model::TenantId;
use stamp_status::{ConsumerFacts, TableFacts, TenantFacts};

use crate::commit::{Committer, LastCommit};
use crate::flush::Sink;
use crate::shared::Shared;

impl<H: EventHub> Shared<H> {
    /// As it is now.
    pub(crate) fn facts(&self) -> ConsumerFacts {
        let share = self.owned.share();
        let tenants = self.tenants.iter().zip(&self.meters);
        let tenants = tenants.map(|(tenant, meter)| TenantFacts {
            id: tenant.id.to_string(),
            store: tenant.peer.breaker_state().as_str(),
            quotas: meter
                .as_ref()
                .map_or_else(Vec::new, |meter| meter.uses(share)),
        });
        let now_us = (self.clock)();
        let of_tenants = self
            .tenants
            .iter()
            .flat_map(|tenant| tables(&tenant.sink, Some(&tenant.id), now_us));
        let tables = tables(&self.stamp_sink, None, now_us).chain(of_tenants);
        ConsumerFacts {
            partitions: self.partitions_all,
            owners: self.owners.facts(),
            tenants: tenants.collect(),
            tables: tables.collect(),
        }
    }
}

/// The tables of a sink that were committed to.
fn tables<'a>(
    sink: &'a Sink,
    tenant: Option<&'a TenantId>,
    now_us: i64,
) -> impl Iterator<Item = TableFacts> + 'a {
    let committed = |committer: &'a Committer| Some((committer.name(), committer.last()?));
    let fact = move |(table, last): (&'static str, LastCommit)| TableFacts {
        tenant: tenant.map(TenantId::to_string),
        table,
        version: last.version,
        rows: last.rows,
        at_us: now_us.saturating_sub(micros(last.at.elapsed())),
    };
    sink.committers()
        .into_iter()
        .filter_map(committed)
        .map(fact)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
