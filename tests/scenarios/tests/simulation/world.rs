//! One run: a hub, a store, consumers that come and go, all from one seed.

use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::{Lake, StoreConfig};
use stamp_model::{HubIdentity, PartitionId};
use tokio::runtime::Runtime;

use crate::actor::{Actor, Fate, Log};
use crate::chance::{Chance, keyed};
use crate::check::{Tally, differences};
use crate::consumer::{self, Program};
use crate::host::{Ended, Host};
use crate::oracle::{End, Oracle};
use crate::replicas::Owners;
use crate::setup::{Action, Plan, Setup, Sharing};
use crate::tables::checkpoints;
use crate::workload::Workload;

pub(crate) const STAMP: &str = "s-1";
/// Simulated time that a clean run may take to settle everything.
const SETTLE_MS: u64 = 3 * 3_600_000;
/// Simulated time in which every table has answered in calm weather.
const TABLES_ASKED_MS: u64 = 20_000;
/// Simulated time that a stop may take, `drain-max` and what the hub still has to say.
const STOP_MS: u64 = 300_000;
/// What one host does within this time, the others see only after it.
const TICK_MS: u64 = 32;
/// The same where nothing but waiting is left.
pub(crate) const CALM_TICK_MS: u64 = 250;

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) log: String,
    pub(crate) differences: Vec<String>,
    /// Of the last check.
    pub(crate) tally: Tally,
}

pub(crate) fn identity() -> HubIdentity {
    HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_000,
    }
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, program: Program) -> Outcome {
    let mut world = World::new(seed, program, Setup::draw(seed, program));
    world.run();
    world.outcome()
}

pub(crate) struct World {
    seed: u64,
    program: Program,
    pub(crate) setup: Setup,
    pub(crate) chance: Chance,
    workload: Workload,
    pub(crate) oracle: Oracle,
    hub: MemoryHub,
    lake: Lake,
    /// For reading the tables back, while nobody else runs.
    runtime: Runtime,
    log: Log,
    pub(crate) now_ms: u64,
    actors: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) owners: Owners,
    pub(crate) differences: Vec<String>,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, program: Program, setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let lake = Lake::open(&StoreConfig::new("memory:"), runtime.handle().clone()).unwrap();
        let guard = runtime.enter();
        let lake = match program.lie() {
            Some(lie) => lake.with_lie(lie),
            None => lake,
        };
        drop(guard);
        let oracle = Oracle {
            overflows: setup.heavy.is_some(),
            limited: setup.limited,
            ..Oracle::default()
        };
        let log = Log::default();
        log.write(0, 0, format!("seed {seed}: {setup:?}"));
        Self {
            seed,
            program,
            chance: Chance::new(seed, "world"),
            workload: Workload::new(seed, setup.tenants, setup.heavy),
            oracle,
            hub: MemoryHub::new(identity(), setup.partitions),
            setup,
            lake,
            runtime,
            log,
            now_ms: 0,
            actors: 0,
            hosts: Vec::new(),
            owners: Owners::default(),
            differences: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn run(&mut self) {
        for _ in 0..self.chance.within(1, 4) {
            self.storm();
            if matches!(self.setup.sharing, Sharing::Replicas { .. }) && self.chance.percent(60) {
                self.calm_after_storm();
            }
            self.end_all();
            // What is wrong stays wrong, so that not every moment must be looked at.
            if self.chance.percent(40) {
                self.check(false);
            }
            if self.program.is_consumer() && self.chance.percent(40) {
                self.settle();
                self.unread_retention();
            }
            if !self.differences.is_empty() {
                return;
            }
        }
        self.settle();
        self.check(true);
    }

    pub(crate) fn outcome(self) -> Outcome {
        Outcome {
            log: self.log.text(),
            differences: self.differences,
            tally: self.tally,
        }
    }

    pub(crate) fn note(&self, line: String) {
        self.log.write(self.now_ms, 0, line);
    }

    pub(crate) fn check(&mut self, settled: bool) {
        let partitions = self.setup.partitions;
        let (told, tally) =
            self.runtime
                .block_on(differences(&self.lake, &self.oracle, partitions, settled));
        self.note(format!("check, settled {settled}: {tally:?}"));
        self.tally = tally;
        self.differences.extend(told);
    }

    pub(crate) fn append(&mut self, partition: u32, count: u64) {
        for _ in 0..count {
            let (event, end) = self.workload.event();
            let sequence = self.hub.append(PartitionId::new(partition).unwrap(), event);
            let place = (i64::from(partition), sequence);
            self.oracle.ends.insert(place, end);
        }
    }

    /// Nobody runs and all is settled: events come that nobody reads before the hub forgets some.
    fn unread_retention(&mut self) {
        for partition in 0..self.setup.partitions {
            let (count, gone) = (self.chance.within(1, 12), self.chance.within(0, 12));
            let first = self.oracle.last(i64::from(partition)) + 1;
            if first > 0 {
                self.append(partition, count);
                self.expire(partition, first + i64::try_from(gone.min(count)).unwrap());
            }
        }
    }

    /// Retention takes what is below `before`. A partition that nobody has read is left alone: what
    /// was before its first event nobody can know.
    fn expire(&mut self, partition: u32, before: i64) {
        let known = checkpoints(&self.lake, self.setup.partitions);
        if self.runtime.block_on(known)[partition as usize].is_none() {
            return;
        }
        self.hub
            .expire_before(PartitionId::new(partition).unwrap(), before);
        self.oracle.expire(i64::from(partition), before);
        self.note(format!("expire {partition}: up to {}", before - 1));
    }

    /// Sequence numbers that never come. The first event of all is always there: what was before
    /// it nobody can know.
    pub(crate) fn skip(&mut self, partition: u32, count: u64) {
        let first = self.oracle.last(i64::from(partition)) + 1;
        if first > 0 {
            let numbers = u32::try_from(count).unwrap();
            self.hub.skip(PartitionId::new(partition).unwrap(), numbers);
            for sequence in first..first + i64::from(numbers) {
                let place = (i64::from(partition), sequence);
                self.oracle.ends.insert(place, End::Gap);
            }
        }
        self.append(partition, 1);
    }

    fn redeliver(&mut self, partition: u32) {
        let last = u64::try_from(self.oracle.last(i64::from(partition)) + 1).unwrap();
        let to = i64::try_from(self.chance.within(0, last + 1)).unwrap();
        self.hub.redeliver(PartitionId::new(partition).unwrap(), to);
    }

    /// Consumers of the same partitions start, freeze, hang, are killed and stop while events come.
    fn storm(&mut self) {
        let plan = Plan::draw(&self.setup, self.program, &mut self.chance, self.now_ms);
        // Where a consumer of the plan is among the hosts.
        let mut at: Vec<Option<usize>> = plan.fates.iter().map(|_| None).collect();
        for (ms, action) in plan.actions {
            self.advance(ms, TICK_MS);
            self.note(format!("{action:?}"));
            let now_ms = self.now_ms;
            match action {
                Action::Append(partition, count) => self.append(partition, count),
                Action::Skip(partition, count) => self.skip(partition, count),
                Action::Redeliver(partition) => self.redeliver(partition),
                Action::Expire(partition, left) => {
                    let end = self.oracle.last(i64::from(partition)) + 1;
                    self.expire(partition, end - i64::try_from(left).unwrap());
                }
                Action::Start(which) => {
                    if self.setup.sharing == Sharing::OneByOne {
                        self.hosts.iter_mut().for_each(Host::kill);
                    }
                    at[which] = Some(self.launch(plan.fates[which].clone()));
                }
                Action::Stop(which) => self.with_host(at[which], |host| host.stop()),
                Action::Kill(which) => self.with_host(at[which], Host::kill),
                Action::Freeze(which) => self.with_host(at[which], |host| host.freeze()),
                Action::Thaw(which) => self.with_host(at[which], |host| host.thaw(now_ms)),
            }
        }
    }

    fn with_host(&mut self, at: Option<usize>, change: impl FnOnce(&mut Host)) {
        if let Some(at) = at {
            change(&mut self.hosts[at]);
        }
    }

    /// Starts a consumer and returns where it is among the hosts.
    pub(crate) fn launch(&mut self, fate: Fate) -> usize {
        self.actors += 1;
        let (id, now_ms) = (self.actors, self.now_ms);
        self.note(format!("start {id}: {fate:?}"));
        self.oracle.lists_behind |= fate.weather.stale > 0;
        let seed = self.seed.wrapping_mul(100) + id;
        let host = Host::start(now_ms, || {
            let actor = Actor::new(id, self.seed, fate, now_ms, &self.log);
            let hub = self.hub.clone();
            consumer::spawn(self.program, &self.setup, hub, &self.lake, &actor, seed)
        });
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// Lets time pass for every host that is scheduled.
    pub(crate) fn advance(&mut self, to_ms: u64, tick_ms: u64) {
        let count = self.hosts.len();
        while self.now_ms < to_ms {
            self.now_ms = to_ms.min(self.now_ms + tick_ms);
            let first = keyed(self.seed, "first", &[self.now_ms]) as usize;
            for nth in 0..count {
                self.hosts[first.wrapping_add(nth) % count].step(self.now_ms);
            }
            let alive = self.hosts.iter().filter(|host| host.ended().is_none());
            self.oracle.overlapped |= alive.count() > 1;
            let told = self.owners.look(&self.hosts, self.now_ms);
            self.differences.extend(told);
        }
    }

    /// Ends all hosts, some without a word.
    pub(crate) fn end_all(&mut self) {
        let now_ms = self.now_ms;
        for host in &mut self.hosts {
            if self.chance.percent(50) {
                host.kill();
            }
            host.thaw(now_ms);
            host.stop();
        }
        self.owners = Owners::default();
        self.wait_for_end(false);
    }

    /// Waits for hosts that were told to stop. In a storm they may fail, but never panic.
    pub(crate) fn wait_for_end(&mut self, must_succeed: bool) {
        let until = self.now_ms + STOP_MS;
        while self.hosts.iter().any(|host| host.ended().is_none()) {
            if self.now_ms > until {
                self.differences.push("a stop does not end".into());
                break;
            }
            self.advance(self.now_ms + CALM_TICK_MS, CALM_TICK_MS);
        }
        for host in std::mem::take(&mut self.hosts) {
            self.ended(&host, must_succeed);
        }
    }

    /// Takes leave of those that ended in a storm.
    pub(crate) fn forget_ended(&mut self) {
        let (ended, running): (Vec<_>, Vec<_>) = std::mem::take(&mut self.hosts)
            .into_iter()
            .partition(|host| host.ended().is_some());
        self.hosts = running;
        for host in ended {
            self.ended(&host, false);
        }
    }

    fn ended(&mut self, host: &Host, must_succeed: bool) {
        let id = host.actor().id;
        let ended = host.ended().unwrap_or(&Ended::Killed);
        self.log.write(self.now_ms, id, format!("ended: {ended:?}"));
        match ended {
            Ended::Panicked => self.differences.push(format!("consumer {id} panicked")),
            Ended::Failed(error) if must_succeed => {
                self.differences.push(format!("consumer {id}: {error}"));
            }
            _ => {}
        }
        let text = host.registry().text();
        let violated = text.lines().filter(|line| {
            line.starts_with("stamp_invariant_violations_total") && !line.ends_with(" 0")
        });
        self.differences
            .extend(violated.map(|line| format!("consumer {id}: {line}")));
    }

    /// A run without faults until every event is settled.
    pub(crate) fn settle(&mut self) {
        let count = match self.setup.sharing {
            Sharing::Replicas { .. } => 2,
            _ => 1,
        };
        for _ in 0..count {
            self.launch(Fate::default());
        }
        self.wait_until_settled();
        // A reader goes on without the tenants whose tables take long to answer, and a stop leaves what
        // they lack to the next start. There is no next one here.
        self.advance(self.now_ms + TABLES_ASKED_MS, CALM_TICK_MS);
        self.hosts.iter().for_each(Host::stop);
        self.wait_for_end(true);
    }

    pub(crate) fn wait_until_settled(&mut self) {
        let until = self.now_ms + SETTLE_MS;
        let has_progress = self.program.is_consumer();
        let starting = |host: &Host| has_progress && host.runs() && host.progress().is_none();
        while self.hosts.iter().any(starting) || !self.is_settled() {
            let over = !self.hosts.iter().any(Host::runs);
            if self.now_ms > until || over {
                let checkpoints = checkpoints(&self.lake, self.setup.partitions);
                let at = self.runtime.block_on(checkpoints);
                self.differences
                    .push(format!("a clean run does not settle: {at:?}, over: {over}"));
                return;
            }
            self.advance(self.now_ms + 1_000, CALM_TICK_MS);
        }
    }

    /// By what the consumers that run say of each partition, when they say anything: a checkpoint of
    /// an earlier one may be at the end before the next one has looked into the tables, and it makes up
    /// for what the earlier one left undone only then.
    fn is_settled(&self) -> bool {
        let partitions = 0..self.setup.partitions;
        let running = self.hosts.iter().filter(|host| host.runs());
        let told: Vec<_> = running
            .filter_map(|host| Some(host.progress()?.snapshot()))
            .collect();
        if !told.is_empty() {
            return partitions.into_iter().all(|number| {
                let last = self.oracle.last(i64::from(number));
                let partition = PartitionId::new(number).unwrap();
                let mut at = told.iter().filter_map(|told| told.get(&partition));
                at.any(|at| at.settled >= last)
            });
        }
        let checkpoints = checkpoints(&self.lake, self.setup.partitions);
        let at = self.runtime.block_on(checkpoints);
        let mut places = partitions.zip(at);
        places.all(|(number, at)| at.unwrap_or(-1) >= self.oracle.last(i64::from(number)))
    }

    /// The partitions of the hub.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.setup.partitions).map(|number| PartitionId::new(number).unwrap())
    }
}
