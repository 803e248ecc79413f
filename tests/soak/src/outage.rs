//! One long outage of the store and nothing else, to see memory stay and lag go.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::chaos::Chaos;
use crate::report::Outage;
use crate::world::World;

/// Quiet time before it, so that memory and lag are those of normal work.
const QUIET: Duration = Duration::from_secs(30);
/// After so long the buffers are full; from then on memory must not grow.
const FILLING: Duration = Duration::from_secs(120);
/// Longest time to work off what waited.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Quiet,
    Filling,
    Full,
    Recovering,
    Over,
}

pub(crate) struct LongOutage {
    at: Instant,
    time: Duration,
    phase: Phase,
    lag_before: u64,
    report: Outage,
}

impl LongOutage {
    pub(crate) fn new(at: Instant, time: Duration) -> Self {
        Self {
            at,
            time,
            phase: Phase::Before,
            lag_before: 0,
            report: Outage {
                time,
                ..Outage::default()
            },
        }
    }

    /// Goes on; whether everything else has to be left alone now.
    pub(crate) fn step(&mut self, world: &mut World, chaos: &mut Chaos) -> Result<bool> {
        let since = Instant::now().saturating_duration_since(self.at);
        let resident = world.replicas.iter().map(|r| r.resident_bytes).max();
        let resident = resident.unwrap_or(0);
        match self.phase {
            Phase::Before if since.is_zero() => {}
            Phase::Before => {
                chaos.end(world)?;
                self.phase = Phase::Quiet;
            }
            Phase::Quiet => {
                self.report.resident_before = self.report.resident_before.max(resident);
                if since >= QUIET / 2 {
                    self.lag_before = self.lag_before.max(world.lag());
                }
                if since >= QUIET {
                    world.store.refuse(true);
                    self.phase = Phase::Filling;
                }
            }
            Phase::Filling => {
                self.report.resident_filled = self.report.resident_filled.max(resident);
                if since >= QUIET + FILLING.min(self.time / 2) {
                    self.phase = Phase::Full;
                }
            }
            Phase::Full => {
                self.report.resident_max = self.report.resident_max.max(resident);
                if since >= QUIET + self.time {
                    self.report.lag = world.lag();
                    world.store.refuse(false);
                    self.phase = Phase::Recovering;
                }
            }
            Phase::Recovering => {
                let recovered_in = since.saturating_sub(QUIET + self.time);
                if world.lag() <= self.lag_before {
                    self.report.recovered_in = Some(recovered_in);
                    self.phase = Phase::Over;
                } else if recovered_in >= RECOVERY_MAX {
                    self.phase = Phase::Over;
                }
            }
            Phase::Over => {}
        }
        Ok(!matches!(self.phase, Phase::Before | Phase::Over))
    }

    pub(crate) fn into_report(self) -> Option<Outage> {
        (self.phase == Phase::Over).then_some(self.report)
    }
}
