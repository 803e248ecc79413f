//! `stampworks inspect partition`.

use serde::Serialize;
use stamp_lake::{Checkpoint, Filter};
use stamp_model::{AppId, PartitionId};

use crate::exit::Failure;
use crate::opened::{HubView, Opened, StampArgs, find_hub, time, unreadable};
use crate::output;

/// Most gaps that are told.
const GAPS_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub(super) struct PartitionAnswer {
    partition: u32,
    namespace: String,
    hub: String,
    hub_created_at: String,
    /// What the hub says; none when it was not asked.
    begin_sequence: Option<i64>,
    last_sequence: Option<i64>,
    last_enqueued_at: Option<String>,
    checkpoint: Option<i64>,
    /// Events that are in the hub and not yet safe in the tables.
    lag_events: Option<i64>,
    /// Events that the hub may drop before the first that is not safe.
    headroom_events: Option<i64>,
    /// How long the hub keeps events, when the configuration says.
    hub_retention: Option<String>,
    /// Which replica reads the partition.
    owner: Option<Owner>,
    lowest_mark: Option<i64>,
    highest_mark: Option<i64>,
    marks: Vec<TableMark>,
    /// The last ones: first and last lost number, and why.
    gaps: Vec<GapAnswer>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Owner {
    owner_id: String,
    since: Option<String>,
}

#[derive(Debug, Serialize)]
struct TableMark {
    table: String,
    /// Everything up to here is in the table; none when nothing of the partition ever was.
    mark: Option<i64>,
    version: Option<u64>,
}

#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct GapAnswer {
    first: i64,
    last: i64,
    reason: String,
}

pub(super) async fn inspect(
    opened: &Opened,
    args: &StampArgs,
    partition: PartitionId,
) -> Result<PartitionAnswer, Failure> {
    let HubView {
        identity,
        partitions,
    } = find_hub(opened, args).await?;
    let found = partitions.iter().find(|(number, _)| *number == partition);
    let mut notes = Vec::new();
    if found.is_none() {
        let many = partitions.len();
        let known = if args.offline {
            "tables know"
        } else {
            "hub has"
        };
        notes.push(format!(
            "the {known} {many} partitions, and this is none of them"
        ));
    }
    let reach = found.and_then(|(_, reach)| reach.clone());
    let group = &opened.config.hub.consumer_group;
    let checkpoints = opened
        .lake
        .checkpoints(&identity.namespace, &identity.hub, group);
    let checkpoint = checkpoints.read(partition).await.map_err(unreadable)?;
    let checkpoint = of_this_hub(checkpoint, identity.created_at_ms, &mut notes);
    let app = AppId::new(&opened.config.stamp, &identity, partition);
    let marks = marks(opened, &app).await?;
    let set = || marks.iter().filter_map(|table| table.mark);
    Ok(PartitionAnswer {
        partition: partition.number(),
        namespace: identity.namespace.to_string(),
        hub: identity.hub.to_string(),
        hub_created_at: time(app.hub_created_at_us()),
        begin_sequence: reach.as_ref().map(|reach| reach.begin_sequence),
        last_sequence: reach.as_ref().map(|reach| reach.last_sequence),
        last_enqueued_at: reach
            .as_ref()
            .filter(|reach| reach.last_sequence >= 0)
            .map(|reach| time(reach.last_enqueued_at_us)),
        lag_events: reach
            .as_ref()
            .map(|reach| reach.last_sequence - checkpoint.unwrap_or(reach.begin_sequence - 1)),
        headroom_events: reach
            .as_ref()
            .zip(checkpoint)
            .map(|(reach, checkpoint)| checkpoint + 1 - reach.begin_sequence),
        hub_retention: opened
            .config
            .consumer
            .hub_retention
            .map(|retention| humantime::format_duration(retention).to_string()),
        checkpoint,
        owner: owner(opened, &identity, partition).await?,
        lowest_mark: set().min(),
        highest_mark: set().max(),
        gaps: gaps(opened, partition).await?,
        marks,
        notes,
    })
}

fn of_this_hub(
    checkpoint: Option<Checkpoint>,
    created_at_ms: i64,
    notes: &mut Vec<String>,
) -> Option<i64> {
    let checkpoint = checkpoint?;
    match checkpoint.hub_created_at_ms {
        Some(other) if other != created_at_ms => {
            notes.push(format!(
                "the checkpoint {} is of a hub of this name that was made at {}",
                checkpoint.sequence,
                time(other.saturating_mul(1_000))
            ));
            None
        }
        _ => Some(checkpoint.sequence),
    }
}

async fn marks(opened: &Opened, app: &AppId) -> Result<Vec<TableMark>, Failure> {
    let mut marks = Vec::new();
    for (name, table) in opened.tables() {
        // It follows no partition.
        if name.ends_with("/replays") {
            continue;
        }
        let snapshot = table.newest().await.map_err(unreadable)?;
        marks.push(TableMark {
            table: name,
            mark: snapshot.as_ref().and_then(|snapshot| snapshot.mark(app)),
            version: snapshot.map(|snapshot| snapshot.version()),
        });
    }
    Ok(marks)
}

async fn owner(
    opened: &Opened,
    identity: &stamp_model::HubIdentity,
    partition: PartitionId,
) -> Result<Option<Owner>, Failure> {
    let group = &opened.config.hub.consumer_group;
    // A local folder has none: one process reads all partitions.
    let Ok(blobs) = opened
        .lake
        .ownerships(&identity.namespace, &identity.hub, group)
    else {
        return Ok(None);
    };
    let all = blobs.list().await.map_err(unreadable)?;
    let held = all.into_iter().find(|held| held.partition == partition);
    Ok(held
        .filter(|held| !held.owner_id.is_empty())
        .map(|held| Owner {
            owner_id: held.owner_id,
            since: held
                .last_modified_ms
                .map(|ms| time(ms.saturating_mul(1_000))),
        }))
}

async fn gaps(opened: &Opened, partition: PartitionId) -> Result<Vec<GapAnswer>, Failure> {
    let mut gaps = Vec::new();
    let columns = ["partition", "sequence_first", "sequence_last", "reason"];
    let table = opened.lake.stamp().gaps();
    let scanned = table.scan_where(&columns, &Filter::All, |rows| {
        for row in 0..rows.rows() {
            let (of, first, last) = (rows.i64(0, row), rows.i64(1, row), rows.i64(2, row));
            if let (Some(first), Some(last)) = (first, last)
                && of == Some(i64::from(partition.number()))
            {
                let reason = rows.text(3, row).unwrap_or("").to_owned();
                gaps.push(GapAnswer {
                    first,
                    last,
                    reason,
                });
            }
        }
    });
    scanned.await.map_err(unreadable)?;
    gaps.sort_unstable();
    Ok(gaps.split_off(gaps.len().saturating_sub(GAPS_MAX)))
}

pub(super) fn print(answer: &PartitionAnswer) {
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let line = |what: &str, value: String| output::line(&format!("{what:<18} {value}"));
    line("partition", answer.partition.to_string());
    line("hub", format!("{}/{}", answer.namespace, answer.hub));
    line("made at", answer.hub_created_at.clone());
    line("first in the hub", number(answer.begin_sequence));
    line("last in the hub", number(answer.last_sequence));
    if let Some(at) = &answer.last_enqueued_at {
        line("enqueued at", at.clone());
    }
    line("checkpoint", number(answer.checkpoint));
    line("lag, events", number(answer.lag_events));
    line("headroom, events", number(answer.headroom_events));
    if let Some(retention) = &answer.hub_retention {
        line("retention", retention.clone());
    }
    match &answer.owner {
        Some(owner) => line(
            "owner",
            format!(
                "{} since {}",
                owner.owner_id,
                owner.since.as_deref().unwrap_or("-")
            ),
        ),
        None => line("owner", "-".to_owned()),
    }
    line("lowest mark", number(answer.lowest_mark));
    line("highest mark", number(answer.highest_mark));
    output::line("\ntable                              mark     version");
    for table in &answer.marks {
        let version = table
            .version
            .map_or_else(|| "-".to_owned(), |n| n.to_string());
        output::line(&format!(
            "{:<26} {:>12} {version:>11}",
            table.table,
            number(table.mark)
        ));
    }
    for gap in &answer.gaps {
        output::line(&format!(
            "gap: {} to {}, {}",
            gap.first, gap.last, gap.reason
        ));
    }
    answer
        .notes
        .iter()
        .for_each(|note| output::line(&format!("note: {note}")));
}
