//! Typed readings read back by position, a page at a time.

use std::collections::BTreeMap;

use stamp_model::{Column, PartitionId, Readings, Shape, Values};

use super::{Columns, Value, in_range, no_column, read_version};
use crate::LakeError;
use crate::load::newest;
use crate::schema::ColumnType;
use crate::table::{Inner, Snapshot, Table};

/// The columns every readings table has, by their place in the question.
const FIXED: [&str; 7] = [
    "device_id",
    "ts",
    "enqueued_at",
    "late",
    "clock_suspect",
    "partition",
    "sequence",
];
const DEVICE: usize = 0;
const TS: usize = 1;
const ENQUEUED_AT: usize = 2;
const LATE: usize = 3;
const SUSPECT: usize = 4;
const PARTITION: usize = 5;
const SEQUENCE: usize = 6;

/// Which rows are asked for, by their position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// Of this partition.
    pub partition: PartitionId,
    /// Above this sequence number.
    pub above: i64,
    /// Up to and including this one.
    pub up_to: i64,
    /// Without rows enqueued before this, in microseconds since 1970 UTC: those are of an earlier
    /// hub of the same name, whose sequence numbers mean other events.
    pub since_us: i64,
}

/// Readings of a range, from its start.
#[derive(Debug, Clone)]
pub struct ReadingsPage {
    /// The rows, in no particular order.
    pub readings: Readings,
    /// Every row of the range up to this sequence number is in the page. The range's end when
    /// nothing is left over.
    pub through: i64,
}

impl Table {
    /// The first rows of `range` in the newest version of a readings table, with the columns of
    /// `shape`: whole events in order of their sequence numbers, until there are `rows_max` rows.
    /// Ask again above [`ReadingsPage::through`] for the rest.
    ///
    /// A field that the table does not have is null in every row; a column that is no field of
    /// `shape` is left out. A table that does not exist has no rows. Only files whose statistics
    /// allow such rows are opened, the needed ones twice: for positions, then for the rest.
    ///
    /// Memory: the page, which is at most `rows_max` rows and one event, and a few runs of rows
    /// being read.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// As [`Table::scan`]; [`LakeError::Column`] also when a column has another type than its
    /// field.
    pub async fn readings_between(
        &self,
        shape: &Shape,
        range: SequenceRange,
        rows_max: usize,
    ) -> Result<ReadingsPage, LakeError> {
        let shape = shape.clone();
        self.blocking(self.reading("scan"), move |inner| {
            let Some(snapshot) = newest(inner)? else {
                return Ok(ReadingsPage {
                    readings: Readings::new(&shape, range.partition),
                    through: range.up_to,
                });
            };
            let through = end_of_page(inner, &snapshot, range, rows_max)?;
            let page = SequenceRange {
                up_to: through,
                ..range
            };
            let readings = read(inner, &snapshot, &shape, page)?;
            Ok(ReadingsPage { readings, through })
        })
        .await
    }
}

impl SequenceRange {
    fn predicate(&self) -> delta_kernel::expressions::PredicateRef {
        in_range(self.partition, self.above, self.up_to)
    }

    /// The sequence number of a row, given the places of its columns, when it is one of these.
    fn sequence(&self, rows: &Columns, row: usize, places: [usize; 3]) -> Option<i64> {
        let [partition, enqueued_at, sequence] = places;
        let sequence = rows.i64(sequence, row)?;
        let is_one = rows.i64(partition, row) == Some(i64::from(self.partition.number()))
            && self.above < sequence
            && sequence <= self.up_to
            && rows
                .timestamp_us(enqueued_at, row)
                .is_none_or(|at| at >= self.since_us);
        is_one.then_some(sequence)
    }
}

/// The last sequence number of the first page. Holds at most `rows_max` numbers: the lowest ones.
fn end_of_page(
    inner: &Inner,
    snapshot: &Snapshot,
    range: SequenceRange,
    rows_max: usize,
) -> Result<i64, LakeError> {
    let names = [FIXED[PARTITION], FIXED[ENQUEUED_AT], FIXED[SEQUENCE]].map(str::to_owned);
    let mut lowest: BTreeMap<i64, usize> = BTreeMap::new();
    let (mut total, mut is_cut) = (0, false);
    read_version(inner, snapshot, &names, Some(range.predicate()), |rows| {
        for row in 0..rows.rows() {
            let Some(sequence) = range.sequence(&rows, row, [0, 1, 2]) else {
                continue;
            };
            *lowest.entry(sequence).or_default() += 1;
            total += 1;
            // The highest event goes when the others fill the page by themselves.
            while let Some((&highest, &rows)) = lowest.last_key_value()
                && lowest.len() > 1
                && total - rows >= rows_max
            {
                lowest.remove(&highest);
                total -= rows;
                is_cut = true;
            }
        }
        true
    })?;
    let last = lowest.last_key_value().map(|(&sequence, _)| sequence);
    Ok(last.filter(|_| is_cut).unwrap_or(range.up_to))
}

fn read(
    inner: &Inner,
    snapshot: &Snapshot,
    shape: &Shape,
    range: SequenceRange,
) -> Result<Readings, LakeError> {
    let table = snapshot.kernel.schema();
    let mut names: Vec<String> = FIXED.map(str::to_owned).to_vec();
    // Where each field is among the asked columns; the table may not have it yet.
    let mut places = Vec::with_capacity(shape.fields.len());
    for field in &shape.fields {
        let Some(found) = table.field(&field.name) else {
            places.push(None);
            continue;
        };
        if found.data_type() != &ColumnType::of(field.kind).delta() {
            let reason = format!("{} in the table, {:?} asked", found.data_type(), field.kind);
            return Err(no_column(inner, &field.name, &reason));
        }
        places.push(Some(names.len()));
        names.push(field.name.clone());
    }
    let mut readings = Readings::new(shape, range.partition);
    let mut broken = None;
    read_version(inner, snapshot, &names, Some(range.predicate()), |rows| {
        for row in 0..rows.rows() {
            if range
                .sequence(&rows, row, [PARTITION, ENQUEUED_AT, SEQUENCE])
                .is_some()
                && push(&mut readings, &rows, row, &places).is_none()
            {
                broken = Some("a reading without device, times or position");
                return false;
            }
        }
        true
    })?;
    match broken {
        Some(reason) => Err(inner.reading("scan").broken(reason)),
        None => Ok(readings),
    }
}

/// Appends one row; `None`, with nothing appended, when a column is null that never is.
fn push(
    readings: &mut Readings,
    rows: &Columns,
    row: usize,
    places: &[Option<usize>],
) -> Option<()> {
    let device = rows.text(DEVICE, row)?;
    let (ts, enqueued_at) = (
        rows.timestamp_us(TS, row)?,
        rows.timestamp_us(ENQUEUED_AT, row)?,
    );
    let sequence = rows.i64(SEQUENCE, row)?;
    let flag = |column| matches!(rows.value(column, row), Value::Bool(true));
    readings.device.push(readings.devices.intern(device));
    readings.ts_us.push(ts);
    readings.enqueued_at_us.push(enqueued_at);
    readings.late.push(flag(LATE));
    readings.clock_suspect.push(flag(SUSPECT));
    readings.sequence.push(sequence);
    for (column, place) in readings.columns.iter_mut().zip(places) {
        let value = place.map_or(Value::Null, |place| rows.value(place, row));
        push_value(column, &value);
    }
    Some(())
}

fn push_value(column: &mut Column, value: &Value<'_>) {
    match (&mut column.values, value) {
        (Values::Bool(values), Value::Bool(value)) => values.push(*value),
        (Values::I64(values), Value::I64(value)) => values.push(*value),
        (Values::F64(values), Value::F64(value)) => values.push(*value),
        (Values::Timestamp(values), Value::TimestampUs(value)) => values.push(*value),
        (Values::String { texts, keys }, Value::Text(value)) => keys.push(texts.intern(value)),
        // Types were compared before: this is a null.
        _ => return column.push_null(),
    }
    column.pushed();
}
