//! Brings a table's newest version into memory, making or widening the table where needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use delta_kernel::actions::LOG_TXN_SCHEMA;
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::{MetadataValue, StructField};
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::data_layout::DataLayout;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{Engine, EngineData, KernelError, KernelResult};
use url::Url;

use crate::LakeError;
use crate::error::Attempt;
use crate::schema::{DATE, UNIT};
use crate::table::{Inner, Snapshot};

/// Recorded in every commit of ours.
pub(crate) const ENGINE_INFO: &str = concat!("stampworks/", env!("CARGO_PKG_VERSION"));

pub(crate) fn load(inner: &Inner) -> Result<Snapshot, LakeError> {
    inner.spec.check_names()?;
    let snapshot = match newest(inner)? {
        Some(snapshot) => snapshot,
        None => create(inner)?,
    };
    let snapshot = widen(inner, snapshot)?;
    inner.saw(&snapshot);
    Ok(snapshot)
}

/// The newest version, or `None` when there is no table.
pub(crate) fn newest(inner: &Inner) -> Result<Option<Snapshot>, LakeError> {
    let engine = inner.shared.engine.as_ref();
    let failed = |error| inner.reading("load").kernel_failed(error);
    let seen = inner.latest();
    let kernel = if let Some(seen) = &seen {
        delta_kernel::Snapshot::builder_from(Arc::clone(&seen.kernel)).build(engine)
    } else if is_absent(inner).map_err(failed)? {
        return Ok(None);
    } else {
        delta_kernel::Snapshot::builder_for(inner.url.as_str()).build(engine)
    };
    let kernel = kernel.map_err(failed)?;
    let snapshot = with_marks(inner, seen.as_ref(), kernel)?;
    inner.saw(&snapshot);
    Ok(Some(snapshot))
}

/// Whether the log folder is empty. Asked for on its own, because "there is no table" and "the
/// log is damaged" must never be mistaken for one another.
fn is_absent(inner: &Inner) -> KernelResult<bool> {
    let log = inner.url.join("_delta_log/")?;
    let storage = inner.shared.engine.storage_handler();
    Ok(storage.list_from(&log)?.next().transpose()?.is_none())
}

/// Adds the marks: those of the version already seen, and what the log says since.
pub(crate) fn with_marks(
    inner: &Inner,
    seen: Option<&Snapshot>,
    kernel: SnapshotRef,
) -> Result<Snapshot, LakeError> {
    let failed = |error| inner.reading("read marks of").kernel_failed(error);
    if kernel
        .table_properties()
        .set_transaction_retention_duration
        .is_some()
    {
        let reason = "delta.setTransactionRetentionDuration is set: marks would be forgotten and \
                      rows written twice; unset it";
        return Err(inner.reading("load").broken(reason));
    }
    let marks = match seen {
        Some(seen) if seen.version() == kernel.version() => Arc::clone(&seen.marks),
        Some(seen) if has_all_since(&kernel, seen.version()) => {
            let mut marks = BTreeMap::clone(&seen.marks);
            let new = read_marks_since(inner, &kernel, seen.version()).map_err(failed)?;
            marks.extend(new);
            Arc::new(marks)
        }
        _ => Arc::new(read_all_marks(inner, &kernel).map_err(failed)?),
    };
    Ok(Snapshot {
        table: Arc::clone(&inner.url),
        kernel,
        marks,
    })
}

/// Whether every commit after `version` is still an entry of its own in this snapshot.
fn has_all_since(kernel: &SnapshotRef, version: u64) -> bool {
    let checkpoint = kernel.log_segment().checkpoint_version;
    checkpoint.is_none_or(|checkpoint| checkpoint <= version)
}

fn read_marks_since(
    inner: &Inner,
    kernel: &SnapshotRef,
    version: u64,
) -> KernelResult<BTreeMap<String, i64>> {
    let entries: Vec<_> = kernel
        .log_segment()
        .listed
        .ascending_commit_files
        .iter()
        .filter(|entry| entry.version > version)
        .map(|entry| entry.location.clone())
        .collect();
    let handler = inner.shared.engine.json_handler();
    let mut marks = BTreeMap::new();
    for batch in handler.read_json_files(&entries, LOG_TXN_SCHEMA.clone(), None)? {
        for (app, mark) in marks_of(batch?)? {
            // Oldest first: the newest entry wins.
            marks.insert(app, mark);
        }
    }
    Ok(marks)
}

fn read_all_marks(inner: &Inner, kernel: &SnapshotRef) -> KernelResult<BTreeMap<String, i64>> {
    let engine = inner.shared.engine.as_ref();
    let mut marks = BTreeMap::new();
    for batch in kernel
        .log_segment()
        .read_actions(engine, LOG_TXN_SCHEMA.clone())?
    {
        for (app, mark) in marks_of(batch?.actions)? {
            // Newest first: the first one seen wins.
            marks.entry(app).or_insert(mark);
        }
    }
    Ok(marks)
}

fn marks_of(batch: Box<dyn EngineData>) -> KernelResult<Vec<(String, i64)>> {
    let batch = ArrowEngineData::try_from_engine_data(batch)?;
    marks_in(batch.record_batch())
        .ok_or_else(|| KernelError::MissingColumn("txn.appId or txn.version".to_owned()))
}

fn marks_in(batch: &RecordBatch) -> Option<Vec<(String, i64)>> {
    let transactions = batch.column_by_name("txn")?.as_struct_opt()?;
    let apps = transactions
        .column_by_name("appId")?
        .as_string_opt::<i32>()?;
    let versions = transactions
        .column_by_name("version")?
        .as_primitive_opt::<Int64Type>()?;
    let marks = (0..batch.num_rows())
        .filter(|&row| transactions.is_valid(row) && apps.is_valid(row))
        .map(|row| (apps.value(row).to_owned(), versions.value(row)))
        .collect();
    Some(marks)
}

/// Commits version 0: protocol, schema, partitioned by date. When somebody else is first, theirs
/// is the table.
fn create(inner: &Inner) -> Result<Snapshot, LakeError> {
    let engine = inner.shared.engine.as_ref();
    let attempt = || Attempt::once("create", &inner.url);
    let not_sent = |error| inner.reading("create").kernel_failed(error);
    make_folder(&inner.url).map_err(|error| not_sent(KernelError::IOError(error)))?;
    let schema = inner.spec.delta().map_err(not_sent)?;
    let created = create_table(inner.url.as_str(), Arc::new(schema), ENGINE_INFO, false)
        .with_data_layout(DataLayout::partitioned([DATE]))
        // Statistics of every column, not only of the first 32: positions come last.
        .with_table_properties([("delta.dataSkippingNumIndexedCols", "-1")])
        .build(engine, Box::new(FileSystemCommitter::new()));
    match created {
        Ok(transaction) => match transaction.commit(engine) {
            Ok(CommitResult::Committed(_) | CommitResult::Conflicted(_)) => {}
            Ok(CommitResult::Retryable(retryable)) => {
                return Err(attempt().kernel_failed(retryable.error));
            }
            Err(error) => return Err(attempt().kernel_failed(error)),
        },
        // Somebody was first between our look and this one. Anything else shows below.
        Err(error) if !is_absent(inner).map_err(not_sent)? => drop(error),
        Err(error) => return Err(not_sent(error)),
    }
    newest(inner)?.ok_or_else(|| attempt().broken("the log is empty after it was created"))
}

/// The library wants a local folder to be there before it is told what to put into it.
fn make_folder(url: &Url) -> std::io::Result<()> {
    match url.to_file_path() {
        Ok(folder) if url.scheme() == "file" => std::fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

/// Adds the columns the table lacks. When somebody else changed the table meanwhile, looks once
/// more: two services of one schema add the same columns.
fn widen(inner: &Inner, snapshot: Snapshot) -> Result<Snapshot, LakeError> {
    let missing = missing_columns(inner, &snapshot)?;
    if missing.is_empty() {
        return Ok(snapshot);
    }
    let engine = inner.shared.engine.as_ref();
    let attempt = || Attempt::once("add columns to", &inner.url);
    let mut change = Arc::clone(&snapshot.kernel).update_table(
        UpdateTableOperation::AlterTable,
        ENGINE_INFO,
        false,
    );
    for field in missing {
        change = change.add_column(field);
    }
    let transaction = change
        .build(engine, Box::new(FileSystemCommitter::new()))
        .map_err(|error| inner.reading("add columns to").kernel_failed(error))?;
    match transaction.commit(engine) {
        Ok(CommitResult::Committed(_) | CommitResult::Conflicted(_)) => {}
        Ok(CommitResult::Retryable(retryable)) => {
            return Err(attempt().kernel_failed(retryable.error));
        }
        Err(error) => return Err(attempt().kernel_failed(error)),
    }
    let snapshot = newest(inner)?.ok_or_else(|| attempt().broken("the log is gone"))?;
    if missing_columns(inner, &snapshot)?.is_empty() {
        Ok(snapshot)
    } else {
        Err(attempt().conflict())
    }
}

/// The fields the table does not have, after those it has were found to be the same.
fn missing_columns(inner: &Inner, snapshot: &Snapshot) -> Result<Vec<StructField>, LakeError> {
    let table = snapshot.kernel.schema();
    let mut missing = Vec::new();
    for column in &inner.spec.columns {
        let Some(found) = table.field(&column.name) else {
            missing.push(column.delta());
            continue;
        };
        let unit = unit_of(found);
        // A unit may be noted later or be forgotten; it may not change, as the values would.
        let other_unit = column.unit.is_some() && unit.is_some() && column.unit != unit;
        if found.data_type() != &column.kind.delta() || other_unit {
            let in_table = match &unit {
                Some(unit) => format!("{} in {unit}", found.data_type()),
                None => found.data_type().to_string(),
            };
            return Err(LakeError::ColumnType {
                table: inner.url.to_string(),
                column: column.name.clone(),
                in_table,
                in_schema: column.describe(),
            });
        }
    }
    Ok(missing)
}

pub(crate) fn unit_of(field: &StructField) -> Option<String> {
    match field.metadata.get(UNIT)? {
        MetadataValue::String(unit) => Some(unit.clone()),
        _ => None,
    }
}
