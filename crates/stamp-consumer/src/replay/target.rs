//! One tenant's tables as the goal of a replay.
//!
//! `replays` is a log: each event that is to come in gets the next number, in a compare-and-set
//! commit. The tenant's other tables follow that log with a mark of their own (`replay/v1`), which
//! moves in the commit that holds the rows, as a partition's mark does for what is read from the
//! hub. So every step can be repeated by anybody and adds nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stamp_lake::{EncodeOptions, Filter, LakeError, Snapshot, Table, encode_replays};
use stamp_model::{AppId, Mark, PartitionId, ReplayRow, START, Shape, TenantId};
use stamp_resilience::{Peer, idempotent};
use stamp_rollup::Windows;
use stamp_schema::Schema;
use stamp_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Key, Outcome, partition};
use super::pending::Decided;
use super::{ReplayError, ReplaySource, at, store};
use crate::CommitError;
use crate::commit::{Committed, Committer, Job, Settled};
use crate::consumer::{Clock, TenantPlan};
use crate::parts::{Encode, Part};
use crate::turns::Turns;

/// Most events that are carried out together. With the largest messages that IoT Hub takes this is
/// 256 MiB; with usual ones a megabyte.
const CARRIED_OUT_MAX: usize = 1_000;

/// A tenant's tables.
pub(super) struct Target {
    pub(super) id: TenantId,
    pub(super) schema: Arc<Schema>,
    pub(super) peer: Peer,
    pub(super) readings: Table,
    pub(super) rejected: Table,
    pub(super) quarantine: Table,
    pub(super) windows: Windows,
    /// The fields that rollups are made of.
    pub(super) metrics: Arc<Shape>,
    rollups: Table,
    replays: Table,
    to_readings: Committer,
    to_rollups: Committer,
    to_rejected: Committer,
    clock: Clock,
}

/// What of `replays` was carried out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finished {
    /// Events that another replay had decided on.
    pub(super) of_others: u64,
    /// Events that could not be brought in, because their row is gone or the rules have changed.
    pub(super) not_brought_in: u64,
}

/// How far the tenant's tables follow `replays`.
#[derive(Debug, Clone, Copy)]
struct Followed {
    readings: i64,
    rollups: i64,
}

impl Target {
    pub(super) fn new(
        plan: &TenantPlan,
        quarantine: Table,
        peer: Peer,
        windows: Windows,
        cpu: &Arc<Turns>,
        metrics: &Metrics,
        clock: Clock,
    ) -> Self {
        let root = plan.lake.tenant(&plan.id);
        let shape = plan.schema.shape();
        let (readings, rollups, rejected) = (root.readings(shape), root.rollups(), root.rejected());
        let committer = |name, table: &Table| {
            Committer::new(
                name,
                table.clone(),
                peer.clone(),
                (cpu.clone(), 0),
                metrics.clone(),
            )
        };
        let fields = shape.fields.iter().filter(|field| field.rollup).cloned();
        Self {
            id: plan.id.clone(),
            schema: plan.schema.clone(),
            metrics: Arc::new(Shape {
                fields: fields.collect(),
            }),
            to_readings: committer("readings", &readings),
            to_rollups: committer("rollups", &rollups),
            to_rejected: committer("rejected", &rejected),
            replays: root.replays(),
            readings,
            rollups,
            rejected,
            quarantine,
            windows,
            peer,
            clock,
        }
    }

    /// The tables whose marks say that the service is done with an event.
    pub(super) fn marked(&self) -> Vec<&Table> {
        match self.metrics.fields.as_slice() {
            [] => vec![&self.readings],
            _ => vec![&self.readings, &self.rollups],
        }
    }

    /// Moves the marks of partitions to where the checkpoint says that everything is in some
    /// table. After it nobody can write an event below it but a replay: not an owner of before
    /// that still has it in a buffer. Rollups that lack readings keep their mark: the next start makes
    /// them from the table, without what a replay brought in.
    pub(super) async fn settle(
        &self,
        partitions: Vec<(AppId, i64)>,
        cancel: &CancellationToken,
    ) -> Result<(), ReplayError> {
        for (app, last) in partitions {
            let nothing: Encode = Arc::new(|_| Ok(Vec::new()));
            self.commit(
                &self.to_rejected,
                app.clone(),
                last,
                nothing.clone(),
                cancel,
            )
            .await?;
            let readings = self
                .commit(
                    &self.to_readings,
                    app.clone(),
                    last,
                    nothing.clone(),
                    cancel,
                )
                .await?;
            let job = Job {
                floor: readings.moved.unwrap_or(last),
                unmarked: last,
                ..Self::job(app, last, nothing)
            };
            self.commit_job(&self.to_rollups, job, cancel).await?;
        }
        Ok(())
    }

    async fn commit(
        &self,
        table: &Committer,
        app: AppId,
        last: i64,
        encode: Encode,
        cancel: &CancellationToken,
    ) -> Result<Committed, ReplayError> {
        let job = Self::job(app, last, encode);
        self.commit_job(table, job, cancel).await
    }

    fn job(app: AppId, last: i64, encode: Encode) -> Job {
        Job {
            app,
            last,
            settled: Settled::Mark,
            floor: START,
            unmarked: START,
            part: Part::Own(encode),
        }
    }

    async fn commit_job(
        &self,
        table: &Committer,
        job: Job,
        cancel: &CancellationToken,
    ) -> Result<Committed, ReplayError> {
        let committed = table.commit(job, None, cancel).await;
        committed.map_err(|cause| ReplayError::commit(&self.id, cause))
    }

    /// Gives each event of the page that is neither in the tables nor on its way the next number of
    /// `replays`. Says which were in the tables.
    pub(super) async fn assign(
        &self,
        page: &BTreeMap<Key, Kept>,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<BTreeSet<Key>, ReplayError> {
        let operation = idempotent("replays.append");
        self.peer
            .run(operation, cancel, |_| self.try_assign(page, dry_run))
            .await
            .map_err(|cause| store(self.id.as_str(), cause))
    }

    async fn try_assign(
        &self,
        page: &BTreeMap<Key, Kept>,
        dry_run: bool,
    ) -> Result<BTreeSet<Key>, CommitError> {
        // The order matters: what is committed after the first line makes the append fail, and
        // what the marks cover is seen by the lookups after them.
        let snapshot = if dry_run {
            self.replays.newest().await.map_err(at(&self.replays))?
        } else {
            Some(self.replays.load().await.map_err(at(&self.replays))?)
        };
        let recorded = self.recorded(page).await?;
        let followed = self.followed().await?;
        let there = self.there(page).await?;
        let is_new = |key: &Key| {
            // A number that the tables have passed without the event did not bring it in.
            let on_its_way = recorded
                .get(key)
                .is_some_and(|&number| number > followed.readings);
            !there.contains(key) && !on_its_way
        };
        let mut new = page.values().filter(|kept| is_new(&kept.key())).peekable();
        if let Some(snapshot) = snapshot.filter(|_| !dry_run && new.peek().is_some()) {
            self.append(&snapshot, new).await?;
        }
        Ok(there)
    }

    async fn append(
        &self,
        snapshot: &Snapshot,
        new: impl Iterator<Item = &Kept>,
    ) -> Result<(), CommitError> {
        let replayed_at_us = (self.clock)();
        let mut last = snapshot.mark(&AppId::replay()).unwrap_or(0);
        let mut by_partition: BTreeMap<PartitionId, Vec<ReplayRow>> = BTreeMap::new();
        for kept in new {
            last += 1;
            by_partition
                .entry(kept.partition)
                .or_default()
                .push(ReplayRow {
                    number: last,
                    source: kept.source.name(),
                    reason: kept.reason.clone(),
                    partition: kept.partition,
                    sequence: kept.event.sequence,
                    enqueued_at_us: kept.event.enqueued_at_us,
                    outcome: kept.outcome.name(),
                    replayed_at_us,
                });
        }
        let mut files = Vec::new();
        for rows in by_partition.values() {
            let encoded = encode_replays(rows, &EncodeOptions::default());
            for file in encoded.map_err(at(&self.replays))? {
                files.push(self.replays.put(&file).await.map_err(at(&self.replays))?);
            }
        }
        let mark = Mark {
            app: AppId::replay(),
            sequence: last,
        };
        let appended = self.replays.append(snapshot, files, &[mark]).await;
        appended.map(drop).map_err(at(&self.replays))
    }

    /// The latest number in `replays` of each event of the page that is there.
    async fn recorded(
        &self,
        page: &BTreeMap<Key, Kept>,
    ) -> Result<BTreeMap<Key, i64>, CommitError> {
        let mut recorded = BTreeMap::new();
        let columns = ["partition", "sequence", "enqueued_at", "number"];
        each_range(page.keys(), async |filter| {
            let scanned = self.replays.scan_where(&columns, filter, |rows| {
                for row in 0..rows.rows() {
                    let number = rows.i64(3, row).unwrap_or(i64::MAX);
                    if let Some(key) = key_in(rows, row).filter(|key| page.contains_key(key)) {
                        let latest = recorded.entry(key).or_insert(number);
                        *latest = number.max(*latest);
                    }
                }
            });
            scanned.await.map_err(at(&self.replays))
        })
        .await?;
        Ok(recorded)
    }

    /// The events of the page that are in `readings`, or in `rejected` when they belong there.
    async fn there(&self, page: &BTreeMap<Key, Kept>) -> Result<BTreeSet<Key>, CommitError> {
        let mut there = keys_in(&self.readings, page.keys()).await?;
        let refused = page
            .iter()
            .filter(|(_, kept)| kept.outcome == Outcome::Rejected);
        let refused: BTreeSet<Key> = refused.map(|(&key, _)| key).collect();
        there.extend(keys_in(&self.rejected, refused.iter()).await?);
        Ok(there)
    }

    async fn followed(&self) -> Result<Followed, CommitError> {
        let mark = async |table: &Table| {
            let snapshot = table.newest().await.map_err(at(table))?;
            let mark = snapshot.and_then(|snapshot| snapshot.mark(&AppId::replay()));
            Ok::<_, CommitError>(mark.unwrap_or(0))
        };
        let readings = mark(&self.readings).await?;
        let rollups = if self.metrics.fields.is_empty() {
            readings
        } else {
            mark(&self.rollups).await?
        };
        Ok(Followed { readings, rollups })
    }

    /// Carries out all of `replays` that the tables do not follow yet, whoever decided it. `page`
    /// saves reading again what is in memory.
    pub(super) async fn finish(
        &self,
        page: &BTreeMap<Key, Kept>,
        cancel: &CancellationToken,
    ) -> Result<Finished, ReplayError> {
        let mut finished = Finished::default();
        loop {
            let pending = self
                .peer
                .run(idempotent("replays.read"), cancel, |_| self.pending())
                .await
                .map_err(|cause| store(self.id.as_str(), cause))?;
            let (followed, rows) = pending;
            let Some(last) = rows.last().map(|row| row.number) else {
                return Ok(finished);
            };
            let others = rows.iter().filter(|row| !page.contains_key(&row.key));
            finished.of_others += others.count() as u64;
            if last > followed.readings {
                finished.not_brought_in += self.write_tables(&rows, followed, page, cancel).await?;
            }
            if !self.metrics.fields.is_empty() {
                self.write_rollups(&rows, last, cancel).await?;
            }
        }
    }

    /// The next numbers that the tables do not follow yet, ascending.
    async fn pending(&self) -> Result<(Followed, Vec<Decided>), CommitError> {
        let followed = self.followed().await?;
        let above = followed.readings.min(followed.rollups);
        let mut rows: BTreeMap<i64, Decided> = BTreeMap::new();
        let filter = Filter::NumbersAbove(above);
        let columns = ["partition", "sequence", "enqueued_at", "number", "source"];
        let scanned = self.replays.scan_where(&columns, &filter, |found| {
            for row in 0..found.rows() {
                let number = found.i64(3, row).unwrap_or(0);
                let source = match found.text(4, row) {
                    Some("quarantine") => ReplaySource::Quarantine,
                    _ => ReplaySource::Rejected,
                };
                if let Some(key) = key_in(found, row).filter(|_| number > above) {
                    rows.insert(
                        number,
                        Decided {
                            number,
                            source,
                            key,
                        },
                    );
                    if rows.len() > CARRIED_OUT_MAX {
                        rows.pop_last();
                    }
                }
            }
        });
        scanned.await.map_err(at(&self.replays))?;
        Ok((followed, rows.into_values().collect()))
    }

    /// Into `rejected`, then `readings`: a mark of `readings` says that the other one is done.
    async fn write_tables(
        &self,
        rows: &[Decided],
        followed: Followed,
        page: &BTreeMap<Key, Kept>,
        cancel: &CancellationToken,
    ) -> Result<u64, ReplayError> {
        let open = rows.iter().filter(|row| row.number > followed.readings);
        let open: Vec<Decided> = open.cloned().collect();
        let Some(last) = open.last().map(|row| row.number) else {
            return Ok(0);
        };
        let events = Arc::new(self.events(&open, page, cancel).await?);
        let brought_in = events
            .iter()
            .filter(|event| event.can_be_brought_in(self))
            .count();
        let app = AppId::replay();
        if events
            .iter()
            .any(|event| event.source == ReplaySource::Quarantine)
        {
            let encode = self.encode_rejected(&events);
            self.commit(&self.to_rejected, app.clone(), last, encode, cancel)
                .await?;
        }
        let encode = self.encode_readings(&events);
        self.commit(&self.to_readings, app, last, encode, cancel)
            .await?;
        Ok((open.len() - brought_in) as u64)
    }

    /// Partials of the rows as they are in `readings`: whatever the rules were when they came in.
    async fn write_rollups(
        &self,
        rows: &[Decided],
        last: i64,
        cancel: &CancellationToken,
    ) -> Result<(), ReplayError> {
        let read = self
            .peer
            .run(idempotent("table.read"), cancel, |_| self.read_back(rows));
        let read = read.await.map_err(|cause| store(self.id.as_str(), cause))?;
        let encode = self.encode_rollups(read);
        self.commit(&self.to_rollups, AppId::replay(), last, encode, cancel)
            .await?;
        Ok(())
    }
}

/// The keys that a table has of those asked for.
pub(super) async fn keys_in(
    table: &Table,
    keys: impl Iterator<Item = &Key> + Clone,
) -> Result<BTreeSet<Key>, CommitError> {
    let asked: BTreeSet<Key> = keys.clone().copied().collect();
    let mut found = BTreeSet::new();
    each_range(keys, async |filter| {
        let columns = ["partition", "sequence", "enqueued_at"];
        let scanned = table.scan_where(&columns, filter, |rows| {
            let keys = (0..rows.rows()).filter_map(|row| key_in(rows, row));
            found.extend(keys.filter(|key| asked.contains(key)));
        });
        scanned.await.map_err(at(table))
    })
    .await?;
    Ok(found)
}

/// The key in a row whose first three columns are partition, sequence and enqueued time.
pub(super) fn key_in(rows: &stamp_lake::Columns, row: usize) -> Option<Key> {
    Some(Key {
        partition: partition(rows.i64(0, row)?)?,
        sequence: rows.i64(1, row)?,
        enqueued_at_us: rows.timestamp_us(2, row)?,
    })
}

/// Calls `visit` once for each partition, with the range that its keys span.
pub(super) async fn each_range<'k, E>(
    keys: impl Iterator<Item = &'k Key>,
    mut visit: impl AsyncFnMut(&Filter) -> Result<(), E>,
) -> Result<(), E> {
    let mut ranges: BTreeMap<PartitionId, (i64, i64)> = BTreeMap::new();
    for key in keys {
        let range = ranges
            .entry(key.partition)
            .or_insert((key.sequence, key.sequence));
        *range = (range.0.min(key.sequence), range.1.max(key.sequence));
    }
    for (partition, (first, last)) in ranges {
        let filter = Filter::Sequences {
            partition,
            above: first - 1,
            up_to: last,
        };
        visit(&filter).await?;
    }
    Ok(())
}

/// What encoders of a replay give.
pub(super) type Files = Result<Vec<stamp_lake::EncodedFile>, LakeError>;
