//! `stampworks inspect event`.

use clap::Args;
use serde::Serialize;
use stamp_lake::{Filter, Table};
use stamp_model::{AppId, PartitionId};

use super::places::{Place, Search, find};
use crate::exit::Failure;
use crate::opened::{
    HubView, Opened, StampArgs, find_hub, parse_partition, parse_time, time, unreadable,
};
use crate::output;

/// Most partial rollups that are told.
const ROLLUPS_MAX: usize = 50;

/// Which event.
#[derive(Debug, Args)]
pub(super) struct EventArgs {
    /// Its partition.
    #[arg(long, value_name = "NUMBER", value_parser = parse_partition, requires = "sequence",
        required_unless_present = "device")]
    partition: Option<PartitionId>,
    /// Its sequence number.
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "partition",
        allow_negative_numbers = true
    )]
    sequence: Option<i64>,
    /// Or: events of this device,
    #[arg(long, value_name = "ID", requires = "at", conflicts_with = "partition")]
    device: Option<String>,
    /// near this time of the device or of the hub, such as 2026-11-24T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "device")]
    at: Option<i64>,
    /// How near.
    #[arg(long, value_name = "DURATION", default_value = "1m",
        value_parser = humantime::parse_duration)]
    within: std::time::Duration,
    /// Most events that are told, the nearest ones.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    pub(super) stamp: StampArgs,
}

#[derive(Debug, Serialize)]
pub(super) struct EventAnswer {
    /// Where it is, or they are.
    found: Vec<Place>,
    /// Partials whose range of sequence numbers holds it, of its device.
    rollups: Vec<RollupPlace>,
    /// What replays have decided about it.
    replays: Vec<ReplayPlace>,
    /// The gap it is lost in.
    gap: Option<GapPlace>,
    /// Why it is nowhere.
    why_not: Option<String>,
}

#[derive(Debug, Serialize)]
struct RollupPlace {
    table: String,
    device_id: String,
    metric: String,
    window_start: String,
    window_s: i64,
    count: i64,
    sequence_first: i64,
    sequence_last: i64,
}

#[derive(Debug, Serialize)]
struct ReplayPlace {
    table: String,
    number: i64,
    source: String,
    reason: String,
    outcome: String,
    replayed_at: String,
}

#[derive(Debug, Serialize)]
struct GapPlace {
    first: i64,
    last: i64,
    reason: String,
    next_enqueued_at: String,
}

pub(super) async fn inspect(opened: &Opened, args: &EventArgs) -> Result<EventAnswer, Failure> {
    let hub = find_hub(opened, &args.stamp).await?;
    match (&args.device, args.at, args.partition, args.sequence) {
        (Some(device), Some(at_us), _, _) => {
            let within = i64::try_from(args.within.as_micros()).unwrap_or(i64::MAX);
            let search = Search::Device {
                device,
                at_us,
                window_us: within,
            };
            let filter = Filter::Device(device.clone());
            let most = usize::from(args.limit);
            let mut found = places(opened, &hub, &search, &filter, most).await?;
            found.sort_by_key(|place| place.enqueued_at_us.abs_diff(at_us));
            found.truncate(most);
            let none = format!("no event of {device:?} is that near to {}", time(at_us));
            Ok(EventAnswer {
                why_not: found.is_empty().then_some(none),
                found,
                rollups: Vec::new(),
                replays: Vec::new(),
                gap: None,
            })
        }
        (_, _, Some(partition), Some(sequence)) => {
            one(opened, &hub, partition, sequence, usize::from(args.limit)).await
        }
        _ => Err(Failure::because(
            "name --partition and --sequence, or --device and --at",
        )),
    }
}

async fn one(
    opened: &Opened,
    hub: &HubView,
    partition: PartitionId,
    sequence: i64,
    most: usize,
) -> Result<EventAnswer, Failure> {
    let number = i64::from(partition.number());
    let search = Search::Event {
        partition: number,
        sequence,
    };
    let filter = Filter::Sequences {
        partition,
        above: sequence - 1,
        up_to: sequence,
    };
    let found = places(opened, hub, &search, &filter, most).await?;
    let mut answer = EventAnswer {
        rollups: Vec::new(),
        replays: Vec::new(),
        gap: gap(opened, partition, sequence).await?,
        why_not: None,
        found,
    };
    for plan in &opened.plans {
        let root = plan.lake.tenant(&plan.id);
        let readings = format!("{}/readings", plan.id);
        let of_tenant = answer.found.iter().filter(|place| place.table == readings);
        let devices: Vec<&str> = of_tenant
            .filter_map(|place| place.device_id.as_deref())
            .collect();
        if !devices.is_empty() {
            let table = format!("{}/rollups", plan.id);
            let rollups = rollups(&table, &root.rollups(), partition, sequence, &devices).await?;
            answer.rollups.extend(rollups);
        }
        let table = format!("{}/replays", plan.id);
        let replays = replays(&table, &root.replays(), number, sequence, &filter).await?;
        answer.replays.extend(replays);
    }
    let this_hub = answer.found.iter().any(|place| !place.earlier_hub);
    if !this_hub && answer.gap.is_none() {
        answer.why_not = Some(why_not(opened, hub, partition, sequence).await?);
    }
    Ok(answer)
}

async fn places(
    opened: &Opened,
    hub: &HubView,
    search: &Search<'_>,
    filter: &Filter,
    most: usize,
) -> Result<Vec<Place>, Failure> {
    let created_at_us = hub.identity.created_at_ms.saturating_mul(1_000);
    let mut found = Vec::new();
    for (name, table) in opened.tables() {
        let has_events = ["/readings", "/rejected", "/quarantine"];
        if has_events.iter().any(|end| name.ends_with(end)) {
            let places = find(&name, &table, search, filter, created_at_us, most).await;
            found.extend(places.map_err(unreadable)?);
        }
    }
    Ok(found)
}

async fn rollups(
    name: &str,
    table: &Table,
    partition: PartitionId,
    sequence: i64,
    devices: &[&str],
) -> Result<Vec<RollupPlace>, Failure> {
    let columns = [
        "partition",
        "sequence_first",
        "sequence_last",
        "device_id",
        "metric",
        "window_start",
        "window_s",
        "count",
    ];
    let filter = Filter::Holding {
        partition,
        sequence,
    };
    let mut found = Vec::new();
    let scanned = table.scan_where(&columns, &filter, |rows| {
        for row in 0..rows.rows() {
            let number = |column| rows.i64(column, row).unwrap_or(-1);
            let (first, last) = (number(1), number(2));
            let device = rows.text(3, row).unwrap_or("");
            let holds = number(0) == i64::from(partition.number())
                && (first..=last).contains(&sequence)
                && devices.contains(&device);
            if holds && found.len() < ROLLUPS_MAX {
                found.push(RollupPlace {
                    table: name.to_owned(),
                    device_id: device.to_owned(),
                    metric: rows.text(4, row).unwrap_or("").to_owned(),
                    window_start: time(rows.timestamp_us(5, row).unwrap_or(0)),
                    window_s: number(6),
                    count: number(7),
                    sequence_first: first,
                    sequence_last: last,
                });
            }
        }
    });
    scanned.await.map_err(unreadable)?;
    Ok(found)
}

async fn replays(
    name: &str,
    table: &Table,
    partition: i64,
    sequence: i64,
    filter: &Filter,
) -> Result<Vec<ReplayPlace>, Failure> {
    let columns = [
        "partition",
        "sequence",
        "number",
        "source",
        "reason",
        "outcome",
        "replayed_at",
    ];
    let mut found = Vec::new();
    let scanned = table.scan_where(&columns, filter, |rows| {
        for row in 0..rows.rows() {
            if (rows.i64(0, row), rows.i64(1, row)) == (Some(partition), Some(sequence)) {
                let text = |column| rows.text(column, row).unwrap_or("").to_owned();
                found.push(ReplayPlace {
                    table: name.to_owned(),
                    number: rows.i64(2, row).unwrap_or(0),
                    source: text(3),
                    reason: text(4),
                    outcome: text(5),
                    replayed_at: time(rows.timestamp_us(6, row).unwrap_or(0)),
                });
            }
        }
    });
    scanned.await.map_err(unreadable)?;
    Ok(found)
}

async fn gap(
    opened: &Opened,
    partition: PartitionId,
    sequence: i64,
) -> Result<Option<GapPlace>, Failure> {
    let columns = [
        "partition",
        "sequence_first",
        "sequence_last",
        "reason",
        "next_enqueued_at",
    ];
    let filter = Filter::Holding {
        partition,
        sequence,
    };
    let mut found = None;
    let table = opened.lake.stamp().gaps();
    let scanned = table.scan_where(&columns, &filter, |rows| {
        for row in 0..rows.rows() {
            let number = |column| rows.i64(column, row).unwrap_or(-1);
            let (first, last) = (number(1), number(2));
            if number(0) == i64::from(partition.number()) && (first..=last).contains(&sequence) {
                found = Some(GapPlace {
                    first,
                    last,
                    reason: rows.text(3, row).unwrap_or("").to_owned(),
                    next_enqueued_at: time(rows.timestamp_us(4, row).unwrap_or(0)),
                });
            }
        }
    });
    scanned.await.map_err(unreadable)?;
    Ok(found)
}

/// Why an event of this hub is in no table.
async fn why_not(
    opened: &Opened,
    hub: &HubView,
    partition: PartitionId,
    sequence: i64,
) -> Result<String, Failure> {
    let identity = &hub.identity;
    let group = &opened.config.hub.consumer_group;
    let checkpoints = opened
        .lake
        .checkpoints(&identity.namespace, &identity.hub, group);
    let checkpoint = checkpoints.read(partition).await.map_err(unreadable)?;
    let is_ours = |ms: Option<i64>| ms.is_none_or(|ms| ms == identity.created_at_ms);
    let checkpoint = checkpoint.filter(|found| is_ours(found.hub_created_at_ms));
    let checkpoint = checkpoint.map(|found| found.sequence);
    let app = AppId::new(&opened.config.stamp, identity, partition);
    let mut highest = None;
    for (_, table) in opened.tables() {
        let snapshot = table.newest().await.map_err(unreadable)?;
        highest = highest.max(snapshot.and_then(|snapshot| snapshot.mark(&app)));
    }
    let place = hub
        .partitions
        .iter()
        .find(|(number, _)| *number == partition);
    let reach = match place {
        None => return Ok(format!("no partition {partition} is known")),
        Some((_, reach)) => reach,
    };
    Ok(match reach {
        Some(reach) if sequence > reach.last_sequence => format!(
            "beyond the hub's end: its last event is {}",
            reach.last_sequence
        ),
        _ if sequence < 0 => "the first event of a partition has number 0".to_owned(),
        _ if checkpoint.is_none_or(|checkpoint| sequence > checkpoint) => {
            let to = checkpoint.map_or_else(|| "there is none".to_owned(), |n| n.to_string());
            let lost = reach
                .as_ref()
                .is_some_and(|reach| sequence < reach.begin_sequence);
            match highest {
                _ if lost => format!(
                    "above the checkpoint ({to}) and no longer in the hub: its loss is not recorded yet"
                ),
                Some(mark) if sequence <= mark => format!(
                    "above the checkpoint ({to}) and below the highest mark ({mark}): read and in a \
                     buffer, or in the middle of a flush"
                ),
                _ => format!(
                    "above the checkpoint ({to}): not read yet, or in a buffer that is not flushed yet"
                ),
            }
        }
        Some(reach) if sequence < reach.begin_sequence => format!(
            "below the first event that the hub still has ({}) and in no table: the stamp began to \
             read after it, or its rows were deleted",
            reach.begin_sequence
        ),
        _ => {
            "at or below the checkpoint and in no table: the stamp began to read after it, or this \
              is a difference; run stampworks verify"
                .to_owned()
        }
    })
}

pub(super) fn print(answer: &EventAnswer) {
    for place in &answer.found {
        print_place(place);
    }
    for rollup in &answer.rollups {
        output::line(&format!(
            "{}: {} of {} in the window of {} s from {}: {} values, events {} to {}",
            rollup.table,
            rollup.metric,
            rollup.device_id,
            rollup.window_s,
            rollup.window_start,
            rollup.count,
            rollup.sequence_first,
            rollup.sequence_last
        ));
    }
    for replay in &answer.replays {
        output::line(&format!(
            "{}: number {}, from {} ({}) as {} at {}",
            replay.table,
            replay.number,
            replay.source,
            replay.reason,
            replay.outcome,
            replay.replayed_at
        ));
    }
    if let Some(gap) = &answer.gap {
        output::line(&format!(
            "_stamp/gaps: lost with {} to {}, {}; the next event was enqueued at {}",
            gap.first, gap.last, gap.reason, gap.next_enqueued_at
        ));
    }
    if let Some(why) = &answer.why_not {
        output::line(&format!("nowhere: {why}"));
    }
}

fn print_place(place: &Place) {
    output::line(&format!(
        "{}: partition {}, sequence {}, device {}, enqueued at {}{}",
        place.table,
        place.partition,
        place.sequence,
        place.device_id.as_deref().unwrap_or("-"),
        place.enqueued_at,
        if place.earlier_hub {
            ", of an earlier hub of this name"
        } else {
            ""
        }
    ));
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    output::line(&format!("  file       {}", place.file));
    output::line(&format!(
        "  rows       {:?} of row group {}",
        place.rows,
        number(place.row_group.map(|group| group as u64))
    ));
    output::line(&format!(
        "  commit     {} at {}",
        number(place.version),
        place.committed_at.as_deref().unwrap_or("-")
    ));
    if let Some(ts) = &place.ts {
        output::line(&format!("  event time {ts}"));
    }
    if let (Some(reason), Some(page)) = (&place.reason, &place.page) {
        output::line(&format!("  reason     {reason}, see {page}"));
        output::line(&format!(
            "  detail     {}",
            place.detail.as_deref().unwrap_or("-")
        ));
        if let Some(rule) = &place.rule {
            output::line(&format!("  rule       {rule}"));
        }
    }
}
