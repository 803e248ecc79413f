//! `stampworks emulate`: Event Hubs on loopback for any published client; with a file, IoT Hubs and a
//! DPS before them.

mod cloud;
mod config;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use stamp_emulator::{Authority, EmulatorConfig, EventHubsEmulator, HubConfig, TlsListen};

pub(crate) use self::config::EmulateConfig;
use crate::bench::{FillClock, Population, Source};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks emulate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stampworks emulate --hub telemetry:4\n  \
    then connect with Endpoint=sb://localhost;SharedAccessKeyName=any;SharedAccessKey=any;UseDevelopmentEmulator=true\n  \
    stampworks emulate --config deploy/examples/emulators.toml")]
pub(crate) struct EmulateArgs {
    /// A file that describes Event Hubs, IoT Hubs and a DPS (docs/emulator.md). Takes no other
    /// option.
    #[arg(long, exclusive = true)]
    config: Option<PathBuf>,
    /// Address to listen on. It takes any credential, so only loopback addresses are accepted.
    #[arg(long, default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Listens here as well for clients that begin with TLS, as on the service's port 5671.
    #[arg(long, value_name = "ADDRESS", requires = "ca_file")]
    tls_listen: Option<SocketAddr>,
    /// Where the certificate goes that those clients have to trust. It is made anew at each start.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    ca_file: Option<PathBuf>,
    /// A hub as NAME or NAME:PARTITIONS (1 to 1024); may be repeated.
    #[arg(long = "hub", default_value = "telemetry:4", value_parser = parse_hub)]
    hubs: Vec<HubConfig>,
    /// A consumer group that every hub has besides $Default; may be repeated.
    #[arg(long = "consumer-group")]
    consumer_groups: Vec<String>,
    /// Puts this many generated events into every hub before serving.
    #[arg(long, default_value_t = 0)]
    fill: u64,
    /// How often each device of those events sends, 1s to 1h.
    #[arg(long, default_value = crate::bench::INTERVAL, value_parser = crate::bench::parse_interval)]
    fill_interval: Duration,
    /// Devices of those events.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    fill_devices: u64,
    /// Tenants that those devices belong to: with more than one, a device's id begins with its tenant.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2_000))]
    fill_tenants: u64,
    /// What the readings of those events are made from.
    #[arg(long, default_value_t = 1)]
    fill_seed: u64,
    /// Time of the first of those events, such as 2026-01-01T00:00:00Z; without it the last one was made now.
    #[arg(long, value_name = "TIME")]
    fill_began: Option<Timestamp>,
}

fn parse_hub(text: &str) -> Result<HubConfig, String> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "4"));
    let partitions: u32 = partitions
        .parse()
        .map_err(|_| format!("{partitions:?} is not a number of partitions"))?;
    if name.is_empty() || !(1..=1024).contains(&partitions) {
        return Err("a hub is NAME or NAME:PARTITIONS with 1 to 1024 partitions".into());
    }
    Ok(HubConfig {
        name: name.to_owned(),
        partitions,
        ..HubConfig::default()
    })
}

pub(crate) fn run(args: EmulateArgs) -> Result<(), Failure> {
    let runtime = crate::runtime()?;
    match &args.config {
        Some(path) => runtime.block_on(cloud::serve(path)),
        None => runtime.block_on(serve(args)),
    }
}

async fn serve(mut args: EmulateArgs) -> Result<(), Failure> {
    /// More than a generated event takes with its annotations.
    const FILL_BYTES_MAX: u64 = 1_024;
    /// A hundred years: events of a fill may be of any time.
    const FILL_AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    for hub in &mut args.hubs {
        // What was asked for must not be gone before anybody has read it.
        if args.fill > 0 {
            let retention = &mut hub.retention;
            retention.bytes_max = retention.bytes_max.max(args.fill * FILL_BYTES_MAX);
            retention.events_max = retention.events_max.max(args.fill);
            retention.age_max = FILL_AGE_MAX;
        }
        hub.consumer_groups
            .extend(args.consumer_groups.iter().cloned());
    }
    let signals = crate::signals::StopSignals::watch()?;
    let names: Vec<String> = args.hubs.iter().map(|hub| hub.name.clone()).collect();
    let tls = match (args.tls_listen, &args.ca_file) {
        (Some(listen), Some(file)) => {
            let cannot = |cause| Failure::failed("cannot serve TLS", cause);
            let authority = Authority::generate().map_err(cannot)?;
            authority.write_pem(file).map_err(cannot)?;
            let authority = Arc::new(authority);
            Some(TlsListen { listen, authority })
        }
        _ => None,
    };
    let clock = FillClock::default();
    let config = EmulatorConfig {
        listen: args.listen,
        tls,
        hubs: args.hubs,
        clock: clock.clock(),
        ..EmulatorConfig::default()
    };
    let emulator = EventHubsEmulator::start(config)
        .await
        .map_err(|cause| Failure::failed(format!("cannot serve on {}", args.listen), cause))?;
    let population = Population {
        interval: args.fill_interval,
        devices: args.fill_devices,
        tenants: args.fill_tenants,
    };
    population.check()?;
    let source = match args.fill_began {
        Some(began) => Source {
            seed: args.fill_seed,
            began,
            population,
        },
        None => Source::until_now(args.fill, args.fill_seed, population),
    };
    for name in &names {
        if let Some(hub) = emulator.hub(name) {
            clock.fill(&hub, args.fill, source)?;
        }
        output::line(&emulator.connection_string(name));
        if let Some(secured) = emulator.tls_connection_string(name) {
            output::line(&secured);
        }
    }
    output::note(&format!(
        "serving {} on {}; stop with Ctrl-C",
        names.join(", "),
        emulator.address()
    ));
    signals.received().await;
    emulator.stop().await;
    Ok(())
}
