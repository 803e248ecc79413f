//! `stampworks device move`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use stamp_consumer::ConfigError;
use stamp_model::StampId;
use stamp_mover::{
    Destination, Journal, Mover, MoverOptions, Plan, Report, ReportOptions, Request, Requests,
    SelectError, Wanted, What, plan, select,
};
use stamp_placement::device_move::MovePolicy;
use stamp_placement::{Environment, Fleet};
use stamp_resilience::Observer;
use stamp_telemetry::{Health, MoveMetrics, Registry, RetryMetrics, StatusPage, logs, serve};
use tokio_util::sync::CancellationToken;

use super::services::{OpenDoors, Services};
use super::watch::Watch;
use super::{OutputFormat, list, now_us, print, unusable};
use crate::exit::Failure;
use crate::fleet::files::{CataloguePath, load};
use crate::fleet::usage::UsageArgs;
use crate::output;
use crate::signals::StopSignals;

/// How long a move that has ended waits to be scraped once more: scrapes are up to a minute apart.
const LAST_SCRAPE_MAX: Duration = Duration::from_secs(60);

/// Arguments of `stampworks device move`.
#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    /// Devices to move.
    #[arg(value_name = "DEVICE", conflicts_with = "resume")]
    devices: Vec<String>,
    /// A file with a device id a line, and its registration id if that is another.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["devices", "resume"])]
    file: Option<PathBuf>,
    /// A query of the source hub, in IoT Hub's language.
    #[arg(long, value_name = "SQL", conflicts_with_all = ["devices", "file", "resume"])]
    query: Option<String>,
    /// The stamp that they leave.
    #[arg(long, value_name = "STAMP", required_unless_present = "resume", value_parser = |text: &str| StampId::parse(text))]
    from: Option<StampId>,
    /// The stamp that they go to.
    #[arg(long, value_name = "STAMP", conflicts_with = "place", value_parser = |text: &str| StampId::parse(text))]
    to: Option<StampId>,
    /// Each to the stamp that its tenant is on, or gets by placement.
    #[arg(long, required_unless_present_any = ["to", "resume"])]
    place: bool,
    /// With --place: the environment that they go to.
    #[arg(long, default_value = "production", value_parser = environment)]
    environment: Environment,
    #[command(flatten)]
    usage: UsageArgs,
    /// Where DPS, the hubs and the tables are, and what opens them.
    #[arg(long, value_name = "FILE", default_value = "services.toml")]
    services: PathBuf,
    /// The journal of a new move.
    #[arg(long, value_name = "JOURNAL", default_value = "device-move.jsonl")]
    journal: PathBuf,
    /// Go on with the move of this journal, and try again what was refused.
    #[arg(long, value_name = "JOURNAL")]
    resume: Option<PathBuf>,
    /// With --resume: leave what is paused, and what waits for a person, as it is. For a supervisor
    /// that starts it again and again.
    #[arg(long, requires = "resume")]
    unless_paused: bool,
    /// Say what would be done, and do nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// How long a device is kept at the source after it was seen at its target.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    keep_source: Duration,
    /// After how long without telemetry at its target a device is late.
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    straggler_after: Duration,
    /// End when every device was seen; another run erases them at the source.
    #[arg(long)]
    until_verified: bool,
    /// Acts at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    acts_max: u16,
    /// Devices that are begun and not seen at their target yet.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    under_way_max: u32,
    /// With so many late devices no further one is begun.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    stragglers_max: u32,
    /// The share of the hubs' and of DPS's limits that the move may use.
    #[arg(long, default_value_t = 0.8)]
    share_of_limits: f64,
    /// How often the target's tables are looked at.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    look_every: Duration,
    /// Do not ask both hubs about every device at the end.
    #[arg(long)]
    no_audit: bool,
    /// How far before the move the source's tables are looked at for the report.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    telemetry_before: Duration,
    /// Serve a status page, /metrics and /livez here while it runs, and until a scrape has seen its end, a minute at most.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

fn environment(text: &str) -> Result<Environment, String> {
    Environment::parse(text).ok_or_else(|| "is test or production".to_owned())
}

pub(super) async fn run(args: MoveArgs) -> Result<(), Failure> {
    let _ = logs::init(logs::Format::Text, "warn");
    let signals = StopSignals::watch()?;
    let fleet = load(&args.fleet.path)?.catalogue.fleet;
    let cancel = CancellationToken::new();
    let journal = match &args.resume {
        Some(path) if args.unless_paused => Journal::open(path).map_err(unusable)?,
        Some(path) => resumed(path)?,
        None => match begun(&args, &fleet, &cancel).await? {
            Some(journal) => journal,
            None => return Ok(()),
        },
    };
    let stopped = tokio::spawn({
        let cancel = cancel.clone();
        async move {
            signals.received().await;
            output::note("stopping: what was begun is finished");
            cancel.cancel();
        }
    });
    let report = moved(&args, &fleet, journal, &cancel).await;
    stopped.abort();
    let report = report?;
    print::report(&report, args.output)?;
    match report.differences() {
        0 => Ok(()),
        differences => Err(Failure::Difference(differences)),
    }
}

/// A journal to go on with. Asking for it is asking to go on.
fn resumed(path: &std::path::Path) -> Result<Journal, Failure> {
    let journal = Journal::open(path).map_err(unusable)?;
    let pending = journal.pending();
    let pending = pending.map_err(|cause| Failure::failed("the requests cannot be read", cause))?;
    // What was asked since the last run is for this one, and comes before going on.
    let is_pending = pending.iter().any(|request| request.what == What::Pause);
    if is_pending {
        output::note("a pause was asked for before this run: asking to go on takes it back");
    }
    let request = Request {
        at_us: now_us(),
        what: What::Continue,
        devices: Vec::new(),
    };
    let left = Requests::of(path).leave(&request);
    left.map_err(|cause| Failure::failed("the request cannot be left", cause))?;
    Ok(journal)
}

/// A new move; `None` after a dry run.
async fn begun(
    args: &MoveArgs,
    fleet: &Fleet,
    cancel: &CancellationToken,
) -> Result<Option<Journal>, Failure> {
    let from = args
        .from
        .as_ref()
        .ok_or_else(|| Failure::because("--from is missing"))?;
    let usage_file = args.usage.read(fleet).await?;
    let destination = match &args.to {
        Some(stamp) => Destination::Stamp(stamp.clone()),
        None => {
            let home = |tenant: &stamp_placement::Tenant| {
                let home = usage_file.home(fleet, &tenant.id, args.environment)?;
                Some((tenant.id.clone(), home))
            };
            Destination::Place {
                environment: args.environment,
                homes: fleet
                    .tenants()
                    .iter()
                    .filter_map(home)
                    .collect::<BTreeMap<_, _>>(),
            }
        }
    };
    let wanted = wanted(args, fleet, from, cancel).await?;
    let usage = usage_file.usage(fleet);
    let planned = plan(fleet, &usage, from, &destination, &wanted);
    let planned: Plan = planned.map_err(|problems| {
        problems
            .iter()
            .for_each(|problem| output::note(&format!("error: {problem}")));
        Failure::because(format!("the move is refused: {} problems", problems.len()))
    })?;
    if args.dry_run {
        print::plan(&planned, args.share_of_limits, args.output)?;
        return Ok(None);
    }
    let us = |length: Duration| i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    let policy = MovePolicy {
        keep_source_us: us(args.keep_source),
        straggler_after_us: us(args.straggler_after),
    };
    // Read before the journal is there: a services file that cannot be used leaves nothing behind.
    Services::read(&args.services)?;
    let journal = Journal::create(&args.journal, &planned, policy, now_us());
    let journal = journal.map_err(unusable)?;
    output::note(&format!("{planned}; journal {}", args.journal.display()));
    Ok(Some(journal))
}

/// The devices that are named, by hand, by a file or by a query.
async fn wanted(
    args: &MoveArgs,
    fleet: &Fleet,
    from: &StampId,
    cancel: &CancellationToken,
) -> Result<Vec<Wanted>, Failure> {
    if let Some(file) = &args.file {
        return list::from_file(file);
    }
    let Some(sql) = &args.query else {
        return list::named(&args.devices);
    };
    let services = Services::read(&args.services)?;
    let hub = services.hub(from)?;
    let unknown = || ConfigError::value("from", format!("{from} is no stamp of the fleet"));
    let stamp = fleet.stamp(from).ok_or_else(unknown)?;
    let queries = stamp.iot_hub.tier.queries_per_minute(stamp.iot_hub.units);
    let policy = services.policy(args.share_of_limits);
    let observer: Arc<dyn Observer> = Arc::new(stamp_resilience::NoObserver);
    let found = select(&hub, sql, queries, &policy, &observer, cancel).await;
    found.map(list::found).map_err(|cause| match &cause {
        SelectError::GaveUp(gave_up) if is_auth(gave_up) => Failure::Auth {
            what: "the source hub refused the query".into(),
            cause: Box::new(cause),
        },
        _ => Failure::failed("the source hub did not say which devices", cause),
    })
}

fn is_auth(gave_up: &stamp_resilience::GaveUp<stamp_mover::Answer>) -> bool {
    match gave_up.last() {
        Some(stamp_mover::Answer::Service(error)) => error.is_auth(),
        _ => false,
    }
}

/// Runs a journal, and reports.
async fn moved(
    args: &MoveArgs,
    fleet: &Fleet,
    journal: Journal,
    cancel: &CancellationToken,
) -> Result<Report, Failure> {
    let registry = Registry::new();
    let refused = |cause| Failure::failed("cannot set up telemetry", cause);
    let source = journal.source().clone();
    let metrics = MoveMetrics::new(&registry, &source).map_err(refused)?;
    let observer: Arc<dyn Observer> =
        Arc::new(RetryMetrics::new(&registry, &source).map_err(refused)?);
    let closed = CancellationToken::new();
    let served = match args.listen {
        Some(listen) => {
            let page = StatusPage::mover(&source);
            let health = Health::of_a_move();
            let served = serve(listen, health, registry, page, closed.clone()).await;
            let served = served.map_err(refused)?;
            output::note(&format!("status page: http://{}/", served.address));
            Some(served)
        }
        None => None,
    };
    let services = Services::read(&args.services)?;
    let policy = services.policy(args.share_of_limits);
    let doors: OpenDoors = services.doors(fleet, &journal.plan(), &policy, &observer)?;
    let watch = Arc::new(Watch::new(metrics));
    let mut mover = Mover::new(doors, journal, options(args), Arc::clone(&watch) as _);
    let ended = mover.run(cancel).await;
    watch.end();
    ended.map_err(|cause| Failure::failed("the move was stopped; resume it", cause))?;
    let us = i64::try_from(args.telemetry_before.as_micros()).unwrap_or(i64::MAX);
    let options = ReportOptions {
        audit: !args.no_audit,
        telemetry_before_us: Some(us),
    };
    // A report after a stop still asks: it changes nothing. Meanwhile Prometheus hears where the devices are now,
    // or it would take them for devices on their way whose process is gone.
    let last_scrape = async {
        if let Some(served) = served.as_ref().filter(|_| !cancel.is_cancelled()) {
            let _nobody_asks = tokio::time::timeout(LAST_SCRAPE_MAX, served.scraped()).await;
        }
    };
    let nothing = CancellationToken::new();
    let (report, ()) = tokio::join!(mover.report(options, &nothing), last_scrape);
    closed.cancel();
    if let Some(mut served) = served {
        served.stopped().await;
    }
    Ok(report)
}

fn options(args: &MoveArgs) -> MoverOptions {
    MoverOptions {
        acts_max: args.acts_max.into(),
        under_way_max: args.under_way_max as usize,
        stragglers_max: args.stragglers_max as usize,
        look_every: args.look_every,
        stop_at_verified: args.until_verified,
        ..MoverOptions::new(Arc::new(now_us))
    }
}
