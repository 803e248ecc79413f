//! Partial rollups to files, sorted by device, metric and window.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array};
use stamp_model::{Dictionary, PartitionId, RollupRows};

use super::arrays::{f64s, gather, i64s, texts, timestamps};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, partition_column, refuse};
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
    by_day(&sort(rows), |row| rows.window_start_us[row])
        .into_iter()
        .map(|(day, order)| {
            let first = gather(&rows.sequence_first, &order);
            let last = gather(&rows.sequence_last, &order);
            let content = Content {
                day,
                partition,
                first_sequence: first.iter().copied().min().unwrap_or_default(),
                last_sequence: last.iter().copied().max().unwrap_or_default(),
                sorted_by: SORTED_BY.to_vec(),
                arrays: arrays(rows, &order, partition)?,
            };
            write(&spec, content, file_id, options)
        })
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

fn sort(rows: &RollupRows) -> Vec<u32> {
    let devices = ranks(&rows.devices);
    let metrics = ranks(&rows.metrics);
    let mut order: Vec<u32> = (0..).take(rows.len()).collect();
    order.sort_by_key(|&row| {
        let row = row as usize;
        (
            devices[rows.device[row] as usize],
            metrics[rows.metric[row] as usize],
            rows.window_start_us[row],
        )
    });
    order
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

fn arrays(
    rows: &RollupRows,
    order: &[u32],
    partition: PartitionId,
) -> Result<Vec<ArrayRef>, LakeError> {
    let same = |value: i32| Arc::new(Int32Array::from_value(value, order.len()));
    let whole = |values: &[i64]| i64s(gather(values, order), None);
    let float = |values: &[f64]| f64s(gather(values, order), None);
    let time = |values: &[i64]| timestamps(gather(values, order), None);
    Ok(vec![
        texts(&rows.devices, gather(&rows.device, order), None)?,
        texts(&rows.metrics, gather(&rows.metric, order), None)?,
        time(&rows.window_start_us),
        same(rows.window_s),
        whole(&rows.count),
        float(&rows.sum),
        float(&rows.min),
        float(&rows.max),
        float(&rows.first),
        time(&rows.first_ts_us),
        float(&rows.last),
        time(&rows.last_ts_us),
        float(&rows.m2),
        whole(&rows.late_count),
        same(partition_column(partition)),
        whole(&rows.sequence_first),
        whole(&rows.sequence_last),
    ])
}
