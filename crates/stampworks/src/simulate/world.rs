//! A fleet that is made up from a seed: stamps in six regions of three geographies, tenants of many sizes.
//!
//! Stamps, tenants and usage are those of `stamp-placement`, and so is every answer.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_model::{StampId, TenantId};
use stamp_placement::{Axis, Fleet, Planner, Request, Stamp, StampState, Tenant, Usage};

use super::catalogue::{TIER, load_of, stamp, tenant};

/// Most devices a stamp begins with, so that it has room for what may come.
pub(super) const DEVICES_A_STAMP_MAX: u64 = 800_000;
/// Regions with their geographies; stamps are dealt out in this order.
const REGIONS: [(&str, &str); 6] = [
    ("westeurope", "europe"),
    ("northeurope", "europe"),
    ("eastus", "north-america"),
    ("westus2", "north-america"),
    ("southeastasia", "asia-pacific"),
    ("japaneast", "asia-pacific"),
];
/// One tenant in so many may be in a second geography.
const TWO_GEOGRAPHIES_ONE_IN: u32 = 10;

/// Stamps, tenants and who is where.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) stamps: Vec<Stamp>,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) homes: BTreeMap<TenantId, StampId>,
    /// Hard limit on devices of every stamp.
    pub(super) devices_max: u64,
    /// Devices a stamp begins with.
    pub(super) devices_a_stamp: u64,
}

impl World {
    /// `devices` on `stamps`, each tenant placed by the planner. Returns who found no place too.
    pub(super) fn new(devices: u64, stamps: u64, seed: u64) -> (Self, u64) {
        let devices_a_stamp = devices.div_ceil(stamps);
        let devices_max = (devices_a_stamp * 3).div_ceil(2).min(TIER.devices_max());
        let mut world = Self {
            stamps: Vec::new(),
            tenants: BTreeMap::new(),
            homes: BTreeMap::new(),
            devices_max,
            devices_a_stamp,
        };
        for index in 0..stamps {
            let (region, geography) = REGIONS[(index % REGIONS.len() as u64) as usize];
            world.add_stamp(region, geography, StampState::Active);
        }
        let mut draws = StdRng::seed_from_u64(seed);
        let mut left = devices;
        for (index, geography) in world.geographies().into_iter().enumerate() {
            let there = world
                .stamps
                .iter()
                .filter(|s| s.geography == geography)
                .count() as u64;
            let share = if index + 1 == world.geographies().len() {
                left
            } else {
                devices * there / stamps
            };
            left -= share;
            world.add_tenants(&geography, share, &mut draws);
        }
        let all: Vec<TenantId> = world.tenants.keys().cloned().collect();
        let refused = world.place(&all);
        (world, refused)
    }

    /// Geographies with stamps, in the order of [`REGIONS`].
    pub(super) fn geographies(&self) -> Vec<String> {
        let mut geographies: Vec<String> = Vec::new();
        for (_, geography) in REGIONS {
            let used = self.stamps.iter().any(|stamp| stamp.geography == geography);
            if used && !geographies.iter().any(|known| known == geography) {
                geographies.push(geography.to_owned());
            }
        }
        geographies
    }

    /// Adds a stamp as large as the others.
    pub(super) fn add_stamp(&mut self, region: &str, geography: &str, state: StampState) {
        let number = self
            .stamps
            .iter()
            .filter(|stamp| stamp.region == region)
            .count()
            + 1;
        let name = format!("{region}-{number:04}");
        let stamp = stamp(&name, region, geography, state, self.devices_max);
        self.stamps.push(stamp);
    }

    /// Adds tenants with so many devices together; returns their names. Sizes are drawn evenly on a
    /// logarithmic scale, from a 500th to an eighth of what a stamp begins with.
    pub(super) fn add_tenants(
        &mut self,
        geography: &str,
        devices: u64,
        draws: &mut StdRng,
    ) -> Vec<TenantId> {
        let (least, most) = (self.devices_a_stamp / 500, self.devices_a_stamp / 8);
        let (least, most) = (as_f64(least.max(1)), as_f64(most.max(2)));
        let mut left = devices;
        let mut names = Vec::new();
        while left > 0 {
            let size = least * (most / least).powf(draws.random_range(0.0..1.0));
            let size = (size as u64).clamp(1, left);
            let mut geographies = vec![geography.to_owned()];
            if draws.random_ratio(1, TWO_GEOGRAPHIES_ONE_IN) {
                let others = self.geographies().into_iter();
                geographies.extend(others.filter(|other| other != geography).take(1));
            }
            let name = format!("tenant-{:06}", self.tenants.len() + 1);
            if let Ok(id) = TenantId::parse(&name) {
                let tenant = tenant(id.clone(), geographies, load_of(size));
                self.tenants.insert(id.clone(), tenant);
                names.push(id);
            }
            left -= size;
        }
        names
    }

    /// The fleet as the planner wants it.
    pub(super) fn fleet(&self) -> Fleet {
        let tenants = self.tenants.values().cloned().collect();
        Fleet::new("stampworks".into(), self.stamps.clone(), tenants)
    }

    /// What is used of each stamp.
    pub(super) fn usage(&self, fleet: &Fleet) -> Usage {
        let mut usage = Usage::none(fleet);
        for (tenant, stamp) in &self.homes {
            if let Some(tenant) = self.tenants.get(tenant) {
                usage.add(fleet, stamp, tenant.expected);
            }
        }
        usage
    }

    /// Places tenants; returns how many found no place.
    pub(super) fn place(&mut self, tenants: &[TenantId]) -> u64 {
        let fleet = self.fleet();
        let mut usage = self.usage(&fleet);
        let known = tenants.iter().filter_map(|id| fleet.tenant(id));
        let requests: Vec<Request> = known.map(Request::tenant).collect();
        let mut refused = 0;
        for answer in Planner::new(&fleet).place_all(&mut usage, &requests) {
            match answer.stamp() {
                Some(stamp) => {
                    self.homes.insert(answer.tenant.clone(), stamp.clone());
                }
                None => refused += 1,
            }
        }
        refused
    }

    /// How full the active stamps are.
    pub(super) fn balance(&self) -> Balance {
        let fleet = self.fleet();
        let usage = self.usage(&fleet);
        let active = fleet
            .stamps()
            .iter()
            .filter(|s| s.state == StampState::Active);
        let fills: Vec<f64> = active
            .map(|stamp| stamp.capacity.fill(usage.of(&fleet, &stamp.id)))
            .collect();
        Balance {
            least: fills.iter().copied().fold(f64::INFINITY, f64::min),
            mean: fills.iter().sum::<f64>() / as_f64(fills.len() as u64),
            most: fills.iter().copied().fold(0.0, f64::max),
        }
    }

    /// Recounted from the tenants: stamps over a hard limit, and tenants outside of their geographies.
    pub(super) fn breaches(&self) -> (u64, u64) {
        let fleet = self.fleet();
        let usage = self.usage(&fleet);
        let over = |stamp: &&Stamp| {
            let used = usage.of(&fleet, &stamp.id);
            stamp.capacity.over_hard(used).is_some()
        };
        let outside = |(tenant, stamp): &(&TenantId, &StampId)| {
            let tenant = self.tenants.get(*tenant);
            let geography = fleet.stamp(stamp).map(|stamp| &stamp.geography);
            !tenant
                .zip(geography)
                .is_some_and(|(tenant, geography)| tenant.geographies.contains(geography))
        };
        let over = fleet.stamps().iter().filter(over).count() as u64;
        (over, self.homes.iter().filter(outside).count() as u64)
    }

    /// Devices of a stamp.
    pub(super) fn devices_on(&self, stamp: &StampId) -> u64 {
        let there = self.homes.iter().filter(|(_, home)| *home == stamp);
        let devices = there.filter_map(|(tenant, _)| self.tenants.get(tenant));
        devices.map(|tenant| tenant.expected[Axis::Devices]).sum()
    }
}

/// How full stamps are, 1.0 at a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Balance {
    pub(super) least: f64,
    pub(super) mean: f64,
    pub(super) most: f64,
}

/// Amounts here are far below 2^53.
pub(super) fn as_f64(amount: u64) -> f64 {
    amount as f64
}
