//! `stampworks inspect table`.

use std::collections::BTreeMap;

use serde::Serialize;
use stamp_lake::{CommitInfo, FileInfo, Filter, Snapshot};

use crate::exit::Failure;
use crate::opened::{Opened, time, unreadable};
use crate::output;

/// A file below this is small: engines read files of about 128 MB best.
const SMALL_FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, Serialize)]
pub(super) struct TableAnswer {
    table: String,
    url: String,
    version: u64,
    files: usize,
    rows: u64,
    bytes: u64,
    /// Of the date folders.
    first_date: Option<String>,
    last_date: Option<String>,
    /// Files below 16 MiB.
    small_files: usize,
    mean_file_bytes: u64,
    /// By app id.
    marks: BTreeMap<String, i64>,
    columns: Vec<Column>,
    /// Newest first.
    commits: Vec<Commit>,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    r#type: String,
    unit: Option<String>,
}

#[derive(Debug, Serialize)]
struct Commit {
    version: u64,
    at: Option<String>,
    operation: Option<String>,
    engine: Option<String>,
    files_added: usize,
    rows_added: u64,
    files_removed: u64,
    marks: Vec<(String, i64)>,
    schema_changed: bool,
}

pub(super) async fn inspect(
    opened: &Opened,
    name: &str,
    commits: u64,
) -> Result<TableAnswer, Failure> {
    let tables = opened.tables();
    let Some((name, table)) = tables.iter().find(|(known, _)| known == name) else {
        let known: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::because(format!(
            "the stamp has no table {name:?}; it has {}",
            known.join(", ")
        )));
    };
    let Some(snapshot) = table.newest().await.map_err(unreadable)? else {
        return Err(Failure::because(format!(
            "{name} does not exist yet: nothing was ever written to {}",
            table.url()
        )));
    };
    let files = table
        .files(&snapshot, &Filter::All)
        .await
        .map_err(unreadable)?;
    let mut history = Vec::new();
    let newest = snapshot.version();
    for version in (0..=newest)
        .rev()
        .take(usize::try_from(commits).unwrap_or(0))
    {
        // Older entries may have been cleaned up by whoever maintains the table.
        let Some(commit) = table.commit(version).await.map_err(unreadable)? else {
            break;
        };
        history.push(told(commit));
    }
    Ok(summary(
        name,
        table.url().to_string(),
        &snapshot,
        &files,
        history,
    ))
}

fn summary(
    name: &str,
    url: String,
    snapshot: &Snapshot,
    files: &[FileInfo],
    commits: Vec<Commit>,
) -> TableAnswer {
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    let dates = || files.iter().filter_map(|file| file.date.clone());
    let columns = snapshot.columns().into_iter().map(|column| Column {
        name: column.name,
        r#type: column.kind,
        unit: column.unit,
    });
    TableAnswer {
        table: name.to_owned(),
        url,
        version: snapshot.version(),
        files: files.len(),
        rows: files.iter().filter_map(|file| file.rows).sum(),
        bytes,
        first_date: dates().min(),
        last_date: dates().max(),
        small_files: files
            .iter()
            .filter(|file| file.size_bytes < SMALL_FILE_BYTES)
            .count(),
        mean_file_bytes: bytes.checked_div(files.len() as u64).unwrap_or(0),
        marks: snapshot
            .marks()
            .map(|(app, mark)| (app.to_owned(), mark))
            .collect(),
        columns: columns.collect(),
        commits,
    }
}

fn told(commit: CommitInfo) -> Commit {
    Commit {
        version: commit.version,
        at: commit.at_ms.map(|ms| time(ms.saturating_mul(1_000))),
        operation: commit.operation,
        engine: commit.engine,
        files_added: commit.added.len(),
        rows_added: commit.rows_added,
        files_removed: commit.removed,
        marks: commit.marks,
        schema_changed: commit.schema_changed,
    }
}

pub(super) fn print(answer: &TableAnswer) {
    let line = |what: &str, value: String| output::line(&format!("{what:<12} {value}"));
    line("table", answer.table.clone());
    line("url", answer.url.clone());
    line("version", answer.version.to_string());
    line("rows", answer.rows.to_string());
    line(
        "files",
        format!(
            "{}, {} bytes, {} on the mean; {} below 16 MiB",
            answer.files, answer.bytes, answer.mean_file_bytes, answer.small_files
        ),
    );
    if let (Some(first), Some(last)) = (&answer.first_date, &answer.last_date) {
        line("dates", format!("{first} to {last}"));
    }
    output::line("\nmarks");
    for (app, mark) in &answer.marks {
        output::line(&format!("  {mark:>12}  {app}"));
    }
    output::line("\ncolumns");
    for column in &answer.columns {
        let unit = column
            .unit
            .as_ref()
            .map_or_else(String::new, |unit| format!(" in {unit}"));
        output::line(&format!("  {} {}{unit}", column.name, column.r#type));
    }
    output::line("\ncommits, newest first");
    for commit in &answer.commits {
        output::line(&format!(
            "  {:>6} {} {}: {} files and {} rows came, {} files went{}",
            commit.version,
            commit.at.as_deref().unwrap_or("-"),
            commit.operation.as_deref().unwrap_or("-"),
            commit.files_added,
            commit.rows_added,
            commit.files_removed,
            if commit.schema_changed {
                ", schema set"
            } else {
                ""
            }
        ));
        for (app, mark) in &commit.marks {
            output::line(&format!("           mark {mark} of {app}"));
        }
    }
}
