//! A kill and a freeze at every moment of one run, one after the other.
//!
//! A process reaches the outside by its requests to store and hub, so between two of them it does
//! not matter where it dies. Each request to the store has a moment before it is made and one after
//! it was made and before the process knows; each request to the hub and each pull has one.

use crate::actor::{Fate, Outage};
use crate::consumer::Program;
use crate::first_failure;
use crate::host::Host;
use crate::setup::{Setup, Sharing};
use crate::sound;
use crate::workload::TENANTS;
use crate::world::{CALM_TICK_MS, World};

/// Any seed will do: there is no weather, the events are what it decides.
const SEED: u64 = 3;
/// A seed whose overflow ends with large events: a mark above events that were not in quarantine
/// yet once lost one of them here.
const OVERFLOW_SEED: u64 = 9;
const TICK_MS: u64 = 16;

const SETUP: Setup = Setup {
    partitions: 1,
    tenants: 2,
    sharing: Sharing::Overlap,
    owner_level: -1,
    heavy: None,
    limited: None,
};

/// One consumer from its start through flushes, a gap and a clean stop, with at most one trouble.
fn one_life(fate: Fate) -> World {
    let mut world = World::new(SEED, Program::Consumer, SETUP);
    world.append(0, 12);
    world.launch(fate);
    world.advance(6_000, TICK_MS);
    world.skip(0, 2);
    world.append(0, 8);
    for _ in 0..120 {
        world.advance(world.now_ms + 250, TICK_MS);
        if !world.hosts[0].runs() {
            return world;
        }
    }
    world.hosts[0].stop();
    while world.hosts[0].runs() {
        world.advance(world.now_ms + 250, TICK_MS);
    }
    world
}

/// As [`one_life`], with a tenant whose store is away for half a minute while its events find no
/// room, and come on after it.
fn overflowing_life(mut fate: Fate) -> World {
    let setup = Setup {
        heavy: Some(1),
        ..SETUP
    };
    fate.outages.push(Outage {
        tenant: TENANTS[1],
        from: 4_000,
        to: 14_000,
        hangs: false,
    });
    let mut world = World::new(OVERFLOW_SEED, Program::Consumer, setup);
    world.launch(fate);
    for _ in 0..26 {
        world.append(0, 4);
        world.advance(world.now_ms + 1_000, 2 * TICK_MS);
        if !world.hosts[0].runs() {
            return world;
        }
    }
    world.hosts[0].stop();
    while world.hosts[0].runs() {
        world.advance(world.now_ms + 250, TICK_MS);
    }
    world
}

fn moments(life: impl Fn(Fate) -> World) -> u64 {
    let mut world = life(Fate::default());
    let count = world.hosts[0].actor().moments();
    world.wait_for_end(true);
    world.settle();
    world.check(true);
    let outcome = world.outcome();
    assert_eq!(outcome.differences, Vec::<String>::new());
    println!("{count} moments, {:?}", outcome.tally);
    count
}

fn killed_at(moment: u64, life: impl Fn(Fate) -> World) -> World {
    let mut world = life(Fate {
        dies_at: Some(moment),
        ..Fate::default()
    });
    world.wait_for_end(false);
    world.check(false);
    world.settle();
    world.check(true);
    world
}

fn frozen_at(moment: u64) -> World {
    let mut world = one_life(Fate {
        freezes_at: Some(moment),
        ..Fate::default()
    });
    if !world.hosts[0].actor().is_frozen() {
        world.differences.push("did not freeze".into());
    }
    world.append(0, 4);
    world.launch(Fate::default());
    world.wait_until_settled();
    world.check(true);
    world.append(0, 4);
    let now_ms = world.now_ms;
    world.hosts[0].thaw(now_ms);
    world.advance(now_ms + 20_000, CALM_TICK_MS);
    world.wait_until_settled();
    world.hosts.iter().for_each(Host::stop);
    world.wait_for_end(true);
    world.check(true);
    world
}

#[test]
fn a_stop_ends_a_consumer_whose_start_hangs() {
    let mut world = World::new(SEED, Program::Consumer, SETUP);
    world.append(0, 12);
    world.launch(Fate {
        hangs: Some((1_000, 3_600_000)),
        ..Fate::default()
    });
    world.advance(5_000, TICK_MS);
    world.hosts[0].stop();
    world.wait_for_end(true);
    assert_eq!(world.outcome().differences, Vec::<String>::new());
}

/// Fewest moments that this run may have: fewer, and it no longer does what it is here for.
const MOMENTS_MIN: u64 = 150;

/// Fault scenarios 1, 2, 3, 4 and 5.
#[test]
fn a_kill_at_every_request_of_a_life_loses_nothing_and_doubles_nothing() {
    let moments = moments(one_life);
    assert!(moments >= MOMENTS_MIN, "{moments} moments");
    let judge = |moment| sound(&killed_at(moment, one_life).outcome());
    assert_eq!(first_failure(0..moments, judge), None);
    println!("killed at each of {moments} moments: no difference");
}

#[test]
fn a_kill_at_every_request_of_an_overflow_loses_nothing_and_doubles_nothing() {
    let moments = moments(overflowing_life);
    assert!(moments >= MOMENTS_MIN, "{moments} moments");
    let judge = |moment| sound(&killed_at(moment, overflowing_life).outcome());
    assert_eq!(first_failure(0..moments, judge), None);
    println!("killed at each of {moments} moments: no difference");
}

/// Fault scenario 13.
#[test]
fn a_freeze_at_every_request_with_another_taking_over_loses_nothing_and_doubles_nothing() {
    let moments = moments(one_life);
    assert!(moments >= MOMENTS_MIN, "{moments} moments");
    let failure = first_failure(0..moments, |moment| sound(&frozen_at(moment).outcome()));
    assert_eq!(failure, None);
    println!("frozen at each of {moments} moments: no difference");
}
