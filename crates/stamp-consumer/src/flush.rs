//! One sealed batch to its tables, in an order that never lets a later table be ahead.
//!
//! `rejected` before `readings` before `rollups`: when a mark of `readings` covers an event, every
//! table before it is settled for that event too.

use std::sync::{Arc, OnceLock};

use stamp_lake::{
    EncodeOptions, LakeError, RawKind, encode_gaps, encode_raw, encode_readings, encode_rollups,
};
use stamp_model::{Readings, Shape};
use stamp_rollup::{Windows, partials, sorted_rows};
use tokio_util::sync::CancellationToken;

use crate::buffer::Sealed;
use crate::commit::{CommitFailure, Committed, Committer, Job};

/// What a flush wrote, per table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Rows of `readings`.
    pub readings: Committed,
    /// Rows of `rollups`.
    pub rollups: Committed,
    /// Rows of `rejected` or `quarantine`.
    pub raw: Committed,
    /// Rows of `gaps`.
    pub gaps: Committed,
}

/// Where the rows of one lane go.
pub(crate) enum Sink {
    /// A tenant's three tables.
    Tenant {
        /// The tenant's fields.
        shape: Arc<Shape>,
        /// Of its rollups.
        windows: Windows,
        /// `{root}/{tenant}/readings`
        readings: Committer,
        /// `{root}/{tenant}/rollups`
        rollups: Committer,
        /// `{root}/{tenant}/rejected`
        rejected: Committer,
    },
    /// The stamp's own tables.
    Stamp {
        /// Events that belong to no tenant.
        quarantine: Committer,
        /// Sequence numbers that were lost.
        gaps: Committer,
    },
}

impl Sink {
    /// Writes a sealed batch. Calling it again with the same batch adds nothing twice.
    ///
    /// # Errors
    /// The first table's failure; tables after it were not touched by this call.
    pub(crate) async fn flush(
        &self,
        sealed: &Arc<Sealed>,
        cancel: &CancellationToken,
    ) -> Result<Flushed, CommitFailure> {
        match self {
            Self::Tenant {
                shape,
                windows,
                readings,
                rollups,
                rejected,
            } => {
                let raw = flush_raw(rejected, sealed, RawKind::Rejected, cancel).await?;
                let order = Arc::new(OnceLock::new());
                let readings = match readings_job(sealed, shape, &order) {
                    Some(job) => readings.commit(job, cancel).await?,
                    None => Committed::default(),
                };
                let rollups = match rollups_job(sealed, shape, *windows, &order) {
                    Some(job) => rollups.commit(job, cancel).await?,
                    None => Committed::default(),
                };
                Ok(Flushed {
                    readings,
                    rollups,
                    raw,
                    gaps: Committed::default(),
                })
            }
            Self::Stamp { quarantine, gaps } => {
                let gaps = match gaps_job(sealed) {
                    Some(job) => gaps.commit(job, cancel).await?,
                    None => Committed::default(),
                };
                let raw = flush_raw(quarantine, sealed, RawKind::Quarantine, cancel).await?;
                Ok(Flushed {
                    raw,
                    gaps,
                    ..Flushed::default()
                })
            }
        }
    }
}

/// The sorted order of the rows above one mark, shared by the two tables made of them.
type Order = Arc<OnceLock<(i64, Vec<u32>)>>;

fn with_order<T>(
    order: &Order,
    readings: &Readings,
    above: i64,
    then: impl FnOnce(&[u32]) -> T,
) -> T {
    let (shared_above, shared) = order.get_or_init(|| (above, sorted_rows(readings, above)));
    if *shared_above == above {
        then(shared)
    } else {
        then(&sorted_rows(readings, above))
    }
}

fn readings_job(sealed: &Arc<Sealed>, shape: &Arc<Shape>, order: &Order) -> Option<Job> {
    let rows = |sealed: &Arc<Sealed>| sealed.rows.readings.as_ref().is_some_and(|r| !r.is_empty());
    let (batch, shape, order) = (sealed.clone(), shape.clone(), order.clone());
    rows(sealed).then(|| {
        job(sealed, move |above| {
            let Some(readings) = &batch.rows.readings else {
                return Ok(Vec::new());
            };
            with_order(&order, readings, above, |rows| {
                encode_readings(&shape, readings, rows, &EncodeOptions::default())
            })
        })
    })
}

fn rollups_job(
    sealed: &Arc<Sealed>,
    shape: &Arc<Shape>,
    windows: Windows,
    order: &Order,
) -> Option<Job> {
    let has_metrics = shape.fields.iter().any(|field| field.rollup);
    let rows = sealed
        .rows
        .readings
        .as_ref()
        .is_some_and(|readings| !readings.is_empty());
    let (batch, shape, order) = (sealed.clone(), shape.clone(), order.clone());
    (rows && has_metrics).then(|| {
        job(sealed, move |above| {
            let Some(readings) = &batch.rows.readings else {
                return Ok(Vec::new());
            };
            let rollups = with_order(&order, readings, above, |rows| {
                partials(readings, &shape, rows, &windows)
            });
            encode_rollups(&rollups, &EncodeOptions::default())
        })
    })
}

async fn flush_raw(
    table: &Committer,
    sealed: &Arc<Sealed>,
    kind: RawKind,
    cancel: &CancellationToken,
) -> Result<Committed, CommitFailure> {
    if sealed.rows.raw.is_empty() {
        return Ok(Committed::default());
    }
    let batch = sealed.clone();
    let job = job(sealed, move |above| {
        let rows = &batch.rows.raw;
        let rows = &rows[rows.partition_point(|row| row.sequence <= above)..];
        encode_raw(rows, kind, &EncodeOptions::default())
    });
    table.commit(job, cancel).await
}

fn gaps_job(sealed: &Arc<Sealed>) -> Option<Job> {
    if sealed.rows.gaps.is_empty() {
        return None;
    }
    let batch = sealed.clone();
    Some(job(sealed, move |above| {
        let rows = &batch.rows.gaps;
        let rows = &rows[rows.partition_point(|row| row.sequence_last <= above)..];
        encode_gaps(rows, &EncodeOptions::default())
    }))
}

fn job(
    sealed: &Arc<Sealed>,
    encode: impl Fn(i64) -> Result<Vec<stamp_lake::EncodedFile>, LakeError> + Send + Sync + 'static,
) -> Job {
    Job {
        app: sealed.app.clone(),
        last: sealed.last,
        encode: Arc::new(encode),
    }
}
