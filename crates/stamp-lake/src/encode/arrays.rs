//! Gathers rows of the buffers into Arrow arrays in the order they are to be written.

use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use stamp_model::{Column, Dictionary, Values};

use super::refuse;
use crate::LakeError;

/// Copies `values` in the order of `rows`.
pub(super) fn gather<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|&row| values[row as usize]).collect()
}

pub(super) fn i64s(values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls))
}

pub(super) fn f64s(values: Vec<f64>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
}

pub(super) fn timestamps(values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let array = TimestampMicrosecondArray::new(ScalarBuffer::from(values), nulls);
    Arc::new(array.with_timezone("UTC"))
}

pub(super) fn bools(values: &[bool], rows: &[u32], nulls: Option<NullBuffer>) -> ArrayRef {
    let bits = BooleanBuffer::collect_bool(rows.len(), |i| values[rows[i] as usize]);
    Arc::new(BooleanArray::new(bits, nulls))
}

/// Texts by key, straight from the buffer's own dictionary: nothing is hashed again.
pub(super) fn texts(
    dictionary: &Dictionary,
    keys: Vec<u32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, LakeError> {
    let keys = UInt32Array::new(ScalarBuffer::from(keys), nulls);
    let values: StringArray = dictionary.iter().map(Some).collect();
    let array = DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(values));
    match array {
        Ok(array) => Ok(Arc::new(array)),
        Err(error) => Err(refuse(format!("a text column: {error}"))),
    }
}

/// The nulls among `rows`; `None` when there are none.
fn nulls(valid: Option<&Vec<bool>>, rows: &[u32]) -> Option<NullBuffer> {
    let valid = valid?;
    let bits = BooleanBuffer::collect_bool(rows.len(), |i| valid[rows[i] as usize]);
    Some(NullBuffer::new(bits)).filter(|nulls| nulls.null_count() > 0)
}

/// One column of a tenant's fields.
pub(super) fn column(column: &Column, rows: &[u32]) -> Result<ArrayRef, LakeError> {
    let nulls = nulls(column.valid.as_ref(), rows);
    Ok(match &column.values {
        Values::Bool(values) => bools(values, rows, nulls),
        Values::I64(values) => i64s(gather(values, rows), nulls),
        Values::F64(values) => f64s(gather(values, rows), nulls),
        Values::Timestamp(values) => timestamps(gather(values, rows), nulls),
        Values::String { texts: all, keys } => texts(all, gather(keys, rows), nulls)?,
    })
}
