//! `stampworks fleet bookings`: who is booked on which stamp.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment};
use stamp_reservations::{Booking, Reservations, Subject};

use super::reservations::{PAGE, configured, environment, pages, refuse, tenants, within};
use super::{OutputFormat, print_json, table};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet bookings`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks fleet bookings --reservations provision.toml\n  \
    stampworks fleet bookings --reservations provision.toml --tenant contoso --stamp weu-1\n  \
    stampworks fleet bookings --reservations provision.toml --device press-7 --output json\n\n\
    Without a tenant, stamp or device: where every tenant is. Changes nothing."
)]
pub(super) struct BookingsArgs {
    /// The configuration file of a provisioner, or one with its section `[reservations]`.
    #[arg(long, value_name = "FILE")]
    reservations: PathBuf,
    /// The places of a tenant, and its devices.
    #[arg(long, value_parser = |text: &str| TenantId::parse(text))]
    tenant: Option<TenantId>,
    /// Who is on a stamp, or is leaving it.
    #[arg(long, value_parser = |text: &str| StampId::parse(text))]
    stamp: Option<StampId>,
    /// One device.
    #[arg(
        long,
        value_parser = |text: &str| DeviceId::parse(text.into()),
        conflicts_with_all = ["tenant", "stamp"]
    )]
    device: Option<DeviceId>,
    /// Most bookings that are shown.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// One booking, as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Shown {
    tenant: TenantId,
    /// None for the place of the tenant itself.
    device: Option<String>,
    /// Of the place of a tenant.
    environment: Option<Environment>,
    stamp: StampId,
    /// The stamp that it is moving away from. It takes its place there too.
    leaving: Option<StampId>,
    /// What it takes of each of the two: devices, messages a day, events and bytes a second, tenants.
    needs: std::collections::BTreeMap<&'static str, u64>,
    /// Changes so far, the first one included.
    version: i64,
    /// When it was changed last, microseconds since 1970 UTC, by the clock of who did it.
    changed_us: i64,
}

impl Shown {
    pub(super) fn of(booking: &Booking) -> Self {
        let taken = Axis::ALL
            .into_iter()
            .filter(|axis| booking.needs[*axis] > 0);
        Self {
            tenant: booking.tenant.clone(),
            device: booking.subject.strip_prefix("device:").map(str::to_owned),
            environment: environment(booking),
            stamp: booking.stamp.clone(),
            leaving: booking.leaving.clone(),
            needs: taken
                .map(|axis| (axis.as_str(), booking.needs[axis]))
                .collect(),
            version: booking.version,
            changed_us: booking.changed_us,
        }
    }
}

impl Shown {
    /// As a sentence begins.
    pub(super) fn name(&self) -> String {
        match (&self.device, self.environment) {
            (Some(device), _) => format!("device {device} of {}", self.tenant),
            (None, Some(environment)) => format!("{}, {environment}", self.tenant),
            (None, None) => self.tenant.to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    bookings: Vec<Shown>,
    /// Whether there are more than were asked for.
    more: bool,
}

pub(super) fn run(args: &BookingsArgs) -> Result<(), Failure> {
    let door = Reservations::read_only(&configured(&args.reservations)?).map_err(refuse)?;
    let most = args.limit as usize;
    let mut found = crate::runtime()?.block_on(find(&door, args, most))?;
    let more = found.len() > most;
    found.truncate(most);
    let report = Report {
        bookings: found.iter().map(Shown::of).collect(),
        more,
    };
    match args.output {
        OutputFormat::Json => print_json(&report),
        OutputFormat::Text => {
            print(&report);
            Ok(())
        }
    }
}

/// Up to `most`, and one more when there are more.
async fn find(
    door: &Reservations,
    args: &BookingsArgs,
    most: usize,
) -> Result<Vec<Booking>, Failure> {
    if let Some(device) = &args.device {
        let subject = Subject::Device(device.clone());
        return Ok(within(door.get(&subject)).await?.into_iter().collect());
    }
    match (&args.tenant, &args.stamp) {
        (None, None) => tenants(door, most).await,
        (None, Some(stamp)) => {
            pages(most, async |after| door.list(stamp, &after, PAGE).await).await
        }
        (Some(tenant), stamp) => {
            let mut found = places(door, tenant).await?;
            if let Some(stamp) = stamp {
                found.retain(|home| home.stamp == *stamp || home.leaving.as_ref() == Some(stamp));
            }
            let page =
                async |after: String| door.devices(tenant, stamp.as_ref(), &after, PAGE).await;
            found.extend(pages(most, page).await?);
            Ok(found)
        }
    }
}

/// The places of a tenant, at most one in each environment.
pub(super) async fn places(
    door: &Reservations,
    tenant: &TenantId,
) -> Result<Vec<Booking>, Failure> {
    let mut found = Vec::new();
    for environment in [Environment::Production, Environment::Test] {
        let subject = Subject::Tenant(tenant.clone(), environment);
        found.extend(within(door.get(&subject)).await?);
    }
    Ok(found)
}

fn print(report: &Report) {
    if report.bookings.is_empty() {
        output::line("nothing is booked");
        return;
    }
    let heading = ["tenant", "who", "stamp", "leaving", "since", "takes"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(report.bookings.iter().map(row));
    table(&rows).iter().for_each(|line| output::line(line));
    if report.more {
        output::note("there are more; --limit shows them");
    }
}

fn row(shown: &Shown) -> Vec<String> {
    let who = match (&shown.device, shown.environment) {
        (Some(device), _) => device.clone(),
        (None, environment) => format!("(home, {})", environment.map_or("?", Environment::as_str)),
    };
    let dash = || "-".to_owned();
    let changed = Timestamp::from_microsecond(shown.changed_us).ok();
    let takes: Vec<String> = shown
        .needs
        .iter()
        .map(|(axis, needs)| format!("{needs} {axis}"))
        .collect();
    vec![
        shown.tenant.to_string(),
        who,
        shown.stamp.to_string(),
        shown
            .leaving
            .as_ref()
            .map_or_else(dash, ToString::to_string),
        changed.map_or_else(dash, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        if takes.is_empty() {
            dash()
        } else {
            takes.join(", ")
        },
    ]
}
