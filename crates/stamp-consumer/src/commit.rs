//! One committer per table per process: what all partitions have ready goes into one commit.
//!
//! Every attempt begins by reading the table's marks and leaves out what they cover, so an attempt
//! whose reply was lost is settled by the next one reading, never by repeating. That is why every
//! attempt here is idempotent, whatever happened to the one before.

use std::sync::{Arc, Mutex, PoisonError};

use stamp_lake::{DataFile, LakeError, Snapshot, Table};
use stamp_model::{AppId, Mark, PartitionId, START, Sequences};
use stamp_resilience::{Classify, FailureKind, GaveUp, Peer, idempotent};
use stamp_telemetry::{CommitOutcome, Metrics};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::muster::Coming;
use crate::parts::{Encoded, Known, Part, encode, sharing};
use crate::turns::{Party, Turns};

/// Most batches in one commit; the rest go into the next.
const JOBS_MAX: usize = 256;

/// How it is found out which rows a table has already.
///
/// A mark says "every row up to here", which is only true where each event surely goes to this
/// table. What is refused depends on the rules of the day; what ends in quarantine, and which loss
/// is noticed, on the moment and the reader. There the rows themselves are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// By the table's mark.
    Mark,
    /// By the sequence numbers in the table, from the first one of the job.
    Rows(PartitionId, i64),
    /// By the ranges in the table of gaps.
    Ranges(PartitionId),
}

/// A batch of rows of one partition for one table.
#[derive(Clone)]
pub(crate) struct Job {
    /// Whose mark moves.
    pub app: AppId,
    /// The mark after this batch.
    pub last: i64,
    /// How it is found out which rows are there.
    pub settled: Settled,
    /// The batch holds all that the table needs above this mark and not below it. A table that is
    /// not this far takes nothing of it.
    pub floor: i64,
    /// Where a table without a mark counts as being.
    pub unmarked: i64,
    /// The rows.
    pub part: Part,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Committed {
    /// Rows this job added to the table; the others were there already.
    pub rows: u64,
    /// Parquet bytes written; of files that several jobs share, its part by rows.
    pub bytes: u64,
    /// The mark that this job moved, when it surely was this job: the table has exactly its rows
    /// above it. `None` when the table was ahead, by another owner or by an attempt whose reply was
    /// lost.
    pub moved: Option<i64>,
    /// The table was below the job's floor and took nothing.
    pub is_below_floor: bool,
}

/// Why an attempt at a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store or the table said no.
    #[error("writing to {table}")]
    Lake {
        /// Where it is.
        table: String,
        /// What it said.
        #[source]
        cause: LakeError,
    },
    /// The encoder's thread is gone. A fault of ours.
    #[error("the encoder for {table} did not finish: {detail}")]
    Encoder {
        /// Where it is.
        table: String,
        /// The panic's text, as far as there is one.
        detail: String,
    },
}

impl Classify for CommitError {
    /// A conflict is worth another attempt here, because the next one reads the marks and encodes
    /// what they leave over.
    fn kind(&self) -> FailureKind {
        match self {
            Self::Lake {
                cause: LakeError::Conflict { .. },
                ..
            } => FailureKind::Transient,
            Self::Lake { cause, .. } => cause.kind(),
            Self::Encoder { .. } => FailureKind::Permanent,
        }
    }
}

/// The answer to everybody whose rows were in a commit that was given up.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CommitFailure {
    /// The retry layer gave up.
    #[error(transparent)]
    GaveUp(#[from] Arc<GaveUp<CommitError>>),
    /// The task that led the commit was dropped, as at a forced stop.
    #[error("the commit was abandoned")]
    Abandoned,
}

/// Where the table is for one job, as the running attempt finds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Found {
    /// The table is ahead of the job, or was not asked.
    #[default]
    Ahead,
    /// Here, and the attempt moves it.
    At(i64),
    /// Below the job's floor.
    BelowFloor,
}

/// Files that are in the store, waiting for the commit that names them.
struct Staged {
    /// Whose rows are in them, by place in the batch, and what each table had of these.
    of: Vec<(usize, Known)>,
    files: Vec<DataFile>,
}

struct Waiting {
    job: Job,
    /// What was last staged of it.
    staged: Option<Committed>,
    /// The mark that the running attempt finds.
    found: Found,
    done: oneshot::Sender<Result<Committed, CommitFailure>>,
}

/// The last commit of this process to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastCommit {
    /// The version that has its rows.
    pub(crate) version: u64,
    /// Rows in it.
    pub(crate) rows: u64,
    /// When it was known.
    pub(crate) at: Instant,
}

/// Commits to one table for every partition of this process.
pub(crate) struct Committer {
    name: &'static str,
    table: Table,
    peer: Peer,
    cpu: (Arc<Turns>, Party),
    metrics: Metrics,
    queue: Mutex<Vec<Waiting>>,
    /// Held by whoever leads; keeps the snapshot of the last commit, which is where the next one
    /// starts as long as nobody else writes.
    lead: AsyncMutex<Option<Snapshot>>,
    /// Written once a commit, for whoever looks.
    last: Mutex<Option<Box<LastCommit>>>,
}

impl Committer {
    /// A committer for `table`, called `name` in metrics; encoding takes a permit of `cpu` when it
    /// is the party's turn.
    #[must_use]
    pub(crate) fn new(
        name: &'static str,
        table: Table,
        peer: Peer,
        cpu: (Arc<Turns>, Party),
        metrics: Metrics,
    ) -> Self {
        Self {
            name,
            table,
            peer,
            cpu,
            metrics,
            queue: Mutex::default(),
            lead: AsyncMutex::default(),
            last: Mutex::default(),
        }
    }

    /// What the table is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The last commit, if there was one.
    pub(crate) fn last(&self) -> Option<LastCommit> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_deref().copied()
    }

    fn committed(&self, version: u64, rows: u64) {
        let at = Instant::now();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Box::new(LastCommit { version, rows, at }));
    }

    /// Commits `job`, together with whatever else is waiting. `coming` says for whom to wait first,
    /// at which of its tables this is.
    ///
    /// Whoever comes first leads; the others' rows ride along. Not cancel-safe in the sense that
    /// the job may or may not be committed when the future is dropped; marks make that harmless.
    ///
    /// # Errors
    /// The retry layer's [`GaveUp`] once it has given up. The rows are then not known to be
    /// committed: keep them and call again later.
    pub(crate) async fn commit(
        &self,
        job: Job,
        coming: Option<(&mut Coming, usize)>,
        cancel: &CancellationToken,
    ) -> Result<Committed, CommitFailure> {
        let mut answer = self.push(job.clone());
        let others = coming.map(|(coming, table)| {
            coming.came_to(table);
            (&*coming, table)
        });
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(result) => return result,
                    Err(_) if cancel.is_cancelled() => return Err(CommitFailure::Abandoned),
                    // The leader was dropped with our job in its hands: queue it again.
                    Err(_) => answer = self.push(job.clone()),
                },
                mut snapshot = self.lead.lock() => {
                    if let Some((others, table)) = others {
                        others.gathered(table, cancel).await;
                    }
                    let batch = self.take();
                    if !batch.is_empty() {
                        self.run(batch, &mut snapshot, cancel).await;
                    }
                }
            }
        }
    }

    fn push(&self, job: Job) -> oneshot::Receiver<Result<Committed, CommitFailure>> {
        let (done, answer) = oneshot::channel();
        let waiting = Waiting {
            job,
            staged: None,
            found: Found::default(),
            done,
        };
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(waiting);
        answer
    }

    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody whose future was dropped waits no more; their rows are not lost, their worker
        // is gone and the next reader starts at the checkpoint.
        queue.retain(|waiting| !waiting.done.is_closed());
        let count = queue.len().min(JOBS_MAX);
        queue.drain(..count).collect()
    }

    async fn run(
        &self,
        mut batch: Vec<Waiting>,
        snapshot: &mut Option<Snapshot>,
        cancel: &CancellationToken,
    ) {
        let mut tries = self.peer.begin(idempotent("table.commit"), cancel);
        let mut staged = Vec::new();
        let result = loop {
            match tries
                .attempt(|_| self.attempt(&mut batch, &mut staged, snapshot))
                .await
            {
                Ok(Some(())) => break Ok(()),
                Ok(None) => {}
                Err(gave_up) => break Err(CommitFailure::GaveUp(Arc::new(gave_up))),
            }
        };
        if result.is_err() {
            self.metrics.commit(self.name, CommitOutcome::Failed);
        }
        for waiting in batch {
            let committed = Committed {
                moved: match waiting.found {
                    Found::At(mark) => Some(mark),
                    Found::Ahead | Found::BelowFloor => None,
                },
                is_below_floor: waiting.found == Found::BelowFloor,
                ..waiting.staged.unwrap_or_default()
            };
            let _ = waiting.done.send(result.clone().map(|()| committed));
        }
    }

    /// One attempt: read marks, encode what is above them, put files, commit.
    async fn attempt(
        &self,
        batch: &mut [Waiting],
        staged: &mut Vec<Staged>,
        cached: &mut Option<Snapshot>,
    ) -> Result<(), CommitError> {
        // Taken out: after any error the next attempt must read the marks anew.
        let snapshot = match cached.take() {
            Some(snapshot) => snapshot,
            None => self.table.load().await.map_err(|cause| self.lake(cause))?,
        };
        let mut marks = Vec::new();
        let mut to_stage = Vec::new();
        for (place, waiting) in batch.iter_mut().enumerate() {
            let mark = snapshot.mark(&waiting.job.app).unwrap_or(START);
            let is_ahead = mark >= waiting.job.last;
            waiting.found = match mark {
                _ if is_ahead => Found::Ahead,
                START if waiting.job.unmarked >= waiting.job.floor => Found::At(mark),
                _ if mark < waiting.job.floor => Found::BelowFloor,
                _ => Found::At(mark),
            };
            if waiting.found == Found::BelowFloor {
                waiting.staged = None;
                continue;
            }
            if is_ahead && waiting.job.settled == Settled::Mark {
                continue;
            }
            to_stage.push((place, self.known(&waiting.job, mark).await?));
            if !is_ahead {
                marks.push(Mark {
                    app: waiting.job.app.clone(),
                    sequence: waiting.job.last,
                });
            }
        }
        let staging = to_stage.iter().map(|&(place, _)| place).collect::<Vec<_>>();
        let files = self.stage(batch, staged, to_stage).await?;
        if marks.is_empty() && files.is_empty() {
            // Whoever has staged files by now committed them himself and lost the reply.
            let ours = batch.iter().any(|waiting| waiting.staged.is_some());
            if ours {
                let rows = batch.iter().filter_map(|waiting| waiting.staged);
                self.committed(snapshot.version(), rows.map(|staged| staged.rows).sum());
            }
            self.metrics.commit(
                self.name,
                if ours {
                    CommitOutcome::Found
                } else {
                    CommitOutcome::Empty
                },
            );
            *cached = Some(snapshot);
            return Ok(());
        }
        let rows = staging.into_iter().filter_map(|place| batch[place].staged);
        let rows = rows.map(|staged| staged.rows).sum();
        match self.table.append(&snapshot, files, &marks).await {
            Ok(next) => {
                self.metrics.commit(self.name, CommitOutcome::Committed);
                self.committed(next.version(), rows);
                *cached = Some(next);
                Ok(())
            }
            Err(cause) => {
                if matches!(cause, LakeError::Conflict { .. }) {
                    self.metrics.commit_conflicts(self.name, 1);
                }
                Err(self.lake(cause))
            }
        }
    }

    /// What the table has of a job's rows. A version that is newer than the snapshot does no harm:
    /// the append then meets a conflict, and the next attempt asks again.
    async fn known(&self, job: &Job, mark: i64) -> Result<Known, CommitError> {
        let failed = |cause| self.lake(cause);
        Ok(match job.settled {
            Settled::Mark => Known::UpTo(mark),
            // No mark up to the first row: nobody has written any of these.
            Settled::Rows(_, first) if mark < first => Known::Rows(Sequences::default()),
            Settled::Rows(partition, first) => {
                let up_to = mark.min(job.last);
                let since_us = job.app.hub_created_at_us();
                let rows = self
                    .table
                    .sequences_since(partition, first - 1, up_to, since_us)
                    .await;
                Known::Rows(rows.map_err(failed)?)
            }
            Settled::Ranges(partition) => {
                Known::Ranges(self.ranges(partition).await.map_err(failed)?)
            }
        })
    }

    /// The ranges of the table of gaps: a row for each loss there ever was, so there are few.
    async fn ranges(&self, partition: PartitionId) -> Result<Vec<(i64, i64)>, LakeError> {
        let mut ranges = Vec::new();
        let columns = ["partition", "sequence_first", "sequence_last"];
        self.table
            .scan(&columns, |rows| {
                for row in 0..rows.rows() {
                    let number = |column| rows.i64(column, row);
                    if let (Some(of), Some(first), Some(last)) = (number(0), number(1), number(2))
                        && of == i64::from(partition.number())
                    {
                        ranges.push((first, last));
                    }
                }
            })
            .await?;
        ranges.sort_unstable();
        Ok(ranges)
    }

    /// The files of the jobs' unknown rows: encoded and put, unless the last attempt did it.
    async fn stage(
        &self,
        batch: &mut [Waiting],
        staged: &mut Vec<Staged>,
        mut to_stage: Vec<(usize, Known)>,
    ) -> Result<Vec<DataFile>, CommitError> {
        // What was staged under another answer stays in the store as files that nobody names.
        let before = std::mem::take(staged);
        let mut all = Vec::new();
        while !to_stage.is_empty() {
            let parts = to_stage.iter().map(|&(place, _)| &batch[place].job.part);
            let rest = to_stage.split_off(sharing(parts));
            let of = std::mem::replace(&mut to_stage, rest);
            let same = before.iter().find(|staged| staged.of == of);
            let files = match same {
                Some(same) => same.files.clone(),
                None => self.stage_together(batch, &of).await?,
            };
            all.extend(files.iter().cloned());
            staged.push(Staged { of, files });
        }
        Ok(all)
    }

    /// Encodes what shares files and puts these.
    async fn stage_together(
        &self,
        batch: &mut [Waiting],
        of: &[(usize, Known)],
    ) -> Result<Vec<DataFile>, CommitError> {
        let parts = of.iter().map(|(place, known)| {
            let waiting = &mut batch[*place];
            waiting.staged = None;
            (waiting.job.part.clone(), known.clone())
        });
        let Encoded { files, rows } = self.encode(parts.collect()).await?;
        let bytes = files
            .iter()
            .map(|file| file.bytes.len() as u64)
            .sum::<u64>();
        let mut put = Vec::with_capacity(files.len());
        for file in files {
            let file = self.table.put(&file).await;
            put.push(file.map_err(|cause| self.lake(cause))?);
        }
        let all = rows.iter().sum::<u64>().max(1);
        for ((place, _), rows) in of.iter().zip(rows) {
            batch[*place].staged = Some(Committed {
                rows,
                bytes: bytes * rows / all,
                ..Committed::default()
            });
        }
        Ok(put)
    }

    async fn encode(&self, parts: Vec<(Part, Known)>) -> Result<Encoded, CommitError> {
        let broken = |detail: String| CommitError::Encoder {
            table: self.table.url().to_string(),
            detail,
        };
        let (turns, party) = &self.cpu;
        let permit = turns
            .acquire(*party)
            .await
            .map_err(|e| broken(e.to_string()))?;
        let encoded = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            encode(&parts)
        });
        encoded
            .await
            .map_err(|e| broken(e.to_string()))?
            .map_err(|cause| self.lake(cause))
    }

    fn lake(&self, cause: LakeError) -> CommitError {
        CommitError::Lake {
            table: self.table.url().to_string(),
            cause,
        }
    }
}
