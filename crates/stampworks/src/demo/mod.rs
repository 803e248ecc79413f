//! `stampworks demo`: two stamps, three tenants, over 200 devices on one machine, and the proof.
//!
//! The data path is the real one: devices publish into the Event Hubs emulator, a consumer per
//! stamp reads it over AMQP and commits Delta tables to local files. At the end the tables are
//! read back and compared with what the senders know they sent.

mod fleet;
mod ledger;
mod provisioning;
mod series;
mod stamp;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use stamp_emulator::{EmulatorConfig, EventHubsEmulator};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::demo::fleet::Customer;
use crate::demo::stamp::{DemoStamp, StampPlan};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks demo`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks demo\n  stampworks demo --events 1000000 --tables /tmp/tables\n  \
    stampworks demo --duration 10m --listen 127.0.0.1:9464\n  \
    stampworks demo --provisioning --python demo-venv/bin/python\n\n\
    Exits with 5 when the tables differ from what was sent."
)]
pub(crate) struct DemoArgs {
    /// How long the devices send.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, conflicts_with = "events")]
    duration: Duration,
    /// Send this many messages as fast as they are read, instead of for a time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: Option<u64>,
    /// Messages a second of all devices together, without --events.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Devices of each tenant: 80, or 4 with --provisioning.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    devices: Option<u16>,
    /// Devices that register at DPS and are moved from a test stamp to production stamps instead
    /// (docs/moving.md). Needs the ports 443 and 8883 of loopback addresses.
    #[arg(long, conflicts_with_all = ["duration", "events", "rate"])]
    provisioning: bool,
    /// With --provisioning: a Python that has the package azure-iot-device.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "python3",
        requires = "provisioning"
    )]
    python: PathBuf,
    /// Folder of the tables. Must be empty or absent; a folder of the run's own when not given.
    #[arg(long, value_name = "FOLDER")]
    tables: Option<PathBuf>,
    /// Serve a status page and /metrics of the first stamp here, and of the second one at the next port,
    /// while it runs. Port 0 takes any two.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "provisioning")]
    listen: Option<SocketAddr>,
    /// Seed of the messages.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

const STAMPS: [(&str, &[Customer]); 2] = [
    ("eu-1", &[Customer::Contoso, Customer::Fabrikam]),
    ("us-1", &[Customer::Northwind]),
];

/// Most messages that may wait in the emulator: its memory has a limit.
const AHEAD_MAX: i64 = 200_000;

/// How often the devices get their turn.
const TICK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: DemoArgs) -> Result<(), Failure> {
    if args.provisioning {
        let _ = stamp_telemetry::logs::init(stamp_telemetry::logs::Format::Text, "warn");
        return provisioning::run(&provisioning::ProvisioningArgs {
            folder: tables_folder(&args)?,
            devices: args.devices.unwrap_or(4),
            python: args.python,
            output: args.output,
        });
    }
    crate::runtime()?.block_on(demo(args))
}

async fn demo(args: DemoArgs) -> Result<(), Failure> {
    let _ = stamp_telemetry::logs::init(stamp_telemetry::logs::Format::Text, "warn");
    let folder = tables_folder(&args)?;
    let hubs = STAMPS.iter().map(|(id, _)| stamp::hub_config(id)).collect();
    let config = EmulatorConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        hubs,
        ..EmulatorConfig::default()
    };
    let emulator = EventHubsEmulator::start(config)
        .await
        .map_err(|cause| Failure::failed("cannot start the emulator", cause))?;
    let mut stamps = Vec::new();
    for (number, (id, customers)) in STAMPS.iter().enumerate() {
        let plan = StampPlan {
            id,
            customers,
            devices: args.devices.unwrap_or(80).into(),
            seed: args.seed.wrapping_add(number as u64),
            folder: folder.join(id),
            listen: args.listen.map(|first| nth(first, number)).transpose()?,
        };
        stamps.push(DemoStamp::start(plan, &emulator).await?);
    }
    let devices: usize = stamps.iter().map(DemoStamp::devices).sum();
    output::note(&format!(
        "2 stamps, 3 tenants, {devices} devices; tables go to {}",
        folder.display()
    ));

    let began = Instant::now();
    send(&args, &mut stamps).await?;
    settle(&stamps).await?;
    let took = began.elapsed();
    let mut reports = Vec::new();
    for stamp in stamps {
        reports.push(stamp.stop_and_verify().await?);
    }
    emulator.stop().await;
    match args.output {
        OutputFormat::Text => verify::print(&reports, &folder, took),
        OutputFormat::Json => verify::print_json(&reports)?,
    }
    match reports.iter().map(verify::StampReport::differences).sum() {
        0 => Ok(()),
        differences => Err(Failure::Difference(differences)),
    }
}

/// The address so many ports after the first one. With port 0 the system chooses.
fn nth(first: SocketAddr, number: usize) -> Result<SocketAddr, Failure> {
    if first.port() == 0 {
        return Ok(first);
    }
    let next = u16::try_from(number).ok();
    let port = next.and_then(|next| first.port().checked_add(next));
    let port = port.ok_or_else(|| {
        Failure::because(format!("no port is left after {first}: name a lower one"))
    })?;
    Ok(SocketAddr::new(first.ip(), port))
}

fn tables_folder(args: &DemoArgs) -> Result<PathBuf, Failure> {
    let folder = args.tables.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
        PathBuf::from("data").join(format!("demo-{now}-{}", std::process::id()))
    });
    let refused =
        |cause| Failure::failed(format!("cannot use the folder {}", folder.display()), cause);
    std::fs::create_dir_all(&folder).map_err(refused)?;
    let mut entries = std::fs::read_dir(&folder).map_err(refused)?;
    if entries.next().is_some() {
        return Err(Failure::because(format!(
            "the folder {} is not empty: name another with --tables",
            folder.display()
        )));
    }
    folder.canonicalize().map_err(refused)
}

/// Lets the devices send until the time or the number is reached, or Ctrl-C.
async fn send(args: &DemoArgs, stamps: &mut [DemoStamp]) -> Result<(), Failure> {
    let bar = progress_bar(args);
    let stopped = CancellationToken::new();
    let signals = crate::signals::StopSignals::watch()?;
    let watching = tokio::spawn({
        let stopped = stopped.clone();
        async move {
            signals.received().await;
            stopped.cancel();
        }
    });
    let began = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let mut sent = 0_u64;
    let mut due = 0.0_f64;
    while !stopped.is_cancelled() {
        ticks.tick().await;
        let left = args.events.map_or(u64::MAX, |events| events - sent);
        if left == 0 || (args.events.is_none() && began.elapsed() >= args.duration) {
            break;
        }
        due = match args.events {
            Some(_) => 20_000.0,
            None => due + f64::from(args.rate) * TICK.as_secs_f64(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a tick's share of the rate is small and positive"
        )]
        let turn = (due as u64).min(left);
        if stamps.iter().any(|stamp| stamp.waiting() > AHEAD_MAX) {
            continue;
        }
        due -= due.floor();
        for number in 0..turn {
            // Two thirds of the devices are on the first stamp, so two of three messages are too.
            let at = usize::from((sent + number) % 3 == 2);
            stamps[at].send_one()?;
        }
        sent += turn;
        for stamp in stamps.iter() {
            stamp.check_running()?;
        }
        match args.events {
            Some(_) => bar.set_position(sent),
            None => bar.set_position(began.elapsed().as_secs()),
        }
        bar.set_message(format!("{sent} messages"));
    }
    watching.abort();
    bar.finish_and_clear();
    Ok(())
}

/// Waits until every event is in the tables: the checkpoints have reached the ends of the hubs.
async fn settle(stamps: &[DemoStamp]) -> Result<(), Failure> {
    /// Far more than the flush age of the demo's consumers.
    const SETTLE_MAX: Duration = Duration::from_secs(300);
    let deadline = Instant::now() + SETTLE_MAX;
    let mut ticks = tokio::time::interval(TICK);
    while stamps.iter().any(|stamp| stamp.unsettled() > 0) {
        ticks.tick().await;
        for stamp in stamps {
            stamp.check_running()?;
        }
        if Instant::now() > deadline {
            let left: i64 = stamps.iter().map(DemoStamp::unsettled).sum();
            return Err(Failure::because(format!(
                "{left} events are not in the tables after {SETTLE_MAX:?}"
            )));
        }
    }
    Ok(())
}

fn progress_bar(args: &DemoArgs) -> indicatif::ProgressBar {
    let length = args.events.unwrap_or(args.duration.as_secs());
    let bar = indicatif::ProgressBar::new(length);
    let unit = if args.events.is_some() {
        "{pos}/{len}"
    } else {
        "{pos}/{len} s"
    };
    let template = format!("{{bar:30}} {unit} {{msg}}");
    if let Ok(style) = indicatif::ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
