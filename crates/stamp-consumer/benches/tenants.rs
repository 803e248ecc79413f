//! What an event costs by the number of tenants and partitions: a hub in memory to committed tables
//! on the local disk, CPU time of the process.
//!
//! `cargo bench -p stamp-consumer -- EVENTS TENANTS PARTITIONS BUFFER`, by default 400,000 events of 1,000
//! tenants in 4 partitions with 64MiB.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails like a test, and prints what it found"
)]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use stamp_consumer::{Consumer, ConsumerConfig, Parts, TenantPlan, wall_clock};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::Lake;
use stamp_model::{Event, HubIdentity, HubStamp, MessageSource, PartitionId, TenantId};
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio_util::sync::CancellationToken;

const DEVICES: u64 = 32_000;
const METRICS: [&str; 5] = ["temp", "pressure", "vibration", "current", "rpm"];

/// SplitMix64: a small generator with a published constant set, for input that never changes.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn schema() -> String {
    let mut text = "version = 1\n[event-time]\nsource = \"enqueued\"\n".to_owned();
    for name in METRICS {
        let _ = writeln!(
            text,
            "[[fields]]\nname = \"{name}\"\npath = \"{name}\"\ntype = \"f64\"\nrequired = true\nmax = 100.0"
        );
    }
    text
}

fn fill(hub: &MemoryHub, events: u64, tenants: u64, partitions: u64) {
    let mut random = 1;
    let begin_us = 1_795_521_600_000_000_i64;
    for number in 0..events {
        let device = number % DEVICES;
        let partition = u32::try_from(device / tenants % partitions).unwrap();
        let mut body = format!("{{\"site\":\"plant-7\",\"firmware\":\"4.2.1\",\"seq\":{number}");
        // One event in a hundred.
        let is_refused = next(&mut random).is_multiple_of(100);
        for (place, name) in METRICS.iter().enumerate() {
            let beyond = f64::from(u8::from(is_refused && place == 2)) * 1_000.0;
            let value = (next(&mut random) % 10_000) as f64 / 100.0 + beyond;
            let _ = write!(body, ",\"{name}\":{value}");
        }
        body.push('}');
        let event = Event {
            enqueued_at_us: begin_us + (number * 10_000_000 / DEVICES).cast_signed(),
            hub: HubStamp {
                device_id: Some(
                    format!("t{:04}-{device:05}", device % tenants)
                        .as_str()
                        .into(),
                ),
                source: MessageSource::Telemetry,
                ..HubStamp::default()
            },
            body: Bytes::from(body),
            ..Event::default()
        };
        hub.append(PartitionId::new(partition).unwrap(), event);
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

/// Peak of the resident set in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

async fn measure(events: u64, tenants: u64, partitions: u64, buffer: &str) {
    let identity = HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_000,
    };
    let hub = MemoryHub::new(identity, u32::try_from(partitions).unwrap());
    fill(&hub, events, tenants, partitions);
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        r#"
        stamp = "bench"
        hub = {{ endpoint = "amqp://127.0.0.1", hub = "telemetry" }}
        store = {{ url = "file://{}" }}
        consumer = {{ buffer-max = "{buffer}", flush-age = "10s", batch-wait-max = "100ms" }}
        resilience = {{ start-spread = "1ms" }}
        "#,
        folder.path().display()
    );
    for tenant in 0..tenants {
        let _ = writeln!(
            text,
            "[[tenants]]\nid = \"t{tenant:04}\"\nschema = \"any\"\ndevices = [\"t{tenant:04}-*\"]"
        );
    }
    let config = ConsumerConfig::parse(&text, Path::new("stamp.toml")).unwrap();
    let lake = Lake::open(&config.store, tokio::runtime::Handle::current()).unwrap();
    let schema = Arc::new(Schema::parse(&schema()).unwrap());
    let plans = (0..tenants).map(|tenant| TenantPlan {
        id: TenantId::parse(&format!("t{tenant:04}")).unwrap(),
        schema: schema.clone(),
        devices: vec![format!("t{tenant:04}-*")],
        lake: lake.clone(),
    });
    let plans: Vec<TenantPlan> = plans.collect();
    // Made once in a tenant's life: no part of what an event costs.
    for plan in &plans {
        let root = lake.tenant(&plan.id);
        for table in [
            root.readings(schema.shape()),
            root.rollups(),
            root.rejected(),
        ] {
            table.load().await.unwrap();
        }
    }
    // Its memory is given back after the measurement.
    let kept = hub.clone();
    let parts = Parts {
        hub,
        tenants: plans,
        lake,
        metrics: Metrics::new(&Registry::new(), &config.stamp).unwrap(),
        traces: Traces::off(),
        observer: Arc::new(NoObserver),
        seed: 1,
        clock: wall_clock(),
    };
    let before_mib = peak_mib();
    let (wall, before) = (Instant::now(), cpu());
    let stop = CancellationToken::new();
    let consumer = Consumer::open(&config, parts, &stop).await.unwrap();
    let progress = consumer.progress();
    let running = tokio::spawn(consumer.run(stop.clone()));
    let done = |of: fn(&stamp_consumer::PartitionProgress) -> i64| -> u64 {
        let all = progress.snapshot();
        all.values()
            .map(|at| u64::try_from(of(at) + 1).unwrap())
            .sum()
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while done(|at| at.read) < events {
        assert!(!running.is_finished(), "the consumer ended");
        ticks.tick().await;
    }
    let read = (wall.elapsed(), cpu() - before);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(done(|at| at.settled), events, "everything is committed");
    let (spent, took) = (cpu() - before, wall.elapsed());
    drop(kept);
    let files = count(folder.path());
    println!(
        "{tenants} tenants, {partitions} partitions: {} ns of CPU an event ({} when all were read), {:.1} s, {files} files, peak {} MiB ({before_mib} before)",
        spent.as_nanos() / u128::from(events),
        read.1.as_nanos() / u128::from(events),
        took.as_secs_f64(),
        peak_mib(),
    );
}

/// Parquet files below a folder.
fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => count(&entry.path()),
            false => usize::from(entry.path().extension().is_some_and(|end| end == "parquet")),
        })
        .sum()
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse().unwrap())
    };
    let (events, tenants, partitions) = (number(400_000), number(1_000), number(4));
    let buffer = arguments.next().unwrap_or_else(|| "64MiB".to_owned());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(events, tenants, partitions, &buffer));
}
