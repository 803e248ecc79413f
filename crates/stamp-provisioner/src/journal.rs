//! What was given away without the database, on this machine's disk until it is written down there.
//!
//! One JSON object a line, each on the disk before its device is answered. A line that a kill cut off
//! was never answered, and is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stamp_model::{DeviceId, StampId, TenantId};

/// Largest journal that is read: some 500,000 devices.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// A device that was given a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) device: String,
    pub(crate) tenant: TenantId,
    pub(crate) stamp: StampId,
    pub(crate) at_us: i64,
}

impl Given {
    /// The device; `None` for a name that no version of this service writes.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        DeviceId::parse(self.device.as_str().into()).ok()
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened, read or made.
    #[error("journal {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A line is not what this service writes. Nothing of the file was changed.
    #[error("journal {path}: line {line} is not a device that was given a place")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it; `None` for a name that is no device's.
        #[source]
        cause: Option<serde_json::Error>,
    },
}

/// The file. Only one process may use it.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    /// Opens it, or makes it, and reads what was not yet written down. Blocks.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Given>), JournalError> {
        let failed = |cause| JournalError::File {
            path: path.to_owned(),
            cause,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > JOURNAL_BYTES_MAX {
            let cause = io::Error::other(format!("{size} bytes; at most {JOURNAL_BYTES_MAX}"));
            return Err(failed(cause));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let given = lines(path, &text[..whole])?;
        // A cut line goes, so that the next one does not continue it.
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok((Self { file }, given))
    }

    /// Adds one, on the disk when this returns. Blocks.
    pub(crate) fn add(&mut self, given: &Given) -> io::Result<()> {
        let before = self.file.stream_position()?;
        let mut line = serde_json::to_string(given)?;
        line.push('\n');
        let added = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if added.is_err() {
            // Half a line must not stay: the device is refused.
            self.file.set_len(before)?;
            self.file.seek(SeekFrom::Start(before))?;
        }
        added
    }

    /// Forgets everything: it is written down. Blocks.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.sync_data()
    }
}

fn lines(path: &Path, text: &str) -> Result<Vec<Given>, JournalError> {
    let read = |(index, line): (usize, &str)| {
        let wrong = |cause| JournalError::Line {
            path: path.to_owned(),
            line: index + 1,
            cause,
        };
        let given: Given = serde_json::from_str(line).map_err(|cause| wrong(Some(cause)))?;
        match given.device() {
            Some(_) => Ok(given),
            None => Err(wrong(None)),
        }
    };
    text.lines().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(device: &str) -> Given {
        Given {
            device: device.into(),
            tenant: TenantId::parse("contoso").unwrap(),
            stamp: StampId::parse("weu-1").unwrap(),
            at_us: 7,
        }
    }

    #[test]
    fn what_was_added_is_read_again_and_a_cut_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, []);
        for device in ["a", "b"] {
            journal.add(&given(device)).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"device\":\"c"].concat()).unwrap();

        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, [given("a"), given("b")]);
        journal.add(&given("d")).unwrap();
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, [given("a"), given("b"), given("d")]);
        journal.clear().unwrap();
        journal.add(&given("e")).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, [given("e")]);
    }

    #[test]
    fn a_line_of_somebody_else_is_named_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&given("a")).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in ["hello\n", "{}\n", &good.replace("\"a\"", "\"a/b\"")] {
            let text = format!("{good}{bad}{good}");
            std::fs::write(&path, &text).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
