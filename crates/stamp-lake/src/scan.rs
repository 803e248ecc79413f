//! Reads tables back: what the commits name, and nothing else.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::expressions::{Expression, Predicate, PredicateRef, Scalar, lit};
use delta_kernel::schema::{MetadataColumnSpec, StructField, StructType};
use delta_kernel::{KernelError, KernelResult};
use stamp_model::{PartitionId, Sequences};
use tokio::sync::mpsc;

use crate::LakeError;
use crate::load::newest;
use crate::table::{Inner, Snapshot, Table};

mod readings;

pub use readings::{ReadingsPage, SequenceRange};

/// Batches that may wait between the reading thread and the visitor.
const BATCHES_WAITING_MAX: usize = 2;

/// A run of rows of the columns that were asked for, in that order.
#[derive(Debug)]
pub struct Columns {
    arrays: Vec<ArrayRef>,
    rows: usize,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer, of 32 or 64 bits in the table.
    I64(i64),
    /// A float.
    F64(f64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Microseconds since 1970 UTC.
    TimestampUs(i64),
    /// Days since 1970-01-01.
    Day(i32),
    /// Keys and values of a map.
    Map(Vec<(&'a str, &'a str)>),
}

impl Columns {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The value of a column, by its place in the question, in a row.
    ///
    /// # Panics
    /// When there is no such column or row.
    #[must_use]
    pub fn value(&self, column: usize, row: usize) -> Value<'_> {
        let array = &self.arrays[column];
        if array.is_null(row) {
            return Value::Null;
        }
        match array.data_type() {
            DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
            DataType::Int32 => Value::I64(array.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => Value::I64(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => Value::F64(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row)),
            DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row)),
            DataType::Date32 => Value::Day(array.as_primitive::<Date32Type>().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Value::TimestampUs(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Map(_, _) => {
                let (from, to) = entry_range(array, row);
                let entries = array.as_map().entries();
                let (keys, values) = (entries.column(0), entries.column(1));
                let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
                Value::Map(
                    (from..to)
                        .map(|i| (keys.value(i), values.value(i)))
                        .collect(),
                )
            }
            // The tables have no other type, and a foreign column is refused by the scan.
            other => unreachable!("a column of type {other} passed the scan's check"),
        }
    }

    /// The integer in a row, `None` when it is null or no integer.
    #[must_use]
    pub fn i64(&self, column: usize, row: usize) -> Option<i64> {
        match self.value(column, row) {
            Value::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The same rows from `rows` on; none when there are no more.
    #[must_use]
    pub fn skip(&self, rows: usize) -> Self {
        let skipped = rows.min(self.rows);
        let left = self.rows - skipped;
        Self {
            arrays: self
                .arrays
                .iter()
                .map(|array| array.slice(skipped, left))
                .collect(),
            rows: left,
        }
    }

    /// The number in a row, `None` when it is null or no number.
    #[must_use]
    pub fn f64(&self, column: usize, row: usize) -> Option<f64> {
        match self.value(column, row) {
            Value::F64(value) => Some(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "sums of integers are compared as floats"
            )]
            Value::I64(value) => Some(value as f64),
            _ => None,
        }
    }

    /// The text in a row, `None` when it is null or no text.
    #[must_use]
    pub fn text(&self, column: usize, row: usize) -> Option<&str> {
        match self.value(column, row) {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The time in a row in microseconds, `None` when it is null or no time.
    #[must_use]
    pub fn timestamp_us(&self, column: usize, row: usize) -> Option<i64> {
        match self.value(column, row) {
            Value::TimestampUs(value) => Some(value),
            _ => None,
        }
    }
}

fn entry_range(array: &ArrayRef, row: usize) -> (usize, usize) {
    let offsets = array.as_map().value_offsets();
    let at = |i: usize| usize::try_from(offsets[i]).unwrap_or_default();
    (at(row), at(row + 1))
}

fn is_readable(kind: &DataType) -> bool {
    match kind {
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(pair) => pair.iter().all(|part| part.data_type() == &DataType::Utf8),
            _ => false,
        },
        _ => false,
    }
}

impl Table {
    /// Gives every row of the newest version to `visit`, in runs of at most some thousand rows,
    /// reading only `columns`. A table that does not exist has no rows.
    ///
    /// Files are read one after another on a blocking thread, so memory holds a few runs and the
    /// asked columns of one row group.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// [`LakeError::Column`] when the table has no such column or it is of a type these tables
    /// never have, [`LakeError::Broken`] when a file or the log is damaged, else what the store
    /// said. Rows visited before an error were read correctly.
    pub async fn scan(
        &self,
        columns: &[&str],
        visit: impl FnMut(&Columns),
    ) -> Result<(), LakeError> {
        self.scan_where(columns, &Filter::All, visit).await
    }

    /// As [`Self::scan`], opening only files that may hold rows of `filter`. The rows of a file
    /// that is opened are all given: the caller looks at each.
    ///
    /// [`FILE_COLUMN`] and [`ROW_COLUMN`] may be asked for besides the table's columns.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn scan_where(
        &self,
        columns: &[&str],
        filter: &Filter,
        mut visit: impl FnMut(&Columns),
    ) -> Result<(), LakeError> {
        let (send, mut receive) = mpsc::channel(BATCHES_WAITING_MAX);
        let names: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
        let predicate = filter.predicate();
        let read = self.blocking(self.reading("scan"), move |inner| {
            read_batches(inner, &names, predicate, |columns| {
                // A closed channel means that nobody wants the rest.
                send.blocking_send(columns).is_ok()
            })
        });
        let visit_all = async {
            while let Some(columns) = receive.recv().await {
                visit(&columns);
            }
        };
        let (read, ()) = futures_util::future::join(read, visit_all).await;
        read
    }

    /// The number of rows in the newest version, counted in the files.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn count(&self) -> Result<u64, LakeError> {
        let mut rows = 0;
        self.scan(&["partition"], |columns| rows += columns.rows() as u64)
            .await?;
        Ok(rows)
    }

    /// The sequence numbers of `partition` above `above` and up to `up_to` that are in the newest
    /// version. Only files whose statistics allow such rows are opened.
    ///
    /// For `readings`, `rejected` and `quarantine`. Memory: a bit for each number from the first
    /// to the last one found.
    ///
    /// # Errors
    /// As [`Self::scan`]; [`LakeError::Column`] for a table without a `sequence`.
    pub async fn sequences(
        &self,
        partition: PartitionId,
        above: i64,
        up_to: i64,
    ) -> Result<Sequences, LakeError> {
        self.sequences_since(partition, above, up_to, i64::MIN)
            .await
    }

    /// As [`Self::sequences`], without rows enqueued before `since_us`: those are of an earlier hub
    /// of the same name, whose sequence numbers mean other events.
    ///
    /// # Errors
    /// As [`Self::sequences`].
    pub async fn sequences_since(
        &self,
        partition: PartitionId,
        above: i64,
        up_to: i64,
        since_us: i64,
    ) -> Result<Sequences, LakeError> {
        self.blocking(self.reading("scan"), move |inner| {
            let names = ["partition", "sequence", "enqueued_at"].map(str::to_owned);
            let number = i64::from(partition.number());
            let mut found = Sequences::default();
            if !inner.shared.finds_rows() {
                return Ok(found);
            }
            let wanted = in_range(partition, above, up_to);
            read_batches(inner, &names, Some(wanted), |columns| {
                let rows = (0..columns.rows())
                    .filter(|&row| columns.i64(0, row) == Some(number))
                    .filter(|&row| columns.timestamp_us(2, row).is_none_or(|at| at >= since_us))
                    .filter_map(|row| columns.i64(1, row))
                    .filter(|&sequence| above < sequence && sequence <= up_to);
                for sequence in rows {
                    found.insert(sequence);
                }
                true
            })?;
            Ok(found)
        })
        .await
    }
}

/// Which files are worth opening, by their statistics in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those that may have events of this partition above the first number and up to the second.
    Sequences {
        /// Whose.
        partition: PartitionId,
        /// Below the first sequence number.
        above: i64,
        /// The last sequence number.
        up_to: i64,
    },
    /// In `rollups` and `gaps`: those with rows whose range may hold this event.
    Holding {
        /// Whose.
        partition: PartitionId,
        /// The event.
        sequence: i64,
    },
    /// In `replays`: those with rows whose number is above this one.
    NumbersAbove(i64),
    /// Those that may have rows of this device.
    Device(String),
    /// In `readings`: those that may have rows enqueued then or later, microseconds since 1970 UTC.
    EnqueuedSince(i64),
}

/// The file that a row is in, as [`Table::scan_where`] can be asked for it: a URL.
pub const FILE_COLUMN: &str = "_file";
/// The place of a row in its file, from 0, as [`Table::scan_where`] can be asked for it.
pub const ROW_COLUMN: &str = "row_index";

impl Filter {
    pub(crate) fn predicate(&self) -> Option<PredicateRef> {
        let column = |name: &str| Expression::column([name]);
        Some(match self {
            Self::All => return None,
            Self::Sequences {
                partition,
                above,
                up_to,
            } => in_range(*partition, *above, *up_to),
            Self::Holding {
                partition,
                sequence,
            } => Arc::new(Predicate::and_from([
                column("partition").eq(lit(number_of(*partition))),
                column("sequence_first").le(lit(*sequence)),
                column("sequence_last").ge(lit(*sequence)),
            ])),
            Self::NumbersAbove(number) => Arc::new(column("number").gt(lit(*number))),
            Self::Device(device) => Arc::new(column("device_id").eq(lit(device.as_str()))),
            Self::EnqueuedSince(since_us) => {
                Arc::new(column("enqueued_at").ge(lit(Scalar::Timestamp(*since_us))))
            }
        })
    }
}

fn number_of(partition: PartitionId) -> i32 {
    i32::try_from(partition.number()).unwrap_or(i32::MAX)
}

/// Skips files; rows are filtered by the caller.
fn in_range(partition: PartitionId, above: i64, up_to: i64) -> PredicateRef {
    let column = |name: &str| Expression::column([name]);
    Arc::new(Predicate::and_from([
        column("partition").eq(lit(number_of(partition))),
        column("sequence").gt(lit(above)),
        column("sequence").le(lit(up_to)),
    ]))
}

/// Reads the newest version until `visit` has enough.
fn read_batches(
    inner: &Inner,
    names: &[String],
    predicate: Option<PredicateRef>,
    visit: impl FnMut(Columns) -> bool,
) -> Result<(), LakeError> {
    match newest(inner)? {
        Some(snapshot) => read_version(inner, &snapshot, names, predicate, visit),
        None => Ok(()),
    }
}

/// Reads one version until `visit` has enough.
fn read_version(
    inner: &Inner,
    snapshot: &Snapshot,
    names: &[String],
    predicate: Option<PredicateRef>,
    visit: impl FnMut(Columns) -> bool,
) -> Result<(), LakeError> {
    let engine = Arc::clone(&inner.shared.engine) as _;
    read_version_by(inner, engine, snapshot, names, predicate, visit)
}

/// The same by an engine of the caller's choice. The same version has always the same order.
pub(crate) fn read_version_by(
    inner: &Inner,
    engine: Arc<dyn delta_kernel::Engine>,
    snapshot: &Snapshot,
    names: &[String],
    predicate: Option<PredicateRef>,
    mut visit: impl FnMut(Columns) -> bool,
) -> Result<(), LakeError> {
    let table = snapshot.kernel.schema();
    let failed = |error: KernelError| inner.reading("scan").kernel_failed(error);
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        fields.push(match (name.as_str(), table.field(name)) {
            (_, Some(field)) => field.clone(),
            (FILE_COLUMN, None) => metadata(name, MetadataColumnSpec::FilePath),
            (ROW_COLUMN, None) => metadata(name, MetadataColumnSpec::RowIndex),
            _ => return Err(no_column(inner, name, "the table has no such column")),
        });
    }
    let schema = StructType::try_new(fields).map_err(failed)?;
    let scan = Arc::clone(&snapshot.kernel)
        .scan_builder()
        .with_schema(Arc::new(schema))
        .with_predicate(predicate)
        .build()
        .map_err(failed)?;
    for batch in scan.execute(engine).map_err(failed)? {
        let batch = to_batch(batch).map_err(failed)?;
        let columns = to_columns(inner, names, &batch)?;
        if !visit(columns) {
            return Ok(());
        }
    }
    Ok(())
}

fn metadata(name: &str, spec: MetadataColumnSpec) -> StructField {
    StructField::create_metadata_column(name, spec)
}

fn to_batch(batch: KernelResult<Box<dyn delta_kernel::EngineData>>) -> KernelResult<RecordBatch> {
    Ok((*ArrowEngineData::try_from_engine_data(batch?)?).into())
}

fn to_columns(inner: &Inner, names: &[String], batch: &RecordBatch) -> Result<Columns, LakeError> {
    let mut arrays = Vec::with_capacity(names.len());
    for name in names {
        let array = batch
            .column_by_name(name)
            .ok_or_else(|| no_column(inner, name, "the file reader left it out"))?;
        if !is_readable(array.data_type()) {
            return Err(no_column(inner, name, "these tables have no such type"));
        }
        arrays.push(Arc::clone(array));
    }
    Ok(Columns {
        arrays,
        rows: batch.num_rows(),
    })
}

fn no_column(inner: &Inner, name: &str, reason: &str) -> LakeError {
    LakeError::Column {
        column: name.to_owned(),
        reason: format!("{}: {reason}", inner.url),
    }
}
