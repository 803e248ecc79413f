//! How long a provisioner takes to answer, as DPS would see it: over HTTPS on loopback, from the call to
//! the last byte of the answer. Caller and provisioner are in this process and share its cores.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use stamp_emulator::{Authority, EmulatorError, WebhookCaller};
use stamp_provisioner::{ProvisionConfig, ProvisionError, ProvisionParts, Provisioner, wall_clock};
use stamp_resilience::NoObserver;
use stamp_telemetry::{ProvisionMetrics, Registry};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output;

/// Calls on a connection of their own each, at most: a handshake takes longer than an answer.
const CONNECTIONS_EACH_MAX: usize = 500;

/// Arguments of `stampworks bench provision`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo run --release -- bench provision\n  \
    cargo run --release -- bench provision --devices 10000 --callers 8 \\\n      \
    --database 'postgres://me@localhost/bench' --password-env BENCH_PASSWORD\n\n\
    SQLite is in a folder of its own, which is removed. In DATABASE the bookings stay, on a stamp of a new name: \
    give it a database that nothing else uses.")]
pub(crate) struct ProvisionBenchArgs {
    /// Devices that register.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    devices: u64,
    /// Calls under way at a time, each caller on a connection that is kept.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    callers: u64,
    /// Measures this PostgreSQL as well: `postgres://USER@HOST:PORT/DATABASE`, without a password.
    #[arg(long, value_name = "DATABASE")]
    database: Option<String>,
    /// Environment variable with its password.
    #[arg(long, value_name = "NAME", requires = "database")]
    password_env: Option<String>,
    /// File with its password.
    #[arg(
        long,
        value_name = "FILE",
        requires = "database",
        conflicts_with = "password_env"
    )]
    password_file: Option<PathBuf>,
    /// Folder in which SQLite is put; that of the system for what does not last when not given. How fast
    /// its disk is decides how fast a new device is answered.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// One measurement. Times in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    database: &'static str,
    what: &'static str,
    calls: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    per_second: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    callers: u64,
    measured: Vec<Measured>,
}

pub(super) fn run(args: &ProvisionBenchArgs) -> Result<(), Failure> {
    let measured = crate::runtime()?.block_on(measure_all(args))?;
    let callers = args.callers;
    if args.json {
        let text = serde_json::to_string_pretty(&Results { callers, measured })
            .map_err(|cause| Failure::failed("cannot print the results", cause))?;
        output::line(&text);
        return Ok(());
    }
    output::line(&format!(
        "{:<11} {:<32} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "database", "a device that is", "calls", "p50 ms", "p99 ms", "max ms", "calls/s"
    ));
    for row in &measured {
        output::line(&format!(
            "{:<11} {:<32} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>9.0}",
            row.database, row.what, row.calls, row.p50_ms, row.p99_ms, row.max_ms, row.per_second
        ));
    }
    Ok(())
}

async fn measure_all(args: &ProvisionBenchArgs) -> Result<Vec<Measured>, Failure> {
    let folder = match &args.data {
        Some(data) => tempfile::tempdir_in(data),
        None => tempfile::tempdir(),
    };
    let folder = folder.map_err(|cause| Failure::failed("cannot make a folder", cause))?;
    let mut measured =
        measure("SQLite", args, folder.path(), "url = \"sqlite:bench.db\"\n").await?;
    if let Some(url) = &args.database {
        let mut section = format!("url = {url:?}\nconnections-max = {}\n", args.callers.max(4));
        if let Some(name) = &args.password_env {
            section.push_str(&format!("password-env = {name:?}\n"));
        }
        if let Some(file) = &args.password_file {
            let file = std::path::absolute(file);
            let file = file.map_err(|cause| Failure::failed("cannot find the password", cause))?;
            section.push_str(&format!("password-file = {file:?}\n"));
        }
        measured.extend(measure("PostgreSQL", args, folder.path(), &section).await?);
    }
    Ok(measured)
}

/// New devices, the same again, and again on a connection each.
async fn measure(
    database: &'static str,
    args: &ProvisionBenchArgs,
    folder: &Path,
    section: &str,
) -> Result<Vec<Measured>, Failure> {
    let authority = Arc::new(Authority::generate().map_err(failed)?);
    let running = Running::start(folder, section, &authority).await?;
    let devices = usize::try_from(args.devices).unwrap_or(usize::MAX);
    let mut measured = Vec::new();
    for (what, calls, kept) in [
        ("new", devices, true),
        ("known", devices, true),
        (
            "known, on a connection of its own",
            devices.min(CONNECTIONS_EACH_MAX),
            false,
        ),
    ] {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..args.callers {
            let numbers =
                (caller..calls as u64).step_by(usize::try_from(args.callers).unwrap_or(1));
            let calls = Calls {
                url: running.url.clone(),
                stamp: running.stamp.clone(),
                authority: Arc::clone(&authority),
                numbers: numbers.collect(),
                kept,
            };
            callers.spawn(calls.make());
        }
        let mut took = Vec::with_capacity(calls);
        while let Some(ended) = callers.join_next().await {
            let ended = ended.map_err(|cause| Failure::failed("a caller ended", cause))?;
            took.extend(ended?);
        }
        measured.push(sum_up(database, what, took, began.elapsed()));
    }
    running.stop().await?;
    Ok(measured)
}

#[expect(clippy::cast_precision_loss, reason = "calls are far below 2^53")]
fn sum_up(
    database: &'static str,
    what: &'static str,
    mut took: Vec<Duration>,
    whole: Duration,
) -> Measured {
    took.sort_unstable();
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    // The smallest that so many in a hundred are not above.
    let percentile = |percent: usize| {
        let rank = (took.len() * percent).div_ceil(100).max(1);
        ms(took.get(rank - 1))
    };
    Measured {
        database,
        what,
        calls: took.len(),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        max_ms: ms(took.last()),
        per_second: took.len() as f64 / whole.as_secs_f64().max(1e-9),
    }
}

/// What one caller asks, one after the other.
struct Calls {
    url: String,
    stamp: String,
    authority: Arc<Authority>,
    numbers: Vec<u64>,
    /// Whether the connection is kept from call to call.
    kept: bool,
}

impl Calls {
    async fn make(self) -> Result<Vec<Duration>, Failure> {
        let connect = || WebhookCaller::connect(&self.url, &self.authority);
        let mut caller = connect().await.map_err(failed)?;
        let mut took = Vec::with_capacity(self.numbers.len());
        for number in &self.numbers {
            let body = registration(*number, &self.stamp);
            let began = Instant::now();
            if !self.kept {
                caller = connect().await.map_err(failed)?;
            }
            let (status, answer) = caller.call(&body).await.map_err(failed)?;
            took.push(began.elapsed());
            if status != 200 {
                let answer = String::from_utf8_lossy(&answer);
                return Err(Failure::because(format!("answered {status}: {answer}")));
            }
        }
        Ok(took)
    }
}

/// What DPS sends for a device of a group.
fn registration(number: u64, stamp: &str) -> Value {
    json!({
        "enrollmentGroup": {
            "enrollmentGroupId": "bench",
            "attestation": {"type": "symmetricKey"},
            "allocationPolicy": "custom",
            "initialTwin": {"tags": {"site": "bench"}, "properties": {"desired": {}}},
        },
        "deviceRuntimeContext": {
            "registrationId": format!("{stamp}-device-{number}"),
            "symmetricKey": {},
        },
        "linkedHubs": [format!("{stamp}.azure-devices.net"), "elsewhere.azure-devices.net"],
    })
}

/// A provisioner in this process, of a fleet of one stamp.
struct Running {
    url: String,
    stamp: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(folder: &Path, section: &str, authority: &Authority) -> Result<Self, Failure> {
        let stamp = format!("bench-{:08x}", rand::random::<u32>());
        let key = format!("{:032x}", rand::random::<u128>());
        let (certificate, private) = (folder.join("server.pem"), folder.join("server-key.pem"));
        let issued = authority.issue(&["127.0.0.1"], &certificate, &private);
        issued.map_err(failed)?;
        let config = format!(
            "fleet = \"fleet.toml\"\nlisten = \"127.0.0.1:0\"\naccess.keys-file = \"keys\"\n\
             tls = {{ certificate = \"server.pem\", key = \"server-key.pem\" }}\n\
             [reservations]\n{section}"
        );
        let write = |name: &str, text: &str| {
            let written = std::fs::write(folder.join(name), text);
            written.map_err(|cause| Failure::failed(format!("cannot write {name}"), cause))
        };
        write("fleet.toml", &catalogue(&stamp))?;
        write("keys", &key)?;
        write("provision.toml", &config)?;
        let config = ProvisionConfig::load(&folder.join("provision.toml"));
        let config = config.map_err(ProvisionError::from)?;
        let metrics = ProvisionMetrics::new(&Registry::new(), &config.name)
            .map_err(|cause| Failure::failed("cannot set up telemetry", cause))?;
        let parts = ProvisionParts {
            metrics,
            observer: Arc::new(NoObserver),
            seed: rand::random(),
            clock: wall_clock(),
        };
        let stop = CancellationToken::new();
        let provisioner = Provisioner::start(config, parts, &stop).await?;
        let address: SocketAddr = provisioner.address();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { provisioner.run(&Notify::new(), &stop).await }
        });
        Ok(Self {
            url: format!("https://{address}/v1/allocate?code={key}"),
            stamp,
            stop,
            task,
        })
    }

    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = self.task.await;
        ended.map_err(|cause| Failure::failed("the provisioner ended", cause))
    }
}

/// One stamp as large as a hub gets, and one tenant.
fn catalogue(stamp: &str) -> String {
    format!(
        r#"version = 1
[[stamps]]
id = "{stamp}"
region = "here"
geography = "here"
kind = "shared"
environment = "production"
ring = "general"
version = "0.1.0"
storage-root = "az://bench/telemetry"
iot-hub = {{ name = "{stamp}.azure-devices.net", tier = "S3", units = 1 }}
capacity = {{ devices = 1000000, tenants = 1 }}
[stamps.event-hub]
namespace = "{stamp}.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 4
partitions = 4
[[tenants]]
id = "{stamp}"
geographies = ["here"]
tier = "standard"
schema = "schema.toml"
devices = ["{stamp}-*"]
"#
    )
}

fn failed(error: EmulatorError) -> Failure {
    Failure::failed("the webhook cannot be called", error)
}
