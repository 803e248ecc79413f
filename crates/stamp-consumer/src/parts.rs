//! The rows of a job, and how the rows of several jobs become one file.
//!
//! Partitions flush a tenant together ([`crate::muster`]). With many tenants each of them has few
//! rows then, and a file and its entry in the log cost more than the rows in it; so small batches
//! share files. Pure computing: no I/O, nothing async.

use std::sync::{Arc, OnceLock};

use stamp_lake::{
    EncodeOptions, EncodedFile, LakeError, RawKind, encode_gaps, encode_raw, encode_readings,
    encode_rollups,
};
use stamp_model::{GapRow, RawRow, Readings, RollupRows, Sequences, Shape};
use stamp_rollup::{Windows, partials, sorted_rows};

use crate::buffer::Sealed;

/// Rows of one file that was put together are copied once more, so it holds few: half of what a
/// single flush may have by default.
const SHARED_BYTES_MAX: usize = 4 << 20;

/// What of a job's rows a table has already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Everything up to this sequence number.
    UpTo(i64),
    /// These sequence numbers.
    Rows(Sequences),
    /// These ranges of sequence numbers.
    Ranges(Vec<(i64, i64)>),
}

/// Encodes the rows that are not known. Called on a blocking thread, once for each answer.
pub(crate) type Encode = Arc<dyn Fn(&Known) -> Result<Vec<EncodedFile>, LakeError> + Send + Sync>;

/// The sorted order of the rows above one mark, shared by the two tables made of them.
pub(crate) type Order = Arc<OnceLock<(i64, Vec<u32>)>>;

/// The rows of one job.
#[derive(Clone)]
pub(crate) enum Part {
    /// In files of their own.
    Own(Encode),
    /// A batch's readings.
    Readings(Arc<Sealed>, Arc<Shape>, Order),
    /// Partials of a batch's readings.
    Rollups(Arc<Sealed>, Arc<Shape>, Windows, Order),
    /// A batch's events that are kept as they came.
    Raw(Arc<Sealed>, RawKind),
    /// A batch's gaps.
    Gaps(Arc<Sealed>),
}

/// Files, and how many rows each part has in them.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) files: Vec<EncodedFile>,
    pub(crate) rows: Vec<u64>,
}

impl Part {
    /// Bytes in memory, about; `None` when the rows go into no other part's files.
    fn shared_bytes(&self) -> Option<usize> {
        match self {
            Self::Own(_) => None,
            Self::Readings(batch, ..)
            | Self::Rollups(batch, ..)
            | Self::Raw(batch, _)
            | Self::Gaps(batch) => Some(batch.rows.bytes()),
        }
    }
}

/// How many of the first parts share their files: those that fit together, at least one.
pub(crate) fn sharing<'p>(parts: impl Iterator<Item = &'p Part>) -> usize {
    let mut left = SHARED_BYTES_MAX;
    let fitting = parts.take_while(|part| {
        let bytes = part.shared_bytes().filter(|&bytes| bytes <= left);
        left -= bytes.unwrap_or_default();
        bytes.is_some()
    });
    fitting.count().max(1)
}

/// Encodes what is not known of parts of one table.
///
/// # Errors
/// What the encoder refused.
pub(crate) fn encode(parts: &[(Part, Known)]) -> Result<Encoded, LakeError> {
    let options = EncodeOptions::default();
    match parts {
        [] => Ok(Encoded::default()),
        [(part, known)] => {
            let files = encode_one(part, known, &options)?;
            let rows = files.iter().map(|file| file.rows).sum();
            Ok(Encoded {
                files,
                rows: vec![rows],
            })
        }
        [(first, _), ..] => match first {
            // `sharing` never puts it with others.
            Part::Own(_) => Err(LakeError::Encode {
                reason: "rows with files of their own are among others".into(),
            }),
            Part::Readings(_, shape, _) => {
                let (all, rows) = readings_together(parts, shape);
                let files = match all {
                    Some(all) => {
                        let order = sorted_rows(&all, i64::MIN);
                        encode_readings(shape, &all, &order, &options)?
                    }
                    None => Vec::new(),
                };
                Ok(Encoded { files, rows })
            }
            Part::Rollups(..) => {
                let (all, rows) = rollups_together(parts);
                let files = encode_rollups(&all, &options)?;
                Ok(Encoded { files, rows })
            }
            Part::Raw(_, kind) => {
                let (all, rows) = together(parts, missing_raw);
                let files = encode_raw(&all, *kind, &options)?;
                Ok(Encoded { files, rows })
            }
            Part::Gaps(_) => {
                let (all, rows) = together(parts, missing_gaps);
                let files = encode_gaps(&all, &options)?;
                Ok(Encoded { files, rows })
            }
        },
    }
}

fn encode_one(
    part: &Part,
    known: &Known,
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    match (part, known) {
        (Part::Own(encode), known) => encode(known),
        (Part::Readings(batch, shape, order), Known::UpTo(above)) => match &batch.rows.readings {
            Some(readings) => with_order(order, readings, *above, |rows| {
                encode_readings(shape, readings, rows, options)
            }),
            None => Ok(Vec::new()),
        },
        (Part::Rollups(..), Known::UpTo(above)) => match partials_of(part, *above) {
            Some(rollups) => encode_rollups(&rollups, options),
            None => Ok(Vec::new()),
        },
        (Part::Raw(batch, kind), Known::Rows(there)) if there.is_empty() => {
            encode_raw(&batch.rows.raw, *kind, options)
        }
        (Part::Raw(_, kind), known) => encode_raw(&missing_raw(part, known), *kind, options),
        (Part::Gaps(_), known) => encode_gaps(&missing_gaps(part, known), options),
        (Part::Readings(..) | Part::Rollups(..), Known::Rows(_) | Known::Ranges(_)) => {
            Ok(Vec::new())
        }
    }
}

/// The rows of every part, and how many are of each.
fn together<T>(
    parts: &[(Part, Known)],
    missing: impl Fn(&Part, &Known) -> Vec<T>,
) -> (Vec<T>, Vec<u64>) {
    let mut all = Vec::new();
    let mut counts = Vec::with_capacity(parts.len());
    for (part, known) in parts {
        let rows = missing(part, known);
        counts.push(rows.len() as u64);
        all.extend(rows);
    }
    (all, counts)
}

fn readings_together(parts: &[(Part, Known)], shape: &Shape) -> (Option<Readings>, Vec<u64>) {
    let mut all: Option<Readings> = None;
    let mut counts = Vec::with_capacity(parts.len());
    for (part, known) in parts {
        let (Part::Readings(batch, _, order), Known::UpTo(above)) = (part, known) else {
            counts.push(0);
            continue;
        };
        let Some(readings) = &batch.rows.readings else {
            counts.push(0);
            continue;
        };
        let all = all.get_or_insert_with(|| Readings::new(shape, readings.partition));
        with_order(order, readings, *above, |rows| {
            all.append(readings, rows);
            counts.push(rows.len() as u64);
        });
    }
    (all, counts)
}

fn rollups_together(parts: &[(Part, Known)]) -> (RollupRows, Vec<u64>) {
    let mut all: Option<RollupRows> = None;
    let mut counts = Vec::with_capacity(parts.len());
    for (part, known) in parts {
        let rows = match known {
            Known::UpTo(above) => partials_of(part, *above),
            Known::Rows(_) | Known::Ranges(_) => None,
        };
        let Some(rows) = rows else {
            counts.push(0);
            continue;
        };
        counts.push(rows.len() as u64);
        match &mut all {
            Some(all) => all.append(rows),
            None => all = Some(rows),
        }
    }
    (all.unwrap_or_default(), counts)
}

fn partials_of(part: &Part, above: i64) -> Option<RollupRows> {
    let Part::Rollups(batch, shape, windows, order) = part else {
        return None;
    };
    let readings = batch.rows.readings.as_ref()?;
    Some(with_order(order, readings, above, |rows| {
        partials(readings, shape, rows, windows)
    }))
}

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

fn missing_raw(part: &Part, known: &Known) -> Vec<RawRow> {
    let (Part::Raw(batch, _), Known::Rows(there)) = (part, known) else {
        return Vec::new();
    };
    let rows = batch.rows.raw.iter();
    rows.filter(|row| !there.contains(row.sequence))
        .cloned()
        .collect()
}

fn missing_gaps(part: &Part, known: &Known) -> Vec<GapRow> {
    let (Part::Gaps(batch), Known::Ranges(recorded)) = (part, known) else {
        return Vec::new();
    };
    let rows = batch.rows.gaps.iter();
    rows.flat_map(|row| unrecorded(row, recorded)).collect()
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

#[cfg(test)]
mod tests;
