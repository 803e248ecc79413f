//! `stampworks fleet`: the stamps and tenants of one operator, from one catalogue.
//!
//! Everything but these is a function of files: `status` and `promote` ask each stamp's `/metrics`, once;
//! `bookings`, and whatever is given `--reservations`, reads the provisioner's database; `release`
//! changes a booking there. Nothing here asks Azure or writes to a stamp.

mod bookings;
pub(crate) mod files;
mod live;
mod place;
mod plan;
mod promote;
mod record;
mod release;
mod render;
mod reservations;
mod status;
pub(crate) mod usage;
mod validate;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

#[cfg(feature = "emulator")]
pub(crate) use usage::read_toml;

use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct FleetArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a catalogue and tell every problem with file, line and key.
    Validate(validate::ValidateArgs),
    /// Say which stamp a tenant or a device gets, and why.
    Place(place::PlaceArgs),
    /// Say when which stamp is full, and how many to add by when.
    Plan(plan::PlanArgs),
    /// Show every stamp with what its metrics say.
    Status(status::StatusArgs),
    /// Show who is booked on which stamp.
    Bookings(bookings::BookingsArgs),
    /// Give back the place of a tenant or of a device on a stamp.
    Release(release::ReleaseArgs),
    /// Write the Kubernetes overlay of every stamp.
    Render(render::RenderArgs),
    /// Take a version from ring to ring.
    Promote(promote::PromoteArgs),
}

/// How a command prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

pub(crate) fn run(args: FleetArgs) -> Result<(), Failure> {
    match args.command {
        Command::Validate(args) => validate::run(&args),
        Command::Place(args) => place::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Bookings(args) => bookings::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Promote(args) => promote::run(&args),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|cause| Failure::failed("cannot print the answer", cause))?;
    output::line(&text);
    Ok(())
}

/// A fraction as percent, for a person.
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// Lines of equal columns; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let pad = width - cell.chars().count();
            format!("{cell}{}", " ".repeat(pad))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
