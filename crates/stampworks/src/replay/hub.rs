//! `stampworks replay hub`: a range of the hub again, into a shadow generation of the tables.
//!
//! The real consumer reads, decodes and commits; only the hub is cut to the range and the store is
//! a folder of its own. So what it writes is written exactly once, and a killed run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use stamp_consumer::{Consumer, GapPolicy, Parts, Progress, StartPolicy, TenantPlan, wall_clock};
use stamp_eventhubs::{AmqpHub, EventHub, HubError, PartitionSource, StartPosition};
use stamp_lake::Lake;
use stamp_model::{BatchLimits, HubIdentity, PartitionId, TenantId};
use stamp_resilience::{GaveUp, Observer, Peer, idempotent};
use stamp_telemetry::{Metrics, Registry, RetryMetrics, Traces};
use tokio_util::sync::CancellationToken;

use super::diff::{Diff, Pair};
use super::range::{Range, RangeHub};
use crate::exit::Failure;
use crate::opened::{Opened, OutputFormat, parse_partition, parse_time, print_json, unreadable};
use crate::output;
use crate::signals::StopSignals;

/// Which range, and where to.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The stamp's configuration file, as for `consume`.
    #[arg(long, value_name = "FILE")]
    config: std::path::PathBuf,
    /// Name of the generation: its tables are below `_shadow/NAME` of each store. A name belongs to
    /// one range; the same command goes on with what a killed one has left.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| TenantId::parse(text))]
    into: TenantId,
    /// A consumer group that nobody else reads with an owner level. The service's own is refused by
    /// the hub while the service runs.
    #[arg(long, value_name = "GROUP")]
    consumer_group: Option<String>,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER", value_parser = parse_partition)]
    partition: Option<PartitionId>,
    /// From this sequence number on; the oldest event when not given.
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "partition",
        conflicts_with = "since"
    )]
    from_sequence: Option<i64>,
    /// Up to this sequence number; the newest event of now when not given.
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "partition",
        conflicts_with = "until"
    )]
    to_sequence: Option<i64>,
    /// Enqueued at this time or later, such as 2026-11-24T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Enqueued before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// How many differences are told for each table.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    examples: u16,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Serialize)]
struct Report {
    into: String,
    ranges: Vec<RangeReport>,
    tenants: BTreeMap<String, TenantDiff>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RangeReport {
    partition: u32,
    first: i64,
    last: i64,
}

#[derive(Debug, Serialize)]
struct TenantDiff {
    readings: Diff,
    rejected: Diff,
}

pub(crate) async fn run(args: HubArgs) -> Result<(), Failure> {
    let signals = StopSignals::watch()?;
    let cancel = CancellationToken::new();
    let watching = tokio::spawn({
        let cancel = cancel.clone();
        async move {
            signals.received().await;
            cancel.cancel();
        }
    });
    let outcome = Box::pin(replay(&args, &cancel)).await;
    watching.abort();
    let report = match outcome {
        Err(_) if cancel.is_cancelled() => {
            return Err(Failure::because("stopped; the same command goes on"));
        }
        outcome => outcome?,
    };
    match args.output {
        OutputFormat::Text => print(&report),
        OutputFormat::Json => print_json(&report)?,
    }
    let differing = |tenant: &TenantDiff| tenant.readings.events() + tenant.rejected.events();
    match report.tenants.values().map(differing).sum() {
        0 => Ok(()),
        differences => Err(Failure::Difference(differences)),
    }
}

async fn replay(args: &HubArgs, cancel: &CancellationToken) -> Result<Report, Failure> {
    let mut opened = Opened::read(&args.config)?;
    let live_group = opened.config.hub.consumer_group.clone();
    if let Some(group) = &args.consumer_group {
        opened.config.hub.consumer_group.clone_from(group);
    }
    let registry = Registry::new();
    let refused = |cause| Failure::failed("cannot set up telemetry", cause);
    let stamp = opened.config.stamp.clone();
    let metrics = Metrics::new(&registry, &stamp).map_err(refused)?;
    let observer = Arc::new(RetryMetrics::new(&registry, &stamp).map_err(refused)?);
    let seed = opened.config.resilience.seed.unwrap_or_else(rand::random);
    let hub = AmqpHub::new(&opened.config.hub).map_err(|cause| hub_failed(&cause))?;
    let mut notes = Vec::new();
    let (identity, ranges) = find_ranges(
        args,
        &opened,
        &hub,
        observer.clone(),
        seed,
        cancel,
        &mut notes,
    )
    .await?;
    let shadow = shadow(&opened, &args.into);
    if !ranges.is_empty() {
        let parts = Parts {
            hub: RangeHub::new(hub, ranges.clone()),
            lake: opened.lake.shadow(&args.into),
            tenants: shadow_plans(&opened, &args.into),
            metrics,
            traces: Traces::off(),
            observer,
            seed,
            clock: wall_clock(),
        };
        consume(&opened, parts, &ranges, cancel).await?;
    }
    let compared = up_to_checkpoints(&opened, &identity, &live_group, &ranges, &mut notes).await?;
    let tenants = compare(args, &opened, &shadow, &identity, &compared).await?;
    let ranges = ranges.iter().map(|(partition, range)| RangeReport {
        partition: partition.number(),
        first: range.first,
        last: range.last,
    });
    Ok(Report {
        into: args.into.to_string(),
        ranges: ranges.collect(),
        tenants,
        notes,
    })
}

fn hub_failed(cause: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::because(format!(
        "cannot read the hub: {}",
        stamp_consumer::chain(cause)
    ))
}

/// Each tenant's store below the shadow's folder.
fn shadow(opened: &Opened, name: &TenantId) -> Vec<Lake> {
    opened
        .plans
        .iter()
        .map(|plan| plan.lake.shadow(name))
        .collect()
}

fn shadow_plans(opened: &Opened, name: &TenantId) -> Vec<TenantPlan> {
    let plans = opened.plans.iter().map(|plan| TenantPlan {
        id: plan.id.clone(),
        schema: plan.schema.clone(),
        devices: plan.devices.clone(),
        lake: plan.lake.shadow(name),
    });
    plans.collect()
}

/// The range of each partition that has one, in numbers.
async fn find_ranges(
    args: &HubArgs,
    opened: &Opened,
    hub: &AmqpHub,
    observer: Arc<dyn Observer>,
    seed: u64,
    cancel: &CancellationToken,
    notes: &mut Vec<String>,
) -> Result<(HubIdentity, BTreeMap<PartitionId, Range>), Failure> {
    let policy = opened.config.resilience.eventhubs.clone();
    let peer = Peer::new("eventhubs", policy, seed.wrapping_add(1), observer)
        .map_err(|cause| Failure::failed("resilience.eventhubs", cause))?;
    let failed = |cause: GaveUp<HubError>| hub_failed(&cause);
    let properties = peer.run(idempotent("hub.properties"), cancel, |_| hub.properties());
    let properties = properties.await.map_err(failed)?;
    let mut ranges = BTreeMap::new();
    let wanted = |partition: &PartitionId| args.partition.is_none_or(|only| only == *partition);
    for partition in properties.partitions.into_iter().filter(wanted) {
        let reach = peer.run(idempotent("partition.properties"), cancel, |_| {
            hub.partition_properties(partition)
        });
        let reach = reach.await.map_err(failed)?;
        // The first event at a time or later; the one after the last when there is none.
        let first_at = async |us: i64| {
            if reach.last_sequence < reach.begin_sequence || us > reach.last_enqueued_at_us {
                return Ok(reach.last_sequence + 1);
            }
            let found = peer.run(idempotent("partition.read"), cancel, |_| {
                first_event_at(hub, partition, us)
            });
            let found = found.await.map_err(failed)?;
            Ok::<i64, Failure>(found.unwrap_or(reach.last_sequence + 1))
        };
        let asked = match (args.from_sequence, args.since) {
            (Some(sequence), _) => sequence,
            (None, Some(us)) => first_at(us).await?,
            (None, None) => reach.begin_sequence,
        };
        let last = match (args.to_sequence, args.until) {
            (Some(sequence), _) => sequence,
            (None, Some(us)) => first_at(us).await? - 1,
            (None, None) => reach.last_sequence,
        };
        let first = asked.max(reach.begin_sequence);
        if first > asked {
            notes.push(format!(
                "partition {partition}: the hub no longer has events {asked} to {}",
                first - 1
            ));
        }
        let last = last.min(reach.last_sequence);
        if first <= last {
            ranges.insert(partition, Range { first, last });
        } else {
            notes.push(format!("partition {partition}: no event is in the range"));
        }
    }
    Ok((properties.identity, ranges))
}

/// One attempt.
async fn first_event_at(
    hub: &AmqpHub,
    partition: PartitionId,
    us: i64,
) -> Result<Option<i64>, HubError> {
    let mut source = hub
        .open(partition, StartPosition::EnqueuedAt(us), None)
        .await?;
    let limits = BatchLimits {
        events_max: 100,
        bytes_max: 1 << 20,
        wait_max: Duration::from_secs(5),
    };
    // The hub keeps milliseconds, so the first ones may be a little older.
    let found = loop {
        let batch = source.next_batch(limits).await?;
        let Some(last) = batch.events.last().map(|event| event.sequence) else {
            break None;
        };
        let first = batch.events.iter().find(|event| event.enqueued_at_us >= us);
        if let Some(event) = first {
            break Some(event.sequence);
        }
        tracing::debug!(%partition, last, "older than asked for");
    };
    source.close().await;
    Ok(found)
}

/// Runs the consumer until it has taken all, and stops it, which commits all.
async fn consume(
    opened: &Opened,
    parts: Parts<RangeHub<AmqpHub>>,
    ranges: &BTreeMap<PartitionId, Range>,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let mut config = opened.config.clone();
    let consumer = &mut config.consumer;
    consumer.partitions = Some(ranges.keys().map(|partition| partition.number()).collect());
    consumer.owner_level = -1;
    consumer.ownership = None;
    consumer.start = StartPolicy::Earliest;
    consumer.on_gap = GapPolicy::Continue;
    // A stop is how it ends, so it may take as long as the configuration lets any.
    consumer.drain_max = Duration::from_secs(600);
    let hub = parts.hub.clone();
    let stop = cancel.child_token();
    let consumer = Consumer::open(&config, parts, &stop).await?;
    let progress = consumer.progress();
    let mut running = tokio::spawn(consumer.run(stop.clone()));
    let bar = bar(ranges);
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let outcome = loop {
        tokio::select! {
            ended = &mut running => break ended,
            _ = look.tick() => {
                bar.set_position(events_read(&progress, ranges));
                let read = progress.snapshot();
                let is_read = |partition: &PartitionId| {
                    read.get(partition).is_some_and(|at| hub.is_read(*partition, at.read))
                };
                if ranges.keys().all(is_read) {
                    stop.cancel();
                }
            }
        }
    };
    bar.finish_and_clear();
    outcome.map_err(|cause| Failure::failed("the consumer's task is gone", cause))??;
    let settled = progress.snapshot();
    let all = ranges.keys().all(|partition| {
        settled
            .get(partition)
            .is_some_and(|at| hub.is_read(*partition, at.settled))
    });
    if cancel.is_cancelled() || !all {
        return Err(Failure::because(
            "not all of the range was written; the same command goes on",
        ));
    }
    Ok(())
}

fn events_read(progress: &Progress, ranges: &BTreeMap<PartitionId, Range>) -> u64 {
    let read = progress.snapshot();
    let of = |(partition, range): (&PartitionId, &Range)| {
        let at = read.get(partition).map_or(range.first - 1, |at| at.read);
        u64::try_from(at.min(range.last) - range.first + 1).unwrap_or(0)
    };
    ranges.iter().map(of).sum()
}

fn bar(ranges: &BTreeMap<PartitionId, Range>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let of = |range: &Range| u64::try_from(range.last - range.first + 1).unwrap_or(0);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} events, {eta}");
    ProgressBar::new(ranges.values().map(of).sum())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What of the ranges the service is done with: the rest is in no live table yet.
async fn up_to_checkpoints(
    opened: &Opened,
    identity: &HubIdentity,
    group: &str,
    ranges: &BTreeMap<PartitionId, Range>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<PartitionId, Range>, Failure> {
    let checkpoints = opened
        .lake
        .checkpoints(&identity.namespace, &identity.hub, group);
    let mut compared = BTreeMap::new();
    for (&partition, &range) in ranges {
        let checkpoint = checkpoints.read(partition).await.map_err(unreadable)?;
        let settled = checkpoint.map_or(-1, |checkpoint| checkpoint.sequence);
        if settled < range.last {
            notes.push(format!(
                "partition {partition}: compared up to {settled} only, the checkpoint of the service"
            ));
        }
        let last = range.last.min(settled);
        compared.insert(partition, Range { last, ..range });
    }
    Ok(compared)
}

async fn compare(
    args: &HubArgs,
    opened: &Opened,
    shadows: &[Lake],
    identity: &HubIdentity,
    ranges: &BTreeMap<PartitionId, Range>,
) -> Result<BTreeMap<String, TenantDiff>, Failure> {
    let mut tenants = BTreeMap::new();
    for (plan, shadow) in opened.plans.iter().zip(shadows) {
        let (live, shadow) = (plan.lake.tenant(&plan.id), shadow.tenant(&plan.id));
        let shape = plan.schema.shape();
        let returned = returned(&live.replays()).await?;
        let none = BTreeSet::new();
        let mut diff = TenantDiff {
            readings: Diff::default(),
            rejected: Diff::default(),
        };
        for (into, live, shadow, without) in [
            (
                &mut diff.readings,
                live.readings(shape),
                shadow.readings(shape),
                &none,
            ),
            (
                &mut diff.rejected,
                live.rejected(),
                shadow.rejected(),
                &returned,
            ),
        ] {
            let pair = Pair {
                live: &live,
                shadow: &shadow,
                without,
                since_us: identity.created_at_ms.saturating_mul(1_000),
                examples_max: usize::from(args.examples),
            };
            for (&partition, &range) in ranges {
                into.add(&pair, partition, range)
                    .await
                    .map_err(unreadable)?;
            }
        }
        tenants.insert(plan.id.to_string(), diff);
    }
    Ok(tenants)
}

/// Events of `rejected` that a replay has brought in: a second reading finds them valid at once.
async fn returned(replays: &stamp_lake::Table) -> Result<BTreeSet<(i64, i64, i64)>, Failure> {
    let mut returned = BTreeSet::new();
    let columns = ["partition", "sequence", "enqueued_at", "source"];
    let scanned = replays.scan(&columns, |rows| {
        for row in 0..rows.rows() {
            let key = (
                rows.i64(0, row),
                rows.i64(1, row),
                rows.timestamp_us(2, row),
            );
            if let (Some(partition), Some(sequence), Some(at)) = key
                && rows.text(3, row) == Some("rejected")
            {
                returned.insert((partition, sequence, at));
            }
        }
    });
    scanned.await.map_err(unreadable)?;
    Ok(returned)
}

fn print(report: &Report) {
    output::line(&format!("shadow generation {}", report.into));
    for range in &report.ranges {
        output::line(&format!(
            "partition {}: {} to {}",
            range.partition, range.first, range.last
        ));
    }
    output::line("\ntable                            same   only live  only shadow   differing");
    for (tenant, diff) in &report.tenants {
        for (name, diff) in [("readings", &diff.readings), ("rejected", &diff.rejected)] {
            output::line(&format!(
                "{:<25} {:>11} {:>11} {:>12} {:>11}",
                format!("{tenant}/{name}"),
                diff.same,
                diff.only_live,
                diff.only_shadow,
                diff.differing
            ));
            for (column, events) in &diff.columns {
                output::line(&format!("  {column} differs in {events} events"));
            }
            diff.examples
                .iter()
                .for_each(|line| output::line(&format!("  {line}")));
        }
    }
    report
        .notes
        .iter()
        .for_each(|note| output::line(&format!("note: {note}")));
}
