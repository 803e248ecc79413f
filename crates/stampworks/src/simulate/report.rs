//! What a simulation says: one value that is printed as JSON, or as tables for a person.
//!
//! Nothing in it depends on the machine or the time: the same arguments give the same bytes.

use std::time::Duration;

use serde::Serialize;

use super::growth::Month;
use super::strategy::Strategy;
use super::world::Balance;

/// Highest amplification that the shipped policies are to have.
pub(super) const AMPLIFICATION_MAX: f64 = 1.1;

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    pub(super) devices: u64,
    pub(super) stamps: u64,
    pub(super) seed: u64,
    pub(super) fleet: FleetPart,
    pub(super) outage: OutagePart,
    pub(super) region: RegionPart,
    pub(super) growth: Vec<Month>,
    /// Bytes of the largest state that was held at once.
    pub(super) state_bytes: usize,
    pub(super) promises: Vec<Promise>,
}

/// The fleet at the beginning.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FleetPart {
    pub(super) tenants: u64,
    pub(super) refused: u64,
    pub(super) tier: &'static str,
    pub(super) units: u64,
    pub(super) connections_per_second: u64,
    pub(super) balance: Balance,
    pub(super) over_hard_limit: u64,
    pub(super) outside_geography: u64,
}

/// Outage and recovery.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OutagePart {
    pub(super) outage_s: u64,
    pub(super) ride_out_s: u64,
    /// Of the hub with the most devices.
    pub(super) spread_s: u64,
    /// How long devices are waited for.
    pub(super) horizon_s: u64,
    pub(super) strategies: Vec<OutageRow>,
    /// The hub with the most devices through outages of other lengths, as shipped.
    pub(super) lengths: Vec<LengthRow>,
}

/// One strategy through the outage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OutageRow {
    pub(super) strategy: Strategy,
    /// Devices that lost their connection.
    pub(super) operations: u64,
    pub(super) attempts: u64,
    pub(super) amplification: f64,
    /// Of the devices that act alone, and of those behind gateways, where there are any. The naive
    /// policies know no gateways.
    pub(super) amplification_alone: Option<f64>,
    pub(super) amplification_gateways: Option<f64>,
    pub(super) throttled: u64,
    pub(super) peak_per_second: u64,
    /// Of the hub that was asked for most.
    pub(super) limit_per_second: u64,
    pub(super) recovered_99_percent_s: u64,
    pub(super) recovered_all_s: u64,
    pub(super) missing: u64,
}

/// One length of the outage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LengthRow {
    pub(super) outage_s: u64,
    pub(super) amplification_alone: Option<f64>,
    pub(super) amplification_gateways: Option<f64>,
    pub(super) recovered_all_s: u64,
    pub(super) missing: u64,
}

/// The move of a region.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RegionPart {
    pub(super) region: String,
    pub(super) stamps: u64,
    pub(super) stamps_added: u64,
    pub(super) tenants: u64,
    pub(super) refused: u64,
    pub(super) over_hard_limit: u64,
    pub(super) outside_geography: u64,
    /// Of the stamps that are left.
    pub(super) balance: Balance,
    pub(super) pace_per_minute: u64,
    pub(super) units_during_move: u64,
    pub(super) dps_limit_per_minute: u64,
    pub(super) strategies: Vec<RegionRow>,
}

/// One strategy through the move.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RegionRow {
    pub(super) strategy: Strategy,
    /// Stamps that were simulated, each with its DPS: all for the shipped one, one for the others.
    pub(super) stamps: u64,
    pub(super) devices: u64,
    pub(super) steps: Vec<StepRow>,
    /// Of the step with the highest.
    pub(super) amplification: f64,
    pub(super) throttled: u64,
    pub(super) dps_peak_per_minute: u64,
    pub(super) old_hub_peak_per_second: u64,
    pub(super) new_hub_peak_per_second: u64,
    pub(super) connections_per_second: u64,
    pub(super) took_s: u64,
    pub(super) missing: u64,
}

/// One step of the devices that move.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct StepRow {
    pub(super) step: &'static str,
    pub(super) operations: u64,
    pub(super) attempts: u64,
    pub(super) amplification: f64,
}

/// Something that has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Promise {
    pub(super) promise: String,
    pub(super) kept: bool,
}

/// Attempts for each operation; `None` where there was none to do.
pub(super) fn amplification(attempts: u64, operations: u64) -> Option<f64> {
    (operations > 0).then(|| attempts as f64 / operations as f64)
}

impl Report {
    /// Everything that the report says, checked.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let mut promises = Vec::new();
        let mut promise = |promise: String, kept: bool| promises.push(Promise { promise, kept });
        let fine = |ratio: f64| ratio <= AMPLIFICATION_MAX;
        for row in self
            .outage
            .strategies
            .iter()
            .filter(|r| r.strategy == Strategy::Shipped)
        {
            let (alone, gateways) = (row.amplification_alone, row.amplification_gateways);
            let at_most =
                format!("at most {AMPLIFICATION_MAX} attempts a reconnect after the outage");
            // Who never came back has spared attempts: such a ratio says nothing.
            let all_back = row.missing == 0;
            promise(
                format!("{at_most}, devices alone"),
                all_back && alone.is_none_or(fine),
            );
            promise(
                format!("{at_most}, behind gateways"),
                all_back && gateways.is_none_or(fine),
            );
            let peak = row.peak_per_second <= row.limit_per_second;
            promise(
                "no hub is asked for more connections a second than it takes".into(),
                peak,
            );
            let within = Duration::from_secs(self.outage.horizon_s);
            let within = humantime::format_duration(within);
            promise(format!("every device is back within {within}"), all_back);
        }
        for row in self
            .region
            .strategies
            .iter()
            .filter(|r| r.strategy == Strategy::Shipped)
        {
            let at_most = format!("at most {AMPLIFICATION_MAX} attempts a step of the move");
            let all_there = row.missing == 0;
            promise(
                format!("{at_most}, in each step"),
                all_there && fine(row.amplification),
            );
            let dps = row.dps_peak_per_minute <= self.region.dps_limit_per_minute;
            promise(
                "no DPS is asked for more registrations a minute than it takes".into(),
                dps,
            );
            let hubs = row.new_hub_peak_per_second.max(row.old_hub_peak_per_second);
            let hubs = hubs <= row.connections_per_second;
            promise(
                "no hub of the move is asked for more connections than it takes".into(),
                hubs,
            );
            promise("every device that moves arrives".into(), all_there);
        }
        let sum = |of: fn(&Month) -> u64| self.growth.iter().map(of).sum::<u64>();
        let over = self.fleet.over_hard_limit + self.region.over_hard_limit;
        let over = over + sum(|month| month.over_hard_limit);
        promise("no stamp is ever over a hard limit".into(), over == 0);
        let outside = self.fleet.outside_geography + self.region.outside_geography;
        let outside = outside + sum(|month| month.outside_geography);
        promise(
            "no tenant is ever outside of its geographies".into(),
            outside == 0,
        );
        let refused = self.fleet.refused + self.region.refused + sum(|month| month.refused);
        promise("every tenant has a place".into(), refused == 0);
        promises
    }

    /// Promises that were not kept.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Promise> {
        self.promises.iter().filter(|promise| !promise.kept)
    }
}
