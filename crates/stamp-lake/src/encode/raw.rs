//! Rejected and quarantined events and gaps to files, in the order they came.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, StringArray};
use arrow_schema::Field;
use stamp_model::{GapRow, PartitionId, Properties, RawRow};

use super::columns::{Rows, Source, Values};
use super::parquet_file::{Content, write};
use super::{EncodeOptions, by_day, origin, partition_column, refuse};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::{ColumnType, TableSpec};

/// Which table raw rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawKind {
    /// A tenant's `rejected`.
    Rejected,
    /// The stamp's `quarantine`: has a `tenant` column.
    Quarantine,
}

/// Encodes raw rows, one file for each date they were enqueued on.
///
/// A property key that comes twice is kept as `key#2` and so on, because a map has each key once.
///
/// # Errors
/// [`LakeError::Encode`] when the writer refuses a column.
pub fn encode_raw(
    rows: &[RawRow],
    kind: RawKind,
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    let spec = match kind {
        RawKind::Rejected => TableSpec::rejected(),
        RawKind::Quarantine => TableSpec::quarantine(),
    };
    let file_id = options.file_id();
    by_day(&all(rows.len()), |row| rows[row].enqueued_at_us)
        .into_iter()
        .map(|(day, order)| {
            let rows: Vec<&RawRow> = order.iter().map(|&row| &rows[row as usize]).collect();
            let sequence: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
            let enqueued_at: Vec<i64> = rows.iter().map(|row| row.enqueued_at_us).collect();
            let partition = partition_column_of(rows.iter().map(|row| row.partition));
            let origins = rows.iter().map(|r| (r.partition, r.sequence, r.sequence));
            let content = Content {
                day,
                origin: origin(origins),
                sorted_by: Vec::new(),
                rows: Rows::All(0, rows.len()),
                columns: raw_columns(&rows, &partition, [&sequence, &enqueued_at], kind)?,
            };
            write(&spec, &content, file_id, options)
        })
        .collect()
}

/// Encodes gaps, one file for each date of the first event after a gap.
///
/// # Errors
/// [`LakeError::Encode`] when the writer refuses a column.
pub fn encode_gaps(
    rows: &[GapRow],
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    let spec = TableSpec::gaps();
    let file_id = options.file_id();
    by_day(&all(rows.len()), |row| rows[row].next_enqueued_at_us)
        .into_iter()
        .map(|(day, order)| {
            let rows: Vec<&GapRow> = order.iter().map(|&row| &rows[row as usize]).collect();
            let first: Vec<i64> = rows.iter().map(|row| row.sequence_first).collect();
            let last: Vec<i64> = rows.iter().map(|row| row.sequence_last).collect();
            let next: Vec<i64> = rows.iter().map(|row| row.next_enqueued_at_us).collect();
            let partition = partition_column_of(rows.iter().map(|row| row.partition));
            let ranges = rows.iter();
            let ranges = ranges.map(|r| (r.partition, r.sequence_first, r.sequence_last));
            let content = Content {
                day,
                origin: origin(ranges),
                sorted_by: Vec::new(),
                rows: Rows::All(0, rows.len()),
                columns: vec![
                    Values::I32(&partition).into(),
                    Values::I64(&first).into(),
                    Values::I64(&last).into(),
                    Values::I64(&next).into(),
                    strings(rows.iter().map(|row| Some(row.reason))),
                ],
            };
            write(&spec, &content, file_id, options)
        })
        .collect()
}

fn all(rows: usize) -> Vec<u32> {
    (0..).take(rows).collect()
}

pub(super) fn partition_column_of(rows: impl Iterator<Item = PartitionId>) -> Vec<i32> {
    rows.map(partition_column).collect()
}

fn raw_columns<'a>(
    rows: &[&RawRow],
    partition: &'a [i32],
    [sequence, enqueued_at]: [&'a [i64]; 2],
    kind: RawKind,
) -> Result<Vec<Source<'a>>, LakeError> {
    let body: BinaryArray = rows.iter().map(|row| Some(row.body.as_ref())).collect();
    let mut columns = vec![
        strings(rows.iter().map(|row| Some(row.reason))),
        strings(rows.iter().map(|row| Some(row.detail.as_str()))),
        strings(
            rows.iter()
                .map(|row| Some(row.rule.as_str()).filter(|rule| !rule.is_empty())),
        ),
        strings(rows.iter().map(|row| row.device_id.as_deref())),
        Values::I32(partition).into(),
        Values::I64(sequence).into(),
        strings(rows.iter().map(|row| Some(&*row.offset))),
        Values::I64(enqueued_at).into(),
        strings(rows.iter().map(|row| row.content_type.as_deref())),
        Values::Array(maps(rows.iter().map(|row| &row.properties))?).into(),
        Values::Array(Arc::new(body)).into(),
    ];
    if kind == RawKind::Quarantine {
        columns.push(strings(rows.iter().map(|row| row.tenant.as_deref())));
    }
    Ok(columns)
}

pub(super) fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Source<'static> {
    Values::Array(Arc::new(values.collect::<StringArray>())).into()
}

fn maps<'a>(rows: impl Iterator<Item = &'a Properties>) -> Result<ArrayRef, LakeError> {
    let names = MapFieldNames {
        entry: "key_value".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let text = ColumnType::Text.arrow();
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Field::new("key", text.clone(), false))
        .with_values_field(Field::new("value", text, false));
    for properties in rows {
        let mut seen = BTreeSet::new();
        for (key, value) in properties {
            builder.keys().append_value(unique(&mut seen, key));
            builder.values().append_value(&**value);
        }
        builder
            .append(true)
            .map_err(|error| refuse(format!("properties: {error}")))?;
    }
    Ok(Arc::new(builder.finish()))
}

/// The key, or the first of `key#2`, `key#3` and so on that is free.
fn unique(seen: &mut BTreeSet<String>, key: &str) -> String {
    let mut name = key.to_owned();
    let mut times = 2_u32;
    while !seen.insert(name.clone()) {
        name = format!("{key}#{times}");
        times += 1;
    }
    name
}
