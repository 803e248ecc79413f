//! Receiving over AMQP, and the whole way from AMQP to committed tables.
//!
//! The emulator runs in a process of its own, so the CPU time counted is the consumer's alone.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use stamp_consumer::{Consumer, ConsumerConfig, Parts, TenantPlan, plan_tenants};
use stamp_eventhubs::{AmqpHub, EventHub, PartitionSource, StartPosition};
use stamp_lake::Lake;
use stamp_model::{BatchLimits, PartitionId};
use stamp_resilience::NoObserver;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::egress::partitions;
use super::emulator::{Emulator, Fill};
use super::input::SCHEMA;
use super::results::Measured;
use super::usage::{Scope, Stopwatch};
use crate::exit::Failure;

/// Names without TLS and with it.
const RECEIVE: [&str; 2] = ["receive over AMQP", "receive over AMQP with TLS"];
const WHOLE: [&str; 2] = [
    "AMQP to committed tables",
    "AMQP with TLS to committed tables",
];

fn name([plain, secured]: [&str; 2], fill: Fill) -> String {
    let what = if fill.tls { secured } else { plain };
    format!("{what}, {}", partitions(fill.partitions))
}

pub(super) async fn receive(fill: Fill) -> Result<Measured, Failure> {
    let emulator = Emulator::start(fill)?;
    let (hub, before_s) = (emulator.hub()?, emulator.cpu_s());
    let watch = Stopwatch::start(Scope::Process);
    let mut readers = JoinSet::new();
    for number in 0..fill.partitions {
        readers.spawn(receive_partition(hub.clone(), number, fill.share(number)));
    }
    while let Some(ended) = readers.join_next().await {
        ended.map_err(|cause| Failure::failed("a reader panicked", cause))??;
    }
    Ok(Measured {
        emulator_cpu_s: Some(emulator.cpu_s() - before_s),
        ..Measured::new(name(RECEIVE, fill), fill.events, watch.seconds())
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

/// A tenant's tables are made once in its life: no part of what an event costs.
async fn make_tables(tenants: &[TenantPlan]) -> Result<(), Failure> {
    for plan in tenants {
        let root = plan.lake.tenant(&plan.id);
        let shape = plan.schema.shape();
        for table in [root.readings(shape), root.rollups(), root.rejected()] {
            let made = table.load().await;
            made.map_err(|cause| Failure::failed("cannot make the tables", cause))?;
        }
    }
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
    let mut text = format!(
        r#"
        stamp = "bench"
        store = {{ url = "file://{}" }}
        consumer = {{ buffer-max = "{buffer_max}", flush-age = "10s", batch-wait-max = "100ms" }}
        resilience = {{ start-spread = "1ms" }}
        [hub]
        {}
        "#,
        folder.path().display(),
        emulator.hub_toml(),
    );
    for tenant in 0..fill.population.tenants {
        let devices = fill.population.pattern(tenant);
        text += &format!(
            "[[tenants]]\nid = \"bench-{tenant:04}\"\nschema = \"bench.toml\"\ndevices = [\"{devices}\"]\n"
        );
    }
    let config = ConsumerConfig::parse(&text, &folder.path().join("stamp.toml"))?;
    config.check()?;
    let handle = tokio::runtime::Handle::current();
    let lake = Lake::open(&config.store, handle)
        .map_err(|cause| Failure::failed("cannot open the folder", cause))?;
    let tenants = plan_tenants(&config, folder.path(), &lake, |_| Ok(lake.clone()))?;
    make_tables(&tenants).await?;
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
    let before_s = emulator.cpu_s();
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
    let (times, emulator_cpu_s) = (watch.seconds(), emulator.cpu_s() - before_s);
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
        emulator_cpu_s: Some(emulator_cpu_s),
        ..Measured::new(name(WHOLE, fill), events, times)
    })
}
