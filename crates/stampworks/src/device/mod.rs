//! `stampworks device`: devices from stamp to stamp, and back until the erase.

mod list;
mod move_devices;
mod print;
mod serve;
mod services;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use stamp_mover::{Journal, JournalError, Request, Requests, What};

pub(crate) use self::serve::ServeConfig;
pub(crate) use self::services::Services;
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks device`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct DeviceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take devices from one stamp to another, or go on with a move.
    #[command(
        after_help = "Examples:\n  stampworks device move --from weu-test --to weu-1 press-7 press-8 --services services.toml\n  \
        stampworks device move --from weu-test --place --query \"SELECT * FROM devices WHERE tags.tested = true\" --services services.toml\n  \
        stampworks device move --from weu-test --place --file line-7.txt --reservations provision.toml\n  \
        stampworks device move --resume device-move.jsonl --services services.toml\n\n\
        Exits with 0 when every device is moved or taken back and as many are let in as before, with 5 when not."
    )]
    Move(Box<move_devices::MoveArgs>),
    /// Let a running mover finish its acts and end.
    Pause(RequestArgs),
    /// Take a pause back, and try again what was refused.
    #[command(
        after_help = "A running mover takes it in by itself; without one, resume the move with or without --unless-paused."
    )]
    Resume(RequestArgs),
    /// Begin with no further device; those that were begun go on to the end.
    Abort(RequestArgs),
    /// Take back every device that is not erased at the source yet.
    #[command(
        after_help = "Example:\n  stampworks device roll-back device-move.jsonl\n  stampworks device move --resume device-move.jsonl --services services.toml\n\n\
        A running mover takes it in by itself; without one, resume the move."
    )]
    RollBack(RequestArgs),
    /// Say how far a move is.
    Status(StatusArgs),
    /// Take orders of moves over HTTP, and run many at a time.
    #[command(
        after_help = "Example:\n  stampworks device serve --config mover.toml --check-config\n  stampworks device serve --config mover.toml\n\n\
        SIGHUP has keys and certificates read again at once."
    )]
    Serve(serve::ServeArgs),
}

/// A request to a move.
#[derive(Debug, Args)]
struct RequestArgs {
    /// The journal of the move.
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// Only for this device. May be given several times.
    #[arg(long, value_name = "ID")]
    device: Vec<String>,
}

/// What is asked about a move.
#[derive(Debug, Args)]
struct StatusArgs {
    /// The journal of the move.
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

pub(crate) fn run(args: DeviceArgs) -> Result<(), Failure> {
    match args.command {
        Command::Move(args) => crate::runtime()?.block_on(move_devices::run(*args)),
        Command::Pause(args) => leave(&args, What::Pause),
        Command::Resume(args) => leave(&args, What::Continue),
        Command::Abort(args) => leave(&args, What::Abort),
        Command::RollBack(args) => leave(&args, What::RollBack),
        Command::Status(args) => status(&args),
        Command::Serve(args) => serve::run(args),
    }
}

fn leave(args: &RequestArgs, what: What) -> Result<(), Failure> {
    let journal = Journal::look(&args.journal).map_err(unusable)?;
    let devices = journal.devices();
    let known = |id: &String| {
        devices
            .iter()
            .any(|moving| moving.planned.device.as_str() == id)
    };
    if let Some(unknown) = args.device.iter().find(|id| !known(id)) {
        return Err(Failure::because(format!(
            "{unknown} is no device of this move"
        )));
    }
    let request = Request {
        at_us: now_us(),
        what,
        devices: args.device.clone(),
    };
    let left = Requests::of(&args.journal).leave(&request);
    left.map_err(|cause| Failure::failed("the request cannot be left", cause))?;
    match Journal::is_running(&args.journal).map_err(unusable)? {
        true => output::line("asked; the running mover takes it in"),
        false => output::line(&format!(
            "asked; no mover runs: stampworks device move --resume {}",
            args.journal.display()
        )),
    }
    Ok(())
}

fn status(args: &StatusArgs) -> Result<(), Failure> {
    let journal = Journal::look(&args.journal).map_err(unusable)?;
    print::status(&journal, now_us(), args.output)
}

fn unusable(cause: JournalError) -> Failure {
    Failure::failed("the journal of the move cannot be used", cause)
}

fn now_us() -> i64 {
    stamp_consumer::wall_clock()()
}
