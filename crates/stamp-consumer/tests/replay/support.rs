//! A stamp with events that were refused or nobody's at first, and what is in its tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stamp_consumer::{
    Consumer, ConsumerConfig, Parts, Replay, ReplayError, ReplayOptions, ReplayParts,
    ReplayProgress, ReplayReport, ReplaySource, TenantPlan,
};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::{Lake, StoreConfig};
use stamp_model::{Event, HubIdentity, HubStamp, MessageSource, PartitionId, TenantId};
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub(crate) const NOW_US: i64 = 1_795_521_600_000_000;
pub(crate) const CREATED_AT_MS: i64 = 1_795_000_000_000;
/// Events of [`publish`] in each partition.
pub(crate) const EVENTS: i64 = 8;

/// What a schema and a directory say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rules {
    /// Values up to 10; devices `c-*` are nobody's.
    Before,
    /// Values up to 1,000; devices `c-*` are alpha's.
    Fixed,
}

impl Rules {
    pub(crate) fn plans(self, lake: &Lake) -> Vec<TenantPlan> {
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

pub(crate) fn alpha() -> TenantId {
    TenantId::parse("alpha").unwrap()
}

pub(crate) fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

pub(crate) fn identity(created_at_ms: i64) -> HubIdentity {
    HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms,
    }
}

pub(crate) fn config() -> ConsumerConfig {
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
pub(crate) fn publish(hub: &MemoryHub, numbers: std::ops::Range<i64>, at_us: i64) {
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
pub(crate) struct World {
    pub(crate) hub: MemoryHub,
    pub(crate) lake: Lake,
}

pub(crate) struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), stamp_consumer::ConsumerError>>,
    progress: stamp_consumer::Progress,
}

impl Running {
    pub(crate) async fn until_settled(&self, sequence: i64) {
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

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let lake = Lake::open(&StoreConfig::new("memory:"), Handle::current()).unwrap();
        let hub = MemoryHub::new(identity(CREATED_AT_MS), 2);
        Self { hub, lake }
    }

    /// Its events in the tables under the first rules.
    pub(crate) async fn settled() -> Self {
        let world = Self::new();
        publish(&world.hub, 0..EVENTS, NOW_US);
        let running = world.consume(Rules::Before).await;
        running.until_settled(EVENTS - 1).await;
        running.stop().await;
        world
    }

    pub(crate) async fn consume(&self, rules: Rules) -> Running {
        let config = config();
        let metrics = Metrics::new(&Registry::new(), &config.stamp).unwrap();
        let parts = Parts {
            hub: self.hub.clone(),
            lake: self.lake.clone(),
            tenants: rules.plans(&self.lake),
            metrics,
            traces: Traces::off(),
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

    pub(crate) fn replay_on(lake: &Lake, seed: u64, created_at_ms: i64) -> Replay {
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

    pub(crate) async fn run(
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

    pub(crate) async fn replay(&self, source: ReplaySource) -> ReplayReport {
        let report = Self::run(&self.lake, 1, &ReplayOptions::all(source))
            .await
            .unwrap();
        assert_eq!(report.failures, Vec::<String>::new());
        report
    }

    /// How many rows each event has in a table.
    pub(crate) async fn rows(&self, table: &str) -> BTreeMap<(i64, i64, i64), u64> {
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
    pub(crate) async fn totals(&self) -> [BTreeMap<(String, i64), (i64, f64, f64, f64)>; 2] {
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
    pub(crate) async fn assert_all_is_back(&self, events: i64) {
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
