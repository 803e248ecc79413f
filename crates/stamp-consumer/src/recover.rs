//! What a tenant's tables have of a partition above its start, and rollups brought up to readings.
//!
//! Between a crash and a restart the schema, the directory or the hub's retention may have changed,
//! so decoding the events again does not tell what became of them: the tables do. What is in any
//! of them is settled, whatever the rules say today; and rollups that a crash left behind, or
//! two owners at once, are made of the rows in `readings` and not of the events, which may be gone
//! or were judged differently by the two.

use std::sync::Arc;

use stamp_lake::{LakeError, ReadingsPage, SequenceRange, Table};
use stamp_model::{AppId, PartitionId, START, Sequences, Shape};
use stamp_resilience::{GaveUp, idempotent};
use tokio_util::sync::CancellationToken;

use crate::commit::{CommitFailure, Committed};
use crate::flush::Sink;
use crate::memory::{Charge, MemoryAccount};
use crate::shared::Tenant;

/// Rows that are rolled up in one commit, by a tenant at a time: some megabytes.
const PAGE_ROWS: usize = 16_384;

/// What was found out.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// In the tenant's `readings` or `rejected` already, of the events above the start.
    pub settled: Sequences,
    /// The mark of `readings`: no event at or below it can become a reading any more.
    pub behind: i64,
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The tables did not say what they have.
    #[error("reading the tables back")]
    Read(#[source] GaveUp<LakeError>),
    /// The rollups could not be brought up to the readings.
    #[error("rolling up what is in the readings")]
    RollUp(#[source] CommitFailure),
    /// The process ends.
    #[error("the recovery was abandoned")]
    Abandoned,
}

/// The marks of a tenant's tables, [`START`] where there is none.
struct Marks {
    readings: i64,
    rollups: i64,
    settled: Sequences,
}

/// Asks the tables of `tenant` about the events of a partition above `above`, and rolls up the
/// readings that the rollups lack. Doing it again adds nothing twice.
///
/// # Errors
/// What the retry layer gave up with; then nothing is known about the tenant's events.
pub(crate) async fn recover(
    tenant: &Tenant,
    partition: PartitionId,
    app: &AppId,
    above: i64,
    account: &MemoryAccount,
    cancel: &CancellationToken,
) -> Result<Recovered, RecoverError> {
    let found = tenant
        .peer
        .run(idempotent("tables.recover"), cancel, |_| {
            look(tenant, partition, app, above)
        })
        .await
        .map_err(RecoverError::Read)?;
    let shape = tenant.sink.metrics();
    let range = SequenceRange {
        partition,
        above: rolled_up(found.rollups, above),
        up_to: found.readings,
        since_us: app.hub_created_at_us(),
    };
    if range.above < range.up_to && !shape.fields.is_empty() {
        let made = roll_forward(tenant, app, &shape, range, account, cancel).await?;
        tracing::warn!(tenant = %tenant.id, app = %app, above = range.above, up_to = range.up_to, rollups = made.rows, "rollups were behind their readings, rolled forward");
    }
    Ok(Recovered {
        settled: found.settled,
        behind: found.readings,
    })
}

/// Up to where rollups are complete: their mark, which may be below the checkpoint. An owner that was
/// late may have written readings of events that the one after it judged differently and passed.
/// Rollups that begin now, because a schema got its first metric, begin at the checkpoint.
fn rolled_up(mark: i64, start: i64) -> i64 {
    if mark == START { start } else { mark }
}

/// Rolls up what `readings` has of a partition above `start` and up to `up_to`, and `rollups` lacks.
/// `readings` must have a mark of `up_to` or higher. Doing it again adds nothing twice.
///
/// # Errors
/// What the retry layer gave up with.
pub(crate) async fn catch_up(
    tenant: &Tenant,
    app: &AppId,
    (partition, start, up_to): (PartitionId, i64, i64),
    account: &MemoryAccount,
    cancel: &CancellationToken,
) -> Result<Committed, RecoverError> {
    let [_, rollups, _] = &tenant.tables;
    let found = tenant
        .peer
        .run(idempotent("rollups.mark"), cancel, |_| mark(rollups, app))
        .await
        .map_err(RecoverError::Read)?;
    let range = SequenceRange {
        partition,
        above: rolled_up(found, start),
        up_to,
        since_us: app.hub_created_at_us(),
    };
    if range.above >= range.up_to {
        return Ok(Committed::default());
    }
    let shape = tenant.sink.metrics();
    roll_forward(tenant, app, &shape, range, account, cancel).await
}

/// One attempt. `readings` is asked for its mark before `rejected` is asked for its rows: a flush
/// writes them the other way round, so that nothing below the mark is missed.
async fn look(
    tenant: &Tenant,
    partition: PartitionId,
    app: &AppId,
    above: i64,
) -> Result<Marks, LakeError> {
    let [readings, rollups, rejected] = &tenant.tables;
    let since_us = app.hub_created_at_us();
    let mut found = Marks {
        readings: mark(readings, app).await?,
        rollups: mark(rollups, app).await?,
        settled: Sequences::default(),
    };
    for (table, up_to) in [
        (readings, found.readings),
        (rejected, mark(rejected, app).await?),
    ] {
        if up_to > above {
            let rows = table
                .sequences_since(partition, above, up_to, since_us)
                .await?;
            found.settled.union(&rows);
        }
    }
    Ok(found)
}

async fn mark(table: &Table, app: &AppId) -> Result<i64, LakeError> {
    let newest = table.newest().await?;
    Ok(newest
        .and_then(|snapshot| snapshot.mark(app))
        .unwrap_or(START))
}

/// Page by page, each one a commit with its own mark, so that a kill between them costs nothing.
async fn roll_forward(
    tenant: &Tenant,
    app: &AppId,
    shape: &Shape,
    mut range: SequenceRange,
    account: &MemoryAccount,
    cancel: &CancellationToken,
) -> Result<Committed, RecoverError> {
    // What a replay brought in is rolled up by the replay.
    let SequenceRange {
        partition,
        above,
        up_to,
        since_us,
    } = range;
    let replayed = tenant
        .peer
        .run(idempotent("replays.read"), cancel, |_| {
            tenant
                .replays
                .sequences_since(partition, above, up_to, since_us)
        })
        .await
        .map_err(RecoverError::Read)?;
    let replayed = Arc::new(replayed);
    // One page of a tenant at a time, whatever partitions start together.
    let turn = tenant.rolling_forward.acquire().await;
    let _turn = turn.map_err(|_closed| RecoverError::Abandoned)?;
    let (readings, sink): (&Table, &Arc<Sink>) = (&tenant.tables[0], &tenant.sink);
    let mut made = Committed::default();
    while range.above < range.up_to {
        let page: ReadingsPage = tenant
            .peer
            .run(idempotent("readings.read"), cancel, |_| {
                readings.readings_between(shape, range, PAGE_ROWS)
            })
            .await
            .map_err(RecoverError::Read)?;
        range.above = page.through;
        let mut charge = Charge::none(account);
        charge.set(page.readings.heap_bytes() * 2);
        let committed = sink.roll_up(app, page, replayed.clone(), cancel).await;
        let committed = committed.map_err(RecoverError::RollUp)?;
        made.rows += committed.rows;
        made.bytes += committed.bytes;
    }
    Ok(made)
}
