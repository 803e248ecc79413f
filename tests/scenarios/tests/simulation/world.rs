//! One run: a hub, a store, consumers that come and go, all from one seed.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_consumer::{
    Consumer, ConsumerConfig, ConsumerError, Parts, Progress, TenantPlan, WorkerError,
};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::{Lake, StoreConfig};
use stamp_model::{HubIdentity, PartitionId, TenantId};
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Fate, Handle, Log, Weather, wait_until};
use crate::chance::Chance;
use crate::check::differences;
use crate::hub::SimHub;
use crate::model::{self, Variant};
use crate::workload::{End, Oracle, SCHEMA, TENANTS, Workload};

pub(crate) const STAMP: &str = "s-1";
const PARTITIONS: u32 = 2;
/// Simulated time that a clean run may take to settle everything.
const SETTLE_MS: u64 = 3 * 3_600_000;

/// What is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The consumer as it is.
    Consumer,
    /// A small model of its protocol, right or wrong on purpose.
    Model(Variant),
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) log: String,
    pub(crate) differences: Vec<String>,
}

pub(crate) fn identity() -> HubIdentity {
    HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_000,
    }
}

/// Runs one seed to its end on a runtime and a clock of its own.
pub(crate) fn run(seed: u64, program: Program) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // Encoding is all that still runs beside the runtime: one after the other.
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let mut world = World::new(seed, program);
        world.run().await;
        Outcome {
            log: world.log.text(),
            differences: world.differences,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

struct Running {
    actor: Arc<Actor>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
    progress: Arc<Mutex<Option<Progress>>>,
    registry: Registry,
}

enum Action {
    Append(u32, u64),
    Skip(u32, u32),
    Redeliver(u32),
    Start(usize),
    Stop(usize),
    Kill(usize),
}

struct World {
    seed: u64,
    program: Program,
    chance: Chance,
    workload: Workload,
    oracle: Oracle,
    hub: MemoryHub,
    lake: Lake,
    log: Log,
    epoch: Instant,
    actors: u64,
    differences: Vec<String>,
}

impl World {
    fn new(seed: u64, program: Program) -> Self {
        let mut chance = Chance::new(seed, "world");
        let tenants = usize::try_from(chance.within(2, 4)).unwrap();
        Self {
            seed,
            program,
            workload: Workload::new(seed, tenants),
            chance,
            oracle: Oracle::default(),
            hub: MemoryHub::new(identity(), PARTITIONS),
            lake: Lake::open(
                &StoreConfig::new("memory:"),
                tokio::runtime::Handle::current(),
            )
            .unwrap(),
            log: Log::default(),
            epoch: Instant::now(),
            actors: 0,
            differences: Vec::new(),
        }
    }

    async fn run(&mut self) {
        for _ in 0..self.chance.within(1, 4) {
            self.storm().await;
            self.check(false).await;
            if self.program == Program::Consumer && self.chance.percent(40) {
                self.settle().await;
                self.retention();
            }
            if !self.differences.is_empty() {
                return;
            }
        }
        self.settle().await;
        self.check(true).await;
    }

    async fn check(&mut self, settled: bool) {
        let found = differences(&self.lake, &self.oracle, PARTITIONS, settled).await;
        self.differences.extend(found);
    }

    fn append(&mut self, partition: u32, count: u64) {
        for _ in 0..count {
            let (event, end) = self.workload.event();
            let sequence = self.hub.append(PartitionId::new(partition).unwrap(), event);
            self.oracle
                .ends
                .insert((i64::from(partition), sequence), end);
        }
    }

    /// Nobody runs and all is settled: events come that nobody reads before the hub forgets some.
    fn retention(&mut self) {
        for partition in 0..PARTITIONS {
            let (count, gone) = (self.chance.within(1, 12), self.chance.within(0, 12));
            let first = self.oracle.last(i64::from(partition)) + 1;
            if first == 0 {
                continue;
            }
            self.append(partition, count);
            let begin = first + i64::try_from(gone.min(count)).unwrap();
            for sequence in first..begin {
                self.oracle
                    .ends
                    .insert((i64::from(partition), sequence), End::Gap);
            }
            self.hub
                .expire_before(PartitionId::new(partition).unwrap(), begin);
            self.log.write(
                self.now_ms(),
                0,
                format!("expire {partition}: {first} to {}", begin - 1),
            );
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap()
    }

    /// Consumers of the same partitions start, hang, are killed and stop while events come.
    async fn storm(&mut self) {
        let from = self.now_ms();
        let length = self.chance.within(40_000, 120_000);
        let (fates, mut actions) = self.plan(from, length);
        actions.sort_by_key(|(ms, _)| *ms);
        let mut running: Vec<Option<Running>> = fates.iter().map(|_| None).collect();
        for (ms, action) in actions {
            // The world's own slot.
            wait_until(self.epoch, ms - ms % 256).await;
            match action {
                Action::Append(partition, count) => self.append(partition, count),
                Action::Skip(partition, count) => self.skip(partition, count),
                Action::Redeliver(partition) => self.redeliver(partition),
                Action::Start(which) => running[which] = Some(self.launch(fates[which].clone())),
                Action::Stop(which) => running[which].iter().for_each(|one| one.stop.cancel()),
                Action::Kill(which) => running[which]
                    .iter()
                    .for_each(|one| one.actor.dead.cancel()),
            }
        }
        for one in running.into_iter().flatten() {
            if self.chance.percent(50) {
                one.actor.dead.cancel();
            }
            one.stop.cancel();
            self.ended(one, false).await;
        }
    }

    fn plan(&mut self, from: u64, length: u64) -> (Vec<Fate>, Vec<(u64, Action)>) {
        let mut actions = Vec::new();
        let mut fates = Vec::new();
        for which in 0..usize::try_from(self.chance.within(1, 5)).unwrap() {
            let start = from + self.chance.within(0, length / 2);
            let end = self.chance.within(start, from + length);
            let chance = &mut self.chance;
            let stormy = chance.percent(60);
            let weather = if stormy {
                weather(chance)
            } else {
                Weather::default()
            };
            let mut fate = Fate {
                weather,
                ..Fate::default()
            };
            if chance.percent(30) {
                let hangs = chance.within(start, from + length);
                fate.hangs = Some((hangs, hangs + chance.within(20_000, 600_000)));
            }
            actions.push((start, Action::Start(which)));
            match chance.within(0, 10) {
                0..=2 => actions.push((end, Action::Kill(which))),
                3..=5 => fate.dies_at = Some((chance.within(0, 150), chance.percent(50))),
                6..=7 => actions.push((end, Action::Stop(which))),
                _ => {}
            }
            fates.push(fate);
        }
        for _ in 0..self.chance.within(8, 24) {
            let at = from + self.chance.within(0, length);
            let partition = u32::try_from(self.chance.within(0, u64::from(PARTITIONS))).unwrap();
            let with_gaps = self.program == Program::Consumer;
            actions.push((
                at,
                match self.chance.within(0, 12) {
                    0 if with_gaps => {
                        Action::Skip(partition, u32::try_from(self.chance.within(1, 5)).unwrap())
                    }
                    1 => Action::Redeliver(partition),
                    _ => Action::Append(partition, self.chance.within(1, 15)),
                },
            ));
        }
        (fates, actions)
    }

    /// Sequence numbers that never come. The first event of all is always there: what was before
    /// it nobody can know.
    fn skip(&mut self, partition: u32, count: u32) {
        let first = self.oracle.last(i64::from(partition)) + 1;
        if first > 0 {
            self.hub.skip(PartitionId::new(partition).unwrap(), count);
            for sequence in first..first + i64::from(count) {
                self.oracle
                    .ends
                    .insert((i64::from(partition), sequence), End::Gap);
            }
        }
        self.append(partition, 1);
    }

    fn redeliver(&mut self, partition: u32) {
        let last = u64::try_from(self.oracle.last(i64::from(partition)) + 1).unwrap();
        let to = i64::try_from(self.chance.within(0, last + 1)).unwrap();
        self.hub.redeliver(PartitionId::new(partition).unwrap(), to);
    }

    fn launch(&mut self, fate: Fate) -> Running {
        self.actors += 1;
        self.log
            .write(self.now_ms(), 0, format!("start {}: {fate:?}", self.actors));
        let actor = Actor::new(self.actors, self.seed, fate, self.epoch, &self.log);
        let (stop, progress, registry) =
            (CancellationToken::new(), Arc::default(), Registry::new());
        let lake = self.lake.with_schedule(Arc::new(Handle(actor.clone())));
        let hub = SimHub {
            inner: self.hub.clone(),
            actor: actor.clone(),
        };
        let seed = self.seed.wrapping_mul(100) + actor.id;
        let task = match self.program {
            Program::Consumer => {
                let (stop, progress, registry) =
                    (stop.clone(), Arc::clone(&progress), registry.clone());
                tokio::spawn(async move {
                    let parts = parts(hub, lake, &registry, seed);
                    consume(parts, &progress, stop).await.map_err(|error| {
                        format!("{}{}", panicked(&error), stamp_consumer::chain(&error))
                    })
                })
            }
            Program::Model(variant) => {
                tokio::spawn(model::run(hub, lake, variant, PARTITIONS, stop.clone()))
            }
        };
        let (dead, abort) = (actor.dead.clone(), task.abort_handle());
        tokio::spawn(async move {
            dead.cancelled().await;
            abort.abort();
        });
        Running {
            actor,
            stop,
            task,
            progress,
            registry,
        }
    }

    /// Waits for a consumer that was told to end. In a storm it may fail, but never panic.
    async fn ended(&mut self, running: Running, must_succeed: bool) {
        let Running {
            actor,
            task,
            registry,
            ..
        } = running;
        let end = match task.await {
            Ok(Ok(())) => "stopped".to_owned(),
            Ok(Err(error)) if must_succeed || error.starts_with("panic") => {
                self.differences
                    .push(format!("consumer {} ended: {error}", actor.id));
                error
            }
            Ok(Err(error)) => error,
            Err(error) if error.is_panic() => {
                self.differences
                    .push(format!("consumer {} panicked", actor.id));
                "panicked".to_owned()
            }
            Err(_) => "killed".to_owned(),
        };
        actor.note(format!("ended: {end}"));
        let text = registry.text();
        let violated = text.lines().filter(|line| {
            line.starts_with("stamp_invariant_violations_total") && !line.ends_with(" 0")
        });
        self.differences
            .extend(violated.map(|line| format!("consumer {}: {line}", actor.id)));
    }

    /// A run without faults until every event is settled.
    async fn settle(&mut self) {
        let running = self.launch(Fate::default());
        let until = self.now_ms() + SETTLE_MS;
        while !self.is_settled(&running).await {
            if self.now_ms() > until || running.task.is_finished() {
                let at = running
                    .progress
                    .lock()
                    .unwrap()
                    .as_ref()
                    .map(Progress::snapshot);
                self.differences
                    .push(format!("a clean run does not settle: {at:?}"));
                break;
            }
            wait_until(self.epoch, self.now_ms() + 1_000).await;
        }
        running.stop.cancel();
        self.ended(running, true).await;
    }

    async fn is_settled(&self, running: &Running) -> bool {
        if let Program::Model(_) = self.program {
            let checkpoints =
                self.lake
                    .checkpoints(&identity().namespace, &identity().hub, "$Default");
            for number in 0..PARTITIONS {
                let at = checkpoints
                    .read(PartitionId::new(number).unwrap())
                    .await
                    .unwrap();
                if at.map_or(-1, |at| at.sequence) < self.oracle.last(i64::from(number)) {
                    return false;
                }
            }
            return true;
        }
        let progress = running
            .progress
            .lock()
            .unwrap()
            .as_ref()
            .map(Progress::snapshot);
        let Some(progress) = progress else {
            return false;
        };
        (0..PARTITIONS).all(|number| {
            let at = progress.get(&PartitionId::new(number).unwrap());
            at.is_some_and(|at| at.settled >= self.oracle.last(i64::from(number)))
        })
    }
}

fn weather(chance: &mut Chance) -> Weather {
    Weather {
        refused: chance.within(0, 80),
        lost: chance.within(0, 120),
        throttled: chance.within(0, 40),
        slow: chance.within(0, 30),
        stale: chance.within(0, 60),
        hub: chance.within(0, 80),
    }
}

fn panicked(error: &ConsumerError) -> &'static str {
    match error {
        ConsumerError::Panicked(_) | ConsumerError::Worker(WorkerError::Panicked { .. }) => {
            "panic: "
        }
        _ => "",
    }
}

fn config(seed: u64) -> ConsumerConfig {
    let mut chance = Chance::new(seed, "config");
    let text = format!(
        r#"
        stamp = "{STAMP}"
        hub = {{ endpoint = "amqp://127.0.0.1", hub = "telemetry" }}
        store = {{ url = "memory:" }}
        tenants = [
            {{ id = "alpha", schema = "any" }},
            {{ id = "beta", schema = "any" }},
            {{ id = "gamma", schema = "any" }},
        ]
        [tenancy]
        claim-property = "tenant"
        [consumer]
        owner-level = -1
        flush-age = "{}s"
        flush-rows = {}
        batch-events-max = {}
        "#,
        chance.within(1, 12),
        chance.within(4, 60),
        chance.within(3, 40),
    );
    ConsumerConfig::parse(&text, Path::new("stamp.toml")).unwrap()
}

fn parts(hub: SimHub, lake: Lake, registry: &Registry, seed: u64) -> Parts<SimHub> {
    let schema = Arc::new(Schema::parse(SCHEMA).unwrap());
    let tenants = TENANTS.iter().map(|id| TenantPlan {
        id: TenantId::parse(id).unwrap(),
        schema: schema.clone(),
        devices: vec![format!("{}-*", &id[..1])],
        lake: lake.clone(),
    });
    Parts {
        hub,
        tenants: tenants.collect(),
        lake,
        metrics: Metrics::new(registry, &config(seed).stamp).unwrap(),
        observer: Arc::new(NoObserver),
        seed,
        clock: Arc::new(|| 1_795_564_680_000_000),
    }
}

async fn consume(
    parts: Parts<SimHub>,
    progress: &Mutex<Option<Progress>>,
    stop: CancellationToken,
) -> Result<(), ConsumerError> {
    let consumer = Consumer::open(&config(parts.seed), parts, &stop).await?;
    *progress.lock().unwrap() = Some(consumer.progress());
    consumer.run(stop).await
}
