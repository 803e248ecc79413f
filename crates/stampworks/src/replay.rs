//! `stampworks replay`: kept events again under the rules of today, and a range of the hub again
//! beside the tables.

mod diff;
mod hub;
mod kept;
mod range;

use clap::{Args, Subcommand};

use crate::exit::Failure;

/// Arguments of `stampworks replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run each tenant's rejected events again and bring in what is valid now.
    #[command(
        after_help = "Example:\n  stampworks replay rejected --config stamp.toml --tenant contoso --dry-run\n\n\
        Brings each event in once, however often it is run, also beside the running service. Exits with 1 when \
        something could not be done."
    )]
    Rejected(kept::KeptArgs),
    /// Run the stamp's quarantined events again and bring in what belongs to a tenant now.
    #[command(
        after_help = "Example:\n  stampworks replay quarantine --config stamp.toml --reason unknown_tenant\n\n\
        Brings each event in once, however often it is run, also beside the running service. Exits with 1 when \
        something could not be done."
    )]
    Quarantine(kept::KeptArgs),
    /// Read a range of the hub again into a shadow generation of the tables, and compare.
    #[command(
        after_help = "Example:\n  stampworks replay hub --config stamp.toml --into june-fix --consumer-group replay --since 2026-06-01T00:00:00Z\n\n\
        Exits with 0 when the shadow has the same rows as the tables, and with 5 when any differ. A killed run goes \
        on with the same command."
    )]
    Hub(Box<hub::HubArgs>),
}

pub(crate) fn run(args: ReplayArgs) -> Result<(), Failure> {
    use stamp_consumer::ReplaySource::{Quarantine, Rejected};
    let runtime = crate::runtime()?;
    match args.what {
        What::Rejected(args) => runtime.block_on(kept::run(args, Rejected)),
        What::Quarantine(args) => runtime.block_on(kept::run(args, Quarantine)),
        What::Hub(args) => runtime.block_on(hub::run(*args)),
    }
}
