//! `stampworks simulate`: a fleet of millions of devices through an outage, the move of a region and a
//! year of growth, on the placement and the retry policies that are shipped.
//!
//! Nothing here opens a socket or waits: time is counted. docs/fleet-simulation.md says what is simulated and
//! what is not.

mod catalogue;
mod gate;
mod gateway;
mod growth;
mod outage;
mod panels;
mod plan;
mod plot;
mod queue;
mod region;
mod report;
mod scenarios;
mod strategy;
mod text;
mod world;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use stamp_consumer::ConfigError;

use self::scenarios::{Settings, simulate};
use self::world::DEVICES_A_STAMP_MAX;
use crate::bench::usage::{Scope, Stopwatch, peak_memory_bytes};
use crate::exit::Failure;
use crate::output;

/// Fewest devices a stamp that give figures worth reading.
const DEVICES_A_STAMP_MIN: u64 = 1_000;
/// Longest outage, and longest one to be ridden out: the wheel of turns grows with it.
const OUTAGE_MAX: Duration = Duration::from_secs(6 * 3_600);
const OUTAGE_MIN: Duration = Duration::from_secs(1);

/// Arguments of `stampworks simulate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stampworks simulate --svg fleet.svg\n  \
    stampworks simulate --devices 2000000 --stamps 8 --outage 30m --ride-out 30m --output json\n\n\
    Exit code 5 when a promise of the report is broken.")]
pub(crate) struct SimulateArgs {
    /// Devices of the whole fleet.
    #[arg(long, default_value_t = 10_000_000)]
    devices: u64,
    /// Stamps they are on at first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=5_000))]
    stamps: u64,
    /// What is drawn at random is drawn from it; the same seed gives the same report.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the hubs are away.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = outage)]
    outage: Duration,
    /// Outages up to this length are to cost few attempts: the first reconnects are spread over 15 times
    /// as long.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = outage)]
    ride_out: Duration,
    /// Devices in a hundred that are behind gateways of 200.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=100))]
    gateway_percent: u64,
    /// Where the plot is written.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// How the report is printed: text is Markdown.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

fn outage(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (OUTAGE_MIN..=OUTAGE_MAX).contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (
        humantime::format_duration(OUTAGE_MIN),
        humantime::format_duration(OUTAGE_MAX),
    );
    Err(format!("must be from {least} to {most}"))
}

pub(crate) fn run(args: SimulateArgs) -> Result<(), Failure> {
    let settings = args.settings()?;
    let stopwatch = Stopwatch::start(Scope::Process);
    let simulated = simulate(&settings, output::note)
        .map_err(|cause| Failure::failed("the growth cannot be planned", cause))?;
    if let Some(path) = &args.svg {
        std::fs::write(path, &simulated.svg)
            .map_err(|cause| Failure::failed(format!("cannot write {}", path.display()), cause))?;
    }
    let report = &simulated.report;
    output::note(&used(&stopwatch));
    match args.output {
        OutputFormat::Text => report.lines().iter().for_each(|line| output::line(line)),
        OutputFormat::Json => {
            let text = serde_json::to_string_pretty(report)
                .map_err(|cause| Failure::failed("cannot print the report", cause))?;
            output::line(&text);
        }
    }
    for broken in report.broken() {
        output::note(&format!("broken: {}", broken.promise));
    }
    match report.broken().count() as u64 {
        0 => Ok(()),
        broken => Err(Failure::Difference(broken)),
    }
}

/// What the run took of this machine. Not part of the report, which is the same everywhere.
fn used(stopwatch: &Stopwatch) -> String {
    let (wall_s, processor_s) = stopwatch.seconds();
    let memory = peak_memory_bytes() as f64 / 1e6;
    format!(
        "took {processor_s:.0} s of processor in {wall_s:.0} s, {memory:.0} MB of memory at most"
    )
}

impl SimulateArgs {
    /// Checks what only fits together.
    fn settings(&self) -> Result<Settings, Failure> {
        let a_stamp = self.devices.div_ceil(self.stamps);
        if !(DEVICES_A_STAMP_MIN..=DEVICES_A_STAMP_MAX).contains(&a_stamp) {
            let what = format!(
                "{} on {} stamps are {a_stamp} a stamp; from {DEVICES_A_STAMP_MIN} to \
                 {DEVICES_A_STAMP_MAX} are simulated",
                self.devices, self.stamps
            );
            return Err(ConfigError::value("devices", what).into());
        }
        Ok(Settings {
            devices: self.devices,
            stamps: self.stamps,
            seed: self.seed,
            outage: self.outage,
            ride_out: self.ride_out,
            gateway_percent: self.gateway_percent,
        })
    }
}
