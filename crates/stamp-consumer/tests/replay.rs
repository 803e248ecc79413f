//! Rejected and quarantined events come back once, whatever happens to the replay.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use stamp_consumer::{
    Consumer, ConsumerConfig, Parts, Replay, ReplayError, ReplayOptions, ReplayParts,
    ReplayProgress, ReplayReport, ReplaySource, TenantPlan,
};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::faults::{Fault, RequestKind};
use stamp_lake::{EncodeOptions, Lake, RawKind, StoreConfig, encode_raw};
use stamp_model::{
    AppId, Event, HubIdentity, HubStamp, Mark, MessageSource, PartitionId, RawRow, StampId,
    TenantId,
};
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

const NOW_US: i64 = 1_795_521_600_000_000;
const CREATED_AT_MS: i64 = 1_795_000_000_000;
/// Events of [`publish`] in each partition.
const EVENTS: i64 = 8;

/// What a schema and a directory say.
#[derive(Debug, Clone, Copy)]
enum Rules {
    /// Values up to 10; devices `c-*` are nobody's.
    Before,
    /// Values up to 1,000; devices `c-*` are alpha's.
    Fixed,
}

impl Rules {
    fn plans(self, lake: &Lake) -> Vec<TenantPlan> {
        let (max, devices) = match self {
            Self::Before => ("10.0", vec!["a-*"]),
            Self::Fixed => ("1000.0", vec!["a-*", "c-*"]),
        };
        let schema = format!(
            "version = 1\n[event-time]\nsource = \"enqueued\"\n[[fields]]\nname = \"value\"\n\
             path = \"value\"\ntype = \"f64\"\nrequired = true\nmax = {max}\n"
        );
        vec![TenantPlan {
            id: alpha(),
            schema: Arc::new(Schema::parse(&schema).unwrap()),
            devices: devices.into_iter().map(str::to_owned).collect(),
            lake: lake.clone(),
        }]
    }
}

fn alpha() -> TenantId {
    TenantId::parse("alpha").unwrap()
}

fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

fn identity(created_at_ms: i64) -> HubIdentity {
    HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms,
    }
}

fn config() -> ConsumerConfig {
    let text = r#"
        stamp = "s-1"
        hub = { endpoint = "amqp://127.0.0.1", hub = "telemetry" }
        store = { url = "memory:" }
        tenants = [{ id = "alpha", schema = "any" }]
        [consumer]
        flush-age = "1s"
        flush-rows = 5
        [resilience]
        seed = 7
    "#;
    ConsumerConfig::parse(text, Path::new("stamp.toml")).unwrap()
}

/// Of four events one is a reading at once, one is too high at first, one is of a device that is
/// nobody's at first, and one of such a device has a body that is no reading under any rules.
fn publish(hub: &MemoryHub, numbers: std::ops::Range<i64>, at_us: i64) {
    for number in numbers {
        let (device, body) = match number % 4 {
            0 => ("a-1", r#"{"value":1}"#.to_owned()),
            1 => ("a-2", format!(r#"{{"value":{}}}"#, 100 + number)),
            2 => ("c-1", format!(r#"{{"value":{number}}}"#)),
            _ => ("c-2", r#"{"value":"warm"}"#.to_owned()),
        };
        let event = Event {
            enqueued_at_us: at_us + number * 20_000_000,
            hub: HubStamp {
                device_id: Some(device.into()),
                source: MessageSource::Telemetry,
                ..HubStamp::default()
            },
            body: Bytes::from(body),
            ..Event::default()
        };
        for number in 0..2 {
            hub.append(partition(number), event.clone());
        }
    }
}

/// A hub and a store.
struct World {
    hub: MemoryHub,
    lake: Lake,
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), stamp_consumer::ConsumerError>>,
    progress: stamp_consumer::Progress,
}

impl Running {
    async fn until_settled(&self, sequence: i64) {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..36_000 {
            let settled = self.progress.snapshot();
            if settled.len() == 2 && settled.values().all(|at| at.settled >= sequence) {
                return;
            }
            assert!(!self.task.is_finished(), "the consumer ended");
            ticks.tick().await;
        }
        panic!("not settled: {:?}", self.progress.snapshot());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    fn new() -> Self {
        let lake = Lake::open(&StoreConfig::new("memory:"), Handle::current()).unwrap();
        let hub = MemoryHub::new(identity(CREATED_AT_MS), 2);
        Self { hub, lake }
    }

    /// Its events in the tables under the first rules.
    async fn settled() -> Self {
        let world = Self::new();
        publish(&world.hub, 0..EVENTS, NOW_US);
        let running = world.consume(Rules::Before).await;
        running.until_settled(EVENTS - 1).await;
        running.stop().await;
        world
    }

    async fn consume(&self, rules: Rules) -> Running {
        let config = config();
        let metrics = Metrics::new(&Registry::new(), &config.stamp).unwrap();
        let parts = Parts {
            hub: self.hub.clone(),
            lake: self.lake.clone(),
            tenants: rules.plans(&self.lake),
            metrics,
            observer: Arc::new(NoObserver),
            seed: 7,
            clock: Arc::new(|| NOW_US),
        };
        let stop = CancellationToken::new();
        let consumer = Consumer::open(&config, parts, &stop).await.unwrap();
        let progress = consumer.progress();
        let task = tokio::spawn(consumer.run(stop.clone()));
        Running {
            stop,
            task,
            progress,
        }
    }

    fn replay_on(lake: &Lake, seed: u64, created_at_ms: i64) -> Replay {
        let config = config();
        let parts = ReplayParts {
            lake: lake.clone(),
            tenants: Rules::Fixed.plans(lake),
            identity: identity(created_at_ms),
            metrics: Metrics::new(&Registry::new(), &config.stamp).unwrap(),
            observer: Arc::new(NoObserver),
            seed,
            clock: Arc::new(|| NOW_US),
        };
        Replay::open(&config, parts).unwrap()
    }

    async fn run(
        lake: &Lake,
        seed: u64,
        options: &ReplayOptions,
    ) -> Result<ReplayReport, ReplayError> {
        Self::replay_on(lake, seed, CREATED_AT_MS)
            .run(
                options,
                &ReplayProgress::default(),
                &CancellationToken::new(),
            )
            .await
    }

    async fn replay(&self, source: ReplaySource) -> ReplayReport {
        let report = Self::run(&self.lake, 1, &ReplayOptions::all(source))
            .await
            .unwrap();
        assert_eq!(report.failures, Vec::<String>::new());
        report
    }

    /// How many rows each event has in a table.
    async fn rows(&self, table: &str) -> BTreeMap<(i64, i64, i64), u64> {
        let root = self.lake.tenant(&alpha());
        let shape = Rules::Fixed.plans(&self.lake)[0].schema.shape().clone();
        let table = match table {
            "readings" => root.readings(&shape),
            "rejected" => root.rejected(),
            "replays" => root.replays(),
            _ => self.lake.stamp().quarantine(),
        };
        let mut rows = BTreeMap::new();
        let columns = ["partition", "sequence", "enqueued_at"];
        let scanned = table.scan(&columns, |found| {
            for row in 0..found.rows() {
                let key = (
                    found.i64(0, row).unwrap(),
                    found.i64(1, row).unwrap(),
                    found.timestamp_us(2, row).unwrap(),
                );
                *rows.entry(key).or_default() += 1;
            }
        });
        scanned.await.unwrap();
        rows
    }

    /// Count, sum, least and greatest value of each device and window: from readings, and from
    /// rollups.
    async fn totals(&self) -> [BTreeMap<(String, i64), (i64, f64, f64, f64)>; 2] {
        let root = self.lake.tenant(&alpha());
        let shape = Rules::Fixed.plans(&self.lake)[0].schema.shape().clone();
        let mut totals = [BTreeMap::new(), BTreeMap::new()];
        let add =
            |into: &mut BTreeMap<_, (i64, f64, f64, f64)>, key, value: (i64, f64, f64, f64)| {
                let total = into.entry(key).or_insert((0, 0.0, f64::MAX, f64::MIN));
                *total = (
                    total.0 + value.0,
                    total.1 + value.1,
                    total.2.min(value.2),
                    total.3.max(value.3),
                );
            };
        let columns = ["device_id", "enqueued_at", "value"];
        let readings = root.readings(&shape);
        let scanned = readings.scan(&columns, |rows| {
            for row in 0..rows.rows() {
                let window = rows.timestamp_us(1, row).unwrap().div_euclid(60_000_000) * 60_000_000;
                let key = (rows.text(0, row).unwrap().to_owned(), window);
                let value = rows.f64(2, row).unwrap();
                add(&mut totals[0], key, (1, value, value, value));
            }
        });
        scanned.await.unwrap();
        let columns = ["device_id", "window_start", "count", "sum", "min", "max"];
        let rollups = root.rollups();
        let scanned = rollups.scan(&columns, |rows| {
            for row in 0..rows.rows() {
                let key = (
                    rows.text(0, row).unwrap().to_owned(),
                    rows.timestamp_us(1, row).unwrap(),
                );
                let number = |column| rows.f64(column, row).unwrap();
                let value = (rows.i64(2, row).unwrap(), number(3), number(4), number(5));
                add(&mut totals[1], key, value);
            }
        });
        scanned.await.unwrap();
        totals
    }

    /// Every event of `publish(0..events)` is where it belongs under the fixed rules, once.
    async fn assert_all_is_back(&self, events: i64) {
        let at = |is: &dyn Fn(i64) -> bool| -> BTreeMap<_, _> {
            let numbers = (0..events).filter(|&number| is(number));
            numbers
                .flat_map(|number| {
                    (0..2).map(move |partition| {
                        ((partition, number, NOW_US + number * 20_000_000), 1)
                    })
                })
                .collect()
        };
        assert_eq!(
            self.rows("readings").await,
            at(&|number| number % 4 != 3),
            "readings"
        );
        assert_eq!(
            self.rows("rejected").await,
            at(&|number| number % 4 == 3 || (number < EVENTS && number % 4 == 1)),
            "rejected"
        );
        let [readings, rollups] = self.totals().await;
        assert_eq!(rollups, readings);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_comes_back_once_and_is_in_the_rollups() {
    let world = World::settled().await;
    assert_eq!(world.rows("readings").await.len(), 4);

    let rejected = world.replay(ReplaySource::Rejected).await;
    let quarantined = world.replay(ReplaySource::Quarantine).await;

    assert_eq!((rejected.read, rejected.returned), (4, 4));
    assert_eq!(quarantined.read, 8);
    assert_eq!(
        (quarantined.returned, quarantined.moved_to_rejected),
        (4, 4)
    );
    world.assert_all_is_back(EVENTS).await;

    let again = world.replay(ReplaySource::Rejected).await;
    assert_eq!((again.read, again.returned, again.already_there), (8, 0, 4));
    assert_eq!(again.still_rejected, BTreeMap::from([("wrong_type", 4)]));
    let again = world.replay(ReplaySource::Quarantine).await;
    assert_eq!(
        (again.already_there, again.returned, again.moved_to_rejected),
        (8, 0, 0)
    );
    world.assert_all_is_back(EVENTS).await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let world = World::settled().await;
    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        let refusing = world.lake.with_faults(|request| match request.kind {
            RequestKind::Read | RequestKind::List => Fault::None,
            _ => Fault::Refuse,
        });
        let options = ReplayOptions {
            dry_run: true,
            ..ReplayOptions::all(source)
        };
        let said = World::run(&refusing, 1, &options).await.unwrap();
        let done = world.replay(source).await;
        assert_eq!(
            ReplayReport {
                dry_run: false,
                ..said
            },
            done
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_asked_for_is_run_again() {
    let world = World::settled().await;
    let options = ReplayOptions {
        partition: Some(partition(1)),
        from_sequence: Some(2),
        to_sequence: Some(6),
        reasons: ["out_of_range".to_owned()].into(),
        since_us: Some(NOW_US + 5 * 20_000_000),
        until_us: Some(NOW_US + 6 * 20_000_000),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    let report = World::run(&world.lake, 1, &options).await.unwrap();
    assert_eq!((report.read, report.returned), (1, 1));

    let other = ReplayOptions {
        reasons: ["missing_field".to_owned()].into(),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    assert_eq!(World::run(&world.lake, 1, &other).await.unwrap().read, 0);
}

/// Runs both sources on a store that fails at its `at`th write as `fault` says, and, when that is a
/// kill, at every request after it: what a killed replay has read makes no difference. Says how many
/// writes were tried.
async fn disturbed(world: &World, at: u64, fault: Fault, seed: u64) -> u64 {
    let tried = Arc::new(AtomicU64::new(0));
    let counted = tried.clone();
    let lake = world.lake.with_faults(move |request| {
        let is_write = matches!(request.kind, RequestKind::Create | RequestKind::Write);
        let number = counted.fetch_add(u64::from(is_write), Ordering::AcqRel);
        match fault {
            Fault::Refuse if number > at || (is_write && number == at) => Fault::Refuse,
            other if is_write && number == at => other,
            _ => Fault::None,
        }
    });
    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        // Its outcome is not looked at: the tables are.
        let _outcome = World::run(&lake, seed, &ReplayOptions::all(source)).await;
    }
    tried.load(Ordering::Acquire)
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_killed_at_any_write_is_finished_by_the_next() {
    let mut at = 0;
    loop {
        let world = World::settled().await;
        let made = disturbed(&world, at, Fault::Refuse, 1).await;
        world.replay(ReplaySource::Rejected).await;
        world.replay(ReplaySource::Quarantine).await;
        world.assert_all_is_back(EVENTS).await;
        if made <= at {
            break;
        }
        at += 1;
    }
    assert!(at > 20, "{at} writes are too few to be a replay");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_at_any_write_adds_nothing_twice() {
    let mut at = 0;
    loop {
        let world = World::settled().await;
        let made = disturbed(&world, at, Fault::LoseReply, 1).await;
        // The disturbed run itself comes to its end; a later one finds nothing to do.
        let rejected = world.replay(ReplaySource::Rejected).await;
        let quarantined = world.replay(ReplaySource::Quarantine).await;
        assert_eq!(
            (rejected.returned, quarantined.returned),
            (0, 0),
            "write {at}"
        );
        world.assert_all_is_back(EVENTS).await;
        if made <= at {
            break;
        }
        at += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn two_replays_at_once_bring_each_event_in_once() {
    for seed in 0..8 {
        let world = World::settled().await;
        let options = [
            ReplayOptions::all(ReplaySource::Rejected),
            ReplayOptions::all(ReplaySource::Quarantine),
        ];
        // Tables of their own: two processes share nothing but the store.
        let [one, two] = [world.lake.with_faults(|_| Fault::None), world.lake.clone()];
        let run = async |lake: &Lake, seed: u64| {
            for options in &options {
                let report = World::run(lake, seed, options).await.unwrap();
                assert_eq!(report.failures, Vec::<String>::new());
            }
        };
        tokio::join!(run(&one, seed), run(&two, seed + 100));
        world.assert_all_is_back(EVENTS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_beside_a_running_service_and_new_events_adds_nothing_twice() {
    let world = World::settled().await;
    let running = world.consume(Rules::Fixed).await;
    publish(&world.hub, EVENTS..2 * EVENTS, NOW_US);
    world.replay(ReplaySource::Rejected).await;
    publish(&world.hub, 2 * EVENTS..3 * EVENTS, NOW_US);
    world.replay(ReplaySource::Quarantine).await;
    running.until_settled(3 * EVENTS - 1).await;
    world.replay(ReplaySource::Quarantine).await;
    running.stop().await;

    world.assert_all_is_back(3 * EVENTS).await;
}

/// A moment in a replay that waits until the test lets it go on.
#[derive(Default)]
struct Gate {
    /// Whether it was reached, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    /// The replay comes by, on a blocking thread.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    async fn reached(self: &Arc<Self>) {
        let gate = self.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let mut state = gate.state.lock().unwrap();
            while !state.0 {
                state = gate.changed.wait(state).unwrap();
            }
        });
        waited.await.unwrap();
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_overtaken_in_the_middle_of_what_it_carries_out_adds_only_the_rest() {
    let world = World::settled().await;
    let [decides, one_writes, one_writes_again, two_writes] =
        [(); 4].map(|()| Arc::new(Gate::default()));
    let (gate, later) = (one_writes.clone(), one_writes_again.clone());
    let commits = AtomicU64::new(0);
    let one = world.lake.with_faults(move |request| {
        if request.is_commit() && request.path.contains("/readings/") {
            match commits.fetch_add(1, Ordering::AcqRel) {
                0 => gate.pass(),
                _ => later.pass(),
            }
        }
        Fault::None
    });
    let (gate, later) = (decides.clone(), two_writes.clone());
    let two = world.lake.with_faults(move |request| {
        match request.path {
            path if request.is_commit() && path.contains("/replays/") => gate.pass(),
            path if request.is_commit() && path.contains("/readings/") => later.pass(),
            _ => {}
        }
        Fault::None
    });
    let of = |number: u32| ReplayOptions {
        partition: Some(partition(number)),
        ..ReplayOptions::all(ReplaySource::Rejected)
    };
    let (of_one, of_two) = (of(0), of(1));

    // So that the gates stand at the events' own commits: the marks are settled by this one.
    world.replay(ReplaySource::Quarantine).await;
    // The first decides on its events alone; the second then has to carry out those of both.
    let first = async {
        decides.reached().await;
        World::run(&one, 1, &of_one).await.unwrap().returned
    };
    let second = async {
        let report = World::run(&two, 2, &of_two).await.unwrap();
        one_writes_again.open();
        report.returned
    };
    let gates = async {
        one_writes.reached().await;
        decides.open();
        two_writes.reached().await;
        one_writes.open();
        // The first goes on with what the second decided: now that one is let go.
        one_writes_again.reached().await;
        two_writes.open();
    };
    assert_eq!(tokio::join!(first, second, gates), (2, 2, ()));

    world.assert_all_is_back(EVENTS).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_lies_below_the_marks_so_that_nobody_else_can_write_it() {
    let world = World::settled().await;
    // A flush without a reading leaves the marks of readings and rollups where they are.
    publish(&world.hub, EVENTS + 1..EVENTS + 2, NOW_US);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;

    assert_eq!(world.replay(ReplaySource::Rejected).await.returned, 6);

    let root = world.lake.tenant(&alpha());
    let shape = Rules::Fixed.plans(&world.lake)[0].schema.shape().clone();
    for table in [root.readings(&shape), root.rollups()] {
        let snapshot = table.newest().await.unwrap().unwrap();
        for number in 0..2 {
            let stamp = StampId::parse("s-1").unwrap();
            let app = AppId::new(&stamp, &identity(CREATED_AT_MS), partition(number));
            assert_eq!(snapshot.mark(&app), Some(EVENTS), "{table:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_lost_its_checkpoint_does_not_read_a_returned_event_again() {
    let world = World::settled().await;
    // A flush without a reading leaves the mark of readings where it is.
    publish(&world.hub, EVENTS + 1..EVENTS + 2, NOW_US);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS).await;
    running.stop().await;
    assert_eq!(world.replay(ReplaySource::Rejected).await.returned, 6);
    world.replay(ReplaySource::Quarantine).await;
    let names = identity(CREATED_AT_MS);
    let checkpoints = world
        .lake
        .checkpoints(&names.namespace, &names.hub, "$Default");
    for number in 0..2 {
        checkpoints.set_aside(partition(number)).await.unwrap();
    }

    let running = world.consume(Rules::Fixed).await;
    running.until_settled(EVENTS).await;
    running.stop().await;

    let readings = world.rows("readings").await;
    assert_eq!(readings.len(), 12 + 2);
    assert!(readings.values().all(|&rows| rows == 1), "{readings:?}");
    let [from_readings, from_rollups] = world.totals().await;
    assert_eq!(from_rollups, from_readings);
}

fn kept(sequence: i64, enqueued_at_us: i64, reason: &'static str, value: &str) -> RawRow {
    RawRow {
        reason,
        detail: String::new(),
        rule: String::new(),
        tenant: None,
        device_id: Some("a-1".into()),
        partition: partition(0),
        sequence,
        offset: "".into(),
        enqueued_at_us,
        content_type: None,
        properties: Vec::new(),
        body: Bytes::from(format!(r#"{{"value":{value}}}"#)),
    }
}

/// Puts a row into quarantine, or into `rejected`, under the mark of another stamp.
async fn put(world: &World, row: RawRow, kind: RawKind) {
    let table = match kind {
        RawKind::Rejected => world.lake.tenant(&alpha()).rejected(),
        RawKind::Quarantine => world.lake.stamp().quarantine(),
    };
    let snapshot = table.load().await.unwrap();
    let app = AppId::new(
        &StampId::parse("other").unwrap(),
        &identity(1),
        row.partition,
    );
    let sequence = snapshot.mark(&app).unwrap_or(0) + 1;
    let file = encode_raw(&[row], kind, &EncodeOptions::default())
        .unwrap()
        .remove(0);
    let file = table.put(&file).await.unwrap();
    table
        .append(&snapshot, vec![file], &[Mark { app, sequence }])
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_overflow_that_the_tenant_has_already_counts_as_returned() {
    let world = World::settled().await;
    let before = world.rows("readings").await;
    let row = kept(4, NOW_US + 4 * 20_000_000, "tenant_backlog", "1");
    put(&world, row, RawKind::Quarantine).await;

    let options = ReplayOptions {
        reasons: ["tenant_backlog".to_owned()].into(),
        ..ReplayOptions::all(ReplaySource::Quarantine)
    };
    let report = World::run(&world.lake, 1, &options).await.unwrap();

    assert_eq!(
        (report.read, report.already_there, report.returned),
        (1, 1, 0)
    );
    assert_eq!(world.rows("readings").await, before);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_service_may_still_write_waits() {
    let world = World::settled().await;
    let row = kept(EVENTS, NOW_US + EVENTS * 20_000_000, "out_of_range", "500");
    put(&world, row, RawKind::Rejected).await;

    let report = world.replay(ReplaySource::Rejected).await;

    assert_eq!((report.returned, report.waiting), (4, 1));
    assert!(
        !world
            .rows("readings")
            .await
            .keys()
            .any(|key| key.1 == EVENTS)
    );
}

#[tokio::test(start_paused = true)]
async fn events_of_an_earlier_hub_of_the_same_name_come_back_beside_those_of_the_new_one() {
    let world = World::settled().await;
    let created_at_ms = CREATED_AT_MS + 86_400_000_000;
    world.hub.recreate(created_at_ms);
    let later = created_at_ms * 1_000;
    publish(&world.hub, 0..EVENTS, later);
    let running = world.consume(Rules::Before).await;
    running.until_settled(EVENTS - 1).await;
    running.stop().await;

    for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
        let replay = World::replay_on(&world.lake, 1, created_at_ms);
        let cancel = CancellationToken::new();
        let options = ReplayOptions::all(source);
        let report = replay
            .run(&options, &ReplayProgress::default(), &cancel)
            .await;
        assert_eq!(report.unwrap().returned, 8, "{source:?}");
    }
    let readings = world.rows("readings").await;
    assert_eq!(readings.len(), 2 * 12);
    assert!(readings.values().all(|&rows| rows == 1));
    let [from_readings, from_rollups] = world.totals().await;
    assert_eq!(from_rollups, from_readings);
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_whose_device_is_no_longer_the_tenants_stays_where_it_is() {
    let world = World::settled().await;
    let row = RawRow {
        device_id: Some("z-1".into()),
        ..kept(1, NOW_US, "out_of_range", "500")
    };
    put(&world, row, RawKind::Rejected).await;

    let report = world.replay(ReplaySource::Rejected).await;

    assert_eq!((report.returned, report.other_tenant), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_store_refuses_is_named_and_the_events_are_counted() {
    let world = World::settled().await;
    let lake = world.lake.with_faults(|request| match request.path {
        path if path.contains("/replays/") && request.is_commit() => Fault::Refuse,
        _ => Fault::None,
    });
    let report = World::run(&lake, 1, &ReplayOptions::all(ReplaySource::Rejected))
        .await
        .unwrap();

    assert_eq!((report.returned, report.not_done), (0, 4));
    assert!(
        report.failures[0].contains("alpha"),
        "{:?}",
        report.failures
    );
    world.replay(ReplaySource::Rejected).await;
    world.replay(ReplaySource::Quarantine).await;
    world.assert_all_is_back(EVENTS).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any number of replays, each of them disturbed somehow, and then one that is not.
    #[test]
    fn any_kills_and_replays_end_with_each_event_once(
        runs in prop::collection::vec((0_u64..40, any::<bool>(), any::<u64>()), 1..4)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::settled().await;
            for (at, kill, seed) in runs {
                let fault = if kill { Fault::Refuse } else { Fault::LoseReply };
                disturbed(&world, at, fault, seed).await;
            }
            world.replay(ReplaySource::Rejected).await;
            world.replay(ReplaySource::Quarantine).await;
            world.assert_all_is_back(EVENTS).await;
        });
    }
}
