//! `stampworks bench`: what each stage and the whole cost on this machine.
//!
//! One input, made from a seed, goes through every measurement. Times are for comparing stages of
//! one run on one machine; CPU per event says more than events per second where cores are shared. Each part is
//! measured by a process of its own, so that its peak memory is its own too.

mod amqp;
mod egress;
mod emulator;
mod file;
mod input;
mod population;
mod provision;
mod raw;
mod results;
mod stages;
pub(crate) mod usage;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use self::emulator::Fill;
use self::results::{PartResults, Results};
use crate::exit::Failure;
use crate::output;

pub(crate) use input::{FillClock, INTERVAL, Source};
pub(crate) use population::Population;

/// When the first event of the bench's input was made: the same in every run, so that the same seed gives the same
/// bytes.
const BEGAN: &str = "2026-01-01T00:00:00Z";

/// Arguments of `stampworks bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo run --release -- bench --events 1000000\n  \
    cargo run --release -- bench --write-input input.ndjson --events 1000000\n  \
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
    /// How often each device sends, 1s to 1h. Windows are one minute: at the usual 10s six readings
    /// share a rollup row of each metric; at 60s every reading makes five rows of its own, the
    /// worst case.
    #[arg(long, default_value = INTERVAL, value_parser = parse_interval)]
    interval: Duration,
    /// Devices that send, by turns.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    devices: u64,
    /// Tenants that the devices belong to. `stages` knows only one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2_000))]
    tenants: u64,
    /// What the readings are made from. The same seed and number of events give the same input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = What::All)]
    only: What,
    /// How the hub is reached in `receive` and `whole`.
    #[arg(long, value_enum, default_value_t = Transport::Both)]
    transport: Transport,
    /// Memory of the consumer in the whole-path measurement.
    #[arg(long, default_value = "64MiB")]
    buffer_max: bytesize::ByteSize,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measures nothing: writes the bodies of the input to this file, one JSON object a line, for other programs.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "transport", "json"])]
    write_input: Option<PathBuf>,
    /// Measures nothing: takes a file of `--write-input` to Parquet, on one thread. Seed, interval, devices and tenants
    /// must be those that it was written with.
    #[arg(long, value_name = "FILE", requires = "output", conflicts_with_all = ["only", "transport", "json", "write_input"])]
    input: Option<PathBuf>,
    /// Where the Parquet files of `--input` go.
    #[arg(long, value_name = "DIR", requires = "input")]
    output: Option<PathBuf>,
    /// Measures one part in this process and prints it as JSON.
    #[arg(long, value_enum, hide = true)]
    part: Option<Part>,
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
    /// What the emulator can send, to a receiver that only counts.
    Egress,
    /// Receiving over AMQP from an emulator in a process of its own.
    Receive,
    /// AMQP to committed tables on the local disk.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Plain,
    Tls,
    Both,
}

/// What one process measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Floor,
    Stages,
    Egress,
    Receive,
    ReceiveTls,
    Whole,
    WholeTls,
}

impl BenchArgs {
    fn source(&self) -> Source {
        Source {
            seed: self.seed,
            began: BEGAN.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            population: self.population(),
        }
    }

    fn population(&self) -> Population {
        Population {
            interval: self.interval,
            devices: self.devices,
            tenants: self.tenants,
        }
    }

    fn parts(&self) -> Vec<Part> {
        let wants = |what| self.only == What::All || self.only == what;
        let plain = self.transport != Transport::Tls;
        let tls = self.transport != Transport::Plain;
        let parts = [
            (Part::Floor, !wants(What::Stages)),
            (Part::Stages, wants(What::Stages)),
            (Part::Egress, wants(What::Egress)),
            (Part::Receive, wants(What::Receive) && plain),
            (Part::ReceiveTls, wants(What::Receive) && tls),
            (Part::Whole, wants(What::Whole) && plain),
            (Part::WholeTls, wants(What::Whole) && tls),
        ];
        let wanted = parts.into_iter().filter(|(_, wanted)| *wanted);
        wanted.map(|(part, _)| part).collect()
    }

    /// Measures a part in a process of its own.
    fn run_part(&self, part: Part) -> Result<PartResults, Failure> {
        let failed =
            |cause: std::io::Error| Failure::failed("cannot start a part of the bench", cause);
        let name = part.to_possible_value();
        let name = name.as_ref().map_or("", |name| name.get_name());
        let interval = humantime::format_duration(self.interval).to_string();
        let output = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["bench", "--part", name])
            .args(["--events", &self.events.to_string()])
            .args(["--partitions", &self.partitions.to_string()])
            .args(["--interval", &interval])
            .args(["--devices", &self.devices.to_string()])
            .args(["--tenants", &self.tenants.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .args(["--buffer-max", &self.buffer_max.as_u64().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(failed)?;
        if !output.status.success() {
            return Err(Failure::because(format!("the part {name} failed")));
        }
        serde_json::from_slice(&output.stdout).map_err(|cause| {
            Failure::failed(format!("the part {name} printed something else"), cause)
        })
    }

    /// Measures a part in this process.
    fn measure(&self, part: Part) -> Result<PartResults, Failure> {
        let fill = Fill {
            events: self.events,
            partitions: self.partitions,
            seed: self.seed,
            population: self.population(),
            tls: matches!(part, Part::ReceiveTls | Part::WholeTls),
        };
        let measured = match part {
            Part::Floor => return Ok(stages::measure_floor(self.source())),
            Part::Egress => vec![egress::measure(fill)?],
            Part::Stages => {
                let mut results = stages::measure(self.events, self.source())?;
                let mut all = results.measured.iter_mut();
                if let Some(sum) = all.find(|measured| measured.name == stages::SUM) {
                    sum.peak_memory_bytes = Some(usage::peak_memory_bytes());
                }
                return Ok(results);
            }
            Part::Receive | Part::ReceiveTls => {
                vec![crate::runtime()?.block_on(amqp::receive(fill))?]
            }
            Part::Whole | Part::WholeTls => {
                let whole = Box::pin(amqp::whole(fill, self.buffer_max));
                vec![crate::runtime()?.block_on(whole)?]
            }
        };
        let mut results = PartResults {
            measured,
            sizes: None,
        };
        if part != Part::Egress {
            for measured in &mut results.measured {
                measured.peak_memory_bytes = Some(usage::peak_memory_bytes());
            }
        }
        Ok(results)
    }
}

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    if let Some(Other::Provision(args)) = args.other {
        return provision::run(&args);
    }
    args.population().check()?;
    if let Some(file) = &args.write_input {
        return input::write(file, args.events, args.source())
            .map_err(|cause| Failure::failed(format!("cannot write {}", file.display()), cause));
    }
    if let (Some(input), Some(output)) = (&args.input, &args.output) {
        return file::convert(input, output, args.source());
    }
    if let Some(part) = args.part {
        let text = serde_json::to_string(&args.measure(part)?)
            .map_err(|cause| Failure::failed("cannot print the results", cause))?;
        output::line(&text);
        return Ok(());
    }
    let parts = args.parts();
    let measured = parts.into_iter().map(|part| args.run_part(part));
    let results = Results::of(args.seed, args.events, measured.collect::<Result<_, _>>()?);
    if args.json {
        return results.print_json();
    }
    results.print();
    Ok(())
}
