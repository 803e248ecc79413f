//! What a replay has decided, to files, in the order of its numbers.

use stamp_model::ReplayRow;

use super::columns::{Rows, Values};
use super::parquet_file::{Content, write};
use super::raw::{partition_column_of, strings};
use super::{EncodeOptions, by_day, origin};
use crate::LakeError;
use crate::file::EncodedFile;
use crate::schema::TableSpec;

/// Encodes rows of `replays`, one file for each date they were decided on.
///
/// # Errors
/// [`LakeError::Encode`] when the writer refuses a column.
pub fn encode_replays(
    rows: &[ReplayRow],
    options: &EncodeOptions,
) -> Result<Vec<EncodedFile>, LakeError> {
    let spec = TableSpec::replays();
    let file_id = options.file_id();
    let all: Vec<u32> = (0..).take(rows.len()).collect();
    by_day(&all, |row| rows[row].replayed_at_us)
        .into_iter()
        .map(|(day, order)| {
            let rows: Vec<&ReplayRow> = order.iter().map(|&row| &rows[row as usize]).collect();
            let numbers = |of: fn(&ReplayRow) -> i64| rows.iter().map(|row| of(row)).collect();
            let number: Vec<i64> = numbers(|row| row.number);
            let sequence: Vec<i64> = numbers(|row| row.sequence);
            let enqueued_at: Vec<i64> = numbers(|row| row.enqueued_at_us);
            let replayed_at: Vec<i64> = numbers(|row| row.replayed_at_us);
            let partition = partition_column_of(rows.iter().map(|row| row.partition));
            let origins = rows.iter().map(|r| (r.partition, r.sequence, r.sequence));
            let content = Content {
                day,
                origin: origin(origins),
                sorted_by: vec![0],
                rows: Rows::All(0, rows.len()),
                columns: vec![
                    Values::I64(&number).into(),
                    strings(rows.iter().map(|row| Some(row.source))),
                    strings(rows.iter().map(|row| Some(row.reason.as_str()))),
                    Values::I32(&partition).into(),
                    Values::I64(&sequence).into(),
                    Values::I64(&enqueued_at).into(),
                    strings(rows.iter().map(|row| Some(row.outcome))),
                    Values::I64(&replayed_at).into(),
                ],
            };
            write(&spec, &content, file_id, options)
        })
        .collect()
}
