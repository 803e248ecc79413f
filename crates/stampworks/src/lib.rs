//! The one binary of Stampworks.
//!
//! Data goes to stdout, logs and progress to stderr. Exit codes: 0 ok, 1 failed, 2 usage,
//! 3 configuration, 4 authentication, 5 verification found a difference.

#[cfg(feature = "emulator")]
mod bench;
mod config_schema;
mod consume;
#[cfg(feature = "emulator")]
mod demo;
mod device;
mod doctor;
#[cfg(all(test, feature = "emulator"))]
mod documented;
#[cfg(feature = "emulator")]
mod emulate;
mod exit;
mod fleet;
mod inspect;
mod opened;
mod output;
mod provision;
mod replay;
mod signals;
#[cfg(feature = "emulator")]
mod simulate;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Failure;

/// Telemetry of an Azure IoT deployment stamp, from Event Hub partitions to Parquet tables.
#[derive(Debug, Parser)]
#[command(name = "stampworks", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run two stamps on this machine with simulated devices and prove the totals.
    #[cfg(feature = "emulator")]
    Demo(demo::DemoArgs),
    /// Read the Event Hub of one stamp into its tenants' tables.
    Consume(consume::ConsumeArgs),
    /// Serve the custom allocation webhook of DPS for a fleet.
    Provision(provision::ProvisionArgs),
    /// Check, place, plan, watch, render and update the stamps of a fleet.
    Fleet(fleet::FleetArgs),
    /// Move devices from stamp to stamp, watch the move, and take it back.
    Device(Box<device::DeviceArgs>),
    /// Try everything a stamp's service needs and say what to do where it fails.
    Doctor(doctor::DoctorArgs),
    /// Recount a stamp's tables and say what does not add up.
    Verify(verify::VerifyArgs),
    /// Say where an event is, how far a partition is, what a table consists of.
    Inspect(inspect::InspectArgs),
    /// Run kept events again under the rules of today.
    Replay(replay::ReplayArgs),
    /// Print the JSON Schema of a configuration file, for editors.
    ConfigSchema(config_schema::ConfigSchemaArgs),
    /// Serve an Event Hubs emulator on loopback for any client.
    #[cfg(feature = "emulator")]
    Emulate(emulate::EmulateArgs),
    /// Take a fleet of millions of simulated devices through an outage, a move and a year.
    #[cfg(feature = "emulator")]
    Simulate(simulate::SimulateArgs),
    /// Measure each stage and the whole on this machine.
    #[cfg(feature = "emulator")]
    Bench(bench::BenchArgs),
}

/// Does what the command line says and gives the exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help to stdout and usage errors to stderr, and knows its exit codes: 0 and 2.
        Err(error) => error.exit(),
    };
    match obey(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn obey(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        #[cfg(feature = "emulator")]
        Command::Demo(args) => demo::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Provision(args) => provision::run(args),
        Command::Fleet(args) => fleet::run(args),
        Command::Device(args) => device::run(*args),
        Command::Doctor(args) => doctor::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Replay(args) => replay::run(args),
        Command::ConfigSchema(args) => config_schema::run(args),
        #[cfg(feature = "emulator")]
        Command::Emulate(args) => emulate::run(args),
        #[cfg(feature = "emulator")]
        Command::Simulate(args) => simulate::run(args),
        #[cfg(feature = "emulator")]
        Command::Bench(args) => bench::run(args),
    }
}

/// A runtime with a worker a core; every subcommand that waits for something runs on one.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed("cannot start the runtime", cause))
}
