//! What goes wrong, and when: drawn from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use stamp_emulator::Refusal;
use stamp_interop::{Answer, Fault, Rule};
use tokio::time::Instant;

use crate::world::World;

/// What ends a fault that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    Start(usize),
    Continue(usize),
    OpenStore,
    OpenNetwork,
    Thaw,
}

/// The driver: makes one fault after another, and ends each.
pub(crate) struct Chaos {
    random: StdRng,
    next: Instant,
    undo: Vec<(Instant, Undo)>,
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
    /// Faults of store and hub by name.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

impl Chaos {
    pub(crate) fn new(random: StdRng) -> Self {
        Self {
            random,
            next: Instant::now() + Duration::from_secs(5),
            undo: Vec::new(),
            kills: 0,
            pauses: 0,
            faults: BTreeMap::new(),
        }
    }

    /// Ends what is due to end, and makes the next fault when it is time.
    pub(crate) fn step(&mut self, world: &mut World) -> Result<()> {
        let now = Instant::now();
        self.undo_until(world, now)?;
        if now < self.next {
            return Ok(());
        }
        self.next = now + Duration::from_millis(self.random.random_range(1_000..5_000));
        match self.random.random_range(0..10) {
            0 | 1 => self.kill(world),
            2 => self.pause(world),
            3..7 => {
                self.break_store(world);
                Ok(())
            }
            _ => {
                self.break_hub(world);
                Ok(())
            }
        }
    }

    /// Ends everything, whenever it was to end.
    pub(crate) fn end(&mut self, world: &mut World) -> Result<()> {
        let undo = std::mem::take(&mut self.undo);
        for (_, what) in undo {
            Self::undo(world, what)?;
        }
        world.store.clear();
        world.network.clear();
        world.hub.faults().clear();
        Ok(())
    }

    fn undo_until(&mut self, world: &mut World, now: Instant) -> Result<()> {
        let (due, later) = self.undo.iter().partition(|(at, _)| *at <= now);
        self.undo = later;
        let due: Vec<(Instant, Undo)> = due;
        due.into_iter()
            .try_for_each(|(_, what)| Self::undo(world, what))
    }

    fn undo(world: &mut World, what: Undo) -> Result<()> {
        match what {
            Undo::Start(number) => world.replicas[number].restart_if_ended()?,
            Undo::Continue(number) => {
                world.replicas[number].signal("CONT")?;
                world.replicas[number].is_stopped = false;
            }
            Undo::OpenStore => world.store.refuse(false),
            Undo::OpenNetwork => world.network.refuse(false),
            Undo::Thaw => world.network.freeze(false),
        }
        Ok(())
    }

    fn later(&mut self, ms: std::ops::Range<u64>, what: Undo) {
        let at = Instant::now() + Duration::from_millis(self.random.random_range(ms));
        self.undo.push((at, what));
    }

    fn kill(&mut self, world: &mut World) -> Result<()> {
        let number = self.random.random_range(0..world.replicas.len());
        self.undo
            .retain(|(_, what)| *what != Undo::Continue(number));
        self.kills += 1;
        // The orchestrator starts it again with the next tick.
        world.replicas[number].kill()?;
        self.later(0..1_000, Undo::Start(number));
        Ok(())
    }

    /// Longer than its partitions take to expire, or shorter.
    fn pause(&mut self, world: &mut World) -> Result<()> {
        let number = self.random.random_range(0..world.replicas.len());
        if world.replicas[number].is_stopped {
            return Ok(());
        }
        self.pauses += 1;
        world.replicas[number].signal("STOP")?;
        world.replicas[number].is_stopped = true;
        self.later(500..15_000, Undo::Continue(number));
        Ok(())
    }

    fn count(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    fn break_store(&mut self, world: &World) {
        let time = Duration::from_millis(self.random.random_range(500..5_000));
        let times = self.random.random_range(1..8);
        let busy = || Answer::busy().retry_after(Duration::from_secs(1));
        let store = &world.store;
        let (name, rule) = match self.random.random_range(0..10) {
            0 => {
                store.refuse(true);
                self.later(500..5_000, Undo::OpenStore);
                return self.count("store refuses");
            }
            1 => ("store hangs", Rule::new(Fault::Hang).times(times)),
            2 => (
                "store is busy",
                Rule::new(Fault::Answer(busy())).lasting(time),
            ),
            3 => (
                "store fails",
                Rule::new(Fault::Answer(Answer::internal_error())).times(times * 4),
            ),
            4 => (
                "store denies",
                Rule::new(Fault::Answer(Answer::authentication_failed())).lasting(time / 2),
            ),
            5 => (
                "store is slow",
                Rule::new(Fault::Slow {
                    bytes_per_s: 100_000,
                })
                .lasting(time),
            ),
            6 => (
                "commit replies are lost",
                Rule::new(Fault::LoseReply)
                    .method("PUT")
                    .path("/_delta_log/")
                    .times(times),
            ),
            7 => (
                "commits are done and answered busy",
                Rule::new(Fault::AnswerAfter(Answer::busy()))
                    .method("PUT")
                    .path("/_delta_log/")
                    .times(times),
            ),
            8 => ("replies are torn", Rule::new(Fault::TearReply).times(times)),
            _ => (
                "checkpoint replies are lost",
                Rule::new(Fault::LoseReply)
                    .method("PUT")
                    .path("/checkpoint/")
                    .times(times),
            ),
        };
        self.count(name);
        store.inject(rule);
    }

    fn break_hub(&mut self, world: &World) {
        let partition = self.random.random_range(0..world.hub.partitions());
        let events = self.random.random_range(1..200);
        let faults = world.hub.faults();
        let name = match self.random.random_range(0..7) {
            0 => {
                world.network.cut();
                "hub connections are cut"
            }
            1 => {
                world.network.refuse(true);
                self.later(500..5_000, Undo::OpenNetwork);
                "hub refuses"
            }
            2 => {
                world.network.freeze(true);
                self.later(500..5_000, Undo::Thaw);
                "hub falls silent"
            }
            3 => {
                faults.drop_link_after(partition, events, &Refusal::internal_error());
                "hub drops a link"
            }
            4 => {
                faults.drop_connection_after(partition, events);
                "hub drops a connection in a burst"
            }
            5 => {
                faults.displace(partition, "$default");
                "hub displaces a reader"
            }
            _ => {
                faults.refuse_attach(3, Refusal::server_busy());
                "hub is busy"
            }
        };
        self.count(name);
    }
}
