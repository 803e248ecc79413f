//! A whole consumer on a hub and a store in memory, and what is in its tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use stamp_consumer::{Consumer, ConsumerConfig, ConsumerError, Parts, Progress, TenantPlan};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::faults::{Fault, Request};
use stamp_lake::{Columns, Lake, StoreConfig};
use stamp_model::{Event, HubIdentity, HubStamp, MessageSource, PartitionId, TenantId};
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SCHEMA: &str = r#"
version = 1
[event-time]
source = "enqueued"
[[fields]]
name = "value"
path = "value"
type = "f64"
required = true
max = 1000.0
"#;

pub(crate) const TENANTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Position of an event in a table, with the number of its rows.
pub(crate) type Rows = BTreeMap<(i64, i64), u64>;

pub(crate) fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

pub(crate) fn hub(partitions: u32) -> MemoryHub {
    let identity = HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_000,
    };
    MemoryHub::new(identity, partitions)
}

/// A reading of a device, with its value.
pub(crate) fn reading(device: &str, value: f64) -> Event {
    event(device, format!(r#"{{"value":{value}}}"#))
}

/// Any body of a device.
pub(crate) fn event(device: &str, body: String) -> Event {
    Event {
        enqueued_at_us: 1_795_521_600_000_000,
        hub: HubStamp {
            device_id: Some(device.into()),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        },
        body: Bytes::from(body),
        ..Event::default()
    }
}

/// A stamp that can be started, stopped, killed and started again on the same hub and store.
pub(crate) struct Stamp {
    pub(crate) hub: MemoryHub,
    pub(crate) lake: Lake,
    pub(crate) registry: Registry,
    /// The stores the tenants see; the stamp's own when there is none.
    pub(crate) tenant_lakes: BTreeMap<&'static str, Lake>,
    pub(crate) config: String,
    pub(crate) flush_age: &'static str,
    /// Of every tenant.
    pub(crate) schema: &'static str,
    /// Device entries, in the order of [`TENANTS`].
    pub(crate) devices: [Vec<&'static str>; 3],
    /// Of `beta`, as in the configuration file.
    pub(crate) quota: &'static str,
}

/// A consumer that runs.
pub(crate) struct Running {
    pub(crate) progress: Progress,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ConsumerError>>,
}

impl Stamp {
    pub(crate) fn new(hub: &MemoryHub) -> Self {
        let lake = Lake::open(&StoreConfig::new("memory:"), Handle::current()).unwrap();
        Self {
            hub: hub.clone(),
            lake,
            registry: Registry::new(),
            tenant_lakes: BTreeMap::new(),
            config: String::new(),
            flush_age: "2s",
            schema: SCHEMA,
            devices: [vec!["a-*"], vec!["b-*"], vec!["c-*"]],
            quota: "{}",
        }
    }

    /// Adds keys of the section `[consumer]`.
    pub(crate) fn with(mut self, consumer: &str) -> Self {
        self.config.push_str(consumer);
        self.config.push('\n');
        self
    }

    pub(crate) async fn start(&mut self) -> Running {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&mut self) -> Result<Running, ConsumerError> {
        // A process has a registry of its own; a second run is a second process.
        self.registry = Registry::new();
        let text = format!(
            r#"
            stamp = "s-1"
            hub = {{ endpoint = "amqp://127.0.0.1", hub = "telemetry" }}
            store = {{ url = "memory:" }}
            tenants = [
                {{ id = "alpha", schema = "any", devices = ["a-*"] }},
                {{ id = "beta", schema = "any", devices = ["b-*"], quota = {} }},
                {{ id = "gamma", schema = "any", devices = ["c-*"] }},
            ]
            [consumer]
            flush-age = "{}"
            {}
            "#,
            self.quota, self.flush_age, self.config
        );
        let config = ConsumerConfig::parse(&text, Path::new("stamp.toml"))?;
        let schema = Arc::new(Schema::parse(self.schema).unwrap().panicking_at("poison"));
        let tenants = TENANTS
            .iter()
            .zip(&self.devices)
            .map(|(id, devices)| TenantPlan {
                id: TenantId::parse(id).unwrap(),
                schema: schema.clone(),
                devices: devices.iter().map(|&entry| entry.to_owned()).collect(),
                lake: self.tenant_lakes.get(id).unwrap_or(&self.lake).clone(),
            });
        let metrics = Metrics::new(&self.registry, &config.stamp).unwrap();
        let parts = Parts {
            hub: self.hub.clone(),
            lake: self.lake.clone(),
            tenants: tenants.collect(),
            metrics,
            traces: Traces::off(),
            observer: Arc::new(NoObserver),
            seed: 7,
            clock: Arc::new(|| 1_795_521_600_000_000),
        };
        let stop = CancellationToken::new();
        let consumer = Consumer::open(&config, parts, &stop).await?;
        let progress = consumer.progress();
        let task = tokio::spawn(consumer.run(stop.clone()));
        Ok(Running {
            progress,
            stop,
            task,
        })
    }

    /// The value of a metric's series, by its text up to the value; 0 when there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        self.known_metric(series).unwrap_or(0.0)
    }

    /// The same; `None` when there is no such series.
    pub(crate) fn known_metric(&self, series: &str) -> Option<f64> {
        let text = self.registry.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map(|value| value.trim().parse().unwrap())
    }

    pub(crate) async fn rows(&self, tenant: &str, table: &str) -> Rows {
        let root = self.lake.tenant(&TenantId::parse(tenant).unwrap());
        let shape = Schema::parse(SCHEMA).unwrap().shape().clone();
        let table = match table {
            "readings" => root.readings(&shape),
            "rejected" => root.rejected(),
            other => panic!("no such table: {other}"),
        };
        let mut rows = Rows::new();
        table
            .scan(&["partition", "sequence"], |columns| {
                count(&mut rows, columns)
            })
            .await
            .unwrap();
        rows
    }

    /// Waits until a table has this many rows.
    pub(crate) async fn until_rows(&self, tenant: &str, table: &str, rows: u64) {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..6_000 {
            ticks.tick().await;
            if self.rows(tenant, table).await.values().sum::<u64>() >= rows {
                return;
            }
        }
        panic!("{tenant}/{table} has fewer than {rows} rows after ten minutes");
    }

    /// Events in quarantine for a reason.
    pub(crate) async fn quarantined(&self, reason: &str) -> Rows {
        let mut rows = Rows::new();
        self.lake
            .stamp()
            .quarantine()
            .scan(&["partition", "sequence", "reason"], |columns| {
                for row in 0..columns.rows() {
                    if columns.text(2, row) == Some(reason) {
                        *rows.entry(position(columns, row)).or_default() += 1;
                    }
                }
            })
            .await
            .unwrap();
        rows
    }

    /// First and last sequence number of every gap.
    pub(crate) async fn gaps(&self) -> Vec<(i64, i64)> {
        let mut gaps = Vec::new();
        self.lake
            .stamp()
            .gaps()
            .scan(&["sequence_first", "sequence_last"], |columns| {
                gaps.extend((0..columns.rows()).map(|row| position(columns, row)));
            })
            .await
            .unwrap();
        gaps.sort_unstable();
        gaps
    }

    /// Number of values, and their sum, as the rollups of a tenant have them.
    pub(crate) async fn rolled_up(&self, tenant: &str) -> (i64, f64) {
        let (mut count, mut sum) = (0, 0.0);
        let root = self.lake.tenant(&TenantId::parse(tenant).unwrap());
        root.rollups()
            .scan(&["count", "sum"], |columns| {
                for row in 0..columns.rows() {
                    count += columns.i64(0, row).unwrap();
                    sum += columns.f64(1, row).unwrap();
                }
            })
            .await
            .unwrap();
        (count, sum)
    }

    pub(crate) async fn checkpoint(&self, number: u32) -> Option<i64> {
        let checkpoints = self.checkpoints();
        checkpoints
            .read(partition(number))
            .await
            .unwrap()
            .map(|checkpoint| checkpoint.sequence)
    }

    pub(crate) fn checkpoints(&self) -> stamp_lake::Checkpoints {
        self.lake
            .checkpoints("contoso.servicebus.windows.net", "telemetry", "$Default")
    }
}

fn count(rows: &mut Rows, columns: &Columns) {
    for row in 0..columns.rows() {
        *rows.entry(position(columns, row)).or_default() += 1;
    }
}

fn position(columns: &Columns, row: usize) -> (i64, i64) {
    (columns.i64(0, row).unwrap(), columns.i64(1, row).unwrap())
}

/// Each of these events of partition 0 with one row.
pub(crate) fn once(sequences: impl IntoIterator<Item = i64>) -> Rows {
    sequences
        .into_iter()
        .map(|sequence| ((0, sequence), 1))
        .collect()
}

impl Running {
    /// Waits on the paused clock until `reached` says so.
    pub(crate) async fn until(&self, reached: impl Fn(&Progress) -> bool) {
        // A paused clock makes an hour of ticks a matter of milliseconds.
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..36_000 {
            if reached(&self.progress) {
                return;
            }
            assert!(!self.task.is_finished(), "the consumer ended");
            ticks.tick().await;
        }
        panic!("not reached within an hour: {:?}", self.progress.snapshot());
    }

    /// Waits until everything up to `sequence` of partition 0 is in the tables.
    pub(crate) async fn until_settled(&self, sequence: i64) {
        self.until(|progress| {
            progress
                .snapshot()
                .get(&partition(0))
                .is_some_and(|at| at.settled >= sequence)
        })
        .await;
    }

    /// Waits until everything up to `sequence` of partition 0 was taken.
    pub(crate) async fn until_read(&self, sequence: i64) {
        self.until(|progress| {
            progress
                .snapshot()
                .get(&partition(0))
                .is_some_and(|at| at.read >= sequence)
        })
        .await;
    }

    pub(crate) async fn stop(self) -> Result<(), ConsumerError> {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    /// As SIGKILL: whatever was under way stops where it is.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn ended(self) -> Result<(), ConsumerError> {
        self.task.await.unwrap()
    }
}

/// A lake that commits nothing to a table, such as `alpha/readings`: what a kill between two commits
/// leaves behind.
pub(crate) fn without_commits_to(lake: &Lake, table: &'static str) -> Lake {
    lake.with_faults(move |request: &Request<'_>| {
        if request.is_commit() && request.path.starts_with(table) {
            Fault::Refuse
        } else {
            Fault::None
        }
    })
}

/// A lake that refuses everything while the switch is on.
pub(crate) fn broken_while(lake: &Lake, switch: &Arc<AtomicBool>) -> Lake {
    let switch = switch.clone();
    lake.with_faults(move |_: &Request<'_>| {
        if switch.load(Ordering::Acquire) {
            Fault::Refuse
        } else {
            Fault::None
        }
    })
}
