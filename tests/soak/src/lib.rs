//! A soak: replicas of the real service, real blobs behind a fault proxy, a hub behind another, a
//! producer with a ledger, and a driver that kills, stops and breaks things from one seed.
//!
//! At the end everything is let go, the stamp must settle by itself, `stampworks verify` recounts
//! it, and programs that nobody here wrote compare the tables with the ledger, event by event and by
//! tenant and window. Nothing here helps the service: a process that ends is started again, as an
//! orchestrator would, and that is all.

mod chaos;
mod outage;
mod producer;
mod recount;
mod replica;
mod report;
mod world;

pub use report::{Outage, Report};

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, MissedTickBehavior, interval};

use chaos::Chaos;
use outage::LongOutage;
use world::World;

/// Longest time the stamp may take to settle once everything works again.
const SETTLE_MAX: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(200);
/// Every so many ticks the replicas are looked at.
const TICKS_PER_SAMPLE: u64 = 5;

/// What a soak is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long faults are made. Settling and recounting come on top.
    pub time: Duration,
    /// Of the events and the faults. What the processes do between them is theirs.
    pub seed: u64,
    /// The `stampworks` program.
    pub program: PathBuf,
    /// Processes that share the partitions.
    pub replicas: usize,
    /// Partitions of the hub.
    pub partitions: u32,
    /// Events that the devices send.
    pub events_per_s: u32,
    /// One outage of the store without other faults, to see that memory stays flat.
    pub outage: Option<Duration>,
}

impl Plan {
    /// Three replicas and six partitions; with 15 minutes or more one outage of five.
    #[must_use]
    pub fn new(time: Duration, seed: u64, program: PathBuf) -> Self {
        let is_long = time >= Duration::from_secs(15 * 60);
        Self {
            time,
            seed,
            program,
            replicas: 3,
            partitions: 6,
            events_per_s: 500,
            outage: is_long.then_some(Duration::from_secs(300)),
        }
    }
}

/// Runs the plan, lets the stamp settle and recounts it.
///
/// # Errors
/// When the stamp does not settle, and when a part of the soak itself does not work. Differences
/// are in the report.
///
/// # Panics
/// When the interop tools are not installed.
pub async fn run(plan: Plan) -> Result<Report> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let result = run_in(plan, folder.path()).await;
    if matches!(&result, Ok(report) if report.is_good()) {
        return result;
    }
    // What it left is the only way to find out why.
    let kept = format!("logs and tables are kept in {}", folder.keep().display());
    let mut report = result.with_context(|| kept.clone())?;
    report.differences.push(kept);
    Ok(report)
}

async fn run_in(plan: Plan, folder: &std::path::Path) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut world = World::start(&plan, folder).await?;
    let mut chaos = Chaos::new(StdRng::from_rng(&mut random));
    let began = Instant::now();
    let mut long = plan
        .outage
        .map(|time| LongOutage::new(began + plan.time / 3, time));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tick = 0;
    while began.elapsed() < plan.time {
        ticks.tick().await;
        tick += 1;
        world.produce()?;
        world.restart_ended()?;
        if tick % TICKS_PER_SAMPLE == 0 {
            world.sample().await?;
        }
        let is_quiet = match &mut long {
            Some(long) => long.step(&mut world, &mut chaos)?,
            None => false,
        };
        if !is_quiet {
            chaos.step(&mut world)?;
        }
    }
    chaos.end(&mut world)?;
    let asked = Instant::now();
    while world.sample().await? > 0 {
        ticks.tick().await;
        world.restart_ended()?;
        ensure!(
            asked.elapsed() < SETTLE_MAX,
            "{} events are not settled after {SETTLE_MAX:?} without a fault",
            world.lag()
        );
    }
    let settled_in = asked.elapsed();
    let outage = long.and_then(LongOutage::into_report);
    world.finish(&plan, chaos, settled_in, outage).await
}
