//! A year of growth: tenants grow, new ones come, and stamps are added when the plan says so.
//!
//! Each month `stamp_placement::growth` looks ahead and orders stamps, which are there a month later.
//! A tenant that its stamp has no room for any more is moved whole, to where the planner says.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::growth::{Growth, GrowthError, Percent, forecast};
use stamp_placement::{Axis, Planner, Request, StampState};

use super::catalogue::load_of;
use super::world::{Balance, World};

/// Months that are simulated.
const MONTHS: u32 = 12;
/// Months that the plan looks ahead: one to build a stamp in, one to spare.
const AHEAD: u32 = 2;
/// A tenant grows by 0 to so many percent a month, so by 3 % in the mean.
const GROWTH_PERCENT_MAX: f64 = 6.0;
/// Devices of new tenants a month, in percent of all.
const NEW_PERCENT: u64 = 2;
/// What the plan is told: both together.
const PLANNED_RATE: &str = "5%";

/// One month.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Month {
    pub(super) month: u32,
    /// Active at its end.
    pub(super) stamps: u64,
    /// Stamps that were ordered in it.
    pub(super) ordered: u64,
    pub(super) tenants: u64,
    pub(super) devices: u64,
    /// New tenants that were placed.
    pub(super) placed: u64,
    /// Tenants that had to be moved, and their devices.
    pub(super) moves: u64,
    pub(super) devices_moved: u64,
    /// Tenants, new or growing, that found no place.
    pub(super) refused: u64,
    pub(super) over_hard_limit: u64,
    pub(super) outside_geography: u64,
    /// Devices that would move if a tenant's stamp were the hash of its name modulo the number of stamps.
    pub(super) devices_moved_by_modulo: u64,
    pub(super) balance: Balance,
}

/// Simulates the year.
pub(super) fn run(mut world: World, seed: u64) -> Result<Vec<Month>, GrowthError> {
    let mut draws = StdRng::seed_from_u64(seed ^ 0x67_72_6f_77);
    let mut months = Vec::new();
    for month in 1..=MONTHS {
        let before = by_geography(&world);
        let arrived = activate(&mut world);
        let ordered = order(&mut world)?;
        let grown = grow(&mut world, &mut draws);
        let by_modulo = if arrived > 0 {
            moved_by_modulo(&world, &before)
        } else {
            0
        };
        let (placed, refused) = welcome(&mut world, &mut draws);
        let (over_hard_limit, outside_geography) = world.breaches();
        let active = world
            .stamps
            .iter()
            .filter(|s| s.state == StampState::Active);
        months.push(Month {
            month,
            stamps: active.count() as u64,
            ordered,
            tenants: world.tenants.len() as u64,
            devices: world
                .tenants
                .values()
                .map(|t| t.expected[Axis::Devices])
                .sum(),
            placed,
            moves: grown.moves,
            devices_moved: grown.devices_moved,
            refused: refused + grown.refused,
            over_hard_limit,
            outside_geography,
            devices_moved_by_modulo: by_modulo,
            balance: world.balance(),
        });
    }
    Ok(months)
}

/// Stamps that were ordered last month are there.
fn activate(world: &mut World) -> u64 {
    let planned = world
        .stamps
        .iter_mut()
        .filter(|s| s.state == StampState::Planned);
    planned
        .map(|stamp| stamp.state = StampState::Active)
        .count() as u64
}

/// Orders what the plan says is needed within the months that it looks ahead.
fn order(world: &mut World) -> Result<u64, GrowthError> {
    let fleet = world.fleet();
    let growth = Growth {
        rate: Percent::parse(PLANNED_RATE)?,
        growth: Vec::new(),
    };
    let forecast = forecast(&fleet, &world.usage(&fleet), &growth, AHEAD)?;
    let mut ordered = 0;
    for pool in forecast.pools {
        let needed = pool.additions.iter().map(|addition| addition.stamps).max();
        for _ in 0..needed.unwrap_or(0) {
            let region = emptiest_region(world, &pool.geography);
            world.add_stamp(&region, &pool.geography, StampState::Planned);
            ordered += 1;
        }
    }
    Ok(ordered)
}

/// The region of a geography with the fewest stamps.
fn emptiest_region(world: &World, geography: &str) -> String {
    let mut regions: BTreeMap<&str, usize> = BTreeMap::new();
    for stamp in world.stamps.iter().filter(|s| s.geography == geography) {
        *regions.entry(&stamp.region).or_default() += 1;
    }
    let emptiest = regions.into_iter().min_by_key(|(_, stamps)| *stamps);
    emptiest.map_or_else(String::new, |(region, _)| region.to_owned())
}

#[derive(Default)]
struct Grown {
    moves: u64,
    devices_moved: u64,
    refused: u64,
}

/// Every tenant grows where it is, or is moved to where it has room.
fn grow(world: &mut World, draws: &mut StdRng) -> Grown {
    let mut grown = Grown::default();
    let fleet = world.fleet();
    let planner = Planner::new(&fleet);
    let mut usage = world.usage(&fleet);
    let Ok(device) = DeviceId::parse("new".into()) else {
        return grown;
    };
    for (id, tenant) in &mut world.tenants {
        let Some(home) = world.homes.get(id).cloned() else {
            continue;
        };
        let now = tenant.expected[Axis::Devices];
        let percent = draws.random_range(0.0..GROWTH_PERCENT_MAX);
        let more = (now as f64 * percent / 100.0).round() as u64;
        let larger = load_of(now + more);
        let added = larger.minus(tenant.expected);
        let mut request = Request::device(id.clone(), device.clone(), Some(home.clone()));
        request.needs = added;
        if planner.place(&usage, &request).stamp().is_some() {
            usage.add(&fleet, &home, added);
            tenant.expected = larger;
            continue;
        }
        let mut request = Request::tenant(tenant);
        request.needs = larger;
        let answer = planner.place(&usage, &request);
        let Some(new) = answer.stamp() else {
            grown.refused += 1;
            continue;
        };
        let left = usage.of(&fleet, &home).minus(tenant.expected);
        usage.set(&fleet, &home, left);
        usage.add(&fleet, new, larger);
        world.homes.insert(id.clone(), new.clone());
        tenant.expected = larger;
        grown.moves += 1;
        grown.devices_moved += now;
    }
    grown
}

/// New tenants come; returns how many found a place and how many did not.
fn welcome(world: &mut World, draws: &mut StdRng) -> (u64, u64) {
    let all: u64 = world
        .tenants
        .values()
        .map(|t| t.expected[Axis::Devices])
        .sum();
    let geographies = world.geographies();
    let stamps = world.stamps.len() as u64;
    let mut new: Vec<TenantId> = Vec::new();
    for geography in geographies {
        let there = world
            .stamps
            .iter()
            .filter(|s| s.geography == geography)
            .count() as u64;
        let devices = all * NEW_PERCENT / 100 * there / stamps;
        new.extend(world.add_tenants(&geography, devices, draws));
    }
    let refused = world.place(&new);
    (new.len() as u64 - refused, refused)
}

/// Active stamps of each geography.
fn by_geography(world: &World) -> BTreeMap<String, Vec<StampId>> {
    let mut stamps: BTreeMap<String, Vec<StampId>> = BTreeMap::new();
    for stamp in world
        .stamps
        .iter()
        .filter(|s| s.state == StampState::Active)
    {
        let there = stamps.entry(stamp.geography.clone()).or_default();
        there.push(stamp.id.clone());
    }
    stamps
}

/// Devices of tenants whose name's hash, modulo the stamps of their geography, changed.
fn moved_by_modulo(world: &World, before: &BTreeMap<String, Vec<StampId>>) -> u64 {
    let after = by_geography(world);
    let pick = |stamps: &BTreeMap<String, Vec<StampId>>, geography: &str, id: &TenantId| {
        let stamps = stamps.get(geography)?;
        let index = fnv1a(id.as_str()) % (stamps.len() as u64).max(1);
        stamps.get(index as usize).cloned()
    };
    let mut moved = 0;
    for (id, tenant) in &world.tenants {
        let geography = tenant.geographies.first().map_or("", String::as_str);
        if pick(before, geography, id) != pick(&after, geography, id) {
            moved += tenant.expected[Axis::Devices];
        }
    }
    moved
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
