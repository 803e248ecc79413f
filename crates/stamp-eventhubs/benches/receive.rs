//! How fast one partition is received, and what an event costs in CPU time, by our own receiver and
//! by the engine that it is checked against.
//!
//! `cargo bench -p stamp-eventhubs -- [events] [partitions] [own|engine]`. The emulator runs in a process of its
//! own, so the CPU time that is printed is the receiver's alone.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stamp_emulator::{EmulatorConfig, EventHubsEmulator, HubConfig, OutgoingEvent, Retention};
use stamp_eventhubs::{AmqpConfig, AmqpHub, EngineHub, EventHub, PartitionSource, StartPosition};
use stamp_model::{BatchLimits, HubStamp, MessageSource, PartitionId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const HUB: &str = "telemetry";

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let number = |at: usize, usual: usize| match args.get(at) {
        Some(text) => text.parse(),
        None => Ok(usual),
    };
    if args.first().is_some_and(|arg| arg == "serve") {
        return runtime.block_on(serve(number(1, 0)?, number(2, 1)?));
    }
    let only = args.get(2).map(String::as_str);
    runtime.block_on(receive(number(0, 400_000)?, number(1, 1)?, only))
}

/// The other process: publishes the events, says where it listens, and serves until it is killed.
async fn serve(events: usize, partitions: usize) -> Outcome<()> {
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse()?,
        hubs: vec![HubConfig {
            name: HUB.to_owned(),
            partitions: u32::try_from(partitions)?,
            retention: Retention {
                bytes_max: 4 << 30,
                ..Retention::default()
            },
            ..HubConfig::default()
        }],
        ..EmulatorConfig::default()
    })
    .await?;
    let hub = emulator.hub(HUB).ok_or("the hub is missing")?;
    for number in 0..events {
        let partition = number % partitions;
        hub.publish(u32::try_from(partition)?, event(number))?;
    }
    println!("{}", emulator.connection_string(HUB));
    std::future::pending().await
}

/// A body of 300 bytes and what IoT Hub stamps on a message of a device.
fn event(number: usize) -> OutgoingEvent {
    let start = format!(
        "{{\"device\":\"press-{:04}\",\"n\":{number},\"pad\":\"",
        number % 1_000
    );
    let body = format!("{start}{}\"}}", "x".repeat(298 - start.len()));
    OutgoingEvent {
        body: body.into(),
        hub: HubStamp {
            device_id: Some(format!("press-{:04}", number % 1_000).into()),
            enqueued_at_us: Some(1_700_000_000_000_000),
            source: MessageSource::Telemetry,
            ..HubStamp::default()
        },
        properties: vec![("line".into(), "7".into())],
        ..OutgoingEvent::default()
    }
}

async fn receive(events: usize, partitions: usize, only: Option<&str>) -> Outcome<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &events.to_string(), &partitions.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut connection_string = String::new();
    let stdout = server.stdout.take().ok_or("no output of the server")?;
    BufReader::new(stdout).read_line(&mut connection_string)?;
    let measured = measure_all(connection_string.trim(), events, partitions, only).await;
    server.kill()?;
    server.wait()?;
    measured
}

async fn measure_all(
    connection_string: &str,
    events: usize,
    partitions: usize,
    only: Option<&str>,
) -> Outcome<()> {
    println!("receiver  credit  events/s  CPU us/event  batches");
    for credit in [100, 300, 1_000, 2_000, 4_000] {
        let config = AmqpConfig {
            credit,
            ..AmqpConfig::default()
        };
        let hub = AmqpHub::with_connection_string(&config, connection_string)?;
        let engine = EngineHub(hub.clone());
        if only != Some("engine") {
            measure("own", &hub, credit, events, partitions).await?;
        }
        if only != Some("own") {
            measure("engine", &engine, credit, events, partitions).await?;
        }
    }
    Ok(())
}

/// Reads every partition to its end, side by side, and prints what that cost.
async fn measure(
    receiver: &str,
    hub: &impl EventHub,
    credit: u32,
    events: usize,
    partitions: usize,
) -> Outcome<()> {
    let started = Instant::now();
    let cpu_before = cpu_time()?;
    let readers: Vec<_> = (0..partitions)
        .map(|partition| {
            let share = events / partitions + usize::from(partition < events % partitions);
            tokio::spawn(drain(hub.clone(), partition, share))
        })
        .collect();
    let mut batches = 0;
    for reader in readers {
        batches += reader.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_time()?.saturating_sub(cpu_before).as_secs_f64();
    println!(
        "{receiver:8}  {credit:6}  {:8.0}  {:12.3}  {batches:7}",
        events as f64 / seconds,
        cpu * 1e6 / events as f64,
    );
    Ok(())
}

/// Reads one partition from its start; returns how many batches it came in.
async fn drain(hub: impl EventHub, partition: usize, events: usize) -> Outcome<usize> {
    let partition = PartitionId::new(u32::try_from(partition)?).ok_or("no such partition")?;
    let mut source = hub
        .open(partition, StartPosition::Earliest, Some(0))
        .await?;
    let limits = BatchLimits {
        events_max: 2_000,
        bytes_max: 4 << 20,
        wait_max: Duration::from_secs(30),
    };
    let (mut left, mut batches) = (events, 0);
    while left > 0 {
        let batch = source.next_batch(limits).await?;
        if batch.events.is_empty() {
            return Err(format!("{left} events did not come").into());
        }
        left = left.saturating_sub(batch.events.len());
        batches += 1;
    }
    source.close().await;
    Ok(batches)
}

/// CPU time of this process so far, to the kernel's tick of ten milliseconds.
fn cpu_time() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the process is in parentheses and may hold anything.
    let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, std::num::ParseIntError>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
