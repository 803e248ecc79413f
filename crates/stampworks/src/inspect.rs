//! `stampworks inspect`: where an event is, how far a partition is, what a table consists of.
//!
//! It reads tables, their logs, checkpoints and ownership, and asks the hub unless `--offline`. It
//! writes nothing, also not the tables that do not exist yet, and works beside the running service.

mod event;
mod partition;
mod places;
mod table;

use clap::{Args, Subcommand};
use stamp_model::PartitionId;

use crate::exit::Failure;
use crate::opened::{Opened, OutputFormat, StampArgs, parse_partition, print_json};

/// Arguments of `stampworks inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How far a partition is: hub, checkpoint, owner, marks of every table, gaps.
    #[command(after_help = "Example:\n  stampworks inspect partition 3 --config stamp.toml")]
    Partition {
        /// Its number.
        #[arg(value_parser = parse_partition)]
        partition: PartitionId,
        #[command(flatten)]
        stamp: StampArgs,
    },
    /// What a table consists of: files, rows, marks, its last commits, its columns.
    #[command(
        after_help = "Example:\n  stampworks inspect table contoso/readings --config stamp.toml\n  \
        stampworks inspect table _stamp/quarantine --config stamp.toml --commits 50"
    )]
    Table {
        /// Tenant and table, such as contoso/readings, or _stamp/quarantine.
        name: String,
        /// How many of the last commits are told.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1_000))]
        commits: u64,
        #[command(flatten)]
        stamp: StampArgs,
    },
    /// Where an event is: table, file, row, commit, rollups; or why it is nowhere.
    #[command(
        after_help = "Example:\n  stampworks inspect event --config stamp.toml --partition 3 --sequence 81234\n  \
        stampworks inspect event --config stamp.toml --device pump-7 --at 2026-11-24T12:00:00Z"
    )]
    Event(event::EventArgs),
}

pub(crate) fn run(args: InspectArgs) -> Result<(), Failure> {
    crate::runtime()?.block_on(async {
        match args.what {
            What::Partition { partition, stamp } => {
                let opened = Opened::read(&stamp.config)?;
                let answer = partition::inspect(&opened, &stamp, partition).await?;
                match stamp.output {
                    OutputFormat::Text => partition::print(&answer),
                    OutputFormat::Json => print_json(&answer)?,
                }
            }
            What::Table {
                name,
                commits,
                stamp,
            } => {
                let opened = Opened::read(&stamp.config)?;
                let answer = table::inspect(&opened, &name, commits).await?;
                match stamp.output {
                    OutputFormat::Text => table::print(&answer),
                    OutputFormat::Json => print_json(&answer)?,
                }
            }
            What::Event(args) => {
                let opened = Opened::read(&args.stamp.config)?;
                let answer = event::inspect(&opened, &args).await?;
                match args.stamp.output {
                    OutputFormat::Text => event::print(&answer),
                    OutputFormat::Json => print_json(&answer)?,
                }
            }
        }
        Ok(())
    })
}
