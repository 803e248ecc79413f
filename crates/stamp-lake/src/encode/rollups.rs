//! Partial rollups to files, sorted by device, metric and window.

use stamp_model::{Dictionary, PartitionId, RollupRows};

use super::columns::{Rows, Source, Values};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, day_of, partition_column, refuse};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::TableSpec;

/// Columns 0 to 2 of a file: `device_id`, `metric` and `window_start`.
const SORTED_BY: [usize; 3] = [0, 1, 2];

/// Encodes all rows, one file for each date of their window's start.
///
/// # Errors
/// [`LakeError::Encode`] when the columns differ in length or the partition is none.
pub fn encode_rollups(
    rows: &RollupRows,
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    let partition = PartitionId::new(rows.partition)
        .ok_or_else(|| refuse(format!("partition {} of rollups", rows.partition)))?;
    check(rows)?;
    let spec = TableSpec::rollups();
    let file_id = options.file_id();
    let file = |day: i32, chosen: Rows<'_>| {
        let places = || (0..chosen.len()).map(|at| chosen.at(at));
        let first = places().map(|row| rows.sequence_first[row]).min();
        let last = places().map(|row| rows.sequence_last[row]).max();
        let content = Content {
            day,
            partition,
            first_sequence: first.unwrap_or_default(),
            last_sequence: last.unwrap_or_default(),
            sorted_by: SORTED_BY.to_vec(),
            rows: chosen,
            columns: columns(rows, partition),
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

fn columns(rows: &RollupRows, partition: PartitionId) -> Vec<Source<'_>> {
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
        Values::Same(partition_column(partition)),
        Values::I64(&rows.sequence_first),
        Values::I64(&rows.sequence_last),
    ];
    columns.map(Source::from).into()
}
