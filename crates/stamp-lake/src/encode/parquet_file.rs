//! Writes the columns of one file, and reads its statistics for the table's log off the footer.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath, SchemaDescriptor};
use uuid::Uuid;

use super::chunk::{Chunk, ChunkWriter};
use super::columns::{Rows, Source, Values, write_column};
use super::encoding::{self, Layout};
use super::{EncodeOptions, date_of, refuse};
use crate::LakeError;
use crate::file::{Bound, ColumnStats, EncodedFile, FileStats, Origin};
use crate::load::ENGINE_INFO;
use crate::schema::{ColumnType, TableSpec};

/// Compression of fresh files: level 3 saves 2 % more and costs 100 ns an event.
const ZSTD_LEVEL_FRESH: i32 = 1;

/// In a file of fewer rows, columns that the library writes are compressed by Snappy: it makes a context of
/// Zstandard for each, which costs more than the rows. Columns that are encoded here share one.
const ZSTD_ROWS_MIN: usize = 4_096;

/// Rows of a row group: the usual size of other writers, and what bounds a dictionary.
const GROUP_ROWS_MAX: usize = 1 << 20;

/// One file before it is written.
pub(super) struct Content<'a> {
    pub(super) day: i32,
    pub(super) origin: Option<Origin>,
    /// Which rows of the columns, in which order.
    pub(super) rows: Rows<'a>,
    /// One for each file column of the table, in its order.
    pub(super) columns: Vec<Source<'a>>,
    /// The columns the rows ascend by, as indices into `columns`; empty when they do not.
    pub(super) sorted_by: Vec<usize>,
}

pub(super) fn write(
    spec: &TableSpec,
    content: &Content<'_>,
    file_id: Uuid,
    options: &EncodeOptions,
) -> Result<EncodedFile, LakeError> {
    let counted = content.columns.iter();
    let nulls: Vec<usize> = counted.map(|column| column.nulls(content.rows)).collect();
    let mut bytes = Vec::new();
    let footer = write_parquet(spec, content, &nulls, options, &mut bytes)?;
    let rows = content.rows.len();
    Ok(EncodedFile {
        date: date_of(content.day),
        origin: content.origin,
        rows: rows as u64,
        stats: stats(spec, &footer, &nulls, rows),
        bytes: bytes.into(),
        day: content.day,
        file_id,
    })
}

/// Column by column straight from the buffers, so that a file needs little memory besides its own
/// bytes.
fn write_parquet(
    spec: &TableSpec,
    content: &Content<'_>,
    nulls: &[usize],
    options: &EncodeOptions,
    bytes: &mut Vec<u8>,
) -> Result<ParquetMetaData, LakeError> {
    let nullable: Vec<bool> = nulls.iter().map(|&nulls| nulls > 0).collect();
    let schema = spec.file_schema(&nullable);
    let mut properties = properties(spec, content, options)?;
    add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
    let converted = ArrowSchemaConverter::new()
        .convert(&schema)
        .map_err(failed)?;
    let root = converted.root_schema_ptr();
    let properties = Arc::new(properties);
    let mut writer =
        SerializedFileWriter::new(bytes, root, Arc::clone(&properties)).map_err(failed)?;
    let rows = content.rows.len();
    let mut chunks = ChunkWriter::new(fresh_level()?).map_err(failed)?;
    for start in (0..rows).step_by(GROUP_ROWS_MAX) {
        let rows = content.rows.part(start, rows.min(start + GROUP_ROWS_MAX));
        let mut group = writer.next_row_group().map_err(failed)?;
        for ((field, column), &nullable) in
            schema.fields().iter().zip(&content.columns).zip(&nullable)
        {
            if !nullable
                && let Some(descr) = leaf(&converted, field.name())
                && let Some(chunk) = Chunk::of(column, rows, &properties, descr.path())
            {
                chunks.append(&mut group, descr, &chunk).map_err(failed)?;
                continue;
            }
            let mut arrow = match column.goes_in_as_array() {
                true => arrow_writers(field, Arc::clone(&properties))?,
                false => Vec::new(),
            }
            .into_iter();
            write_column(&mut group, &mut arrow, field, column, rows, nullable)?;
        }
        group.close().map_err(failed)?;
    }
    writer.close().map_err(failed)
}

/// The column of a field that has no fields of its own.
fn leaf(schema: &SchemaDescriptor, name: &str) -> Option<ColumnDescPtr> {
    let mut columns = schema.columns().iter();
    columns
        .find(|column| column.path().parts() == [name])
        .cloned()
}

/// The writers that take the arrays of one field, one for each leaf of it. Made for the columns that need
/// them only: each has a compressor and buffers, which cost more than the rows of a small file.
fn arrow_writers(
    field: &FieldRef,
    properties: Arc<WriterProperties>,
) -> Result<Vec<ArrowColumnWriter>, LakeError> {
    let schema = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let root = ArrowSchemaConverter::new()
        .convert(&schema)
        .map_err(failed)?
        .root_schema_ptr();
    // Nothing is written here: a column's place is only looked up in the file that it goes to.
    let nowhere = SerializedFileWriter::new(std::io::sink(), root, properties).map_err(failed)?;
    let factory = ArrowRowGroupWriterFactory::new(&nowhere, schema);
    factory.create_column_writers(0).map_err(failed)
}

pub(super) fn failed(error: parquet::errors::ParquetError) -> LakeError {
    refuse(format!("parquet: {error}"))
}

fn fresh_level() -> Result<ZstdLevel, LakeError> {
    ZstdLevel::try_new(ZSTD_LEVEL_FRESH).map_err(|error| refuse(format!("zstd level: {error}")))
}

fn properties(
    spec: &TableSpec,
    content: &Content<'_>,
    options: &EncodeOptions,
) -> Result<WriterProperties, LakeError> {
    let compression = if content.rows.len() < ZSTD_ROWS_MIN {
        Compression::SNAPPY
    } else {
        Compression::ZSTD(fresh_level()?)
    };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(key_values(content, options)));
    if !content.sorted_by.is_empty() {
        let columns = content.sorted_by.iter().map(|&column| SortingColumn {
            column_idx: i32::try_from(column).unwrap_or(i32::MAX),
            descending: false,
            nulls_first: false,
        });
        builder = builder.set_sorting_columns(Some(columns.collect()));
    }
    for (column, source) in spec.file_columns().zip(&content.columns) {
        let path = ColumnPath::from(column.name.as_str());
        if column.kind == ColumnType::Binary {
            // Bodies hardly repeat, and no query asks for a range of them.
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        } else if let Some(layout) = layout(&column.name, column.kind, source, content.rows) {
            builder = with_layout(builder, path, layout);
        }
    }
    Ok(builder.build())
}

fn key_values(content: &Content<'_>, options: &EncodeOptions) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("stampworks.{key}"), value);
    let producer = options.producer.clone();
    let mut pairs = vec![pair(
        "producer",
        producer.unwrap_or_else(|| ENGINE_INFO.to_owned()),
    )];
    if let Some(origin) = content.origin {
        pairs.push(pair("partition", origin.partition.to_string()));
        pairs.push(pair("first_sequence", origin.first_sequence.to_string()));
        pairs.push(pair("last_sequence", origin.last_sequence.to_string()));
    }
    pairs
}

/// The layout of a column, or `None` where the library's own choice is right.
fn layout(name: &str, kind: ColumnType, source: &Source<'_>, rows: Rows<'_>) -> Option<Layout> {
    match (kind, &source.values) {
        (ColumnType::Timestamp, _) => Some(Layout::Delta),
        (ColumnType::I64, _) if name.starts_with("sequence") => Some(Layout::Delta),
        (ColumnType::I64, Values::I64(values)) => Some(encoding::for_integers(values, rows)),
        (ColumnType::F64, Values::F64(values)) => Some(encoding::for_floats(values, rows)),
        // One value all the way: its difference is nothing, and nothing has to be looked up.
        (ColumnType::I32, _) => Some(Layout::Delta),
        (ColumnType::Text, _) => Some(Layout::Dictionary),
        _ => None,
    }
}

fn with_layout(
    builder: WriterPropertiesBuilder,
    path: ColumnPath,
    layout: Layout,
) -> WriterPropertiesBuilder {
    let encoding = match layout {
        Layout::Dictionary => return builder.set_column_dictionary_enabled(path, true),
        Layout::Plain => Encoding::PLAIN,
        Layout::Split => Encoding::BYTE_STREAM_SPLIT,
        Layout::Delta => Encoding::DELTA_BINARY_PACKED,
    };
    builder
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, encoding)
}

/// The statistics for the table's log, from what the writer found anyway.
fn stats(spec: &TableSpec, footer: &ParquetMetaData, nulls: &[usize], rows: usize) -> FileStats {
    let columns = spec
        .file_columns()
        .zip(nulls)
        // A map has no statistics of its own in a Delta log.
        .filter(|(column, _)| column.kind != ColumnType::TextMap)
        .map(|(column, &nulls)| ColumnStats {
            name: column.name.clone(),
            nulls: i64::try_from(nulls).unwrap_or(i64::MAX),
            bounds: bounds(column.kind, &column.name, footer),
        });
    FileStats {
        columns: columns.collect(),
        rows: i64::try_from(rows).unwrap_or(i64::MAX),
    }
}

/// Least and greatest value over all row groups; `None` as soon as one of them has no answer.
fn bounds(kind: ColumnType, name: &str, footer: &ParquetMetaData) -> Option<(Bound, Bound)> {
    let mut all: Option<(Bound, Bound)> = None;
    for group in footer.row_groups() {
        let column = group
            .columns()
            .iter()
            .find(|column| column.column_path().parts() == [name])?;
        let statistics = column.statistics()?;
        if statistics.null_count_opt() == u64::try_from(column.num_values()).ok() {
            continue;
        }
        let (least, greatest) = group_bounds(kind, statistics)?;
        all = Some(match all {
            None => (least, greatest),
            Some((low, high)) => (lesser(low, least)?, greater(high, greatest)?),
        });
    }
    all
}

fn group_bounds(kind: ColumnType, statistics: &Statistics) -> Option<(Bound, Bound)> {
    match (kind, statistics) {
        (ColumnType::I32, Statistics::Int32(s)) => {
            Some((Bound::I32(*s.min_opt()?), Bound::I32(*s.max_opt()?)))
        }
        (ColumnType::I64, Statistics::Int64(s)) => {
            Some((Bound::I64(*s.min_opt()?), Bound::I64(*s.max_opt()?)))
        }
        (ColumnType::Timestamp, Statistics::Int64(s)) => {
            let (least, greatest) = (*s.min_opt()?, *s.max_opt()?);
            let printable = |us: i64| super::DAYS.contains(&us.div_euclid(super::DAY_US));
            // The log has milliseconds and cuts off the rest, which would lower the bound.
            let greatest = greatest.checked_add(999)?;
            (printable(least) && printable(greatest))
                .then_some((Bound::TimestampUs(least), Bound::TimestampUs(greatest)))
        }
        (ColumnType::F64, Statistics::Double(s)) => {
            Some((Bound::F64(*s.min_opt()?), Bound::F64(*s.max_opt()?)))
        }
        (ColumnType::Text, Statistics::ByteArray(s)) => {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
            Some((
                Bound::Text(text(s.min_opt()?.data())?),
                Bound::Text(text(s.max_opt()?.data())?),
            ))
        }
        _ => None,
    }
}

fn lesser(a: Bound, b: Bound) -> Option<Bound> {
    Some(if compare(&a, &b)?.is_le() { a } else { b })
}

fn greater(a: Bound, b: Bound) -> Option<Bound> {
    Some(if compare(&a, &b)?.is_ge() { a } else { b })
}

fn compare(a: &Bound, b: &Bound) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Bound::I32(a), Bound::I32(b)) => Some(a.cmp(b)),
        (Bound::I64(a), Bound::I64(b)) | (Bound::TimestampUs(a), Bound::TimestampUs(b)) => {
            Some(a.cmp(b))
        }
        (Bound::F64(a), Bound::F64(b)) => a.partial_cmp(b),
        (Bound::Text(a), Bound::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
