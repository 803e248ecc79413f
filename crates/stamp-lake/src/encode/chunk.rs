//! Writes a column that was encoded here, between the columns that the library writes.

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use zstd::bulk::Compressor;

use super::columns::{Rows, Source, Values};
use super::{delta, keyed, plain};

/// Rows of a page: what the library's limit of 20,000 comes to in its own batches.
pub(super) const PAGE_ROWS: usize = 20_480;

/// A column without nulls, encoded and not yet compressed.
pub(super) struct Chunk {
    pub(super) dictionary: Option<DictionaryPage>,
    /// Of the pages.
    pub(super) encoding: Encoding,
    pub(super) pages: Vec<EncodedPage>,
    pub(super) order: BoundaryOrder,
    /// Of all rows.
    pub(super) statistics: Statistics,
    /// 0 for a type that could have NaNs, which the values here never are; else none.
    pub(super) nans: Option<i64>,
}

impl Chunk {
    /// Encodes `rows` of a column without nulls, as `properties` say; `None` for what is left to the library.
    pub(super) fn of(
        column: &Source<'_>,
        rows: Rows<'_>,
        properties: &WriterProperties,
        path: &ColumnPath,
    ) -> Option<Self> {
        let keyed = properties.dictionary_enabled(path);
        let encoding = properties.encoding(path);
        let delta = encoding == Some(Encoding::DELTA_BINARY_PACKED);
        match &column.values {
            Values::Text(dictionary, keys) if keyed => keyed::texts(dictionary, keys, rows),
            Values::I64(values) if keyed => keyed::numbers(values, rows),
            Values::F64(values) if keyed => keyed::numbers(values, rows),
            Values::I64(values) if delta => delta::integers(values, rows),
            Values::Same(value) if delta => Some(delta::same(*value, rows.len())),
            Values::I32(values) if delta => delta::small_integers(values, rows),
            Values::F64(values) => plain::floats(values, rows, encoding?),
            Values::Bool(values) => plain::bools(values, rows),
            _ => None,
        }
    }
}

/// Distinct values by key.
pub(super) struct DictionaryPage {
    /// In plain encoding.
    pub(super) data: Vec<u8>,
    pub(super) values: usize,
}

/// [`PAGE_ROWS`] rows, or the last of them.
pub(super) struct EncodedPage {
    pub(super) rows: usize,
    pub(super) data: Vec<u8>,
    /// Least and greatest value in plain encoding, without a length.
    pub(super) least: Vec<u8>,
    pub(super) greatest: Vec<u8>,
    /// Bytes of the page's texts, if that is what they are.
    pub(super) text_bytes: Option<i64>,
}

/// Whether the bounds go up, or down, from page to page.
pub(super) fn boundary_order<T: PartialOrd>(pages: &[(T, T)]) -> BoundaryOrder {
    let all = |ordered: fn(&T, &T) -> bool| {
        let mut pairs = pages.windows(2);
        pairs.all(|pair| ordered(&pair[0].0, &pair[1].0) && ordered(&pair[0].1, &pair[1].1))
    };
    if all(T::le) {
        BoundaryOrder::ASCENDING
    } else if all(T::ge) {
        BoundaryOrder::DESCENDING
    } else {
        BoundaryOrder::UNORDERED
    }
}

/// Compresses the pages of a file, with one context for all of them.
pub(super) struct ChunkWriter {
    level: ZstdLevel,
    compressor: Compressor<'static>,
}

impl ChunkWriter {
    pub(super) fn new(level: ZstdLevel) -> Result<Self> {
        Ok(Self {
            level,
            compressor: Compressor::new(level.compression_level())?,
        })
    }

    /// Writes `chunk` as the next column of `group`, whose description is `descr`.
    pub(super) fn append(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
        descr: ColumnDescPtr,
        chunk: &Chunk,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        let close = self.write(&mut bytes, descr, chunk)?;
        group.append_column(&Bytes::from(bytes), close)
    }

    fn write(
        &mut self,
        bytes: &mut Vec<u8>,
        descr: ColumnDescPtr,
        chunk: &Chunk,
    ) -> Result<ColumnCloseResult> {
        let mut tracked = TrackedWrite::new(bytes);
        let mut pages = SerializedPageWriter::new(&mut tracked);
        let mut column_index = ColumnIndexBuilder::new(descr.physical_type());
        let mut offset_index = OffsetIndexBuilder::new();
        let mut encodings = vec![Encoding::RLE, chunk.encoding];
        let mut page_stats = Vec::new();
        let (mut uncompressed, mut compressed, mut rows) = (0, 0, 0);
        let mut dictionary_offset = None;
        if let Some(dictionary) = &chunk.dictionary {
            let page = self.dictionary_page(dictionary)?;
            let page = pages.write_page(page)?;
            dictionary_offset = Some(page.offset as i64);
            uncompressed += page.uncompressed_size;
            compressed += page.compressed_size;
            encodings.push(Encoding::PLAIN);
            page_stats.push(PageEncodingStats {
                page_type: PageType::DICTIONARY_PAGE,
                encoding: Encoding::PLAIN,
                count: 1,
            });
        }
        let data_offset = compressed as i64;
        for page in &chunk.pages {
            column_index.append(
                false,
                page.least.clone(),
                page.greatest.clone(),
                0,
                chunk.nans,
            );
            offset_index.append_row_count(page.rows as i64);
            offset_index.append_unencoded_byte_array_data_bytes(page.text_bytes);
            rows += page.rows;
            let page = pages.write_page(self.data_page(page, chunk.encoding)?)?;
            offset_index.append_offset_and_size(page.offset as i64, page.compressed_size as i32);
            uncompressed += page.uncompressed_size;
            compressed += page.compressed_size;
        }
        pages.close()?;
        column_index.set_boundary_order(chunk.order);
        page_stats.push(PageEncodingStats {
            page_type: PageType::DATA_PAGE,
            encoding: chunk.encoding,
            count: chunk.pages.len() as i32,
        });
        let text_bytes = chunk.pages.iter().map(|page| page.text_bytes).sum();
        let metadata = ColumnChunkMetaData::builder(descr)
            .set_compression(Compression::ZSTD(self.level))
            .set_encodings(encodings)
            .set_page_encoding_stats(page_stats)
            .set_total_compressed_size(compressed as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_num_values(rows as i64)
            .set_dictionary_page_offset(dictionary_offset)
            .set_data_page_offset(data_offset)
            .set_statistics(chunk.statistics.clone())
            .set_unencoded_byte_array_data_bytes(text_bytes)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: compressed as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: Some(column_index.build()?),
            offset_index: Some(offset_index.build()),
        })
    }

    fn dictionary_page(&mut self, page: &DictionaryPage) -> Result<CompressedPage> {
        let dictionary = Page::DictionaryPage {
            buf: self.compressor.compress(&page.data)?.into(),
            num_values: page.values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(dictionary, page.data.len()))
    }

    fn data_page(&mut self, page: &EncodedPage, encoding: Encoding) -> Result<CompressedPage> {
        let data = Page::DataPage {
            buf: self.compressor.compress(&page.data)?.into(),
            num_values: page.rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        Ok(CompressedPage::new(data, page.data.len()))
    }
}

#[cfg(test)]
mod tests;
