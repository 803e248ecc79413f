//! Runs the scenarios, and makes one report and one picture of them.

use std::time::Duration;

use stamp_placement::StampState;
use stamp_placement::growth::GrowthError;
use stamp_placement::sku::DPS_PER_MINUTE;
use stamp_resilience::Reconnect;

use super::catalogue::{TIER, units};
use super::growth;
use super::outage::{self, Hub};
use super::panels::{growth_panel, line, outage_panel, region_panel};
use super::plan::{self, Plan};
use super::plot::{Line, svg};
use super::region::{self, Arrivals, Leaving, Pace, STEPS};
use super::report::{
    FleetPart, LengthRow, OutagePart, OutageRow, RegionPart, RegionRow, Report, StepRow,
    amplification,
};
use super::strategy::Strategy;
use super::world::World;

/// Share of a hub's limit on new connections that the devices' first reconnects use.
const LOAD: f64 = 0.5;
/// Other lengths of the outage, in minutes.
const LENGTHS_MIN: [u64; 5] = [1, 5, 10, 30, 60];

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) devices: u64,
    pub(super) stamps: u64,
    pub(super) seed: u64,
    pub(super) outage: Duration,
    pub(super) ride_out: Duration,
    pub(super) gateway_percent: u64,
}

/// A report and its picture.
pub(super) struct Simulated {
    pub(super) report: Report,
    pub(super) svg: String,
}

/// Simulates everything; `tell` is told what begins.
pub(super) fn simulate(settings: &Settings, tell: impl Fn(&str)) -> Result<Simulated, GrowthError> {
    tell("placing the fleet");
    let (world, refused) = World::new(settings.devices, settings.stamps, settings.seed);
    let mut state_bytes = 0;
    tell("outage of every hub");
    let (outage, outage_lines) = outage_part(settings, &world, &mut state_bytes);
    tell("move of a region");
    let plan = plan::plan(&world);
    let (region, region_lines) = region_part(settings, &world, &plan, &mut state_bytes);
    tell("a year of growth");
    let growth = growth::run(world.clone(), settings.seed)?;
    let panels = [
        outage_panel(&world, limit(&world), outage_lines),
        region_panel(region_lines),
        growth_panel(&growth),
    ];
    let mut report = Report {
        devices: settings.devices,
        stamps: settings.stamps,
        seed: settings.seed,
        fleet: fleet_part(&world, refused),
        outage,
        region,
        growth,
        state_bytes,
        promises: Vec::new(),
    };
    report.promises = report.promises();
    Ok(Simulated {
        report,
        svg: svg(&panels),
    })
}

fn fleet_part(world: &World, refused: u64) -> FleetPart {
    let (over_hard_limit, outside_geography) = world.breaches();
    FleetPart {
        tenants: world.tenants.len() as u64,
        refused,
        tier: TIER.as_str(),
        units: units(world.devices_max),
        connections_per_second: limit(world),
        balance: world.balance(),
        over_hard_limit,
        outside_geography,
    }
}

/// New connections a second of each hub.
fn limit(world: &World) -> u64 {
    TIER.connections_per_second(units(world.devices_max))
}

/// The hubs of the fleet, with the devices that placement gave them.
fn hubs(settings: &Settings, world: &World) -> Vec<Hub> {
    let limit = limit(world);
    let hub = |(index, stamp): (u64, &stamp_placement::Stamp)| {
        let devices = world.devices_on(&stamp.id);
        Hub {
            devices: u32::try_from(devices).unwrap_or(u32::MAX),
            behind_gateways: u32::try_from(devices * settings.gateway_percent / 100)
                .unwrap_or(u32::MAX),
            limit,
            reconnect: Reconnect::new(devices, limit, LOAD, settings.ride_out),
            // Hubs must differ, and the same one must be the same in every run.
            seed: settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index,
        }
    };
    (0..).zip(&world.stamps).map(hub).collect()
}

fn outage_part(
    settings: &Settings,
    world: &World,
    state_bytes: &mut usize,
) -> (OutagePart, Vec<Line>) {
    let hubs = hubs(settings, world);
    let (mut strategies, mut lines) = (Vec::new(), Vec::new());
    for strategy in Strategy::ALL {
        let mut sum = outage::Outcome::default();
        for (index, hub) in hubs.iter().enumerate() {
            let mut series = Vec::new();
            let outcome = outage::run(hub, settings.outage, strategy, &mut series);
            *state_bytes = (*state_bytes).max(outcome.bytes + series.len() * 4);
            sum.add(&outcome);
            if index == 0 {
                lines.push(line(strategy, &series, 1.0 / 60.0));
            }
        }
        strategies.push(outage_row(strategy, &sum, limit(world)));
    }
    let largest = hubs.iter().max_by_key(|hub| hub.devices);
    let lengths = LENGTHS_MIN.iter().filter_map(|minutes| {
        let outcome = outage::run(
            largest?,
            Duration::from_secs(minutes * 60),
            Strategy::Shipped,
            &mut Vec::new(),
        );
        let row = outage_row(Strategy::Shipped, &outcome, 0);
        Some(LengthRow {
            outage_s: minutes * 60,
            amplification_alone: row.amplification_alone,
            amplification_gateways: row.amplification_gateways,
            recovered_all_s: row.recovered_all_s,
            missing: row.missing,
        })
    });
    let part = OutagePart {
        outage_s: settings.outage.as_secs(),
        ride_out_s: settings.ride_out.as_secs(),
        spread_s: largest.map_or(0, |hub| hub.reconnect.spread().as_secs()),
        horizon_s: largest.map_or(0, |hub| hub.horizon_s(settings.outage)),
        strategies,
        lengths: lengths.collect(),
    };
    (part, lines)
}

impl outage::Outcome {
    fn add(&mut self, other: &Self) {
        for cohort in 0..2 {
            self.operations[cohort] += other.operations[cohort];
            self.attempts[cohort] += other.attempts[cohort];
        }
        self.throttled += other.throttled;
        self.missing += other.missing;
        self.peak_per_second = self.peak_per_second.max(other.peak_per_second);
        self.most_s = self.most_s.max(other.most_s);
        self.all_s = self.all_s.max(other.all_s);
    }
}

fn outage_row(strategy: Strategy, sum: &outage::Outcome, limit_per_second: u64) -> OutageRow {
    let (operations, attempts) = (sum.operations.iter().sum(), sum.attempts.iter().sum());
    OutageRow {
        strategy,
        operations,
        attempts,
        amplification: amplification(attempts, operations).unwrap_or(1.0),
        amplification_alone: amplification(sum.attempts[0], sum.operations[0]),
        amplification_gateways: amplification(sum.attempts[1], sum.operations[1]),
        throttled: sum.throttled,
        peak_per_second: sum.peak_per_second,
        limit_per_second,
        recovered_99_percent_s: sum.most_s,
        recovered_all_s: sum.all_s,
        missing: sum.missing,
    }
}

fn region_part(
    settings: &Settings,
    world: &World,
    plan: &Plan,
    state_bytes: &mut usize,
) -> (RegionPart, Vec<Line>) {
    let limit = limit(world);
    let pace = Pace::of_dps(units(world.devices_max));
    let (mut strategies, mut lines) = (Vec::new(), Vec::new());
    for strategy in Strategy::ALL {
        // Every DPS of the region sees the same; the naive ways keep one busy for long enough.
        let simulated = match strategy {
            Strategy::Shipped => plan.moves.len(),
            Strategy::Regular | Strategy::Doubling | Strategy::Jittered => 1,
        };
        let (mut sum, mut arrivals) = (region::Outcome::default(), Arrivals::new());
        for (index, (_, goes)) in plan.moves.iter().take(simulated).enumerate() {
            let devices = goes.iter().map(|(_, devices)| devices).sum();
            let leaving = Leaving {
                goes,
                limit,
                pace,
                reconnect: Reconnect::new(devices, limit, LOAD, settings.ride_out),
                seed: settings.seed.wrapping_add(index as u64),
            };
            let mut series = Vec::new();
            let outcome = region::run(&leaving, strategy, &mut arrivals, &mut series);
            let held: usize = arrivals.iter().map(|seconds| seconds.len() * 4).sum();
            *state_bytes = (*state_bytes).max(outcome.bytes + held);
            sum.add(&outcome);
            if index == 0 {
                lines.push(line(strategy, &series, 1.0 / 60.0));
            }
        }
        strategies.push(region_row(
            strategy,
            simulated as u64,
            &sum,
            &arrivals,
            limit,
        ));
    }
    let (over_hard_limit, outside_geography) = plan.world.breaches();
    let mut left = plan.world.clone();
    left.stamps
        .retain(|stamp| stamp.state == StampState::Active);
    let part = RegionPart {
        region: plan.region.clone(),
        stamps: plan.moves.len() as u64,
        stamps_added: plan.added,
        tenants: plan.tenants,
        refused: plan.refused,
        over_hard_limit,
        outside_geography,
        balance: left.balance(),
        pace_per_minute: pace.per_minute,
        units_during_move: pace.units,
        dps_limit_per_minute: DPS_PER_MINUTE,
        strategies,
    };
    (part, lines)
}

impl region::Outcome {
    fn add(&mut self, other: &Self) {
        for step in 0..self.attempts.len() {
            self.attempts[step] += other.attempts[step];
        }
        self.devices += other.devices;
        self.throttled += other.throttled;
        self.missing += other.missing;
        self.dps_peak_per_minute = self.dps_peak_per_minute.max(other.dps_peak_per_minute);
        let peak = self
            .old_hub_peak_per_second
            .max(other.old_hub_peak_per_second);
        self.old_hub_peak_per_second = peak;
        self.took_s = self.took_s.max(other.took_s);
    }
}

fn region_row(
    strategy: Strategy,
    stamps: u64,
    sum: &region::Outcome,
    arrivals: &Arrivals,
    connections_per_second: u64,
) -> RegionRow {
    let step = |(step, attempts): (&'static str, u64)| StepRow {
        step,
        operations: sum.devices,
        attempts,
        amplification: amplification(attempts, sum.devices).unwrap_or(1.0),
    };
    let steps: Vec<StepRow> = STEPS.into_iter().zip(sum.attempts).map(step).collect();
    let ratios = steps.iter().map(|step| step.amplification);
    let new_hub_peak = arrivals.iter().flatten().copied().max().unwrap_or(0);
    RegionRow {
        strategy,
        stamps,
        devices: sum.devices,
        amplification: ratios.fold(0.0, f64::max),
        steps,
        throttled: sum.throttled,
        dps_peak_per_minute: sum.dps_peak_per_minute,
        old_hub_peak_per_second: sum.old_hub_peak_per_second,
        new_hub_peak_per_second: u64::from(new_hub_peak),
        connections_per_second,
        took_s: sum.took_s,
        missing: sum.missing,
    }
}
