//! Where the tenants of a region go: the planner's answers, with stamps added until everybody has a place.

use stamp_model::{StampId, TenantId};
use stamp_placement::{Axis, StampState};

use super::world::World;

/// Where everybody goes.
pub(super) struct Plan {
    /// The fleet after the move.
    pub(super) world: World,
    pub(super) region: String,
    /// Stamps that had to be added.
    pub(super) added: u64,
    /// Tenants that found no place.
    pub(super) refused: u64,
    pub(super) tenants: u64,
    /// Each old stamp, with the devices that go to each new one.
    pub(super) moves: Vec<(StampId, Vec<(usize, u64)>)>,
}

/// Plans the move of the first region that has another one beside it.
pub(super) fn plan(world: &World) -> Plan {
    let mut world = world.clone();
    let (region, geography) = (
        world.stamps[0].region.clone(),
        world.stamps[0].geography.clone(),
    );
    let beside = world
        .stamps
        .iter()
        .find(|s| s.geography == geography && s.region != region);
    let beside = beside.map_or(region.clone(), |stamp| stamp.region.clone());
    let leaving: Vec<StampId> = of_region(&world, &region);
    for stamp in world
        .stamps
        .iter_mut()
        .filter(|stamp| stamp.region == region)
    {
        stamp.state = StampState::Draining;
    }
    let old = world.homes.clone();
    let moving: Vec<_> = old
        .iter()
        .filter(|(_, home)| leaving.contains(home))
        .collect();
    let tenants: Vec<_> = moving.iter().map(|(tenant, _)| (*tenant).clone()).collect();
    world.homes.retain(|_, home| !leaving.contains(home));
    let (mut added, mut refused);
    let before = world.clone();
    let stamps_max = leaving.len() as u64 + 1;
    added = 0;
    loop {
        refused = world.place(&tenants);
        if refused == 0 || added == stamps_max {
            break;
        }
        added += 1;
        world = before.clone();
        for _ in 0..added {
            world.add_stamp(&beside, &geography, StampState::Active);
        }
    }
    let moves = leaving
        .iter()
        .map(|stamp| (stamp.clone(), goes(&world, &moving, stamp)));
    Plan {
        moves: moves.collect(),
        region,
        added,
        refused,
        tenants: tenants.len() as u64,
        world,
    }
}

fn of_region(world: &World, region: &str) -> Vec<StampId> {
    let there = world.stamps.iter().filter(|stamp| stamp.region == region);
    there.map(|stamp| stamp.id.clone()).collect()
}

/// The devices that leave a stamp, by the index of their new one.
fn goes(world: &World, moving: &[(&TenantId, &StampId)], from: &StampId) -> Vec<(usize, u64)> {
    let mut goes = Vec::new();
    for (tenant, _) in moving.iter().filter(|(_, home)| *home == from) {
        let new = world.homes.get(*tenant);
        let index = new.and_then(|new| world.stamps.iter().position(|s| s.id == *new));
        let devices = world
            .tenants
            .get(*tenant)
            .map(|t| t.expected[Axis::Devices]);
        goes.extend(index.zip(devices));
    }
    goes
}
