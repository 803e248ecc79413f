//! What a seed's run is made of, and the plan of each storm in it.

use crate::actor::{Fate, Outage, Weather};
use crate::chance::Chance;
use crate::consumer::Program;
use crate::workload::TENANTS;

/// How the consumers of a run come to their partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Each reads all, also several at once.
    Overlap,
    /// Each reads all; the one before is dead by then.
    OneByOne,
    /// They share them through ownership blobs.
    Replicas { renew_ms: u64, expire_ms: u64 },
}

/// What stays the same over one run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) partitions: u32,
    pub(crate) tenants: usize,
    pub(crate) sharing: Sharing,
    pub(crate) owner_level: i64,
    /// The tenant whose store goes away for long and who sends large bodies.
    pub(crate) heavy: Option<usize>,
    /// The tenant that may have two devices a day, and has four.
    pub(crate) limited: Option<usize>,
}

impl Setup {
    pub(crate) fn draw(seed: u64, program: Program) -> Self {
        let mut chance = Chance::new(seed, "setup");
        let tenants = usize::try_from(chance.within(2, 4)).unwrap();
        let sharing = match chance.within(0, 10) {
            0..=2 if program.is_consumer() => {
                let renew_ms = chance.within(2_000, 6_000);
                Sharing::Replicas {
                    renew_ms,
                    expire_ms: renew_ms * chance.within(2, 5),
                }
            }
            3..=4 => Sharing::OneByOne,
            _ => Sharing::Overlap,
        };
        let shared = matches!(sharing, Sharing::Replicas { .. });
        let fenced = chance.percent(if shared { 50 } else { 10 });
        let limited = program.is_consumer() && chance.percent(20);
        let overflows = program.is_consumer() && chance.percent(25);
        Self {
            partitions: if shared { 4 } else { 2 },
            tenants,
            sharing,
            owner_level: if fenced { 0 } else { -1 },
            limited: limited.then(|| usize::try_from(chance.within(0, 2)).unwrap()),
            heavy: overflows.then(|| usize::try_from(chance.within(0, 2)).unwrap()),
        }
    }
}

/// What the world does in a storm.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Append(u32, u64),
    Skip(u32, u64),
    Redeliver(u32),
    /// Retention takes all but about so many events.
    Expire(u32, u64),
    Start(usize),
    Stop(usize),
    Kill(usize),
    Freeze(usize),
    Thaw(usize),
}

/// Who comes in a storm, and what happens when.
pub(crate) struct Plan {
    pub(crate) fates: Vec<Fate>,
    /// By time.
    pub(crate) actions: Vec<(u64, Action)>,
}

impl Plan {
    pub(crate) fn draw(setup: &Setup, program: Program, chance: &mut Chance, from: u64) -> Self {
        let length = chance.within(40_000, 120_000);
        let mut plan = Self {
            fates: Vec::new(),
            actions: Vec::new(),
        };
        let outages = outages(setup, chance, from, length);
        for which in 0..usize::try_from(chance.within(1, 5)).unwrap() {
            plan.consumer(which, &outages, chance, from, length);
        }
        if let Some(outage) = outages.first().filter(|_| chance.percent(70)) {
            // Its rows are on their way by then, in quarantine and in the tenant's tables.
            let which = usize::try_from(chance.within(0, plan.fates.len() as u64)).unwrap();
            let at = outage.to + chance.within(0, 15_000);
            plan.actions.push((at, Action::Kill(which)));
        }
        // An overflow takes many large events.
        let (least, most) = if outages.is_empty() {
            (8, 24)
        } else {
            (25, 50)
        };
        for _ in 0..chance.within(least, most) {
            let at = from + chance.within(0, length);
            let partition = u32::try_from(chance.within(0, setup.partitions.into())).unwrap();
            let event = match chance.within(0, 24) {
                0 | 1 => Action::Skip(partition, chance.within(1, 5)),
                2 | 3 => Action::Redeliver(partition),
                4 if program.is_consumer() => Action::Expire(partition, chance.within(0, 20)),
                _ => Action::Append(partition, chance.within(1, 15)),
            };
            plan.actions.push((at, event));
        }
        plan.actions.sort_by_key(|(ms, _)| *ms);
        plan
    }

    fn consumer(
        &mut self,
        which: usize,
        outages: &[Outage],
        chance: &mut Chance,
        from: u64,
        length: u64,
    ) {
        let start = from + chance.within(0, length / 2);
        let end = chance.within(start, from + length);
        let mut fate = Fate {
            outages: outages.to_vec(),
            ..Fate::default()
        };
        if chance.percent(60) {
            fate.weather = weather(chance);
        }
        self.actions.push((start, Action::Start(which)));
        match chance.within(0, 10) {
            0 | 1 => {
                let hangs = chance.within(start, from + length);
                fate.hangs = Some((hangs, hangs + chance.within(20_000, 600_000)));
            }
            2..=4 => {
                let freezes = chance.within(start, from + length);
                let thaws = freezes + chance.within(5_000, 90_000);
                self.actions.push((freezes, Action::Freeze(which)));
                self.actions.push((thaws, Action::Thaw(which)));
            }
            _ => {}
        }
        match chance.within(0, 10) {
            0..=2 => self.actions.push((end, Action::Kill(which))),
            3..=5 => fate.dies_at = Some(chance.within(0, 300)),
            6..=7 => self.actions.push((end, Action::Stop(which))),
            _ => {}
        }
        self.fates.push(fate);
    }
}

fn outages(setup: &Setup, chance: &mut Chance, from: u64, length: u64) -> Vec<Outage> {
    let Some(tenant) = setup.heavy else {
        return Vec::new();
    };
    let begin = from + chance.within(length / 8, length / 2);
    vec![Outage {
        tenant: TENANTS[tenant],
        from: begin,
        to: begin + chance.within(20_000, length),
        hangs: chance.percent(40),
    }]
}

fn weather(chance: &mut Chance) -> Weather {
    Weather {
        refused: chance.within(0, 60),
        lost: chance.within(0, 100),
        torn: chance.within(0, 60),
        throttled: chance.within(0, 40),
        slow: chance.within(0, 30),
        stale: chance.within(0, 60),
        hub: chance.within(0, 80),
    }
}
