//! What a replay did, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::kept::Outcome;
use super::target::Finished;
use super::{ReplayError, ReplayOptions};

/// What became of the events that were run again. With `dry_run` it says what would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// `rejected` or `quarantine`.
    pub source: &'static str,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Events that the options chose.
    pub read: u64,
    /// Events that are readings now.
    pub returned: u64,
    /// Events from quarantine whose tenant is known now and refuses them: rows of its `rejected`.
    pub moved_to_rejected: u64,
    /// Events that were in the tenant's tables already.
    pub already_there: u64,
    /// Events that the service is not done with: run the replay again later.
    pub waiting: u64,
    /// Events whose device is another tenant's today, or nobody's; they stay where they are.
    pub other_tenant: u64,
    /// Events that are still not valid, by today's reason; they stay where they are.
    pub still_rejected: BTreeMap<&'static str, u64>,
    /// Events that still belong to no tenant, by today's reason; they stay where they are.
    pub without_tenant: BTreeMap<&'static str, u64>,
    /// Events that an earlier replay had decided to bring in and was killed before it did.
    pub finished: u64,
    /// Of those, events whose kept row is gone, or that are not valid any more.
    pub not_brought_in: u64,
    /// Rows that hold no event with a position, which no version of this service writes. They stay
    /// where they are.
    pub unreadable: u64,
    /// Events that could not be brought in, see `failures`.
    pub not_done: u64,
    /// What could not be done, and why.
    pub failures: Vec<String>,
}

impl ReplayReport {
    pub(super) fn new(options: &ReplayOptions) -> Self {
        Self {
            source: options.source.name(),
            dry_run: options.dry_run,
            ..Self::default()
        }
    }

    pub(super) fn brought_in(&mut self, outcome: Outcome, was_there: bool) {
        match outcome {
            _ if was_there => self.already_there += 1,
            Outcome::Reading => self.returned += 1,
            Outcome::Rejected => self.moved_to_rejected += 1,
        }
    }

    pub(super) fn finished(&mut self, finished: Finished) {
        self.finished += finished.of_others;
        self.not_brought_in += finished.not_brought_in;
    }

    pub(super) fn failed(&mut self, error: &ReplayError) {
        /// More would say the same.
        const FAILURES_MAX: usize = 100;
        let line = crate::chain(error).to_string();
        if self.failures.len() < FAILURES_MAX && !self.failures.contains(&line) {
            self.failures.push(line);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.read += other.read;
        self.returned += other.returned;
        self.moved_to_rejected += other.moved_to_rejected;
        self.already_there += other.already_there;
        self.waiting += other.waiting;
        self.other_tenant += other.other_tenant;
        self.finished += other.finished;
        self.not_brought_in += other.not_brought_in;
        self.unreadable += other.unreadable;
        self.not_done += other.not_done;
        for (reason, events) in other.still_rejected {
            *self.still_rejected.entry(reason).or_default() += events;
        }
        for (reason, events) in other.without_tenant {
            *self.without_tenant.entry(reason).or_default() += events;
        }
        self.failures.extend(other.failures);
    }
}

/// How far a replay is, in rows of the table that it reads.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    total: AtomicU64,
    done: AtomicU64,
}

impl ReplayProgress {
    pub(super) fn expect(&self, rows: u64) {
        self.total.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn did(&self, rows: u64) {
        self.done.fetch_add(rows, Ordering::Relaxed);
    }

    /// Rows that were read, and rows there are as far as it is known.
    #[must_use]
    pub fn now(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }
}
