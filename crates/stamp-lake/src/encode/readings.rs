//! Readings to files, sorted by device and time.

use stamp_model::{Column, Readings, Shape};

use super::columns::{Rows, Source, Values};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, origin, partition_column, refuse};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::TableSpec;

/// Columns 0 and 1 of a file: `device_id` and `ts`.
const SORTED_BY: [usize; 2] = [0, 1];

/// Encodes the rows of `order`, one file for each date of their window time.
///
/// `order` holds row numbers, sorted by (device id as text, event time), of the rows above the
/// table's mark. Rows in another order are written as they are, and the file then does not claim
/// to be sorted.
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
    let partitions = partitions(readings);
    by_day(order, |row| readings.window_time_us(row))
        .into_iter()
        .map(|(day, rows)| {
            let places = rows.iter().map(|&row| row as usize);
            let origins = places.map(|row| {
                let sequence = readings.sequence[row];
                (readings.partition_of(row), sequence, sequence)
            });
            let content = Content {
                day,
                origin: origin(origins),
                sorted_by: if is_sorted(readings, &rows) {
                    SORTED_BY.to_vec()
                } else {
                    Vec::new()
                },
                rows: Rows::Some(&rows),
                columns: columns(readings, &partitions),
            };
            write(&spec, &content, file_id, options)
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

/// The partition of each row, in a buffer of several.
fn partitions(readings: &Readings) -> Vec<i32> {
    let each = readings.partitions.iter().flatten();
    each.map(|&partition| partition_column(partition)).collect()
}

fn columns<'a>(readings: &'a Readings, partitions: &'a [i32]) -> Vec<Source<'a>> {
    let mut columns = vec![
        Values::Text(&readings.devices, &readings.device).into(),
        Values::I64(&readings.ts_us).into(),
        Values::I64(&readings.enqueued_at_us).into(),
    ];
    columns.extend(readings.columns.iter().map(field));
    columns.extend([
        Values::Bool(&readings.late).into(),
        Values::Bool(&readings.clock_suspect).into(),
        match readings.partitions {
            None => Values::Same(partition_column(readings.partition)).into(),
            Some(_) => Values::I32(partitions).into(),
        },
        Values::I64(&readings.sequence).into(),
    ]);
    columns
}

/// One column of a tenant's fields.
fn field(column: &Column) -> Source<'_> {
    use stamp_model::Values as Held;
    let values = match &column.values {
        Held::Bool(values) => Values::Bool(values),
        Held::I64(values) | Held::Timestamp(values) => Values::I64(values),
        Held::F64(values) => Values::F64(values),
        Held::String { texts, keys } => Values::Text(texts, keys),
    };
    Source {
        values,
        valid: column.valid.as_deref(),
    }
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
