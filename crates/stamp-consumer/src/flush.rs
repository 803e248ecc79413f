//! One sealed batch to its tables, in an order that never lets a later table be ahead.
//!
//! `rejected` before `readings` before `rollups`: when a mark of `readings` covers an event, every
//! table before it is settled for that event too.
//!
//! A batch makes the partials of its own rows only where `readings` surely has these rows and no
//! others. Another owner of the partition may have judged an event differently; then the partials
//! are to be made from the table.

use std::sync::{Arc, OnceLock};

use stamp_lake::{
    EncodeOptions, LakeError, RawKind, ReadingsPage, encode_gaps, encode_raw, encode_readings,
    encode_rollups,
};
use stamp_model::{AppId, GapRow, RawRow, Readings, START, Sequences, Shape};
use stamp_rollup::{Windows, partials, sorted_rows};
use tokio_util::sync::CancellationToken;

use crate::buffer::Sealed;
use crate::commit::{CommitFailure, Committed, Committer, Job, Known, Settled};

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
    /// `readings` may have other rows than the batch, or more than `rollups` was made of: the
    /// partials up to the batch's end were left out and must be made from the table.
    pub must_roll_forward: bool,
}

impl Flushed {
    /// Rows that were written, by table.
    pub(crate) fn rows(&self) -> [(&'static str, u64); 4] {
        [
            ("readings", self.readings.rows),
            ("rollups", self.rollups.rows),
            ("raw", self.raw.rows),
            ("gaps", self.gaps.rows),
        ]
    }
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
    /// Who writes its tables.
    pub(crate) fn committers(&self) -> Vec<&Committer> {
        match self {
            Self::Tenant {
                readings,
                rollups,
                rejected,
                ..
            } => vec![readings, rollups, rejected],
            Self::Stamp { quarantine, gaps } => vec![quarantine, gaps],
        }
    }

    /// Writes a sealed batch of a worker for which everything up to `start` was in the tables when
    /// it began. Calling it again with the same batch adds nothing twice.
    ///
    /// # Errors
    /// The first table's failure; tables after it were not touched by this call.
    pub(crate) async fn flush(
        &self,
        sealed: &Arc<Sealed>,
        start: i64,
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
                let mut flushed = Flushed {
                    raw,
                    readings,
                    ..Flushed::default()
                };
                if let Some(job) = rollups_job(sealed, shape, *windows, &order) {
                    match readings.moved {
                        Some(mark) => {
                            let job = Job {
                                floor: mark,
                                unmarked: start,
                                ..job
                            };
                            flushed.rollups = rollups.commit(job, cancel).await?;
                            flushed.must_roll_forward = flushed.rollups.is_below_floor;
                        }
                        None => flushed.must_roll_forward = true,
                    }
                }
                Ok(flushed)
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

impl Sink {
    /// The fields that rollups are made of; empty for the stamp's own tables.
    pub(crate) fn metrics(&self) -> Shape {
        match self {
            Self::Tenant { shape, .. } => Shape {
                fields: shape.fields.iter().filter(|f| f.rollup).cloned().collect(),
            },
            Self::Stamp { .. } => Shape::default(),
        }
    }

    /// Commits the partials of a page of `readings` to `rollups`, as the flush that wrote the rows
    /// would have done; `without` the events that a replay rolls up. `page` has the columns of
    /// [`Self::metrics`]. Calling it again adds nothing
    /// twice.
    ///
    /// # Errors
    /// What the commit gave up with.
    pub(crate) async fn roll_up(
        &self,
        app: &AppId,
        page: ReadingsPage,
        without: Arc<Sequences>,
        cancel: &CancellationToken,
    ) -> Result<Committed, CommitFailure> {
        match self {
            Self::Tenant {
                windows, rollups, ..
            } => {
                let job = page_job(app, page, without, self.metrics(), *windows);
                rollups.commit(job, cancel).await
            }
            Self::Stamp { .. } => Ok(Committed::default()),
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
        job_by_mark(sealed, move |above| {
            let Some(readings) = &batch.rows.readings else {
                return Ok(Vec::new());
            };
            with_order(&order, readings, above, |rows| {
                encode_readings(&shape, readings, rows, &EncodeOptions::default())
            })
        })
    })
}

/// The job of one page of rows that are in `readings` and not in `rollups`.
fn page_job(
    app: &AppId,
    page: ReadingsPage,
    without: Arc<Sequences>,
    shape: Shape,
    windows: Windows,
) -> Job {
    let last = page.through;
    let encode = move |known: &Known| match known {
        Known::UpTo(mark) => {
            let mut order = sorted_rows(&page.readings, *mark);
            order.retain(|&row| !without.contains(page.readings.sequence[row as usize]));
            let rollups = partials(&page.readings, &shape, &order, &windows);
            encode_rollups(&rollups, &EncodeOptions::default())
        }
        Known::Rows(_) | Known::Ranges(_) => Ok(Vec::new()),
    };
    Job {
        app: app.clone(),
        last,
        settled: Settled::Mark,
        floor: START,
        unmarked: START,
        encode: Arc::new(encode),
    }
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
        job_by_mark(sealed, move |above| {
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
    let Some(first) = sealed.rows.raw.first() else {
        return Ok(Committed::default());
    };
    let settled = Settled::Rows(first.partition, first.sequence);
    let batch = sealed.clone();
    let encode = move |known: &Known| {
        let rows = &batch.rows.raw;
        match known {
            Known::Rows(there) if there.is_empty() => {
                encode_raw(rows, kind, &EncodeOptions::default())
            }
            Known::Rows(there) => {
                let missing = rows.iter().filter(|row| !there.contains(row.sequence));
                let missing: Vec<RawRow> = missing.cloned().collect();
                encode_raw(&missing, kind, &EncodeOptions::default())
            }
            Known::UpTo(_) | Known::Ranges(_) => Ok(Vec::new()),
        }
    };
    table.commit(job(sealed, settled, encode), cancel).await
}

fn gaps_job(sealed: &Arc<Sealed>) -> Option<Job> {
    if sealed.rows.gaps.is_empty() {
        return None;
    }
    let batch = sealed.clone();
    let partition = batch.rows.gaps.first()?.partition;
    let encode = move |known: &Known| {
        let Known::Ranges(recorded) = known else {
            return Ok(Vec::new());
        };
        let rows = batch.rows.gaps.iter();
        let rows: Vec<GapRow> = rows.flat_map(|row| unrecorded(row, recorded)).collect();
        encode_gaps(&rows, &EncodeOptions::default())
    };
    Some(job(sealed, Settled::Ranges(partition), encode))
}

/// The parts of a loss that no recorded range covers. `recorded` ascends.
fn unrecorded(row: &GapRow, recorded: &[(i64, i64)]) -> Vec<GapRow> {
    let mut parts = Vec::new();
    let mut next = row.sequence_first;
    let part = |first, last| GapRow {
        sequence_first: first,
        sequence_last: last,
        ..row.clone()
    };
    for &(first, last) in recorded {
        if first > row.sequence_last {
            break;
        }
        if first > next {
            parts.push(part(next, first - 1));
        }
        next = next.max(last + 1);
    }
    if next <= row.sequence_last {
        parts.push(part(next, row.sequence_last));
    }
    parts
}

fn job(
    sealed: &Arc<Sealed>,
    settled: Settled,
    encode: impl Fn(&Known) -> Result<Vec<stamp_lake::EncodedFile>, LakeError> + Send + Sync + 'static,
) -> Job {
    Job {
        app: sealed.app.clone(),
        last: sealed.last,
        settled,
        floor: START,
        unmarked: START,
        encode: Arc::new(encode),
    }
}

/// A job whose rows are settled by the table's mark.
fn job_by_mark(
    sealed: &Arc<Sealed>,
    encode: impl Fn(i64) -> Result<Vec<stamp_lake::EncodedFile>, LakeError> + Send + Sync + 'static,
) -> Job {
    job(sealed, Settled::Mark, move |known| match known {
        Known::UpTo(mark) => encode(*mark),
        Known::Rows(_) | Known::Ranges(_) => Ok(Vec::new()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parts_of_a_loss_that_are_not_recorded_are_left() {
        let row = GapRow {
            partition: stamp_model::PartitionId::new(0).unwrap(),
            sequence_first: 10,
            sequence_last: 19,
            next_enqueued_at_us: 0,
            reason: "retention",
        };
        for (recorded, left) in [
            (vec![], vec![(10, 19)]),
            (vec![(15, 19)], vec![(10, 14)]),
            (vec![(0, 9), (12, 13), (30, 40)], vec![(10, 11), (14, 19)]),
            (vec![(5, 25)], vec![]),
            (vec![(10, 15), (12, 19)], vec![]),
        ] {
            let parts = unrecorded(&row, &recorded);
            let parts: Vec<_> = parts
                .iter()
                .map(|p| (p.sequence_first, p.sequence_last))
                .collect();
            assert_eq!(parts, left, "{recorded:?}");
        }
    }
}
