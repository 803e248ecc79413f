//! Finds rows in tables, and the commit that brought the file they are in.

use std::collections::BTreeMap;

use serde::Serialize;
use stamp_lake::{CommitInfo, FILE_COLUMN, FileInfo, Filter, LakeError, ROW_COLUMN, Table};
use tokio::task::JoinSet;

use crate::opened::time;

/// Log entries that are read at a time in search of a file.
const COMMITS_AT_ONCE: u64 = 16;
/// Most log entries that are read in search of a file.
const COMMITS_MAX: u64 = 5_000;
/// How far the clocks of two writers may be apart.
const CLOCKS_APART_MS: i64 = 3_600_000;

/// The rows of one event in one file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Place {
    pub(super) table: String,
    pub(super) partition: i64,
    pub(super) sequence: i64,
    pub(super) enqueued_at: String,
    pub(super) device_id: Option<String>,
    /// Event time of its first row, in `readings`.
    pub(super) ts: Option<String>,
    /// Of a hub of this name that was there before.
    pub(super) earlier_hub: bool,
    /// Path below the table.
    pub(super) file: String,
    /// Rows of the event in that file, from 0.
    pub(super) rows: Vec<i64>,
    pub(super) row_group: Option<usize>,
    /// The commit that added the file; none when the log no longer tells.
    pub(super) version: Option<u64>,
    pub(super) committed_at: Option<String>,
    /// Why it is in `rejected` or `quarantine`.
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) rule: Option<String>,
    /// The page that explains the reason.
    pub(super) page: Option<String>,
    #[serde(skip)]
    pub(super) enqueued_at_us: i64,
}

/// Which rows are looked for.
pub(super) enum Search<'a> {
    Event {
        partition: i64,
        sequence: i64,
    },
    /// Of a device, with one of its times within a window around one.
    Device {
        device: &'a str,
        at_us: i64,
        window_us: i64,
    },
}

impl Search<'_> {
    /// How far a row is from what is looked for; `None` when it is something else.
    fn distance(&self, found: &Row<'_>) -> Option<u64> {
        match *self {
            Self::Event {
                partition,
                sequence,
            } => (found.partition == partition && found.sequence == sequence).then_some(0),
            Self::Device {
                device,
                at_us,
                window_us,
            } => {
                let times = [Some(found.enqueued_at_us), found.ts_us];
                let nearest = times
                    .into_iter()
                    .flatten()
                    .map(|us| us.abs_diff(at_us))
                    .min()?;
                let near = nearest <= window_us.unsigned_abs();
                (near && found.device == Some(device)).then_some(nearest)
            }
        }
    }
}

struct Row<'a> {
    partition: i64,
    sequence: i64,
    enqueued_at_us: i64,
    device: Option<&'a str>,
    ts_us: Option<i64>,
}

/// Adds the places of a table to `nearest`, keeping at most `most` events, the nearest ones.
pub(super) async fn find(
    name: &str,
    table: &Table,
    search: &Search<'_>,
    filter: &Filter,
    hub_created_at_us: i64,
    most: usize,
) -> Result<Vec<Place>, LakeError> {
    let is_raw = name.ends_with("/rejected") || name.ends_with("/quarantine");
    let mut columns = vec![
        "partition",
        "sequence",
        "enqueued_at",
        "device_id",
        FILE_COLUMN,
        ROW_COLUMN,
    ];
    if is_raw {
        columns.extend(["reason", "detail", "rule"]);
    } else {
        columns.push("ts");
    }
    let mut nearest: BTreeMap<(u64, i64, i64, i64, String), Place> = BTreeMap::new();
    let scanned = table.scan_where(&columns, filter, |rows| {
        for row in 0..rows.rows() {
            let found = Row {
                partition: rows.i64(0, row).unwrap_or(-1),
                sequence: rows.i64(1, row).unwrap_or(-1),
                enqueued_at_us: rows.timestamp_us(2, row).unwrap_or(0),
                device: rows.text(3, row),
                ts_us: if is_raw {
                    None
                } else {
                    rows.timestamp_us(6, row)
                },
            };
            let Some(distance) = search.distance(&found) else {
                continue;
            };
            let file = below(rows.text(4, row).unwrap_or(""), table);
            let text = |column| {
                is_raw
                    .then(|| rows.text(column, row).map(str::to_owned))
                    .flatten()
            };
            let at = found.enqueued_at_us;
            let key = (distance, found.partition, found.sequence, at, file.clone());
            let place = nearest.entry(key).or_insert_with(|| Place {
                table: name.to_owned(),
                partition: found.partition,
                sequence: found.sequence,
                enqueued_at: time(at),
                device_id: found.device.map(str::to_owned),
                ts: found.ts_us.map(time),
                earlier_hub: at < hub_created_at_us,
                file,
                rows: Vec::new(),
                row_group: None,
                version: None,
                committed_at: None,
                page: text(6).map(|reason| format!("docs/errors/{reason}.md")),
                reason: text(6),
                detail: text(7),
                rule: text(8),
                enqueued_at_us: at,
            });
            place.rows.extend(rows.i64(5, row));
            if nearest.len() > most {
                nearest.pop_last();
            }
        }
    });
    scanned.await?;
    let mut places: Vec<Place> = nearest.into_values().collect();
    explain(table, filter, &mut places).await?;
    Ok(places)
}

/// Adds row group and commit.
async fn explain(table: &Table, filter: &Filter, places: &mut [Place]) -> Result<(), LakeError> {
    if places.is_empty() {
        return Ok(());
    }
    let Some(snapshot) = table.newest().await? else {
        return Ok(());
    };
    let files = table.files(&snapshot, filter).await?;
    for place in places {
        let Some(file) = files.iter().find(|file| file.path == place.file) else {
            continue;
        };
        if let Some(&row) = place.rows.first() {
            place.row_group = table.row_group(file, row).await?;
        }
        if let Some(commit) = commit_of(table, snapshot.version(), file).await? {
            place.version = Some(commit.version);
            place.committed_at = commit.at_ms.map(|ms| time(ms.saturating_mul(1_000)));
        }
    }
    Ok(())
}

/// The commit that added a file, looked for from the newest one back.
async fn commit_of(
    table: &Table,
    newest: u64,
    file: &FileInfo,
) -> Result<Option<CommitInfo>, LakeError> {
    let mut next = Some(newest);
    let mut read = 0;
    while let Some(last) = next.filter(|_| read < COMMITS_MAX) {
        let first = last.saturating_sub(COMMITS_AT_ONCE - 1);
        let mut reads = JoinSet::new();
        for version in first..=last {
            let table = table.clone();
            reads.spawn(async move { table.commit(version).await });
        }
        let mut oldest_ms = i64::MAX;
        let mut any = false;
        while let Some(commit) = reads.join_next().await {
            // A task that is gone says no more than an entry that is.
            let Some(commit) = commit.ok().transpose()?.flatten() else {
                continue;
            };
            any = true;
            oldest_ms = oldest_ms.min(commit.at_ms.unwrap_or(i64::MAX));
            if commit.added.contains(&file.path) {
                return Ok(Some(commit));
            }
        }
        // A file is put before it is committed, and older entries may be gone.
        if !any || oldest_ms < file.modified_ms.saturating_sub(CLOCKS_APART_MS) {
            return Ok(None);
        }
        read += COMMITS_AT_ONCE;
        next = first.checked_sub(1);
    }
    Ok(None)
}

/// The path of a file below its table.
fn below(url: &str, table: &Table) -> String {
    let root = table.url().as_str();
    url.strip_prefix(root).unwrap_or(url).to_owned()
}
