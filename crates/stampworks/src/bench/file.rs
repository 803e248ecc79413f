//! A file of bodies to Parquet files, on one thread: what other programs do with the file of `--write-input`, so that
//! they can be compared. No hub, no table and no commit: the stages between them only.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use stamp_lake::{EncodeOptions, EncodedFile, encode_readings, encode_rollups};
use stamp_model::{PartitionId, Readings};
use stamp_rollup::{mark_late, partials, sorted_rows};
use stamp_schema::{Decoder, Schema};

use super::input::{Input, SCHEMA, Source};
use super::stages::{FLUSH_ROWS, WINDOWS};
use crate::exit::Failure;
use crate::output;

/// Of one read. A longer line is no body.
const BLOCK_BYTES: usize = 4 << 20;

/// Decodes the bodies in `input`, which is what `source` makes, and writes sorted readings and rollups into the folder
/// `output`. Prints how many bodies were rejected.
pub(super) fn convert(input: &Path, output: &Path, source: Source) -> Result<(), Failure> {
    let unread = |cause| Failure::failed(format!("cannot read {}", input.display()), cause);
    let mut lines = Lines {
        file: File::open(input).map_err(unread)?,
        rest: BytesMut::new(),
    };
    let schema =
        Schema::parse(SCHEMA).map_err(|cause| Failure::failed("the bench's schema", cause))?;
    let mut flushes = Flushes {
        schema: Arc::new(schema),
        folder: output,
        count: 0,
    };
    let mut decoder = Decoder::new(Arc::clone(&flushes.schema));
    let mut events = Input::new(source);
    let mut readings = flushes.empty();
    let (mut taken, mut rejected) = (0_u64, 0_u64);
    while let Some(block) = lines.next_block().map_err(unread)? {
        let mut at = 0;
        while let Some(size) = memchr::memchr(b'\n', &block[at..]) {
            let event = events.event_of(block.slice(at..at + size));
            at += size + 1;
            rejected += u64::from(decoder.decode(&event, &mut readings).is_err());
            taken += 1;
            if taken.is_multiple_of(FLUSH_ROWS) {
                flushes.write(std::mem::replace(&mut readings, flushes.empty()))?;
            }
        }
    }
    flushes.write(readings)?;
    output::line(&json!({ "rejected": rejected }).to_string());
    Ok(())
}

/// Cuts a file after whole lines.
struct Lines {
    file: File,
    rest: BytesMut,
}

impl Lines {
    /// Whole lines, a few megabytes of them; `None` at the end. The last line has to have an end.
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let held = self.rest.len();
        self.rest.resize(held + BLOCK_BYTES, 0);
        let mut filled = held;
        while filled < self.rest.len() {
            match self.file.read(&mut self.rest[filled..])? {
                0 => break,
                size => filled += size,
            }
        }
        self.rest.truncate(filled);
        match memchr::memrchr(b'\n', &self.rest) {
            Some(last) => Ok(Some(self.rest.split_to(last + 1).freeze())),
            None if filled == 0 => Ok(None),
            None => {
                let why =
                    format!("a line has more than {BLOCK_BYTES} bytes, or the last one no end");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

struct Flushes<'a> {
    schema: Arc<Schema>,
    folder: &'a Path,
    count: usize,
}

impl Flushes<'_> {
    fn empty(&self) -> Readings {
        let partition =
            PartitionId::new(0).unwrap_or_else(|| unreachable!("partition 0 is in range"));
        Readings::new(self.schema.shape(), partition)
    }

    fn write(&mut self, mut readings: Readings) -> Result<(), Failure> {
        let refused = |cause| Failure::failed("encoding failed", cause);
        let shape = self.schema.shape();
        mark_late(&mut readings, 0, &WINDOWS);
        let order = sorted_rows(&readings, stamp_model::START);
        let partials = partials(&readings, shape, &order, &WINDOWS);
        let options = EncodeOptions::default();
        let files = encode_readings(shape, &readings, &order, &options).map_err(refused)?;
        self.put("readings", files)?;
        self.put(
            "rollups",
            encode_rollups(&partials, &options).map_err(refused)?,
        )?;
        self.count += 1;
        Ok(())
    }

    fn put(&self, kind: &str, files: Vec<EncodedFile>) -> Result<(), Failure> {
        for (number, file) in files.into_iter().enumerate() {
            let path = self
                .folder
                .join(format!("{kind}-{:04}-{number}.parquet", self.count));
            std::fs::write(&path, &file.bytes).map_err(|cause| {
                Failure::failed(format!("cannot write {}", path.display()), cause)
            })?;
        }
        Ok(())
    }
}
