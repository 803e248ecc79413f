//! What the senders know they sent, kept apart from everything that reads it.
//!
//! The ledger knows what *should* become of each message from how it was made, never from what the
//! service did with it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Count and sum of one metric's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Total {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
    }

    /// Equal counts and sums that differ by no more than the rounding of adding in another order.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a bound, far below 2^53")]
        let bound = f64::EPSILON * self.count.max(1) as f64 * self.sum.abs().max(1.0);
        self.count == other.count && (self.sum - other.sum).abs() <= bound
    }
}

/// What is expected in one tenant's tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Expected {
    /// Events that become readings.
    pub(crate) events: u64,
    /// Rows of `readings`: a device batch makes several of one event.
    pub(crate) rows: u64,
    /// Rows that are late.
    pub(crate) late: u64,
    /// Rows with a clock that is not believed.
    pub(crate) clock_suspect: u64,
    /// Values by metric.
    pub(crate) metrics: BTreeMap<&'static str, Total>,
    /// Rows of `rejected` by reason.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
}

/// What is expected of one stamp.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Ledger {
    /// Messages handed to the hub.
    pub(crate) sent: u64,
    /// By tenant.
    pub(crate) tenants: BTreeMap<&'static str, Expected>,
    /// Rows of `quarantine` by reason.
    pub(crate) quarantine: BTreeMap<&'static str, u64>,
}

/// What one message should become.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// Rows with their metric values.
    Readings {
        rows: Vec<Vec<(&'static str, f64)>>,
        late: bool,
        clock_suspect: bool,
    },
    /// A row of `rejected` with this reason.
    Rejected(&'static str),
    /// A row of `quarantine` with this reason.
    Quarantined(&'static str),
}

impl Ledger {
    /// Notes one message that the hub took.
    pub(crate) fn note(&mut self, tenant: &'static str, fate: &Fate) {
        self.sent += 1;
        match fate {
            Fate::Readings {
                rows,
                late,
                clock_suspect,
            } => {
                let expected = self.tenants.entry(tenant).or_default();
                let count = rows.len() as u64;
                expected.events += 1;
                expected.rows += count;
                expected.late += if *late { count } else { 0 };
                expected.clock_suspect += if *clock_suspect { count } else { 0 };
                for (metric, value) in rows.iter().flatten() {
                    expected.metrics.entry(metric).or_default().add(*value);
                }
            }
            Fate::Rejected(reason) => {
                *self
                    .tenants
                    .entry(tenant)
                    .or_default()
                    .rejected
                    .entry(reason)
                    .or_default() += 1;
            }
            Fate::Quarantined(reason) => *self.quarantine.entry(reason).or_default() += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_counted_once_where_it_should_end() {
        let mut ledger = Ledger::default();
        let rows = vec![vec![("speed", 1.5)], vec![("speed", 2.0)]];
        ledger.note(
            "t",
            &Fate::Readings {
                rows,
                late: true,
                clock_suspect: false,
            },
        );
        ledger.note("t", &Fate::Rejected("missing_field"));
        ledger.note("t", &Fate::Quarantined("no_device"));

        let tenant = &ledger.tenants["t"];
        assert_eq!(
            (ledger.sent, tenant.events, tenant.rows, tenant.late),
            (3, 1, 2, 2)
        );
        assert_eq!(tenant.metrics["speed"], Total { count: 2, sum: 3.5 });
        assert_eq!(
            (
                tenant.rejected["missing_field"],
                ledger.quarantine["no_device"]
            ),
            (1, 1)
        );
    }

    #[test]
    fn a_missing_value_is_a_difference_and_another_order_is_none() {
        let mut forward = Total::default();
        let mut backward = Total::default();
        let values: Vec<f64> = (0..1_000).map(|i| f64::from(i) * 0.1).collect();
        values.iter().for_each(|&v| forward.add(v));
        values.iter().rev().for_each(|&v| backward.add(v));

        assert!(forward.agrees(&backward));
        backward.sum -= 0.1;
        assert!(!forward.agrees(&backward));
    }
}
