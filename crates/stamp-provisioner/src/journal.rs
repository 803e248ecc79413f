//! What was given away without the database, on this machine's disk until it is written down there.
//!
//! One JSON object a line, each on the disk before its device is answered. A line that a kill cut off
//! was never answered, and is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use stamp_model::{DeviceId, StampId, TenantId};

/// Largest journal that is read and written: some 500,000 devices.
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
    /// Another process uses it: two would write over each other's lines.
    #[error("journal {0} is used by another process; each needs one of its own")]
    Busy(PathBuf),
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

/// The file. Only one process may use it, which a lock sees to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Where the whole lines end. What is behind it is cut off before anything is added.
    end: u64,
    /// Most that it may hold.
    bytes_max: u64,
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
        lock(path, &file)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > JOURNAL_BYTES_MAX {
            let cause = io::Error::other(format!("{size} bytes; at most {JOURNAL_BYTES_MAX}"));
            return Err(failed(cause));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        let given = lines(path, &text[..end])?;
        // Else a power cut may take the name, and with it the lines that are on the disk.
        folder(path)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        let journal = Self {
            file,
            end: end as u64,
            bytes_max: JOURNAL_BYTES_MAX,
        };
        Ok((journal, given))
    }

    /// Adds one, on the disk when this returns. Blocks.
    ///
    /// # Errors
    /// The device must be refused; what was written of its line does not count.
    pub(crate) fn add(&mut self, given: &Given) -> io::Result<()> {
        let mut line = serde_json::to_string(given)?;
        line.push('\n');
        let after = self.end + line.len() as u64;
        if after > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(io::Error::other(format!(
                "is full: at most {bytes_max} bytes"
            )));
        }
        // Half a line of one that failed must not be continued.
        self.file.set_len(self.end)?;
        self.file.write_all_at(line.as_bytes(), self.end)?;
        self.file.sync_data()?;
        self.end = after;
        Ok(())
    }

    /// Forgets everything: it is written down. Blocks.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.end = 0;
        self.file.sync_data()
    }
}

/// The kernel gives the lock back when the process ends, however it ends.
fn lock(path: &Path, file: &File) -> Result<(), JournalError> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => JournalError::Busy(path.to_owned()),
        error => JournalError::File {
            path: path.to_owned(),
            cause: error.into(),
        },
    })
}

fn folder(path: &Path) -> io::Result<File> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
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
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"device\":\"c"].concat()).unwrap();

        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, [given("a"), given("b")]);
        journal.add(&given("d")).unwrap();
        drop(journal);
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, [given("a"), given("b"), given("d")]);
        journal.clear().unwrap();
        journal.add(&given("e")).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [given("e")]);
    }

    #[test]
    fn a_line_of_somebody_else_is_named_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&given("a")).unwrap();
        drop(journal);
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in ["hello\n", "{}\n", &good.replace("\"a\"", "\"a/b\"")] {
            let text = format!("{good}{bad}{good}");
            std::fs::write(&path, &text).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_journal_that_another_process_uses_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&given("a")).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Busy(_)), "{error}");
        journal.add(&given("b")).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [given("a"), given("b")]);
    }

    #[test]
    fn a_line_that_failed_is_not_continued_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&given("a")).unwrap();
        // What a full disk leaves when it does not take it back either.
        let torn = "{\"device\":\"a-name-that-is-longer-than-the-next-line-".repeat(9);
        journal
            .file
            .write_all_at(torn.as_bytes(), journal.end)
            .unwrap();
        journal.add(&given("b")).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [given("a"), given("b")]);
    }

    /// One that were longer could not be read by the next start.
    #[test]
    fn a_full_journal_takes_no_more_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&given("a")).unwrap();
        journal.bytes_max = journal.end + 1;
        let error = journal.add(&given("b")).unwrap_err();
        assert!(error.to_string().contains("is full"), "{error}");
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [given("a")]);
    }
}
