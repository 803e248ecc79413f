//! The record of who runs what since when: one JSON object a line, only ever added to.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use stamp_consumer::ConfigError;
use stamp_placement::rollout::Entry;

use super::files::read_text;
use crate::exit::Failure;

/// Largest record that is read: some 300,000 changes.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Where the record is.
#[derive(Debug, Args)]
pub(super) struct RecordPath {
    /// The record of rollouts; `rollout.jsonl` beside the catalogue when not given.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

impl RecordPath {
    /// The file, for this catalogue.
    pub(super) fn path(&self, catalogue: &Path) -> PathBuf {
        if let Some(path) = &self.record {
            return path.clone();
        }
        let folder = match catalogue.is_dir() {
            true => catalogue,
            false => catalogue.parent().unwrap_or(Path::new("")),
        };
        folder.join("rollout.jsonl")
    }

    /// Everything recorded so far; nothing when there is no file yet.
    pub(super) fn read(&self, catalogue: &Path) -> Result<Vec<Entry>, Failure> {
        let path = self.path(catalogue);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = read_text(&path, RECORD_BYTES_MAX)?;
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let entry = serde_json::from_str(line).map_err(|cause| {
                let key = format!("{}:{}", path.display(), index + 1);
                ConfigError::value(key, format!("is no entry of the record: {cause}"))
            })?;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Adds entries and returns once they are on the disk.
    pub(super) fn append(&self, catalogue: &Path, entries: &[Entry]) -> Result<(), Failure> {
        let path = self.path(catalogue);
        let failed = |cause| Failure::failed(format!("cannot add to {}", path.display()), cause);
        let mut lines = String::new();
        for entry in entries {
            let line = serde_json::to_string(entry)
                .map_err(|cause| Failure::failed("cannot write the record", cause))?;
            lines += &line;
            lines.push('\n');
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        // One write: a line is there whole or, after a crash, cut at the end of the file.
        file.write_all(lines.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}
