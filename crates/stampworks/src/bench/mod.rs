//! `stampworks bench`: what each stage and the whole cost on this machine.
//!
//! One input, made from a seed, goes through every measurement. Times are for comparing stages of
//! one run on one machine; CPU per event says more than events per second where cores are shared.

mod amqp;
mod input;
mod provision;
mod stages;
pub(crate) mod usage;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use stamp_emulator::Hub;

use crate::exit::Failure;
use crate::output;

pub(crate) use input::INTERVAL;

/// Arguments of `stampworks bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo run --release -- bench --events 1000000\n  \
    cargo run --release -- bench provision --devices 2000",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// Events that go through each measurement.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=50_000_000))]
    events: u64,
    /// Partitions of the hub in the measurements over AMQP.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    partitions: u32,
    /// How often each of the 10,000 devices sends, 1s to 1h. Windows are one minute: at the usual
    /// 10s six readings share a rollup row of each metric; at 60s every reading makes five rows
    /// of its own, the worst case.
    #[arg(long, default_value = INTERVAL, value_parser = parse_interval)]
    interval: Duration,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = What::All)]
    only: What,
    /// Memory of the consumer in the whole-path measurement.
    #[arg(long, default_value = "64MiB")]
    buffer_max: bytesize::ByteSize,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// An interval between two messages of a device. Also for `stampworks emulate`.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("an interval is 1s to 1h".into())
    }
}

/// What is measured beside the way of an event.
#[derive(Debug, Subcommand)]
enum Other {
    /// How long a provisioner takes to answer the webhook of DPS.
    Provision(provision::ProvisionBenchArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything.
    All,
    /// Decode to Parquet in memory, on one thread.
    Stages,
    /// Receiving over AMQP from an emulator in a process of its own.
    Receive,
    /// AMQP to committed tables on the local disk.
    Whole,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) events: u64,
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
}

impl Measured {
    #[expect(
        clippy::cast_precision_loss,
        reason = "event counts are far below 2^53"
    )]
    fn per_second(&self, seconds: f64) -> f64 {
        self.events as f64 / seconds.max(1e-9)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "event counts are far below 2^53"
    )]
    fn row(&self) -> String {
        format!(
            "{:<34} {:>12.0} {:>14.0} {:>12.0}",
            self.name,
            self.per_second(self.wall_s),
            self.per_second(self.cpu_s),
            self.cpu_s * 1e9 / self.events as f64
        )
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Results {
    measured: Vec<Measured>,
    body_bytes_per_event: f64,
    readings_bytes_per_event: f64,
    rollup_bytes_per_event: f64,
    rollup_rows_per_event: f64,
    peak_memory_bytes: u64,
}

/// Puts generated events into a hub, partition by turns. Also for `stampworks emulate --fill`.
pub(crate) fn fill(hub: &Hub, events: u64, interval: Duration) -> Result<(), Failure> {
    input::fill(hub, events, interval)
}

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    if let Some(Other::Provision(args)) = args.other {
        return provision::run(&args);
    }
    let mut results = Results::default();
    let wants = |what| args.only == What::All || args.only == what;
    if wants(What::Stages) {
        stages::measure(args.events, args.interval, &mut results)?;
    }
    if wants(What::Receive) || wants(What::Whole) {
        let fill = amqp::Fill {
            events: args.events,
            partitions: args.partitions,
            interval: args.interval,
        };
        crate::runtime()?.block_on(async {
            if wants(What::Receive) {
                results.measured.push(amqp::receive(fill).await?);
            }
            if wants(What::Whole) {
                let whole = amqp::whole(fill, args.buffer_max).await?;
                results.measured.push(whole);
            }
            Ok::<(), Failure>(())
        })?;
    }
    results.peak_memory_bytes = usage::peak_memory_bytes();
    if args.json {
        let text = serde_json::to_string_pretty(&results)
            .map_err(|cause| Failure::failed("cannot print the results", cause))?;
        output::line(&text);
    } else {
        print(&results);
    }
    Ok(())
}

fn print(results: &Results) {
    output::line(&format!(
        "{:<34} {:>12} {:>14} {:>12}",
        "measurement", "events/s", "per CPU second", "CPU ns/event"
    ));
    for measured in &results.measured {
        output::line(&measured.row());
    }
    if results.readings_bytes_per_event > 0.0 {
        output::line(&format!(
            "\nbytes an event: body {:.0}, readings {:.1}, rollups {:.1}",
            results.body_bytes_per_event,
            results.readings_bytes_per_event,
            results.rollup_bytes_per_event
        ));
        output::line(&format!(
            "rollup rows an event: {:.2}",
            results.rollup_rows_per_event
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
    let mib = results.peak_memory_bytes as f64 / f64::from(1 << 20);
    output::line(&format!("peak memory of this process: {mib:.0} MiB"));
}
