//! `stampworks verify`: recounts a stamp and says what does not add up.
//!
//! It reads tables, checkpoints and, unless `--offline`, the hub's own idea of its partitions. It
//! writes nothing and asks the running service nothing, so it is no judge in its own cause.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use stamp_consumer::{ConfigError, ConsumerConfig, TenantPlan, plan_tenants};
use stamp_eventhubs::{AmqpHub, EventHub, HubError};
use stamp_lake::{Lake, LakeError, Snapshot};
use stamp_model::{AppId, PARTITION_MAX, PartitionId};

use crate::exit::Failure;
use crate::output;
use tables::{Counts, TenantCount};

/// Arguments of `stampworks verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stampworks verify --config stamp.toml\n\n\
    Exits with 0 when everything adds up and with 5 when anything does not. A stamp may be verified while it runs; \
    events that are not yet settled are left out.")]
pub(crate) struct VerifyArgs {
    /// The stamp's configuration file, as for `consume`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do not ask the hub: compare tables and checkpoints only. Needs --namespace.
    #[arg(long, requires = "namespace")]
    offline: bool,
    /// With --offline: the namespace of the checkpoints, such as contoso.servicebus.windows.net.
    #[arg(long, requires = "offline")]
    namespace: Option<String>,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

/// Most runs of missing sequence numbers that are told of a partition.
const RUNS_MAX: usize = 10;

#[derive(Debug, Serialize)]
struct PartitionReport {
    partition: i64,
    /// The lowest sequence number in any table.
    first: Option<i64>,
    /// Everything up to here must be in the tables.
    checkpoint: Option<i64>,
    /// The newest event of the hub, when it was asked.
    hub_last: Option<i64>,
    events: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    stamp: String,
    partitions: Vec<PartitionReport>,
    tenants: BTreeMap<String, TenantCount>,
    quarantine: u64,
    /// Of these, events that are in a tenant's tables by now.
    quarantine_returned: u64,
    gap_events: u64,
    /// What could not be compared now, and why.
    notes: Vec<String>,
    /// One line each; empty when everything adds up.
    differences: Vec<String>,
}

pub(crate) fn run(args: VerifyArgs) -> Result<(), Failure> {
    let config = ConsumerConfig::load(&args.config)?;
    let base = args.config.parent().unwrap_or(Path::new(".")).to_owned();
    let report = crate::runtime()?.block_on(verify(&args, &config, &base))?;
    match args.output {
        OutputFormat::Text => print(&report),
        OutputFormat::Json => {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|cause| Failure::failed("cannot print the report", cause))?;
            output::line(&text);
        }
    }
    match report.differences.len() {
        0 => Ok(()),
        differences => Err(Failure::Difference(differences as u64)),
    }
}

async fn verify(
    args: &VerifyArgs,
    config: &ConsumerConfig,
    base: &Path,
) -> Result<Report, Failure> {
    let handle = tokio::runtime::Handle::current();
    let lake = crate::consume::open_lake(config)?;
    let plans = plan_tenants(config, base, &lake, |store| {
        Lake::open(store, handle.clone())
    })?;
    let unreadable = |cause: LakeError| Failure::failed("cannot read the tables", cause);
    let (namespace, hub_name, hub_last) = match &args.namespace {
        Some(namespace) => (namespace.clone(), offline_hub(config)?, BTreeMap::new()),
        None => ask_hub(config).await?,
    };
    // Marks first: what they cover is in the tables that are read after them.
    let (comparable, hubs) = read_marks(&plans).await.map_err(unreadable)?;
    let checkpoints = lake.checkpoints(&namespace, &hub_name, &config.hub.consumer_group);
    let mut settled = BTreeMap::new();
    let asked: Vec<i64> = if hub_last.is_empty() {
        (0..=i64::from(PARTITION_MAX)).collect()
    } else {
        hub_last.keys().copied().collect()
    };
    for number in asked {
        let partition = u32::try_from(number).ok().and_then(PartitionId::new);
        let Some(partition) = partition else { continue };
        if let Some(checkpoint) = checkpoints.read(partition).await.map_err(unreadable)? {
            settled.insert(number, checkpoint.sequence);
        }
    }
    let windows = config.windows()?;
    let counts = Counts::read(&lake, &plans, windows)
        .await
        .map_err(unreadable)?;
    if hubs > 1 {
        return Err(Failure::because(format!(
            "the tables have rows of {hubs} hubs of this name, one made after the other; their \
             sequence numbers repeat, so events cannot be told apart by them"
        )));
    }
    Ok(compare(
        config.stamp.to_string(),
        counts,
        &settled,
        &hub_last,
        &comparable,
    ))
}

/// Without the hub only the configuration knows its name, which an `EntityPath` hides.
fn offline_hub(config: &ConsumerConfig) -> Result<String, Failure> {
    config.hub.hub.clone().ok_or_else(|| {
        let why = "must be given for --offline: the connection string is not read then";
        ConfigError::value("hub.hub", why).into()
    })
}

/// Namespace and hub as the checkpoints spell them, and each partition's newest sequence number.
async fn ask_hub(config: &ConsumerConfig) -> Result<(String, String, BTreeMap<i64, i64>), Failure> {
    let failed =
        |cause: HubError| Failure::failed("cannot ask the hub; --offline leaves it out", cause);
    let hub = AmqpHub::new(&config.hub).map_err(failed)?;
    let properties = hub.properties().await.map_err(failed)?;
    let mut last = BTreeMap::new();
    for partition in properties.partitions {
        let reach = hub.partition_properties(partition).await.map_err(failed)?;
        last.insert(i64::from(partition.number()), reach.last_sequence);
    }
    let identity = properties.identity;
    Ok((
        identity.namespace.to_string(),
        identity.hub.to_string(),
        last,
    ))
}

/// The tenants whose rollups are of the same events as their readings, which is all but those in the
/// middle of a flush; and how many hubs of this name the tables have rows of.
async fn read_marks(plans: &[TenantPlan]) -> Result<(BTreeSet<String>, usize), LakeError> {
    let mut comparable = BTreeSet::new();
    let mut hubs = BTreeSet::new();
    for plan in plans {
        let root = plan.lake.tenant(&plan.id);
        let readings = root.readings(plan.schema.shape()).newest().await?;
        let rollups = root.rollups().newest().await?;
        let marks = |snapshot: &Option<Snapshot>| -> Vec<(String, i64)> {
            let marks = snapshot.iter().flat_map(Snapshot::marks);
            marks.map(|(app, mark)| (app.to_owned(), mark)).collect()
        };
        let (readings, rollups) = (marks(&readings), marks(&rollups));
        if readings == rollups {
            comparable.insert(plan.id.to_string());
        }
        let apps = readings.iter().filter_map(|(app, _)| AppId::parse(app));
        hubs.extend(apps.map(|app| (app.hub.to_owned(), app.created_at_ms)));
    }
    Ok((comparable, hubs.len()))
}

fn compare(
    stamp: String,
    counts: Counts,
    settled: &BTreeMap<i64, i64>,
    hub_last: &BTreeMap<i64, i64>,
    comparable: &BTreeSet<String>,
) -> Report {
    let mut report = Report {
        stamp,
        partitions: Vec::new(),
        tenants: BTreeMap::new(),
        quarantine: counts.quarantine,
        quarantine_returned: counts.quarantine_returned,
        gap_events: counts.gap_events,
        notes: Vec::new(),
        differences: Vec::new(),
    };
    let numbers: BTreeSet<i64> = counts
        .partitions
        .keys()
        .chain(settled.keys())
        .chain(hub_last.keys())
        .copied()
        .collect();
    for number in numbers {
        let partition = counts.partitions.get(&number);
        let first = partition.and_then(|partition| partition.all.first());
        let checkpoint = settled.get(&number).copied();
        if let (Some(partition), Some(first), Some(checkpoint)) = (partition, first, checkpoint) {
            for (from, to) in partition.all.missing(first..=checkpoint, RUNS_MAX) {
                let line = format!("partition {number}: events {from} to {to} are in no table");
                report.differences.push(line);
            }
        }
        if first.is_some() && checkpoint.is_none() {
            let note = "has no checkpoint, so missing events were not looked for";
            report.notes.push(format!("partition {number} {note}"));
        }
        if let Some(twice) = partition
            .map(|partition| &partition.twice)
            .filter(|t| !t.is_empty())
        {
            let some: Vec<i64> = twice.ascending().take(RUNS_MAX).collect();
            let line = format!(
                "partition {number}: {} events are there twice, such as {some:?}",
                twice.len()
            );
            report.differences.push(line);
        }
        if let (Some(&last), Some(checkpoint)) = (hub_last.get(&number), checkpoint)
            && checkpoint > last
        {
            let line = format!(
                "partition {number}: the checkpoint {checkpoint} is ahead of the hub's last event {last}"
            );
            report.differences.push(line);
        }
        report.partitions.push(PartitionReport {
            partition: number,
            first,
            checkpoint,
            hub_last: hub_last.get(&number).copied(),
            events: partition.map_or(0, |partition| partition.all.len()),
        });
    }
    for (tenant, count) in counts.tenants {
        if comparable.contains(&tenant) {
            compare_rollups(&tenant, &count, &mut report.differences);
        } else {
            report.notes.push(format!(
                "{tenant}: a flush or a replay is under way, its rollups were not compared"
            ));
        }
        report.tenants.insert(tenant, count);
    }
    report
}

fn compare_rollups(tenant: &str, count: &TenantCount, differences: &mut Vec<String>) {
    let windows: BTreeSet<_> = count
        .from_readings
        .keys()
        .chain(count.from_rollups.keys())
        .collect();
    let wrong: Vec<_> = windows
        .into_iter()
        .filter(|window| {
            let (ours, theirs) = (
                count.from_readings.get(*window),
                count.from_rollups.get(*window),
            );
            !matches!((ours, theirs), (Some(a), Some(b)) if a.agrees(b))
        })
        .collect();
    for window in wrong.iter().take(RUNS_MAX) {
        differences.push(format!(
            "{tenant}: {} in the window of {} us: readings say {:?}, rollups {:?}",
            window.0,
            window.1,
            count.from_readings.get(*window),
            count.from_rollups.get(*window)
        ));
    }
    if wrong.len() > RUNS_MAX {
        differences.push(format!(
            "{tenant}: rollups differ in {} windows in all",
            wrong.len()
        ));
    }
}

fn print(report: &Report) {
    output::line(&format!("stamp {}\n", report.stamp));
    output::line("partition      events       first  checkpoint    hub last");
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for partition in &report.partitions {
        output::line(&format!(
            "{:>9} {:>11} {:>11} {:>11} {:>11}",
            partition.partition,
            partition.events,
            number(partition.first),
            number(partition.checkpoint),
            number(partition.hub_last)
        ));
    }
    output::line("\ntenant           readings      (rows)    rejected  (returned)  rollup rows");
    for (tenant, count) in &report.tenants {
        output::line(&format!(
            "{tenant:<14} {:>10} {:>11} {:>11} {:>11} {:>12}",
            count.readings_events,
            count.readings_rows,
            count.rejected,
            count.rejected_returned,
            count.rollup_rows
        ));
    }
    output::line(&format!(
        "\nquarantine: {} (returned: {}), lost by the hub: {}",
        report.quarantine, report.quarantine_returned, report.gap_events
    ));
    report
        .notes
        .iter()
        .for_each(|note| output::line(&format!("note: {note}")));
    output::line(&format!("differences: {}", report.differences.len()));
    report
        .differences
        .iter()
        .for_each(|line| output::line(&format!("  {line}")));
}
