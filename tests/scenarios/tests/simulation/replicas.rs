//! Replicas that share the partitions: who reads what after one joins, dies, freezes or wakes up.
//!
//! A partition counts as owned by who has a receiver of it open. In a storm anything may be so for
//! a while; here the weather is fine, and the bounds of docs/adr/0007 must hold.

use std::collections::BTreeMap;

use stamp_model::PartitionId;

use crate::actor::Fate;
use crate::host::{Ended, Host};
use crate::setup::Sharing;
use crate::world::{CALM_TICK_MS, World};

/// How long breakers, budgets and slow answers of a storm may last into fine weather.
const CLEARING_MS: u64 = 240_000;
/// Start-up spread, reading where to start, opening.
const START_MS: u64 = 10_000;

/// Watches how many read each partition, while it is told to.
#[derive(Default)]
pub(crate) struct Owners {
    watched: Vec<PartitionId>,
    doubled_max_ms: u64,
    /// Since when more than one reads it.
    doubled_since: BTreeMap<PartitionId, u64>,
}

impl Owners {
    /// Partitions that two read for longer than they may.
    pub(crate) fn look(&mut self, hosts: &[Host], now_ms: u64) -> Vec<String> {
        let mut told = Vec::new();
        for &partition in &self.watched {
            if readers(hosts, partition).len() < 2 {
                self.doubled_since.remove(&partition);
                continue;
            }
            let since = *self.doubled_since.entry(partition).or_insert(now_ms);
            if now_ms - since > self.doubled_max_ms {
                let who = readers(hosts, partition);
                told.push(format!(
                    "{partition} is read by {who:?} since {since}, at {now_ms}"
                ));
                self.doubled_since.insert(partition, now_ms);
            }
        }
        told
    }
}

/// Who of those that run reads a partition.
fn readers(hosts: &[Host], partition: PartitionId) -> Vec<u64> {
    let reading = hosts
        .iter()
        .filter(|host| host.runs() && host.reads(partition));
    reading.map(|host| host.actor().id).collect()
}

impl World {
    /// The weather clears, and then one replica after another joins, dies, freezes and wakes up.
    pub(crate) fn calm_after_storm(&mut self) {
        let Sharing::Replicas {
            renew_ms,
            expire_ms,
        } = self.setup.sharing
        else {
            return;
        };
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            host.thaw(now_ms);
            host.actor().calm(now_ms);
            if host.actor().hangs_after(now_ms) {
                host.kill();
            }
        }
        self.advance(self.now_ms + CLEARING_MS, CALM_TICK_MS);
        self.forget_ended();
        for _ in self.hosts.len()..2 {
            self.launch(Fate::default());
        }
        let moves_ms = expire_ms + 5 * renew_ms + START_MS;
        self.balanced_within("the storm", moves_ms);
        self.owners = Owners {
            watched: self.partitions().collect(),
            doubled_max_ms: 2 * renew_ms + 1_000,
            doubled_since: BTreeMap::new(),
        };
        for _ in 0..self.chance.within(1, 4) {
            self.append(0, 3);
            match self.chance.within(0, 3) {
                0 => {
                    self.launch(Fate::default());
                    // One partition a round from the richest, until all are within one.
                    self.balanced_within("a replica joined", 6 * renew_ms + START_MS);
                }
                1 => {
                    self.lose_one(Host::kill);
                    self.balanced_within("a replica died", moves_ms);
                }
                _ => self.freeze_one(moves_ms, 6 * renew_ms + START_MS),
            }
        }
        self.owners = Owners::default();
    }

    fn freeze_one(&mut self, moves_ms: u64, returns_ms: u64) {
        let frozen = self.lose_one(|host| host.freeze());
        self.balanced_within("a replica froze", moves_ms);
        let now_ms = self.now_ms;
        if let Some(frozen) = frozen {
            self.hosts[frozen].thaw(now_ms);
            self.balanced_within("a frozen replica woke up", returns_ms);
        }
    }

    /// Does it to a replica that reads something, never to the last one that runs.
    fn lose_one(&mut self, lose: impl FnOnce(&mut Host)) -> Option<usize> {
        if self.hosts.iter().filter(|host| host.runs()).count() < 2 {
            self.launch(Fate::default());
            self.advance(self.now_ms + START_MS, CALM_TICK_MS);
        }
        let partitions: Vec<PartitionId> = self.partitions().collect();
        let reads = |host: &Host| partitions.iter().any(|&p| host.reads(p));
        let who = (0..self.hosts.len()).find(|&at| self.hosts[at].runs() && reads(&self.hosts[at]));
        if let Some(at) = who {
            lose(&mut self.hosts[at]);
            self.note(format!("lost: {}", self.hosts[at].actor().id));
        }
        who
    }

    /// Waits until each partition is read by one replica and all have as many within one, and then
    /// for a while to see that it stays so.
    fn balanced_within(&mut self, after: &str, bound_ms: u64) {
        let (from, until) = (self.now_ms, self.now_ms + bound_ms);
        while !self.is_balanced() {
            if self.now_ms >= until {
                let shares = self.shares();
                self.differences.push(format!(
                    "{bound_ms} ms after {after} at {from} the shares are {shares:?}"
                ));
                return;
            }
            self.advance(self.now_ms + CALM_TICK_MS, CALM_TICK_MS);
        }
        let shares = self.shares();
        self.note(format!("balanced after {after}: {shares:?}"));
        let failed = self.hosts.iter().filter_map(|host| match host.ended() {
            Some(Ended::Failed(error)) => Some(format!("after {after}: {error}")),
            _ => None,
        });
        self.differences.extend(failed);
    }

    /// Whether each partition has one reader, and the replicas have as many within one.
    fn is_balanced(&self) -> bool {
        let shares = self.shares();
        let counts: Vec<usize> = shares.values().map(Vec::len).collect();
        let single = self
            .partitions()
            .all(|p| readers(&self.hosts, p).len() == 1);
        let (least, most) = (counts.iter().min(), counts.iter().max());
        single && matches!((least, most), (Some(least), Some(most)) if most - least <= 1)
    }

    fn shares(&self) -> BTreeMap<u64, Vec<u32>> {
        let running = self.hosts.iter().filter(|host| host.runs());
        let shares = running.map(|host| {
            let read = self.partitions().filter(|&p| host.reads(p));
            (host.actor().id, read.map(PartitionId::number).collect())
        });
        shares.collect()
    }
}
