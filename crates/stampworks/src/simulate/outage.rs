//! The outage of a hub: every device loses its connection at 0 s, the hub is back `outage` later.
//!
//! Hubs have nothing in common, so they are simulated one after the other: memory is that of the largest.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_resilience::Reconnect;
use stamp_resilience::pieces::Jitter;

use super::gate::Gate;
use super::gateway::{GATEWAY_DEVICES, Gateways};
use super::queue::BucketQueue;
use super::strategy::{Pauses, Strategy};

/// What the hub asks a throttled device to wait. IoT Hub's own text: "Wait 10 seconds and try again".
pub(super) const HUB_RETRY_AFTER: Duration = Duration::from_secs(10);
/// One in so many attempts fails by itself, hub or no hub: networks do.
pub(super) const FAULT_ONE_IN: u32 = 100;
/// Everybody is waited for at least that long.
const HORIZON_MIN_S: u64 = 86_400;
/// And for so many of the longest pauses after the first attempt. Of ten million devices whose attempts fail one
/// time in a hundred, none fails that often by chance.
pub(super) const PAUSES_WAITED_FOR: u64 = 8;

/// The hub and who is connected to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hub {
    pub(super) devices: u32,
    /// Of them, behind gateways. Only the shipped strategy makes a difference.
    pub(super) behind_gateways: u32,
    /// New connections a second.
    pub(super) limit: u64,
    pub(super) reconnect: Reconnect,
    pub(super) seed: u64,
}

impl Hub {
    /// How long everybody is waited for: a day, or longer when the devices' own pauses are that long.
    pub(super) fn horizon_s(&self, outage: Duration) -> u64 {
        let pauses_s = self.reconnect.pause_max().as_secs() * PAUSES_WAITED_FOR;
        let needed_s = outage.as_secs() + self.reconnect.spread().as_secs() + pauses_s;
        needed_s.max(HORIZON_MIN_S)
    }
}

/// What came of it. Every attempt is counted, those to a dead hub included.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    /// Reconnects that had to be made: one a device. Alone, and behind gateways.
    pub(super) operations: [u64; 2],
    /// Attempts made for them.
    pub(super) attempts: [u64; 2],
    /// Attempts that the hub refused with `Retry-After`.
    pub(super) throttled: u64,
    /// Most attempts in one second once the hub is back, refused ones included.
    pub(super) peak_per_second: u64,
    /// From the hub's return until 99 in 100 devices are connected.
    pub(super) most_s: u64,
    /// From the hub's return until all are.
    pub(super) all_s: u64,
    /// Not connected at the end.
    pub(super) missing: u64,
    /// Bytes of state.
    pub(super) bytes: usize,
}

struct Run {
    hub: Hub,
    outage_s: u64,
    pauses: Pauses,
    gateways: Option<Gateways>,
    gate: Gate,
    queue: BucketQueue,
    /// Failed attempts, or attempts of the operation for a device behind a gateway.
    tries: Vec<u8>,
    jitter: Jitter,
    faults: StdRng,
    attempts: [u64; 2],
    connected: u64,
}

enum Answer {
    Connected,
    Failed(Option<Duration>),
}

/// Simulates one hub. `series` gets the attempts of each second.
pub(super) fn run(
    hub: &Hub,
    outage: Duration,
    strategy: Strategy,
    series: &mut Vec<u32>,
) -> Outcome {
    let mut hub = *hub;
    if strategy != Strategy::Shipped {
        hub.behind_gateways = 0;
    }
    let mut run = Run::new(hub, outage.as_secs(), strategy);
    run.lose_all();
    let devices = u64::from(hub.devices);
    let horizon_s = hub.horizon_s(outage);
    let (mut now_s, mut most_s) = (0, None);
    while run.connected < devices && now_s < horizon_s {
        let made = run.second(now_s);
        series.push(u32::try_from(made).unwrap_or(u32::MAX));
        now_s += 1;
        if run.connected * 100 >= devices * 99 {
            most_s.get_or_insert(now_s);
        }
    }
    let since_return = |at_s: u64| at_s.saturating_sub(outage.as_secs());
    let behind = u64::from(hub.behind_gateways);
    Outcome {
        operations: [devices - behind, behind],
        attempts: run.attempts,
        throttled: run.gate.throttled(),
        peak_per_second: run.gate.peak(),
        most_s: since_return(most_s.unwrap_or(now_s)),
        all_s: since_return(now_s),
        missing: devices - run.connected,
        bytes: run.bytes(),
    }
}

impl Run {
    fn new(hub: Hub, outage_s: u64, strategy: Strategy) -> Self {
        let pauses = strategy.pauses(&hub.reconnect);
        let gateways =
            (hub.behind_gateways > 0).then(|| Gateways::new(hub.behind_gateways, hub.reconnect));
        let longest_s = gateways.as_ref().map_or(0, Gateways::longest_s);
        let longest_s = longest_s.max(pauses.longest_s()) + HUB_RETRY_AFTER.as_secs();
        Self {
            queue: BucketQueue::new(hub.devices, longest_s),
            tries: vec![0; hub.devices as usize],
            gate: Gate::new(hub.limit, 1),
            jitter: Jitter::seeded(hub.seed, "devices"),
            faults: StdRng::seed_from_u64(hub.seed),
            attempts: [0; 2],
            connected: 0,
            hub,
            outage_s,
            pauses,
            gateways,
        }
    }

    fn bytes(&self) -> usize {
        let gateways = self.gateways.as_ref().map_or(0, Gateways::bytes);
        self.queue.bytes() + self.tries.len() + gateways
    }

    fn lose_all(&mut self) {
        for device in 0..self.hub.devices {
            let wait = self.jitter.draw(self.pauses.first);
            self.queue.push(device, 0, wait.as_secs());
        }
    }

    /// Gives everybody whose turn it is their attempt; returns how many were made.
    fn second(&mut self, now_s: u64) -> u64 {
        let before: u64 = self.attempts.iter().sum();
        let mut bucket = self.queue.open(now_s);
        while let Some(device) = self.queue.pop(&mut bucket) {
            let wait = match self.gateway_of(device) {
                Some(gateway) => self.through(gateway, device, now_s),
                None => self.alone(device, now_s),
            };
            if let Some(wait) = wait {
                self.queue.push(device, now_s, wait.as_secs().max(1));
            }
        }
        self.attempts.iter().sum::<u64>() - before
    }

    /// The last devices are behind gateways.
    fn gateway_of(&self, device: u32) -> Option<u32> {
        let first = self.hub.devices - self.hub.behind_gateways;
        (self.gateways.is_some() && device >= first).then(|| (device - first) / GATEWAY_DEVICES)
    }

    /// The turn of a device that acts alone: how long it waits then, `None` when it is connected.
    fn alone(&mut self, device: u32, now_s: u64) -> Option<Duration> {
        match self.attempt(0, now_s) {
            Answer::Connected => None,
            Answer::Failed(retry_after) => {
                let tries = &mut self.tries[device as usize];
                *tries = tries.saturating_add(1);
                Some(self.jitter.draw(self.pauses.after(*tries, retry_after)))
            }
        }
    }

    /// The turn of a device behind a gateway.
    fn through(&mut self, gateway: u32, device: u32, now_s: u64) -> Option<Duration> {
        let mut gateways = self.gateways.take()?;
        let wait = self.through_these(&mut gateways, gateway, device, now_s);
        self.gateways = Some(gateways);
        wait
    }

    fn through_these(
        &mut self,
        gateways: &mut Gateways,
        gateway: u32,
        device: u32,
        now_s: u64,
    ) -> Option<Duration> {
        let made = self.tries[device as usize];
        let ticket = match gateways.admit(gateway, made, now_s, &mut self.jitter) {
            Ok(ticket) => ticket,
            Err(wait) => {
                self.tries[device as usize] = 0;
                return Some(wait);
            }
        };
        match self.attempt(1, now_s) {
            Answer::Connected => {
                gateways.answered(gateway, ticket, now_s);
                None
            }
            Answer::Failed(hint) => {
                let next =
                    gateways.failed(gateway, ticket, made + 1, hint, now_s, &mut self.jitter);
                self.tries[device as usize] = next.attempts;
                Some(next.pause)
            }
        }
    }

    fn attempt(&mut self, cohort: usize, now_s: u64) -> Answer {
        self.attempts[cohort] += 1;
        if now_s < self.outage_s {
            return Answer::Failed(None);
        }
        if !self.gate.ask(now_s) {
            return Answer::Failed(Some(HUB_RETRY_AFTER));
        }
        if self.faults.random_ratio(1, FAULT_ONE_IN) {
            return Answer::Failed(None);
        }
        self.connected += 1;
        Answer::Connected
    }
}
