//! One sealed batch to its tables, in an order that never lets a later table be ahead.
//!
//! `rejected` before `readings` before `rollups`: when a mark of `readings` covers an event, every
//! table before it is settled for that event too.
//!
//! A batch makes the partials of its own rows only where `readings` surely has these rows and no
//! others. Another owner of the partition may have judged an event differently; then the partials
//! are to be made from the table.

use std::sync::Arc;

use stamp_lake::{EncodeOptions, RawKind, ReadingsPage, encode_rollups};
use stamp_model::{AppId, START, Sequences, Shape};
use stamp_rollup::{Windows, partials, sorted_rows};
use tokio_util::sync::CancellationToken;

use crate::buffer::Sealed;
use crate::commit::{CommitFailure, Committed, Committer, Job, Settled};
use crate::muster::{Coming, GAPS, RAW, READINGS, ROLLUPS};
use crate::parts::{Known, Order, Part};

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
    /// it began. Calling it again with the same batch adds nothing twice. With `coming` the batches of
    /// other partitions are waited for.
    ///
    /// # Errors
    /// The first table's failure; tables after it were not touched by this call.
    pub(crate) async fn flush(
        &self,
        sealed: &Arc<Sealed>,
        start: i64,
        mut coming: Option<Coming>,
        cancel: &CancellationToken,
    ) -> Result<Flushed, CommitFailure> {
        let coming = &mut coming;
        match self {
            Self::Tenant {
                shape,
                windows,
                readings,
                rollups,
                rejected,
            } => {
                let raw = flush_raw(rejected, sealed, RawKind::Rejected, coming, cancel).await?;
                let mut flushed = Flushed {
                    raw,
                    ..Flushed::default()
                };
                if !has_readings(sealed) {
                    return Ok(flushed);
                }
                let order = Order::default();
                let part = Part::Readings(sealed.clone(), shape.clone(), order.clone());
                let job_of = |part| job(sealed, Settled::Mark, part);
                flushed.readings = readings
                    .commit(job_of(part), at(coming, READINGS), cancel)
                    .await?;
                if !has_metrics(shape) {
                    return Ok(flushed);
                }
                match flushed.readings.moved {
                    Some(mark) => {
                        let part = Part::Rollups(sealed.clone(), shape.clone(), *windows, order);
                        let job = Job {
                            floor: mark,
                            unmarked: start,
                            ..job_of(part)
                        };
                        flushed.rollups = rollups.commit(job, at(coming, ROLLUPS), cancel).await?;
                        flushed.must_roll_forward = flushed.rollups.is_below_floor;
                    }
                    None => flushed.must_roll_forward = true,
                }
                Ok(flushed)
            }
            Self::Stamp { quarantine, gaps } => {
                let gaps = match sealed.rows.gaps.first() {
                    Some(first) => {
                        let settled = Settled::Ranges(first.partition);
                        let job = job(sealed, settled, Part::Gaps(sealed.clone()));
                        gaps.commit(job, at(coming, GAPS), cancel).await?
                    }
                    None => Committed::default(),
                };
                let kind = RawKind::Quarantine;
                let raw = flush_raw(quarantine, sealed, kind, coming, cancel).await?;
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
                rollups.commit(job, None, cancel).await
            }
            Self::Stamp { .. } => Ok(Committed::default()),
        }
    }
}

fn at(coming: &mut Option<Coming>, table: usize) -> Option<(&mut Coming, usize)> {
    coming.as_mut().map(|coming| (coming, table))
}

fn has_readings(sealed: &Sealed) -> bool {
    let readings = sealed.rows.readings.as_ref();
    readings.is_some_and(|readings| !readings.is_empty())
}

fn has_metrics(shape: &Shape) -> bool {
    shape.fields.iter().any(|field| field.rollup)
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
        part: Part::Own(Arc::new(encode)),
    }
}

async fn flush_raw(
    table: &Committer,
    sealed: &Arc<Sealed>,
    kind: RawKind,
    coming: &mut Option<Coming>,
    cancel: &CancellationToken,
) -> Result<Committed, CommitFailure> {
    let Some(first) = sealed.rows.raw.first() else {
        return Ok(Committed::default());
    };
    let settled = Settled::Rows(first.partition, first.sequence);
    let part = Part::Raw(sealed.clone(), kind);
    let job = job(sealed, settled, part);
    table.commit(job, at(coming, RAW), cancel).await
}

fn job(sealed: &Sealed, settled: Settled, part: Part) -> Job {
    Job {
        app: sealed.app.clone(),
        last: sealed.last,
        settled,
        floor: START,
        unmarked: START,
        part,
    }
}
