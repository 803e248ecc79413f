//! Writes one column of a file from where its values are, block by block.
//!
//! Numbers and bools go from the buffer to the Parquet encoder through a block that stays in the
//! processor's cache. Texts keep the keys of the buffer's dictionary until the encoder. Only what
//! is nested or already an array goes in whole.

use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, StringArray, UInt32Array};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType as ArrowType, Field};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::writer::SerializedRowGroupWriter;
use stamp_model::Dictionary;

use super::parquet_file::failed;
use super::refuse;
use crate::LakeError;

/// Values that go to the encoder at a time: 64 KiB of the widest.
const BLOCK_ROWS: usize = 8_192;

/// Rows of the buffers, in the order they are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// From the first to before the second, as they lie.
    All(usize, usize),
    /// These.
    Some(&'a [u32]),
}

impl<'a> Rows<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::All(start, end) => end - start,
            Self::Some(rows) => rows.len(),
        }
    }

    /// The row that is written at place `at`.
    #[inline]
    pub(super) fn at(self, at: usize) -> usize {
        match self {
            Self::All(start, _) => start + at,
            Self::Some(rows) => rows[at] as usize,
        }
    }

    /// The places `start` to before `end`.
    pub(super) fn part(self, start: usize, end: usize) -> Self {
        match self {
            Self::All(first, _) => Self::All(first + start, first + end),
            Self::Some(rows) => Self::Some(&rows[start..end]),
        }
    }

    /// Parts of `rows` rows, the last of what is left.
    pub(super) fn blocks_of(self, rows: usize) -> impl Iterator<Item = Self> {
        let len = self.len();
        (0..len)
            .step_by(rows)
            .map(move |start| self.part(start, len.min(start + rows)))
    }

    fn blocks(self) -> impl Iterator<Item = Self> {
        self.blocks_of(BLOCK_ROWS)
    }

    /// `value` of each row, in order. Branches once, not for each row.
    #[inline]
    pub(super) fn collect<T>(self, into: &mut Vec<T>, value: impl Fn(usize) -> T) {
        into.clear();
        match self {
            Self::All(start, end) => into.extend((start..end).map(value)),
            Self::Some(rows) => into.extend(rows.iter().map(|&row| value(row as usize))),
        }
    }
}

/// Values of one column, a place for each row of the buffer.
pub(super) enum Values<'a> {
    /// The same in every row.
    Same(i32),
    I32(&'a [i32]),
    Bool(&'a [bool]),
    /// Integers, and times in microseconds.
    I64(&'a [i64]),
    F64(&'a [f64]),
    Text(&'a Dictionary, &'a [u32]),
    /// In the order of the file already, with their own nulls.
    Array(ArrayRef),
}

/// One column: values and which of them are not null.
pub(super) struct Source<'a> {
    pub(super) values: Values<'a>,
    pub(super) valid: Option<&'a [bool]>,
}

impl<'a> From<Values<'a>> for Source<'a> {
    fn from(values: Values<'a>) -> Self {
        Self {
            values,
            valid: None,
        }
    }
}

impl Source<'_> {
    /// Whether it is written by one of the writers that take arrays.
    pub(super) fn goes_in_as_array(&self) -> bool {
        matches!(self.values, Values::Text(..) | Values::Array(_))
    }

    /// How many of `rows` are null.
    pub(super) fn nulls(&self, rows: Rows<'_>) -> usize {
        match (&self.values, self.valid) {
            (Values::Array(array), _) => array.null_count(),
            (_, None) => 0,
            (_, Some(valid)) => (0..rows.len()).filter(|&at| !valid[rows.at(at)]).count(),
        }
    }
}

/// Writes `rows` of `column` as the next column of the group. `arrow` has the writers that take
/// arrays, one for each leaf of the columns that go in so.
pub(super) fn write_column(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    arrow: &mut impl Iterator<Item = ArrowColumnWriter>,
    field: &Field,
    column: &Source<'_>,
    rows: Rows<'_>,
    nullable: bool,
) -> Result<(), LakeError> {
    let valid = column.valid.filter(|_| nullable);
    match &column.values {
        Values::Array(array) => return write_array(group, arrow, field, array, rows),
        Values::Text(dictionary, keys) => {
            return write_texts(group, arrow, dictionary, keys, rows, valid);
        }
        Values::Same(_) | Values::I32(_) | Values::Bool(_) | Values::I64(_) | Values::F64(_) => {}
    }
    let writer = group.next_column().map_err(failed)?;
    let mut writer = writer.ok_or_else(|| refuse("more columns than the file has"))?;
    match &column.values {
        Values::Same(value) => write::<Int32Type>(writer.typed(), rows, valid, |_| *value)?,
        Values::I32(values) => write_slice::<Int32Type>(writer.typed(), values, rows, valid)?,
        Values::Bool(values) => write::<BoolType>(writer.typed(), rows, valid, |row| values[row])?,
        Values::I64(values) => write_slice::<Int64Type>(writer.typed(), values, rows, valid)?,
        Values::F64(values) => write_slice::<DoubleType>(writer.typed(), values, rows, valid)?,
        Values::Text(..) | Values::Array(_) => {}
    }
    writer.close().map_err(failed)
}

fn write_slice<D: DataType<T: Copy>>(
    writer: &mut ColumnWriterImpl<'_, D>,
    values: &[D::T],
    rows: Rows<'_>,
    valid: Option<&[bool]>,
) -> Result<(), LakeError> {
    match (rows, valid) {
        (Rows::All(start, end), None) => writer
            .write_batch(&values[start..end], None, None)
            .map(drop)
            .map_err(failed),
        _ => write(writer, rows, valid, |row| values[row]),
    }
}

fn write<D: DataType>(
    writer: &mut ColumnWriterImpl<'_, D>,
    rows: Rows<'_>,
    valid: Option<&[bool]>,
    value: impl Fn(usize) -> D::T,
) -> Result<(), LakeError> {
    let mut values = Vec::with_capacity(BLOCK_ROWS.min(rows.len()));
    let mut levels = Vec::new();
    for block in rows.blocks() {
        match valid {
            None => {
                block.collect(&mut values, &value);
                writer.write_batch(&values, None, None).map_err(failed)?;
            }
            Some(valid) => {
                block.collect(&mut levels, |row| i16::from(valid[row]));
                values.clear();
                let present = (0..block.len()).map(|at| block.at(at));
                values.extend(present.filter(|&row| valid[row]).map(&value));
                let written = writer.write_batch(&values, Some(&levels), None);
                written.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Texts by key, straight from the buffer's own dictionary.
fn write_texts(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    arrow: &mut impl Iterator<Item = ArrowColumnWriter>,
    dictionary: &Dictionary,
    keys: &[u32],
    rows: Rows<'_>,
    valid: Option<&[bool]>,
) -> Result<(), LakeError> {
    let bad = |error: arrow_schema::ArrowError| refuse(format!("a text column: {error}"));
    let mut writer = next(arrow)?;
    let values: ArrayRef = Arc::new(dictionary.iter().map(Some).collect::<StringArray>());
    let kind = ArrowType::Dictionary(Box::new(ArrowType::UInt32), Box::new(ArrowType::Utf8));
    let field = Field::new("text", kind, valid.is_some());
    for block in rows.blocks() {
        let mut block_keys = Vec::with_capacity(block.len());
        block.collect(&mut block_keys, |row| keys[row]);
        let nulls = valid.map(|valid| {
            let bits = BooleanBuffer::collect_bool(block.len(), |at| valid[block.at(at)]);
            NullBuffer::new(bits)
        });
        let keys = UInt32Array::try_new(ScalarBuffer::from(block_keys), nulls).map_err(bad)?;
        let array = DictionaryArray::<UInt32Type>::try_new(keys, Arc::clone(&values));
        let array: ArrayRef = Arc::new(array.map_err(bad)?);
        for leaf in compute_leaves(&field, &array).map_err(failed)? {
            writer.write(&leaf).map_err(failed)?;
        }
    }
    let chunk = writer.close().map_err(failed)?;
    chunk.append_to_row_group(group).map_err(failed)
}

fn write_array(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    arrow: &mut impl Iterator<Item = ArrowColumnWriter>,
    field: &Field,
    array: &ArrayRef,
    rows: Rows<'_>,
) -> Result<(), LakeError> {
    let part = match rows {
        Rows::All(start, end) => array.slice(start, end - start),
        Rows::Some(_) => return Err(refuse("an array has the order of the file already")),
    };
    for leaf in compute_leaves(field, &part).map_err(failed)? {
        let mut writer = next(arrow)?;
        writer.write(&leaf).map_err(failed)?;
        let chunk = writer.close().map_err(failed)?;
        chunk.append_to_row_group(group).map_err(failed)?;
    }
    Ok(())
}

fn next(
    arrow: &mut impl Iterator<Item = ArrowColumnWriter>,
) -> Result<ArrowColumnWriter, LakeError> {
    arrow
        .next()
        .ok_or_else(|| refuse("more columns than the file has"))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use stamp_model::{Column, FieldDef, FieldKind, PartitionId, Readings, Shape};

    use crate::encode::{EncodeOptions, encode_readings};

    fn field(name: &str, kind: FieldKind) -> FieldDef {
        FieldDef {
            name: name.to_owned(),
            kind,
            unit: None,
            required: false,
            rollup: false,
        }
    }

    /// Row `row` has the number `row`, unless it is a multiple of three, and a text of that.
    fn sparse(rows: usize) -> (Shape, Readings) {
        let fields = vec![
            field("number", FieldKind::I64),
            field("name", FieldKind::String),
        ];
        let shape = Shape { fields };
        let mut readings = Readings::new(&shape, PartitionId::new(0).unwrap());
        let device = readings.devices.intern("press");
        readings.device = vec![device; rows];
        readings.ts_us = (0..).take(rows).collect();
        readings.enqueued_at_us = vec![0; rows];
        readings.late = vec![false; rows];
        readings.clock_suspect = vec![false; rows];
        readings.sequence = (0..).take(rows).collect();
        let valid: Vec<bool> = (0..rows).map(|row| row % 3 != 0).collect();
        let mut texts = stamp_model::Dictionary::default();
        let keys = (0..rows).map(|row| texts.intern(&format!("n{}", row % 7)));
        let keys = keys.collect();
        let columns = [
            stamp_model::Values::I64((0..).take(rows).collect()),
            stamp_model::Values::String { texts, keys },
        ];
        readings.columns = columns
            .map(|values| Column {
                values,
                valid: Some(valid.clone()),
            })
            .into();
        (shape, readings)
    }

    #[test]
    fn nulls_keep_their_places_from_block_to_block() {
        let rows = super::BLOCK_ROWS * 2 + 77;
        let (shape, readings) = sparse(rows);
        // Every row but the first, backwards.
        let order: Vec<u32> = (1..u32::try_from(rows).unwrap()).rev().collect();
        let files = encode_readings(&shape, &readings, &order, &EncodeOptions::default()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
        let mut found = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let numbers = batch["number"].as_primitive::<Int64Type>().iter();
            let names = batch["name"].as_string::<i32>().iter();
            found.extend(numbers.zip(names.map(|name| name.map(str::to_owned))));
        }
        let wanted: Vec<_> = order
            .iter()
            .map(|&row| {
                let there = row % 3 != 0;
                (
                    there.then_some(i64::from(row)),
                    there.then(|| format!("n{}", row % 7)),
                )
            })
            .collect();
        assert_eq!(found, wanted);
    }
}
