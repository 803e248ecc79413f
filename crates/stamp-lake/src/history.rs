//! What a table's log says about itself: its files, and what each commit did. For people who ask
//! where something is; nothing that writes depends on it.

use delta_kernel::scan::state::ScanFile;
use delta_kernel::{Engine as EngineTrait, KernelError};
use object_store::ObjectStoreExt;
use object_store::path::PathPart;
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::Value;

use crate::LakeError;
use crate::error::Attempt;
use crate::scan::Filter;
use crate::table::{Snapshot, Table};

/// A data file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Path below the table.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Rows, when the log says.
    pub rows: Option<u64>,
    /// Its date folder, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// When it was put, milliseconds since 1970 UTC by the writer's clock.
    pub modified_ms: i64,
}

/// One entry of a table's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitInfo {
    /// The table's version after it.
    pub version: u64,
    /// When, milliseconds since 1970 UTC by the writer's clock.
    pub at_ms: Option<i64>,
    /// What the writer called it.
    pub operation: Option<String>,
    /// Who wrote it.
    pub engine: Option<String>,
    /// Files that came, as paths below the table.
    pub added: Vec<String>,
    /// Rows in them, as far as the log says.
    pub rows_added: u64,
    /// How many files went.
    pub removed: u64,
    /// Marks that were set: app id and sequence number.
    pub marks: Vec<(String, i64)>,
    /// Whether the schema or the table's properties were set.
    pub schema_changed: bool,
}

impl Table {
    /// The files of a version that may hold rows of `filter`, in the order of the log.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub async fn files(
        &self,
        snapshot: &Snapshot,
        filter: &Filter,
    ) -> Result<Vec<FileInfo>, LakeError> {
        let (snapshot, predicate) = (snapshot.clone(), filter.predicate());
        self.blocking(self.reading("list files of"), move |inner| {
            let failed = |error: KernelError| inner.reading("list files of").kernel_failed(error);
            let engine: &dyn EngineTrait = inner.shared.engine.as_ref();
            let builder = std::sync::Arc::clone(&snapshot.kernel).scan_builder();
            let scan = builder.with_predicate(predicate).build().map_err(failed)?;
            let mut files = Vec::new();
            for metadata in scan.scan_metadata(engine).map_err(failed)? {
                let metadata = metadata.map_err(failed)?;
                files = metadata.visit_scan_files(files, note).map_err(failed)?;
            }
            Ok(files)
        })
        .await
    }

    /// The log entry of a version; `None` when the log no longer has it.
    ///
    /// # Errors
    /// [`LakeError::Broken`] when it is no log entry, else what the store said.
    pub async fn commit(&self, version: u64) -> Result<Option<CommitInfo>, LakeError> {
        let inner = &self.inner;
        let name = format!("{version:020}.json");
        let path = inner
            .folder
            .clone()
            .join(PathPart::from("_delta_log"))
            .join(PathPart::from(name.as_str()));
        let attempt = || Attempt::repeatable("read", &path);
        let entry = match inner.shared.store.get(&path).await {
            Ok(found) => found.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        let entry = entry.map_err(|error| attempt().store_failed(error))?;
        let mut commit = CommitInfo {
            version,
            ..CommitInfo::default()
        };
        for line in entry
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let action: Value =
                serde_json::from_slice(line).map_err(|error| attempt().broken(error))?;
            add_action(&mut commit, &action);
        }
        Ok(Some(commit))
    }

    /// In which row group of a file a row is, from 0.
    ///
    /// # Errors
    /// [`LakeError::Broken`] when it is no Parquet file, else what the store said.
    pub async fn row_group(&self, file: &FileInfo, row: i64) -> Result<Option<usize>, LakeError> {
        let inner = &self.inner;
        let path = file
            .path
            .split('/')
            .fold(inner.folder.clone(), |path, part| {
                path.join(PathPart::from(part))
            });
        let attempt = || Attempt::repeatable("read", &path);
        let mut from = file.size_bytes.saturating_sub(FOOTER_GUESS_BYTES);
        loop {
            let tail = inner.shared.store.get_range(&path, from..file.size_bytes);
            let tail = tail.await.map_err(|error| attempt().store_failed(error))?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&tail, file.size_bytes) {
                Ok(()) => {
                    let footer = reader.finish().map_err(|error| attempt().broken(error))?;
                    let mut before = 0;
                    return Ok(footer.row_groups().iter().position(|group| {
                        before += group.num_rows();
                        row < before
                    }));
                }
                // The guess was short: the answer says how much there is.
                Err(parquet::errors::ParquetError::NeedMoreData(bytes)) if from > 0 => {
                    from = file.size_bytes.saturating_sub(bytes as u64);
                }
                Err(error) => return Err(attempt().broken(error)),
            }
        }
    }
}

/// Read at the end of a file in the hope that its footer is in it.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;

fn note(files: &mut Vec<FileInfo>, file: ScanFile) {
    files.push(FileInfo {
        date: file.partition_values.get(crate::schema::DATE).cloned(),
        path: file.path,
        size_bytes: u64::try_from(file.size).unwrap_or(0),
        rows: file.stats.map(|stats| stats.num_records),
        modified_ms: file.modification_time,
    });
}

fn add_action(commit: &mut CommitInfo, action: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(info) = action.get("commitInfo") {
        commit.at_ms = info.get("timestamp").and_then(Value::as_i64);
        commit.operation = info.get("operation").and_then(text);
        commit.engine = info.get("engineInfo").and_then(text);
    }
    if let Some(add) = action.get("add") {
        commit.added.extend(add.get("path").and_then(text));
        let stats = add.get("stats").and_then(Value::as_str);
        let stats = stats.and_then(|stats| serde_json::from_str::<Value>(stats).ok());
        let rows = stats.and_then(|stats| stats.get("numRecords")?.as_u64());
        commit.rows_added += rows.unwrap_or(0);
    }
    if let Some(transaction) = action.get("txn") {
        let app = transaction.get("appId").and_then(text);
        let mark = transaction.get("version").and_then(Value::as_i64);
        commit.marks.extend(app.zip(mark));
    }
    commit.removed += u64::from(action.get("remove").is_some());
    commit.schema_changed |= action.get("metaData").is_some();
}
