//! One atomic commit: files and marks together, or nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use delta_kernel::committer::{
    CommitMetadata, CommitResponse, Committer, FileSystemCommitter, PublishMetadata,
};
use delta_kernel::expressions::Scalar;
use delta_kernel::transaction::{
    BoundWriteContext, CommitResult, CommittedTransaction, Transaction, UpdateTableOperation,
};
use delta_kernel::{
    Engine as EngineTrait, FileMeta, FilteredEngineData, KernelError, KernelResult,
    KernelResultIterator,
};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use stamp_model::Mark;

use crate::LakeError;
use crate::error::Attempt;
use crate::file::DataFile;
use crate::load::{ENGINE_INFO, with_marks};
use crate::schema::DATE;
use crate::table::{Inner, Snapshot};

/// Commits after which the log is summed up in a checkpoint, so that a load reads at most about
/// this many entries. Each checkpoint lists every file of the table, so fewer is dearer.
const LOG_CHECKPOINT_COMMITS: u64 = 100;

/// After a failed log checkpoint, the next try comes this many commits later.
const LOG_CHECKPOINT_AGAIN_COMMITS: u64 = 10;

pub(crate) fn append(
    inner: &Inner,
    at: &Snapshot,
    files: &[DataFile],
    marks: &[Mark],
) -> Result<Snapshot, LakeError> {
    if at.table != inner.url {
        let reason = format!("the snapshot is one of {}", at.table);
        return Err(inner.reading("append to").broken(reason));
    }
    let marks = marks_after(inner, at, marks)?;
    let progress = Arc::new(Progress::default());
    let committed = commit(inner, at, files, &marks, &progress)
        .map_err(|error| sort_failure(inner, error, &progress))?;
    let Some(committed) = committed else {
        return Err(Attempt::once("append to", &inner.url).conflict());
    };
    let snapshot = after_commit(inner, at, &committed, marks)?;
    inner.saw(&snapshot);
    Ok(snapshot)
}

/// Before the log entry is sent nothing can have happened; after it, everything can.
fn sort_failure(inner: &Inner, error: KernelError, progress: &Progress) -> LakeError {
    if !progress.sent.load(Ordering::Acquire) {
        return inner.reading("append to").kernel_failed(error);
    }
    let attempt = Attempt::once("append to", &inner.url);
    if progress.done.load(Ordering::Acquire) {
        return attempt.unknown(error);
    }
    match attempt.clone().kernel_failed(error) {
        // A lost race has an answer of its own and is no error here.
        LakeError::Broken { source, .. } => attempt.unknown(source),
        LakeError::Conflict { .. } => attempt.unknown("an answer that fits no question"),
        error => error,
    }
}

/// **The guard.** The table library writes a lower transaction version without a word, which
/// moves the mark back and lets rows in twice. Every mark must be above the one in the table.
fn marks_after(
    inner: &Inner,
    at: &Snapshot,
    marks: &[Mark],
) -> Result<BTreeMap<String, i64>, LakeError> {
    let mut after = BTreeMap::new();
    for Mark { app, sequence } in marks {
        let before = after.get(app.as_str()).copied().or_else(|| at.mark(app));
        let back = before.filter(|before| before >= sequence);
        if let Some(mark) = back.filter(|_| inner.shared.guards_marks()) {
            return Err(LakeError::MarkNotForward {
                table: inner.url.to_string(),
                app: app.to_string(),
                mark,
                asked: *sequence,
            });
        }
        after.insert(app.as_str().to_owned(), *sequence);
    }
    Ok(after)
}

/// `None` when another commit took the version.
fn commit(
    inner: &Inner,
    at: &Snapshot,
    files: &[DataFile],
    marks: &BTreeMap<String, i64>,
    progress: &Arc<Progress>,
) -> KernelResult<Option<CommittedTransaction>> {
    let engine = inner.shared.engine.as_ref();
    let mut change = Arc::clone(&at.kernel).update_table(
        UpdateTableOperation::Write,
        ENGINE_INFO,
        !files.is_empty(),
    );
    if !files.is_empty() {
        change = change.with_blind_append();
    }
    for (app, sequence) in marks {
        change = change.with_transaction_id(app, *sequence);
    }
    let committer = WatchedCommitter {
        inner: FileSystemCommitter::new(),
        progress: Arc::clone(progress),
    };
    let mut transaction = change.build(engine, Box::new(committer))?;
    add_files(at, &mut transaction, files)?;
    match transaction.commit(engine)? {
        CommitResult::Committed(committed) => Ok(Some(committed)),
        CommitResult::Conflicted(_) => Ok(None),
        CommitResult::Retryable(retryable) => Err(retryable.error),
    }
}

fn add_files(at: &Snapshot, transaction: &mut Transaction, files: &[DataFile]) -> KernelResult<()> {
    if files.is_empty() {
        return Ok(());
    }
    let state = transaction.write_state()?;
    // Local paths are resolved by the library, so its own idea of the root counts.
    let root = at.kernel.table_root();
    let mut contexts: HashMap<i32, BoundWriteContext> = HashMap::new();
    for file in files {
        let context = match contexts.entry(file.day) {
            Entry::Occupied(context) => context.into_mut(),
            Entry::Vacant(place) => {
                let values = HashMap::from([(DATE.to_owned(), Scalar::Date(file.day))]);
                let builder = state.write_context_builder();
                place.insert(builder.with_partition_values(values).build()?)
            }
        };
        let metadata = DataFileMetadata::new(
            FileMeta::new(root.join(&file.path)?, file.modified_ms, file.size_bytes),
            file.stats.to_struct()?,
        );
        transaction.add_files(build_add_file_metadata(metadata, context)?);
    }
    Ok(())
}

fn after_commit(
    inner: &Inner,
    at: &Snapshot,
    committed: &CommittedTransaction,
    new_marks: BTreeMap<String, i64>,
) -> Result<Snapshot, LakeError> {
    let kernel = match committed.post_commit_snapshot() {
        Some(kernel) => Arc::clone(kernel),
        None => {
            let kernel = delta_kernel::Snapshot::builder_from(Arc::clone(&at.kernel))
                .at_version(committed.commit_version())
                .build(inner.shared.engine.as_ref())
                .map_err(|error| {
                    Attempt::once("load after append to", &inner.url).unknown(error)
                })?;
            return with_marks(inner, Some(at), kernel);
        }
    };
    let mut marks = BTreeMap::clone(&at.marks);
    marks.extend(new_marks);
    let since = committed.post_commit_stats().commits_since_checkpoint;
    Ok(Snapshot {
        table: Arc::clone(&inner.url),
        kernel: sum_up_log(inner, kernel, since),
        marks: Arc::new(marks),
    })
}

/// Writes a log checkpoint when it is due. Best effort: the commit is done either way.
fn sum_up_log(
    inner: &Inner,
    kernel: delta_kernel::SnapshotRef,
    commits: u64,
) -> delta_kernel::SnapshotRef {
    let overdue = commits.checked_sub(LOG_CHECKPOINT_COMMITS);
    if overdue.is_none_or(|overdue| overdue % LOG_CHECKPOINT_AGAIN_COMMITS != 0) {
        return kernel;
    }
    match kernel.checkpoint(inner.shared.engine.as_ref(), None) {
        Ok((_, with_checkpoint)) => with_checkpoint,
        Err(error) => {
            tracing::warn!(
                table = %inner.url,
                version = kernel.version(),
                %error,
                "log checkpoint failed, loading gets slower until one succeeds"
            );
            kernel
        }
    }
}

/// How far a commit got.
#[derive(Debug, Default)]
struct Progress {
    /// The log entry was handed to the store.
    sent: AtomicBool,
    /// The store said that it is there.
    done: AtomicBool,
}

/// Notes how far a commit gets.
#[derive(Debug)]
struct WatchedCommitter {
    inner: FileSystemCommitter,
    progress: Arc<Progress>,
}

impl Committer for WatchedCommitter {
    fn commit(
        &self,
        engine: &dyn EngineTrait,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        metadata: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        self.progress.sent.store(true, Ordering::Release);
        let response = self.inner.commit(engine, actions, metadata)?;
        if matches!(response, CommitResponse::Committed { .. }) {
            self.progress.done.store(true, Ordering::Release);
        }
        Ok(response)
    }

    fn is_catalog_committer(&self) -> bool {
        self.inner.is_catalog_committer()
    }

    fn publish(&self, engine: &dyn EngineTrait, metadata: PublishMetadata) -> KernelResult<()> {
        self.inner.publish(engine, metadata)
    }
}
