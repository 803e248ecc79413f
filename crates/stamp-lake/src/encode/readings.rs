//! Readings to files, sorted by device and time.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array};
use stamp_model::{Readings, Shape};

use super::arrays::{bools, column, gather, i64s, texts, timestamps};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, partition_column, refuse};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::TableSpec;

/// Columns 0 and 1 of a file: `device_id` and `ts`.
const SORTED_BY: [usize; 2] = [0, 1];

/// The rows that `keep` wants, sorted by device id (as text) and event time; equal ones stay in
/// the order they came.
///
/// Linear in the rows: devices are ranked once, and the rows of a device mostly come in order.
#[must_use]
pub fn sort_readings(readings: &Readings, keep: impl Fn(usize) -> bool) -> Vec<u32> {
    let ranks = rank_devices(readings);
    let rank = |row: usize| ranks[readings.device[row] as usize] as usize;
    let mut starts = vec![0_usize; ranks.len() + 1];
    let kept: Vec<_> = (0..readings.len()).filter(|&row| keep(row)).collect();
    for &row in &kept {
        starts[rank(row) + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0_u32; kept.len()];
    for &row in &kept {
        let place = &mut next[rank(row)];
        order[*place] = u32::try_from(row).expect("fewer than 2^32 rows fit any byte limit");
        *place += 1;
    }
    for device in starts.windows(2) {
        let rows = &mut order[device[0]..device[1]];
        let ts = |row: &u32| readings.ts_us[*row as usize];
        if !rows.is_sorted_by_key(ts) {
            rows.sort_by_key(ts);
        }
    }
    order
}

/// The place of each device key in the order of the texts.
fn rank_devices(readings: &Readings) -> Vec<u32> {
    let texts: Vec<&str> = readings.devices.iter().collect();
    let mut keys: Vec<u32> = (0..).take(texts.len()).collect();
    keys.sort_unstable_by_key(|&key| texts[key as usize]);
    let mut ranks = vec![0; keys.len()];
    for (rank, key) in (0_u32..).zip(keys) {
        ranks[key as usize] = rank;
    }
    ranks
}

/// Encodes the rows of `order`, one file for each date of their window time.
///
/// `order` holds row numbers, sorted by (device id, event time) as [`sort_readings`] does. Rows
/// in another order are written as they are, and the file then does not claim to be sorted.
///
/// # Errors
/// [`LakeError::Encode`] when the buffer does not fit `shape` or `order` names a row it does not
/// have; [`LakeError::Column`] when a field cannot be a column.
pub fn encode_readings(
    shape: &Shape,
    readings: &Readings,
    order: &[u32],
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    let spec = TableSpec::readings(shape);
    spec.check_names()?;
    check(shape, readings, order)?;
    let file_id = options.file_id();
    by_day(order, |row| readings.window_time_us(row))
        .into_iter()
        .map(|(day, rows)| {
            let sequence = gather(&readings.sequence, &rows);
            let content = Content {
                day,
                partition: readings.partition,
                first_sequence: sequence.iter().copied().min().unwrap_or_default(),
                last_sequence: sequence.iter().copied().max().unwrap_or_default(),
                sorted_by: if is_sorted(readings, &rows) {
                    SORTED_BY.to_vec()
                } else {
                    Vec::new()
                },
                arrays: arrays(readings, &rows, sequence)?,
            };
            write(&spec, content, file_id, options)
        })
        .collect()
}

fn check(shape: &Shape, readings: &Readings, order: &[u32]) -> Result<(), LakeError> {
    if !readings.is_rectangular() {
        return Err(refuse("the columns of the buffer differ in length"));
    }
    if readings.columns.len() != shape.fields.len() {
        return Err(refuse(format!(
            "the buffer has {} columns and the schema {} fields",
            readings.columns.len(),
            shape.fields.len()
        )));
    }
    for (field, column) in shape.fields.iter().zip(&readings.columns) {
        let empty = stamp_model::Column::new(field.kind);
        if std::mem::discriminant(&empty.values) != std::mem::discriminant(&column.values) {
            return Err(refuse(format!(
                "column {} is not {:?}",
                field.name, field.kind
            )));
        }
    }
    match order.iter().find(|&&row| row as usize >= readings.len()) {
        Some(row) => Err(refuse(format!(
            "row {row} of a buffer of {} rows",
            readings.len()
        ))),
        None => Ok(()),
    }
}

fn arrays(
    readings: &Readings,
    rows: &[u32],
    sequence: Vec<i64>,
) -> Result<Vec<ArrayRef>, LakeError> {
    let partition = Int32Array::from_value(partition_column(readings.partition), rows.len());
    let mut arrays = vec![
        texts(&readings.devices, gather(&readings.device, rows), None)?,
        timestamps(gather(&readings.ts_us, rows), None),
        timestamps(gather(&readings.enqueued_at_us, rows), None),
    ];
    for field in &readings.columns {
        arrays.push(column(field, rows)?);
    }
    arrays.push(bools(&readings.late, rows, None));
    arrays.push(bools(&readings.clock_suspect, rows, None));
    arrays.push(Arc::new(partition));
    arrays.push(i64s(sequence, None));
    Ok(arrays)
}

/// Whether the rows ascend by device text and event time. Texts are compared only where the
/// device changes.
fn is_sorted(readings: &Readings, rows: &[u32]) -> bool {
    rows.windows(2).all(|pair| {
        let (a, b) = (pair[0] as usize, pair[1] as usize);
        let (device_a, device_b) = (readings.device[a], readings.device[b]);
        if device_a == device_b {
            readings.ts_us[a] <= readings.ts_us[b]
        } else {
            readings.devices.get(device_a) < readings.devices.get(device_b)
        }
    })
}
