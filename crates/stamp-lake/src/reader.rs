//! Rows of one version of a table, pulled run by run, so that the reader sets the pace.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::LakeError;
use crate::error::Attempt;
use crate::load::newest;
use crate::scan::{Columns, Filter, read_version_by};
use crate::table::{Snapshot, Table};

/// Runs that may wait for the one who pulls.
const RUNS_WAITING_MAX: usize = 1;

/// Reads one version of a table from its first row to its last, a run of at most 256 rows a call.
///
/// The version is the newest one of the first call; what is committed later is not seen. After an
/// error the next call goes on where the last run ended, so a caller may repeat it.
pub struct RowReader {
    table: Table,
    names: Vec<String>,
    filter: Filter,
    snapshot: Option<Snapshot>,
    rows_given: usize,
    done: bool,
    open: Option<Open>,
}

struct Open {
    runs: mpsc::Receiver<Columns>,
    read: JoinHandle<Result<(), LakeError>>,
    /// Rows at the beginning that were given out before.
    skip: usize,
}

impl Table {
    /// A reader of `columns` of the files that may hold rows of `filter`. Makes no request yet.
    ///
    /// Meant for tables with bodies: one file is read at a time, and of that only as much as one
    /// run needs. [`Table::scan`] is faster for narrow columns.
    #[must_use]
    pub fn reader(&self, columns: &[&str], filter: Filter) -> RowReader {
        RowReader {
            table: self.clone(),
            names: columns.iter().map(|&name| name.to_owned()).collect(),
            filter,
            snapshot: None,
            rows_given: 0,
            done: false,
            open: None,
        }
    }
}

impl RowReader {
    /// The next run of rows; `None` after the last, or when there is no table.
    ///
    /// One attempt. Cancel safe: a run that was not given out is given out by the next call.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub async fn next(&mut self) -> Result<Option<Columns>, LakeError> {
        loop {
            if self.done || (self.open.is_none() && !self.open().await?) {
                return Ok(None);
            }
            let Some(open) = &mut self.open else {
                return Ok(None);
            };
            let Some(run) = open.runs.recv().await else {
                return self.ended().await;
            };
            let rows = run.rows();
            let run = run.skip(open.skip);
            open.skip -= open.skip.min(rows);
            if run.rows() > 0 {
                self.rows_given += run.rows();
                return Ok(Some(run));
            }
        }
    }

    /// Says whether there is a table.
    async fn open(&mut self) -> Result<bool, LakeError> {
        if self.snapshot.is_none() {
            let attempt = self.table.reading("read");
            self.snapshot = self.table.blocking(attempt, newest).await?;
        }
        let Some(snapshot) = self.snapshot.clone() else {
            return Ok(false);
        };
        let (send, runs) = mpsc::channel(RUNS_WAITING_MAX);
        let (inner, names) = (Arc::clone(&self.table.inner), self.names.clone());
        let predicate = self.filter.predicate();
        let read = self.table.inner.shared.spawn_blocking(move || {
            let engine = Arc::clone(&inner.shared.body_engine) as _;
            read_version_by(&inner, engine, &snapshot, &names, predicate, |run| {
                // A closed channel means that nobody wants the rest.
                send.blocking_send(run).is_ok()
            })
        });
        self.open = Some(Open {
            runs,
            read,
            skip: self.rows_given,
        });
        Ok(true)
    }

    /// The reading thread sent its last run: was it the last one, or did it fail?
    async fn ended(&mut self) -> Result<Option<Columns>, LakeError> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let outcome = (&mut open.read).await;
        self.open = None;
        match outcome {
            Ok(Ok(())) => {
                self.done = true;
                Ok(None)
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &tokio::task::JoinError) -> LakeError {
        let attempt: Attempt = self.table.reading("read");
        attempt.broken(error.to_string())
    }
}
