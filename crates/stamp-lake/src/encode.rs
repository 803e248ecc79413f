//! Column buffers to Parquet files, one file a date. Pure computing: no I/O, nothing async.

mod chunk;
mod columns;
mod delta;
mod encoding;
mod hybrid;
mod keyed;
mod numbers;
mod parquet_file;
mod plain;
mod raw;
mod readings;
mod replays;
mod rollups;

use std::borrow::Cow;
use std::collections::BTreeMap;

use stamp_model::PartitionId;
use uuid::Uuid;

use crate::LakeError;
use crate::file::Origin;

pub use raw::{RawKind, encode_gaps, encode_raw};
pub use readings::encode_readings;
pub use replays::encode_replays;
pub use rollups::encode_rollups;

/// How files are encoded.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// Who wrote the file, for its metadata; `stampworks/{version}` when `None`.
    pub producer: Option<String>,
    /// The id in the files' names; a random one per call when `None`, which is what production
    /// wants. A simulation may pass ids of its own, another one for every call.
    pub file_id: Option<Uuid>,
}

impl EncodeOptions {
    fn file_id(&self) -> Uuid {
        self.file_id.unwrap_or_else(Uuid::new_v4)
    }
}

const DAY_US: i64 = 86_400_000_000;

/// 0001-01-01 and 9999-12-31 as days since 1970: what a date folder can name. Rows beyond are in
/// the folder at the end, with their time as it is.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// The day of a time, as a date folder names it.
fn day_of(time_us: i64) -> i32 {
    let day = time_us.div_euclid(DAY_US).clamp(*DAYS.start(), *DAYS.end());
    i32::try_from(day).expect("the clamped range fits 32 bits")
}

/// `YYYY-MM-DD` of a day that [`day_of`] gave.
fn date_of(day: i32) -> String {
    let epoch = jiff::civil::date(1970, 1, 1);
    let date = epoch.saturating_add(jiff::Span::new().days(day));
    date.to_string()
}

/// Rows by day, each in the order given. Most calls have one day and copy nothing.
fn by_day(order: &[u32], time_us: impl Fn(usize) -> i64) -> BTreeMap<i32, Cow<'_, [u32]>> {
    let Some(&first) = order.first() else {
        return BTreeMap::new();
    };
    let day = day_of(time_us(first as usize));
    let start_us = i64::from(day) * DAY_US;
    let mut times = order.iter().map(|&row| time_us(row as usize));
    if times.all(|time_us| (start_us..start_us + DAY_US).contains(&time_us)) {
        return BTreeMap::from([(day, Cow::Borrowed(order))]);
    }
    let mut days: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for &row in order {
        let day = day_of(time_us(row as usize));
        days.entry(day).or_default().push(row);
    }
    days.into_iter()
        .map(|(day, rows)| (day, Cow::Owned(rows)))
        .collect()
}

/// Where the rows of a file came from, by the partition and the sequence numbers of each.
fn origin(rows: impl Iterator<Item = (PartitionId, i64, i64)>) -> Option<Origin> {
    let mut origin: Option<Origin> = None;
    for (partition, first, last) in rows {
        let known = origin.get_or_insert(Origin {
            partition,
            first_sequence: first,
            last_sequence: last,
        });
        if known.partition != partition {
            return None;
        }
        known.first_sequence = known.first_sequence.min(first);
        known.last_sequence = known.last_sequence.max(last);
    }
    origin
}

fn partition_column(partition: PartitionId) -> i32 {
    i32::try_from(partition.number()).expect("a partition id is at most 1,023")
}

fn refuse(reason: impl Into<String>) -> LakeError {
    LakeError::Encode {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_date_folder() {
        for (time_us, date) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (1_795_514_400_000_000, "2026-11-24"),
            (i64::MIN, "0001-01-01"),
            (i64::MAX, "9999-12-31"),
        ] {
            assert_eq!(date_of(day_of(time_us)), date);
        }
    }

    #[test]
    fn rows_of_alternating_days_keep_their_order() {
        let times = [0, DAY_US, 1, DAY_US + 1, 2];
        let days = by_day(&[0, 1, 2, 3, 4], |row| times[row]);
        let wanted = [(0, vec![0, 2, 4].into()), (1, vec![1, 3].into())];
        assert_eq!(days, BTreeMap::from(wanted));
        let days = by_day(&[4, 2], |row| times[row]);
        assert_eq!(days, BTreeMap::from([(0, vec![4, 2].into())]));
    }
}
