//! Rejected and quarantined events again, under the rules of today, each exactly once.
//!
//! [`Replay::run`] reads a table of kept events from its first row to its last and decides for each
//! event what becomes of it now; [`target`] brings in what belongs into a tenant's tables. Nothing
//! is taken out of `rejected` or `quarantine`: what came back is recorded in the tenant's `replays`.
//! The protocol, and why it is safe beside a running service and beside a second replay, is in
//! docs/adr/0008-replay.md.

mod judge;
mod kept;
mod pending;
mod report;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stamp_lake::{Checkpoints, Columns, Filter, Lake, LakeError, RowReader, Table};
use stamp_model::{AppId, HubIdentity, PartitionId, StampId, TenantId};
use stamp_resilience::{GaveUp, Observer, Peer, idempotent};
use stamp_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use crate::commit::CommitFailure;
use crate::config::ConsumerConfig;
use crate::consumer::{Clock, TenantPlan, directory};
use crate::directory::{Directory, Route, TenantIndex};
use crate::error::ConfigError;
use crate::turns::Turns;

use judge::{Judge, Verdict};
use kept::{KEPT_COLUMNS, Kept};
pub use report::{ReplayProgress, ReplayReport};
use target::Target;

/// Events that are brought in together: one commit a table.
const PAGE_EVENTS_MAX: usize = 1_000;
/// Bytes of kept events after which a page is full.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Which table is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplaySource {
    /// Each tenant's `rejected`.
    Rejected,
    /// The stamp's `quarantine`.
    Quarantine,
}

impl ReplaySource {
    /// The table's name, as the column `source` of `replays` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Quarantine => "quarantine",
        }
    }
}

/// Which events are run again. Every condition must hold.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// From where.
    pub source: ReplaySource,
    /// Only events that belong to this tenant today.
    pub tenant: Option<TenantId>,
    /// Only these reasons; all when empty.
    pub reasons: BTreeSet<String>,
    /// Only this partition.
    pub partition: Option<PartitionId>,
    /// From this sequence number on.
    pub from_sequence: Option<i64>,
    /// Up to this sequence number.
    pub to_sequence: Option<i64>,
    /// Enqueued at this time or later, microseconds since 1970 UTC.
    pub since_us: Option<i64>,
    /// Enqueued before this time, microseconds since 1970 UTC.
    pub until_us: Option<i64>,
    /// Only say what would become of them.
    pub dry_run: bool,
}

impl ReplayOptions {
    /// All events of a table.
    #[must_use]
    pub fn all(source: ReplaySource) -> Self {
        Self {
            source,
            tenant: None,
            reasons: BTreeSet::new(),
            partition: None,
            from_sequence: None,
            to_sequence: None,
            since_us: None,
            until_us: None,
            dry_run: false,
        }
    }

    fn takes(&self, kept: &Kept) -> bool {
        let sequence = kept.event.sequence;
        let at_us = kept.event.enqueued_at_us;
        (self.reasons.is_empty() || self.reasons.contains(&kept.reason))
            && self
                .partition
                .is_none_or(|partition| partition == kept.partition)
            && self.from_sequence.is_none_or(|from| sequence >= from)
            && self.to_sequence.is_none_or(|to| sequence <= to)
            && self.since_us.is_none_or(|since| at_us >= since)
            && self.until_us.is_none_or(|until| at_us < until)
    }

    /// Which files are worth opening.
    fn filter(&self) -> Filter {
        match self.partition {
            Some(partition) => Filter::Sequences {
                partition,
                above: self
                    .from_sequence
                    .map_or(i64::MIN, |from| from.saturating_sub(1)),
                up_to: self.to_sequence.unwrap_or(i64::MAX),
            },
            None => Filter::All,
        }
    }
}

/// What a replay needs besides its configuration.
pub struct ReplayParts {
    /// The stamp's store.
    pub lake: Lake,
    /// The tenants, in the order of the configuration.
    pub tenants: Vec<TenantPlan>,
    /// Of which hub creation the stamp reads now.
    pub identity: HubIdentity,
    /// Where counts go.
    pub metrics: Metrics,
    /// Where the retry layer reports.
    pub observer: Arc<dyn Observer>,
    /// Seed of every pause.
    pub seed: u64,
    /// The wall clock, for the column `replayed_at`.
    pub clock: Clock,
}

/// Why a part of a replay could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A table could not be read, or `replays` not be written.
    #[error("the store of {whose}")]
    Store {
        /// A tenant, or `the stamp`.
        whose: String,
        /// What failed.
        #[source]
        cause: Box<GaveUp<crate::CommitError>>,
    },
    /// Rows could not be committed.
    #[error("writing the tables of {whose}")]
    Commit {
        /// A tenant.
        whose: String,
        /// What failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ReplayError {
    fn commit(whose: &TenantId, cause: CommitFailure) -> Self {
        Self::Commit {
            whose: whose.to_string(),
            cause: Box::new(cause),
        }
    }

    /// Whether it ended because it was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Store { cause, .. } if cause.is_cancelled())
    }
}

/// Runs kept events of one stamp again.
pub struct Replay {
    stamp: StampId,
    identity: HubIdentity,
    directory: Directory,
    targets: Vec<Target>,
    quarantine: Table,
    checkpoints: Checkpoints,
    peer: Peer,
}

impl Replay {
    /// Builds the tables' writers. Makes no request.
    ///
    /// # Errors
    /// [`ConfigError`] naming what cannot be used.
    pub fn open(config: &ConsumerConfig, parts: ReplayParts) -> Result<Self, ConfigError> {
        config.check()?;
        let policy = &config.resilience.store;
        let peer = |name: String, salt: u64| {
            let seed = parts.seed.wrapping_add(salt);
            Peer::new(name.clone(), policy.clone(), seed, parts.observer.clone()).map_err(|cause| {
                ConfigError::value(format!("resilience.{name}"), cause.to_string())
            })
        };
        let cpu = Turns::new(1);
        let windows = config.windows()?;
        let mut targets = Vec::with_capacity(parts.tenants.len());
        for (index, plan) in parts.tenants.iter().enumerate() {
            let peer = peer(format!("store.{}", plan.id), 100 + index as u64)?;
            let quarantine = parts.lake.stamp().quarantine();
            let clock = parts.clock.clone();
            targets.push(Target::new(
                plan,
                quarantine,
                peer,
                windows,
                &cpu,
                &parts.metrics,
                clock,
            ));
        }
        let identity = parts.identity;
        Ok(Self {
            stamp: config.stamp.clone(),
            directory: directory(&parts.tenants, &config.tenancy)?,
            targets,
            quarantine: parts.lake.stamp().quarantine(),
            checkpoints: parts.lake.checkpoints(
                &identity.namespace,
                &identity.hub,
                &config.hub.consumer_group,
            ),
            peer: peer("store".into(), 2)?,
            identity,
        })
    }

    /// Runs the events of `options` again. First it finishes what a replay that was killed has
    /// left half done. One tenant's broken store holds up no other: what could not be done is in
    /// [`ReplayReport::failures`].
    ///
    /// May be dropped at any moment, and run again: nothing is brought in twice.
    ///
    /// # Errors
    /// [`ReplayError`] when the events themselves cannot be read.
    pub async fn run(
        &self,
        options: &ReplayOptions,
        progress: &ReplayProgress,
        cancel: &CancellationToken,
    ) -> Result<ReplayReport, ReplayError> {
        let mut report = ReplayReport::new(options);
        let mut broken = BTreeSet::new();
        for (index, target) in self.chosen(options) {
            if options.dry_run {
                continue;
            }
            match target.finish(&BTreeMap::new(), cancel).await {
                Ok(finished) => report.finished(finished),
                Err(error) => {
                    report.failed(&error);
                    broken.insert(index);
                }
            }
        }
        match options.source {
            ReplaySource::Quarantine => {
                let (table, peer) = (&self.quarantine, &self.peer);
                let mut run = Run::new(self, None, options, broken);
                run.table(table, peer, "the stamp", progress, cancel)
                    .await?;
                run.end(&mut report);
            }
            ReplaySource::Rejected => {
                for (index, target) in self.chosen(options) {
                    if broken.contains(&index) {
                        continue;
                    }
                    let mut run = Run::new(self, Some(index), options, BTreeSet::new());
                    let (table, whose) = (&target.rejected, target.id.as_str());
                    let read = run
                        .table(table, &target.peer, whose, progress, cancel)
                        .await;
                    run.end(&mut report);
                    match read {
                        Err(error) if error.is_cancelled() => return Err(error),
                        Err(error) => report.failed(&error),
                        Ok(()) => {}
                    }
                }
            }
        }
        Ok(report)
    }

    fn chosen(&self, options: &ReplayOptions) -> impl Iterator<Item = (TenantIndex, &Target)> {
        let wanted = options.tenant.clone();
        let all = self.targets.iter().enumerate();
        all.filter(move |(_, target)| wanted.as_ref().is_none_or(|wanted| *wanted == target.id))
    }

    fn app(&self, partition: PartitionId) -> AppId {
        AppId::new(&self.stamp, &self.identity, partition)
    }
}

/// One table on its way through.
struct Run<'a> {
    replay: &'a Replay,
    options: &'a ReplayOptions,
    judge: Judge<'a>,
    /// What of the page at hand is to be brought in, by tenant.
    page: BTreeMap<TenantIndex, Vec<Kept>>,
    page_events: usize,
    page_bytes: usize,
    /// Tenants whose tables cannot be written now.
    broken: BTreeSet<TenantIndex>,
    report: ReplayReport,
}

impl<'a> Run<'a> {
    fn new(
        replay: &'a Replay,
        of: Option<TenantIndex>,
        options: &'a ReplayOptions,
        broken: BTreeSet<TenantIndex>,
    ) -> Self {
        Self {
            replay,
            options,
            judge: Judge::new(replay, of),
            page: BTreeMap::new(),
            page_events: 0,
            page_bytes: 0,
            broken,
            report: ReplayReport::new(options),
        }
    }

    fn end(self, report: &mut ReplayReport) {
        report.add(self.report);
    }

    async fn table(
        &mut self,
        table: &Table,
        peer: &Peer,
        whose: &str,
        progress: &ReplayProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ReplayError> {
        let filter = self.options.filter();
        progress.expect(rows_in(table, peer, whose, &filter, cancel).await?);
        let mut reader = table.reader(&KEPT_COLUMNS, filter);
        while let Some(rows) = pull(&mut reader, table, peer, whose, cancel).await? {
            for row in 0..rows.rows() {
                match Kept::read(self.options.source, &rows, row) {
                    Some(kept) if self.options.takes(&kept) => self.take(kept, cancel).await?,
                    Some(_) => {}
                    None => self.report.unreadable += 1,
                }
            }
            progress.did(rows.rows() as u64);
            if self.page_events >= PAGE_EVENTS_MAX || self.page_bytes >= PAGE_BYTES_MAX {
                self.bring_in(cancel).await?;
            }
        }
        self.bring_in(cancel).await
    }

    async fn take(&mut self, kept: Kept, cancel: &CancellationToken) -> Result<(), ReplayError> {
        if !self.is_asked(&kept) {
            return Ok(());
        }
        self.report.read += 1;
        let verdict = match self.judge.verdict(&kept, cancel).await {
            Ok(verdict) => verdict,
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                self.report.failed(&error);
                self.report.not_done += 1;
                return Ok(());
            }
        };
        match verdict {
            Verdict::BringIn { tenant, .. } if self.broken.contains(&tenant) => {
                self.report.not_done += 1;
            }
            Verdict::BringIn { tenant, outcome } => {
                self.page_events += 1;
                self.page_bytes += kept.event.size();
                let kept = Kept { outcome, ..kept };
                self.page.entry(tenant).or_default().push(kept);
            }
            Verdict::Waiting => self.report.waiting += 1,
            Verdict::Unknown => self.report.not_done += 1,
            Verdict::OtherTenant => self.report.other_tenant += 1,
            Verdict::StillRejected(reason) => {
                *self.report.still_rejected.entry(reason).or_default() += 1;
            }
            Verdict::NoTenant(reason) => {
                *self.report.without_tenant.entry(reason).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Whether it is an event of the tenant that was asked for. In quarantine that is whose it is
    /// today; `rejected` is that tenant's own table.
    fn is_asked(&self, kept: &Kept) -> bool {
        match (&self.options.tenant, self.options.source) {
            (Some(asked), ReplaySource::Quarantine) => {
                match self.replay.directory.route(&kept.event) {
                    Route::Tenant(tenant) => self.replay.targets[tenant].id == *asked,
                    Route::Quarantine { .. } => false,
                }
            }
            _ => true,
        }
    }

    /// Brings in the page, tenant by tenant.
    async fn bring_in(&mut self, cancel: &CancellationToken) -> Result<(), ReplayError> {
        self.page_events = 0;
        self.page_bytes = 0;
        for (tenant, page) in std::mem::take(&mut self.page) {
            let events = page.len() as u64;
            match self.bring_in_of(tenant, page, cancel).await {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => {
                    self.report.failed(&error);
                    self.report.not_done += events;
                    self.broken.insert(tenant);
                }
            }
        }
        Ok(())
    }

    async fn bring_in_of(
        &mut self,
        tenant: TenantIndex,
        page: Vec<Kept>,
        cancel: &CancellationToken,
    ) -> Result<(), ReplayError> {
        let target = &self.replay.targets[tenant];
        let rows = page.len();
        let page: BTreeMap<_, _> = page.into_iter().map(|kept| (kept.key(), kept)).collect();
        // A row that was kept twice is one event.
        self.report.already_there += (rows - page.len()) as u64;
        if !self.options.dry_run {
            target.settle(self.judge.to_settle(tenant), cancel).await?;
        }
        let there = target.assign(&page, self.options.dry_run, cancel).await?;
        if !self.options.dry_run {
            let finished = target.finish(&page, cancel).await?;
            self.report.finished(finished);
        }
        for (key, kept) in &page {
            self.report.brought_in(kept.outcome, there.contains(key));
        }
        Ok(())
    }
}

/// The next run of rows, with retries.
async fn pull(
    reader: &mut RowReader,
    table: &Table,
    peer: &Peer,
    whose: &str,
    cancel: &CancellationToken,
) -> Result<Option<Columns>, ReplayError> {
    let mut tries = peer.begin(idempotent("table.read"), cancel);
    loop {
        let run = tries.attempt(|_| async { reader.next().await.map_err(at(table)) });
        match run.await {
            Ok(Some(run)) => return Ok(run),
            Ok(None) => {}
            Err(cause) => return Err(store(whose, cause)),
        }
    }
}

async fn rows_in(
    table: &Table,
    peer: &Peer,
    whose: &str,
    filter: &Filter,
    cancel: &CancellationToken,
) -> Result<u64, ReplayError> {
    let rows = peer.run(idempotent("table.read"), cancel, |_| async {
        let Some(snapshot) = table.newest().await.map_err(at(table))? else {
            return Ok(0);
        };
        let files = table.files(&snapshot, filter).await.map_err(at(table))?;
        Ok(files.iter().filter_map(|file| file.rows).sum())
    });
    rows.await.map_err(|cause| store(whose, cause))
}

fn at(table: &Table) -> impl Fn(LakeError) -> crate::CommitError {
    |cause| crate::CommitError::Lake {
        table: table.url().to_string(),
        cause,
    }
}

fn store(whose: &str, cause: GaveUp<crate::CommitError>) -> ReplayError {
    ReplayError::Store {
        whose: whose.to_owned(),
        cause: Box::new(cause),
    }
}
