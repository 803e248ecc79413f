//! `stampworks fleet status`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use stamp_model::StampId;
use stamp_placement::rollout::{Entry, since};
use stamp_placement::{Axis, Environment, Fleet, Kind, Ring, Stamp, StampState};

use super::files::{CataloguePath, load};
use super::live::{Bounds, Live, look};
use super::record::RecordPath;
use super::usage::{UsageArgs, UsageFile};
use super::{OutputFormat, print_json, table};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks fleet status --fleet deploy/examples/fleet\n  \
    stampworks fleet status --over 10s --reservations provision.toml --output json\n\n\
    Exits with 0 whatever the stamps say: the answer is data. Asks each process once, or twice for rates."
)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    record: RecordPath,
    /// Measure rates over this time; without it none is shown.
    #[arg(long, value_name = "DURATION", value_parser = over)]
    over: Option<Duration>,
    #[command(flatten)]
    usage: UsageArgs,
    /// How the status is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

fn over(text: &str) -> Result<Duration, String> {
    let over = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(600);
    range
        .contains(&over)
        .then_some(over)
        .ok_or_else(|| "must be 1s to 10m".to_owned())
}

/// What is used and free on one axis. Unknown is not nothing: it is missing.
#[derive(Debug, Serialize)]
struct AxisStatus {
    used: Option<u64>,
    soft: u64,
    hard: u64,
    free: Option<u64>,
    /// Where the number of what is used comes from.
    source: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct StampStatus {
    stamp: StampId,
    geography: String,
    environment: Environment,
    kind: Kind,
    ring: Ring,
    state: StampState,
    /// What it should run.
    version: String,
    /// Since when, milliseconds since 1970 UTC, when the record knows.
    since_ms: Option<i64>,
    axes: BTreeMap<&'static str, AxisStatus>,
    /// None for a stamp that does not serve.
    live: Option<Live>,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let loaded = load(&args.fleet.path)?;
    let fleet = &loaded.catalogue.fleet;
    let usage = args.usage.load(fleet)?;
    let record = args.record.read(&args.fleet.path)?;
    let live = crate::runtime()?.block_on(look(fleet, args.bounds, args.over));
    let status = join(fleet, &usage, &record, live);
    match args.output {
        OutputFormat::Json => print_json(&status),
        OutputFormat::Text => {
            print(&status);
            Ok(())
        }
    }
}

fn join(
    fleet: &Fleet,
    usage: &UsageFile,
    record: &[Entry],
    mut live: BTreeMap<StampId, Live>,
) -> Vec<StampStatus> {
    let status = |stamp: &Stamp| {
        let live = live.remove(&stamp.id);
        StampStatus {
            stamp: stamp.id.clone(),
            geography: stamp.geography.clone(),
            environment: stamp.environment,
            kind: stamp.kind,
            ring: stamp.ring,
            state: stamp.state,
            version: stamp.version.clone(),
            since_ms: since(record, &stamp.id),
            axes: axes(stamp, usage, live.as_ref()),
            live,
        }
    };
    fleet.stamps().iter().map(status).collect()
}

fn axes(
    stamp: &Stamp,
    usage: &UsageFile,
    live: Option<&Live>,
) -> BTreeMap<&'static str, AxisStatus> {
    let status = |axis: Axis| {
        let (used, source) = used(axis, stamp, usage, live).unzip();
        let limit = stamp.capacity[axis];
        let status = AxisStatus {
            used,
            soft: limit.soft,
            hard: limit.hard,
            free: used.map(|used| limit.hard.saturating_sub(used)),
            source,
        };
        (axis.as_str(), status)
    };
    Axis::ALL.into_iter().map(status).collect()
}

/// What is used on an axis: as measured now, else as the usage file says, else as booked, else unknown.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of events fits"
)]
fn used(
    axis: Axis,
    stamp: &Stamp,
    usage: &UsageFile,
    live: Option<&Live>,
) -> Option<(u64, &'static str)> {
    let rate = live.and_then(|live| live.events_per_second);
    let known = usage.known(&stamp.id, axis);
    match (axis, rate, known) {
        (Axis::EventsPerSecond, Some(rate), _) => Some((rate.ceil() as u64, "measured")),
        (_, _, Some((used, source @ "usage file"))) => Some((used, source)),
        // The day is not over: what it comes to at this rate.
        (Axis::MessagesPerDay, Some(rate), _) => {
            Some(((rate * 86_400.0).ceil() as u64, "at the measured rate"))
        }
        (_, _, known) => known,
    }
}

fn print(status: &[StampStatus]) {
    let heading = [
        "stamp", "state", "ring", "version", "runs", "up", "events/s", "devices", "tenants", "lag",
        "health",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(status.iter().map(row));
    table(&rows).iter().for_each(|line| output::line(line));
    for stamp in status {
        let complaints = stamp.live.iter().flat_map(|live| &live.complaints);
        for complaint in complaints {
            output::line(&format!("{}: {complaint}", stamp.stamp));
        }
    }
}

fn row(stamp: &StampStatus) -> Vec<String> {
    let axis = |axis: Axis| {
        let status = &stamp.axes[axis.as_str()];
        let used = status
            .used
            .map_or_else(|| "?".to_owned(), |used| used.to_string());
        format!("{used} of {}", status.hard)
    };
    let live = stamp.live.as_ref();
    let dash = || "-".to_owned();
    let health = |live: &Live| match (live.up(), live.complaints.len()) {
        (0, _) => "unreachable".to_owned(),
        (_, 0) => "healthy".to_owned(),
        (_, count) => format!("{count} complaints"),
    };
    vec![
        stamp.stamp.to_string(),
        stamp.state.to_string(),
        stamp.ring.to_string(),
        stamp.version.clone(),
        live.map_or_else(dash, |live| match live.versions.as_slice() {
            [] => "?".to_owned(),
            versions => versions.join("+"),
        }),
        live.map_or_else(dash, |live| {
            format!("{}/{}", live.up(), live.processes.len())
        }),
        axis(Axis::EventsPerSecond),
        axis(Axis::Devices),
        axis(Axis::Tenants),
        live.and_then(|live| live.lag_seconds)
            .map_or_else(dash, |lag| format!("{lag:.0} s")),
        live.map_or_else(dash, health),
    ]
}
