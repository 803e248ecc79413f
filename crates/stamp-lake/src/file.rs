//! Files: as encoded, and as they lie in the store waiting for a commit.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields};
use bytes::Bytes;
use delta_kernel::{KernelError, KernelResult};
use stamp_model::PartitionId;
use uuid::Uuid;

/// Where the rows of a file came from, when that is one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The partition.
    pub partition: PartitionId,
    /// Lowest sequence number in the file.
    pub first_sequence: i64,
    /// Highest sequence number in the file.
    pub last_sequence: i64,
}

/// A Parquet file in memory: rows of one date.
#[derive(Debug, Clone)]
pub struct EncodedFile {
    /// The date folder, `YYYY-MM-DD`.
    pub date: String,
    /// Where the rows came from; `None` for several partitions.
    pub origin: Option<Origin>,
    /// Number of rows, at least 1.
    pub rows: u64,
    /// The file.
    pub bytes: Bytes,
    pub(crate) day: i32,
    pub(crate) file_id: Uuid,
    pub(crate) stats: FileStats,
}

impl EncodedFile {
    /// The file's name: which rows it holds, as far as that is one range, and a random id so that it
    /// is nobody else's.
    #[must_use]
    pub fn name(&self) -> String {
        let file_id = self.file_id;
        match self.origin {
            Some(Origin {
                partition,
                first_sequence,
                last_sequence,
            }) => format!("p{partition}-{first_sequence}-{last_sequence}-{file_id}.parquet"),
            None => format!("mixed-{file_id}.parquet"),
        }
    }
}

/// A file that is in the store and not yet in the table.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path below the table.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Where the rows came from; `None` for several partitions.
    pub origin: Option<Origin>,
    /// Number of rows.
    pub rows: u64,
    pub(crate) day: i32,
    pub(crate) modified_ms: i64,
    pub(crate) stats: FileStats,
}

impl DataFile {
    pub(crate) fn new(file: &EncodedFile, folder: &str, name: &str, modified_ms: i64) -> Self {
        Self {
            path: format!("{folder}/{name}"),
            size_bytes: file.bytes.len() as u64,
            origin: file.origin,
            rows: file.rows,
            day: file.day,
            modified_ms,
            stats: file.stats.clone(),
        }
    }
}

/// What the log says about a file's content, so that readers can skip it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FileStats {
    pub(crate) rows: i64,
    pub(crate) columns: Vec<ColumnStats>,
}

/// What the log says about one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnStats {
    pub(crate) name: String,
    pub(crate) nulls: i64,
    /// Least and greatest value, or bounds of them; `None` when there is none or it cannot be
    /// written in the log's JSON.
    pub(crate) bounds: Option<(Bound, Bound)>,
}

/// A value in a file's statistics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bound {
    I32(i32),
    I64(i64),
    F64(f64),
    Text(String),
    TimestampUs(i64),
}

impl Bound {
    fn array(&self) -> ArrayRef {
        match self {
            Self::I32(value) => Arc::new(Int32Array::from(vec![*value])),
            Self::I64(value) => Arc::new(Int64Array::from(vec![*value])),
            Self::F64(value) => Arc::new(Float64Array::from(vec![*value])),
            Self::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
            Self::TimestampUs(value) => {
                Arc::new(TimestampMicrosecondArray::from(vec![*value]).with_timezone("UTC"))
            }
        }
    }
}

impl FileStats {
    /// One row in the shape the table library expects.
    pub(crate) fn to_struct(&self) -> KernelResult<StructArray> {
        let nulls = self.columns.iter().map(|column| {
            let count: ArrayRef = Arc::new(Int64Array::from(vec![column.nulls]));
            (column.name.as_str(), count)
        });
        let bounds = || {
            self.columns.iter().filter_map(|column| {
                let (least, greatest) = column.bounds.as_ref()?;
                Some((column.name.as_str(), least, greatest))
            })
        };
        let parts = [
            (
                "numRecords",
                Arc::new(Int64Array::from(vec![self.rows])) as ArrayRef,
            ),
            ("nullCount", named(nulls)?),
            (
                "minValues",
                named(bounds().map(|(name, least, _)| (name, least.array())))?,
            ),
            (
                "maxValues",
                named(bounds().map(|(name, _, greatest)| (name, greatest.array())))?,
            ),
            ("tightBounds", Arc::new(BooleanArray::from(vec![true]))),
        ];
        to_struct(parts)
    }
}

fn named<'a>(columns: impl Iterator<Item = (&'a str, ArrayRef)>) -> KernelResult<ArrayRef> {
    Ok(Arc::new(to_struct(columns)?))
}

fn to_struct<'a>(
    columns: impl IntoIterator<Item = (&'a str, ArrayRef)>,
) -> KernelResult<StructArray> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array))
        .unzip();
    StructArray::try_new_with_length(Fields::from(fields), arrays, None, 1)
        .map_err(KernelError::generic_err)
}
