//! Partial rollups to files, sorted by device, metric and window.

use stamp_model::{Dictionary, PartitionId, RollupRows};

use super::columns::{Rows, Source, Values};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, day_of, origin, partition_column, refuse};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::TableSpec;

/// Columns 0 to 2 of a file: `device_id`, `metric` and `window_start`.
const SORTED_BY: [usize; 3] = [0, 1, 2];

/// Encodes all rows, one file for each date of their window's start.
///
/// # Errors
/// [`LakeError::Encode`] when the columns differ in length or a partition is none.
pub fn encode_rollups(
    rows: &RollupRows,
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    check(rows)?;
    let partitions = Partitions::of(rows)?;
    let spec = TableSpec::rollups();
    let file_id = options.file_id();
    let file = |day: i32, chosen: Rows<'_>| {
        let places = (0..chosen.len()).map(|at| chosen.at(at));
        let origins = places.map(|row| {
            let (first, last) = (rows.sequence_first[row], rows.sequence_last[row]);
            (partitions.of_row(row), first, last)
        });
        let content = Content {
            day,
            origin: origin(origins),
            sorted_by: SORTED_BY.to_vec(),
            rows: chosen,
            columns: columns(rows, &partitions),
        };
        write(&spec, &content, file_id, options)
    };
    let order = Order::of(rows);
    if let Some(day) = order.is_sorted(rows).then(|| one_day(rows)).flatten() {
        return Ok(vec![file(day, Rows::All(0, rows.len()))?]);
    }
    by_day(&order.sort(rows), |row| rows.window_start_us[row])
        .into_iter()
        .map(|(day, order)| file(day, Rows::Some(&order)))
        .collect()
}

/// Where the rows came from.
enum Partitions {
    One(PartitionId),
    /// The same twice: checked, and as the file has it.
    Each(Vec<PartitionId>, Vec<i32>),
}

impl Partitions {
    fn of(rows: &RollupRows) -> Result<Self, LakeError> {
        let known = |number: u32| {
            PartitionId::new(number).ok_or_else(|| refuse(format!("partition {number} of rollups")))
        };
        let Some(each) = &rows.partitions else {
            return Ok(Self::One(known(rows.partition)?));
        };
        let each = each.iter().map(|&number| known(number));
        let each = each.collect::<Result<Vec<_>, _>>()?;
        let column = each.iter().map(|&partition| partition_column(partition));
        let column = column.collect();
        Ok(Self::Each(each, column))
    }

    #[inline]
    fn of_row(&self, row: usize) -> PartitionId {
        match self {
            Self::One(partition) => *partition,
            Self::Each(each, _) => each[row],
        }
    }

    fn column(&self) -> Values<'_> {
        match self {
            Self::One(partition) => Values::Same(partition_column(*partition)),
            Self::Each(_, column) => Values::I32(column),
        }
    }
}

fn check(rows: &RollupRows) -> Result<(), LakeError> {
    let lengths = [
        ("device", rows.device.len()),
        ("metric", rows.metric.len()),
        ("window_start", rows.window_start_us.len()),
        ("sum", rows.sum.len()),
        ("min", rows.min.len()),
        ("max", rows.max.len()),
        ("first", rows.first.len()),
        ("first_ts", rows.first_ts_us.len()),
        ("last", rows.last.len()),
        ("last_ts", rows.last_ts_us.len()),
        ("m2", rows.m2.len()),
        ("late_count", rows.late_count.len()),
        ("sequence_first", rows.sequence_first.len()),
        ("sequence_last", rows.sequence_last.len()),
        (
            "partition",
            rows.partitions.as_ref().map_or(rows.len(), Vec::len),
        ),
    ];
    match lengths.iter().find(|(_, length)| *length != rows.len()) {
        Some((name, length)) => Err(refuse(format!(
            "rollups have {length} values of {name} in {} rows",
            rows.len()
        ))),
        None => Ok(()),
    }
}

/// The order of a file: by device text, metric text and window.
struct Order {
    devices: Vec<u32>,
    metrics: Vec<u32>,
}

impl Order {
    fn of(rows: &RollupRows) -> Self {
        Self {
            devices: ranks(&rows.devices),
            metrics: ranks(&rows.metrics),
        }
    }

    #[inline]
    fn key(&self, rows: &RollupRows, row: usize) -> (u32, u32, i64) {
        (
            self.devices[rows.device[row] as usize],
            self.metrics[rows.metric[row] as usize],
            rows.window_start_us[row],
        )
    }

    /// Whether the rows have the order already, as those of one flush do.
    fn is_sorted(&self, rows: &RollupRows) -> bool {
        (0..rows.len()).is_sorted_by_key(|row| self.key(rows, row))
    }

    fn sort(&self, rows: &RollupRows) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(rows.len()).collect();
        order.sort_by_key(|&row| self.key(rows, row as usize));
        order
    }
}

/// The day of all windows; `None` when there are several, or no row.
fn one_day(rows: &RollupRows) -> Option<i32> {
    let least = rows.window_start_us.iter().min()?;
    let greatest = rows.window_start_us.iter().max()?;
    Some(day_of(*least)).filter(|&day| day == day_of(*greatest))
}

fn ranks(dictionary: &Dictionary) -> Vec<u32> {
    let texts: Vec<&str> = dictionary.iter().collect();
    let mut keys: Vec<u32> = (0..).take(texts.len()).collect();
    keys.sort_unstable_by_key(|&key| texts[key as usize]);
    let mut ranks = vec![0; keys.len()];
    for (rank, key) in (0_u32..).zip(keys) {
        ranks[key as usize] = rank;
    }
    ranks
}

fn columns<'a>(rows: &'a RollupRows, partitions: &'a Partitions) -> Vec<Source<'a>> {
    let columns = [
        Values::Text(&rows.devices, &rows.device),
        Values::Text(&rows.metrics, &rows.metric),
        Values::I64(&rows.window_start_us),
        Values::Same(rows.window_s),
        Values::I64(&rows.count),
        Values::F64(&rows.sum),
        Values::F64(&rows.min),
        Values::F64(&rows.max),
        Values::F64(&rows.first),
        Values::I64(&rows.first_ts_us),
        Values::F64(&rows.last),
        Values::I64(&rows.last_ts_us),
        Values::F64(&rows.m2),
        Values::I64(&rows.late_count),
        partitions.column(),
        Values::I64(&rows.sequence_first),
        Values::I64(&rows.sequence_last),
    ];
    columns.map(Source::from).into()
}
