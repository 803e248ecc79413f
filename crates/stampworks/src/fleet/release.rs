//! `stampworks fleet release`: gives back a place that nobody gives back by itself.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_reservations::{Booking, Moved, Reservations, Subject};

use super::bookings::{Shown, places};
use super::reservations::{configured, environment, refuse, within};
use super::{OutputFormat, print_json};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet release`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks fleet release --reservations provision.toml --tenant contoso --stamp weu-1 --dry-run\n  \
    stampworks fleet release --reservations provision.toml --tenant contoso --stamp weu-1\n  \
    stampworks fleet release --reservations provision.toml --device press-7\n\n\
    Of somebody who moves, the stamp that is left ends the move, and the one it goes to takes it back. Nothing is \
    changed in a hub, in DPS or in the catalogue: whoever still has an enrolment is booked again when it registers. \
    Exits with 1 when it is refused."
)]
pub(super) struct ReleaseArgs {
    /// The configuration file of a provisioner, or one with its section `[reservations]`.
    #[arg(long, value_name = "FILE")]
    reservations: PathBuf,
    /// The tenant whose place is given back.
    #[arg(
        long,
        value_parser = |text: &str| TenantId::parse(text),
        requires = "stamp",
        required_unless_present = "device",
        conflicts_with = "device"
    )]
    tenant: Option<TenantId>,
    /// The stamp on which it is; of a device, needed when it moves.
    #[arg(long, value_parser = |text: &str| StampId::parse(text))]
    stamp: Option<StampId>,
    /// The device whose place is given back.
    #[arg(long, value_parser = |text: &str| DeviceId::parse(text.into()))]
    device: Option<DeviceId>,
    /// Give a tenant's place back although devices of it are booked there.
    #[arg(long, requires = "tenant")]
    even_with_devices: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// What is done with a booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    /// The stamp that it leaves is free.
    EndMove,
    /// The stamp that it goes to is free; it stays where it came from.
    UndoMove,
    /// Its only place is free.
    Remove,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    act: Act,
    /// The stamp that has room again.
    freed: StampId,
    /// Where it is from now on.
    stays: Option<StampId>,
    /// As it was.
    booking: Shown,
    /// Devices of the tenant that are booked on the stamp.
    devices: Option<u64>,
    /// Whether it was done.
    done: bool,
}

pub(super) fn run(args: &ReleaseArgs) -> Result<(), Failure> {
    let config = configured(&args.reservations)?;
    let door = match args.dry_run {
        true => Reservations::read_only(&config),
        false => Reservations::existing(&config),
    };
    let report = crate::runtime()?.block_on(release(&door.map_err(refuse)?, args))?;
    match args.output {
        OutputFormat::Json => print_json(&report),
        OutputFormat::Text => {
            print(&report);
            Ok(())
        }
    }
}

async fn release(door: &Reservations, args: &ReleaseArgs) -> Result<Report, Failure> {
    let (subject, booking) = match (&args.tenant, &args.device, &args.stamp) {
        (Some(tenant), _, Some(stamp)) => place(door, tenant, stamp).await?,
        (_, Some(device), _) => {
            let subject = Subject::Device(device.clone());
            let found = within(door.get(&subject)).await?;
            let absent = || Failure::because(format!("device {device} is booked nowhere"));
            (subject, found.ok_or_else(absent)?)
        }
        // clap asks for one of the two, and for the stamp of a tenant.
        _ => return Err(Failure::because("say --tenant and --stamp, or --device")),
    };
    let (act, freed) = act(&booking, args.stamp.as_ref())?;
    let devices = match &args.tenant {
        Some(tenant) => Some(within(door.count_devices(tenant, &freed)).await?),
        None => None,
    };
    if let Some(count @ 1..) = devices.filter(|_| !args.even_with_devices) {
        let tenant = &booking.tenant;
        return Err(Failure::because(format!(
            "{count} devices of {tenant} are booked on {freed}: move or release them first, or say \
             --even-with-devices"
        )));
    }
    if !args.dry_run {
        change(door, act, &subject, &booking).await?;
    }
    Ok(Report {
        act,
        stays: match act {
            Act::EndMove => Some(booking.stamp.clone()),
            Act::UndoMove => booking.leaving.clone(),
            Act::Remove => None,
        },
        freed,
        booking: Shown::of(&booking),
        devices,
        done: !args.dry_run,
    })
}

/// The booking of a tenant that takes a place on this stamp.
async fn place(
    door: &Reservations,
    tenant: &TenantId,
    stamp: &StampId,
) -> Result<(Subject, Booking), Failure> {
    let places = places(door, tenant).await?;
    let is_there =
        |booking: &&Booking| booking.stamp == *stamp || booking.leaving.as_ref() == Some(stamp);
    let found = places.iter().find(is_there);
    let found = found.and_then(|booking| Some((environment(booking)?, booking)));
    let Some((environment, booking)) = found else {
        let others: Vec<&str> = places.iter().map(|home| home.stamp.as_str()).collect();
        return Err(Failure::because(match others.as_slice() {
            [] => format!("{tenant} is booked nowhere"),
            others => format!(
                "{tenant} is not booked on {stamp}, but on {}",
                others.join(" and ")
            ),
        }));
    };
    Ok((
        Subject::Tenant(tenant.clone(), environment),
        booking.clone(),
    ))
}

/// What giving back its place on `stamp` comes to, and which stamp has room then.
fn act(booking: &Booking, stamp: Option<&StampId>) -> Result<(Act, StampId), Failure> {
    let at = &booking.stamp;
    match (&booking.leaving, stamp) {
        (Some(leaving), Some(stamp)) if stamp == leaving => Ok((Act::EndMove, leaving.clone())),
        (Some(_), Some(stamp)) if stamp == at => Ok((Act::UndoMove, at.clone())),
        (None, Some(stamp)) if stamp == at => Ok((Act::Remove, at.clone())),
        (None, None) => Ok((Act::Remove, at.clone())),
        (Some(leaving), None) => Err(Failure::because(format!(
            "it moves from {leaving} to {at}: say with --stamp which of the two is given back"
        ))),
        (_, Some(stamp)) => Err(Failure::because(format!(
            "it is not booked on {stamp}, but on {at}"
        ))),
    }
}

async fn change(
    door: &Reservations,
    act: Act,
    subject: &Subject,
    booking: &Booking,
) -> Result<(), Failure> {
    let (version, now_us) = (booking.version, stamp_provisioner::wall_clock()());
    let moved = match act {
        Act::EndMove => within(door.end_move(subject, version, now_us)).await?,
        Act::UndoMove => within(door.undo_move(subject, version, now_us)).await?,
        Act::Remove => within(door.release(subject, version)).await?,
    };
    match moved {
        Moved::Done(_) => Ok(()),
        Moved::Stale(_) | Moved::Absent | Moved::Full { .. } => Err(Failure::because(format!(
            "{subject} was changed by somebody else at the same moment: look again"
        ))),
    }
}

fn print(report: &Report) {
    let will = if report.done {
        "is free"
    } else {
        "would be free"
    };
    let then = match &report.stays {
        Some(stamp) => format!("it is on {stamp}"),
        None => "it is on no stamp, and is placed anew when it registers".to_owned(),
    };
    output::line(&format!(
        "{}: its place on {} {will}; {then}",
        report.booking.name(),
        report.freed
    ));
    if let Some(count @ 1..) = report.devices {
        output::line(&format!(
            "{count} devices of the tenant are still booked on {}",
            report.freed
        ));
    }
}
