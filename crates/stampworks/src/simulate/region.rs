//! The move of a region: every device of its stamps goes through DPS to another stamp.
//!
//! The planner says where each tenant goes; stamps are added until everybody has a place. A device takes
//! four steps: its old hub turns it away, it registers at DPS, asks once for the outcome, and connects to
//! its new hub. Each stamp has a DPS of its own, since one keeps a million registrations; so the stamps of
//! the region are simulated one after the other. New hubs get far less than they take, which is measured
//! and not modelled: they let everybody in.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_placement::sku::DPS_PER_MINUTE;
use stamp_resilience::pieces::{Jitter, Span};
use stamp_resilience::{Bucket, Reconnect};

use super::catalogue::TIER;
use super::gate::Gate;
use super::outage::{FAULT_ONE_IN, HUB_RETRY_AFTER, PAUSES_WAITED_FOR};
use super::queue::BucketQueue;
use super::strategy::{Pauses, Strategy};

/// Share of the DPS limit that the mover uses.
const PACE_SHARE: f64 = 0.8;
/// What the mover asks of the old hub's registry for each device: read, disable, erase.
const REGISTRY_OPERATIONS: u64 = 3;
/// What DPS asks a device to wait before it asks for the outcome.
const POLL_AFTER: Duration = Duration::from_secs(3);
/// Over how long a device that was turned away spreads its registration.
const REGISTER_SPREAD: Duration = Duration::from_secs(60);
/// Everybody is waited for at least that long, and for [`PAUSES_WAITED_FOR`] after the last device was told.
const HORIZON_MIN_S: u64 = 7 * 86_400;

/// The steps of a device, in order.
pub(super) const STEPS: [&str; 4] = [
    "turned away by the old hub",
    "registration at DPS",
    "poll at DPS",
    "connection to the new hub",
];
const REGISTER: u8 = 1;
const POLL: u8 = 2;
const CONNECT: u8 = 3;

/// What the mover keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Devices a minute and stamp.
    pub(super) per_minute: u64,
    /// Units that the old hub needs meanwhile, so that its registry keeps up.
    pub(super) units: u64,
}

impl Pace {
    /// As DPS allows; a hub whose registry is slower gets units for as long as the move lasts.
    pub(super) fn of_dps(units: u64) -> Self {
        let share = |limit: u64| (limit as f64 * PACE_SHARE) as u64;
        let wanted = share(DPS_PER_MINUTE);
        let registry = |units| share(TIER.registry_per_minute(units)) / REGISTRY_OPERATIONS;
        let enough = |units: &u64| registry(*units) >= wanted;
        let units = (units..TIER.units_max())
            .find(enough)
            .unwrap_or(TIER.units_max());
        Self {
            per_minute: wanted.min(registry(units)).max(1),
            units,
        }
    }
}

/// What came of the devices of some stamps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) devices: u64,
    /// Of each step.
    pub(super) attempts: [u64; 4],
    pub(super) throttled: u64,
    /// Most registrations that one DPS was asked for in a minute.
    pub(super) dps_peak_per_minute: u64,
    /// Most connections that one old hub was asked for in a second.
    pub(super) old_hub_peak_per_second: u64,
    /// Until the last device is in its new hub.
    pub(super) took_s: u64,
    /// Devices that are nowhere at the end.
    pub(super) missing: u64,
    pub(super) bytes: usize,
}

/// Connections that each new hub is asked for in each second, over all old stamps; those that fail included.
pub(super) type Arrivals = Vec<Vec<u32>>;

/// The stamp whose devices move.
pub(super) struct Leaving<'a> {
    /// Devices to each new stamp.
    pub(super) goes: &'a [(usize, u64)],
    /// New connections a second of the old hub.
    pub(super) limit: u64,
    pub(super) pace: Pace,
    pub(super) reconnect: Reconnect,
    pub(super) seed: u64,
}

struct Run {
    pauses: Pauses,
    strategy: Strategy,
    old_hub: Gate,
    dps: Gate,
    queue: BucketQueue,
    /// The step of each device, and its failures in it.
    state: Vec<(u8, u8)>,
    /// First device after those that go to a stamp.
    ends: Vec<(u32, usize)>,
    jitter: Jitter,
    faults: StdRng,
    attempts: [u64; 4],
    arrived: u64,
    horizon_s: u64,
}

/// Simulates one stamp. `series` gets the registrations that DPS is asked for in each minute.
pub(super) fn run(
    leaving: &Leaving<'_>,
    strategy: Strategy,
    arrivals: &mut Arrivals,
    series: &mut Vec<u32>,
) -> Outcome {
    let mut run = Run::new(leaving, strategy);
    let devices = run.state.len() as u64;
    let mut now_s = 0;
    while run.arrived < devices && now_s < run.horizon_s {
        let before = run.attempts[REGISTER as usize];
        run.second(now_s, arrivals);
        let minute = (now_s / 60) as usize;
        series.resize(series.len().max(minute + 1), 0);
        series[minute] += (run.attempts[REGISTER as usize] - before) as u32;
        now_s += 1;
    }
    Outcome {
        devices,
        attempts: run.attempts,
        throttled: run.dps.throttled() + run.old_hub.throttled(),
        dps_peak_per_minute: run.dps.peak(),
        old_hub_peak_per_second: run.old_hub.peak(),
        took_s: now_s,
        missing: devices - run.arrived,
        bytes: run.queue.bytes() + size_of_val(&*run.state),
    }
}

impl Run {
    fn new(leaving: &Leaving<'_>, strategy: Strategy) -> Self {
        let pauses = strategy.pauses(&leaving.reconnect);
        let mut ends: Vec<(u32, usize)> = Vec::new();
        let mut devices = 0_u32;
        for (stamp, count) in leaving.goes {
            devices += *count as u32;
            ends.push((devices, *stamp));
        }
        let mut jitter = Jitter::seeded(leaving.seed, "moved");
        // Naively everybody is told at once.
        let mut mover = Bucket::per_minute(leaving.pace.per_minute, 1);
        let mut told = || match strategy {
            Strategy::Shipped => mover.take(Duration::ZERO),
            _ => Duration::ZERO,
        };
        let waits: Vec<u32> = (0..devices)
            .map(|_| (told() + jitter.draw(pauses.first)).as_secs() as u32)
            .collect();
        let last_s = waits.iter().copied().max().unwrap_or(0);
        let longest_s = pauses.longest_s().max(u64::from(last_s)) + 120;
        let horizon_s = u64::from(last_s) + pauses.longest_s() * PAUSES_WAITED_FOR;
        let mut queue = BucketQueue::new(devices, longest_s);
        for (device, wait_s) in (0..).zip(waits) {
            queue.push(device, 0, u64::from(wait_s));
        }
        Self {
            pauses,
            strategy,
            old_hub: Gate::new(leaving.limit, 1),
            dps: Gate::new(DPS_PER_MINUTE, 60),
            queue,
            state: vec![(0, 0); devices as usize],
            ends,
            jitter,
            faults: StdRng::seed_from_u64(leaving.seed),
            attempts: [0; 4],
            arrived: 0,
            horizon_s: horizon_s.max(HORIZON_MIN_S),
        }
    }

    fn second(&mut self, now_s: u64, arrivals: &mut Arrivals) {
        let mut bucket = self.queue.open(now_s);
        while let Some(device) = self.queue.pop(&mut bucket) {
            let (step, failures) = self.state[device as usize];
            self.attempts[usize::from(step)] += 1;
            if step == CONNECT {
                self.ask_new_hub(device, now_s, arrivals);
            }
            let wait = match self.refusal(step, now_s) {
                None if step == CONNECT => {
                    self.arrived += 1;
                    continue;
                }
                None => {
                    self.state[device as usize] = (step + 1, 0);
                    self.jitter.draw(self.before(step + 1))
                }
                Some(retry_after) => {
                    let failures = failures.saturating_add(1);
                    self.state[device as usize] = (step, failures);
                    self.jitter.draw(self.pauses.after(failures, retry_after))
                }
            };
            self.queue.push(device, now_s, wait.as_secs().max(1));
        }
    }

    /// Why a step is not done now: throttled with a hint, or a fault of the network.
    #[expect(
        clippy::option_option,
        reason = "no refusal, one without a hint, one with"
    )]
    fn refusal(&mut self, step: u8, now_s: u64) -> Option<Option<Duration>> {
        let admitted = match step {
            POLL | CONNECT => true,
            REGISTER => self.dps.ask(now_s),
            _ => self.old_hub.ask(now_s),
        };
        if !admitted {
            let next = Duration::from_secs(self.dps.next_window_s(now_s));
            let of_dps = step == REGISTER;
            return Some(Some(if of_dps { next } else { HUB_RETRY_AFTER }));
        }
        self.faults.random_ratio(1, FAULT_ONE_IN).then_some(None)
    }

    /// From the end of the step before to this one. Everybody waits for DPS: its clients all do.
    fn before(&self, step: u8) -> Span {
        match (step, self.strategy) {
            (POLL, _) => Span::up_to(POLL_AFTER).not_below(POLL_AFTER),
            (REGISTER, Strategy::Shipped) => Span::up_to(REGISTER_SPREAD),
            _ => Span::up_to(Duration::ZERO),
        }
    }

    fn ask_new_hub(&self, device: u32, now_s: u64, arrivals: &mut Arrivals) {
        let of = self.ends.partition_point(|(end, _)| *end <= device);
        let Some((_, stamp)) = self.ends.get(of) else {
            return;
        };
        let (stamp, now_s) = (*stamp, now_s as usize);
        arrivals.resize(arrivals.len().max(stamp + 1), Vec::new());
        let seconds = &mut arrivals[stamp];
        seconds.resize(seconds.len().max(now_s + 1), 0);
        seconds[now_s] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_fails_was_asked_of_the_new_hub_too() {
        let goes = [(0, 5_000), (2, 5_000)];
        let leaving = Leaving {
            goes: &goes,
            limit: 1_000,
            pace: Pace::of_dps(3),
            reconnect: Reconnect::new(10_000, 1_000, 0.5, Duration::from_secs(1)),
            seed: 1,
        };
        let mut arrivals = Arrivals::new();
        let outcome = run(&leaving, Strategy::Shipped, &mut arrivals, &mut Vec::new());
        let asked: u64 = arrivals
            .iter()
            .flatten()
            .map(|asked| u64::from(*asked))
            .sum();
        assert_eq!(outcome.missing, 0);
        assert_eq!(asked, outcome.attempts[usize::from(CONNECT)]);
        assert!(asked > outcome.devices, "{asked}");
    }

    #[test]
    fn the_mover_keeps_to_the_slower_of_dps_and_registry() {
        let pace = Pace::of_dps(3);
        assert_eq!(pace.per_minute, 800);
        let registry = TIER.registry_per_minute(pace.units);
        assert!(pace.per_minute * REGISTRY_OPERATIONS <= registry * 4 / 5);
        let fewer = TIER.registry_per_minute(pace.units - 1);
        assert!(pace.per_minute * REGISTRY_OPERATIONS > fewer * 4 / 5);
    }
}
