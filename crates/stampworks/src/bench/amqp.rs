//! Receiving over AMQP, and the whole way from AMQP to committed tables.
//!
//! The emulator runs in a process of its own, so the CPU time counted is the consumer's alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use stamp_consumer::{Consumer, ConsumerConfig, Parts, plan_tenants};
use stamp_eventhubs::{AmqpConfig, AmqpHub, EventHub, PartitionSource, StartPosition};
use stamp_lake::Lake;
use stamp_model::{BatchLimits, PartitionId};
use stamp_resilience::NoObserver;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Measured;
use super::input::SCHEMA;
use super::usage::{Scope, Stopwatch};
use crate::exit::Failure;

const HUB: &str = "bench";

/// What the emulator's hub is filled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) events: u64,
    pub(super) partitions: u32,
    /// How often each device sends.
    pub(super) interval: Duration,
}

/// A filled emulator in another process, ended with this guard.
struct Emulator {
    child: Child,
    endpoint: String,
}

impl Emulator {
    fn start(fill: Fill) -> Result<Self, Failure> {
        let failed =
            |cause: std::io::Error| Failure::failed("cannot start the emulator's process", cause);
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args([
                "emulate",
                "--listen",
                "127.0.0.1:0",
                "--hub",
                &format!("{HUB}:{}", fill.partitions),
            ])
            .args(["--fill", &fill.events.to_string()])
            .args([
                "--fill-interval",
                &humantime::format_duration(fill.interval).to_string(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take();
        let mut emulator = Self {
            child,
            endpoint: String::new(),
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        let host = line
            .split(';')
            .find_map(|part| part.trim().strip_prefix("Endpoint=sb://"));
        let host = host
            .ok_or_else(|| Failure::because("the emulator's process ended before it was ready"))?;
        emulator.endpoint = format!(
            "amqp://{}",
            host.trim_end_matches('/').replace("localhost", "127.0.0.1")
        );
        Ok(emulator)
    }

    fn hub(&self) -> Result<AmqpHub, Failure> {
        let config = AmqpConfig {
            endpoint: Some(self.endpoint.clone()),
            hub: Some(HUB.into()),
            ..AmqpConfig::default()
        };
        AmqpHub::new(&config).map_err(|cause| Failure::failed("cannot use the emulator", cause))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) async fn receive(fill: Fill) -> Result<Measured, Failure> {
    let Fill {
        events, partitions, ..
    } = fill;
    let emulator = Emulator::start(fill)?;
    let hub = emulator.hub()?;
    let watch = Stopwatch::start(Scope::Process);
    let mut readers = JoinSet::new();
    for number in 0..partitions {
        let share = events / u64::from(partitions)
            + u64::from(u64::from(number) < events % u64::from(partitions));
        readers.spawn(receive_partition(hub.clone(), number, share));
    }
    while let Some(ended) = readers.join_next().await {
        ended.map_err(|cause| Failure::failed("a reader panicked", cause))??;
    }
    let (wall_s, cpu_s) = watch.seconds();
    Ok(Measured {
        name: format!("receive over AMQP, {partitions} partition(s)"),
        events,
        wall_s,
        cpu_s,
    })
}

async fn receive_partition(hub: AmqpHub, number: u32, events: u64) -> Result<(), Failure> {
    let lost = |cause| Failure::failed(format!("receiving from partition {number}"), cause);
    let partition =
        PartitionId::new(number).ok_or_else(|| Failure::because("no such partition"))?;
    let limits = BatchLimits {
        events_max: 1_000,
        bytes_max: 1 << 20,
        wait_max: Duration::from_secs(10),
    };
    let mut source = hub
        .open(partition, StartPosition::Earliest, None)
        .await
        .map_err(lost)?;
    let mut received = 0;
    while received < events {
        let batch = source.next_batch(limits).await.map_err(lost)?;
        if batch.events.is_empty() {
            return Err(Failure::because(format!(
                "partition {number} stalled after {received} events"
            )));
        }
        received += batch.events.len() as u64;
        std::hint::black_box(&batch);
    }
    source.close().await;
    Ok(())
}

pub(super) async fn whole(fill: Fill, buffer_max: ByteSize) -> Result<Measured, Failure> {
    let Fill {
        events, partitions, ..
    } = fill;
    let emulator = Emulator::start(fill)?;
    let folder =
        tempfile::tempdir().map_err(|cause| Failure::failed("cannot make a folder", cause))?;
    std::fs::write(folder.path().join("bench.toml"), SCHEMA)
        .map_err(|cause| Failure::failed("cannot write the bench's schema", cause))?;
    let text = format!(
        r#"
        stamp = "bench"
        hub = {{ endpoint = "{}", hub = "{HUB}" }}
        store = {{ url = "file://{}" }}
        consumer = {{ buffer-max = "{buffer_max}", flush-age = "10s", batch-wait-max = "100ms" }}
        resilience = {{ start-spread = "1ms" }}
        [[tenants]]
        id = "bench"
        schema = "bench.toml"
        devices = ["device-*"]
        "#,
        emulator.endpoint,
        folder.path().display(),
    );
    let config = ConsumerConfig::parse(&text, &folder.path().join("stamp.toml"))?;
    config.check()?;
    let handle = tokio::runtime::Handle::current();
    let lake = Lake::open(&config.store, handle)
        .map_err(|cause| Failure::failed("cannot open the folder", cause))?;
    let tenants = plan_tenants(&config, folder.path(), &lake, |_| Ok(lake.clone()))?;
    let metrics = Metrics::new(&Registry::new(), &config.stamp)
        .map_err(|cause| Failure::failed("cannot set up metrics", cause))?;
    let parts = Parts {
        hub: emulator.hub()?,
        lake,
        tenants,
        metrics,
        traces: Traces::off(),
        observer: Arc::new(NoObserver),
        seed: 1,
        clock: stamp_consumer::wall_clock(),
    };
    let stop = CancellationToken::new();
    let watch = Stopwatch::start(Scope::Process);
    let consumer = Consumer::open(&config, parts, &stop).await?;
    let progress = consumer.progress();
    let running = tokio::spawn(consumer.run(stop.clone()));
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let last = i64::try_from(events).unwrap_or(i64::MAX) - i64::from(partitions);
    while progress
        .snapshot()
        .values()
        .map(|partition| partition.read)
        .sum::<i64>()
        < last
        && !running.is_finished()
    {
        ticks.tick().await;
    }
    // Stopping flushes and commits what is buffered: part of the work that is measured.
    stop.cancel();
    running
        .await
        .map_err(|cause| Failure::failed("the consumer panicked", cause))??;
    let (wall_s, cpu_s) = watch.seconds();
    let settled: i64 = progress
        .snapshot()
        .values()
        .map(|partition| partition.settled + 1)
        .sum();
    if u64::try_from(settled).unwrap_or(0) != events {
        return Err(Failure::because(format!(
            "{settled} of {events} events were committed"
        )));
    }
    Ok(Measured {
        name: format!("AMQP to committed tables, {partitions} partition(s)"),
        events,
        wall_s,
        cpu_s,
    })
}
