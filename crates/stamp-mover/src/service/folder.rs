//! The state of a service on disk: for each move its order, its journal, what was asked of it and
//! its report. Blocks.
//!
//! The order is written before the journal, and an order without a journal is of a move that never
//! began: it is taken away at the next start. One process at a time has the folder.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::order::{MoveId, OrderOptions};
use crate::journal::{Journal, JournalError};
use crate::plan::Plan;
use crate::report::Report;
use crate::request::Requests;

/// Held by the process that has the folder.
const LOCK: &str = "mover.lock";
/// Most files of a folder: five of each move that can be kept.
const FILES_MAX: usize = 10_000;
/// Largest file of an order.
const ORDER_BYTES_MAX: u64 = 1 << 20;
/// Largest file of a report: a million devices.
const REPORT_BYTES_MAX: u64 = 2 << 30;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("another process has the moves of {}", .0.display())]
    Busy(PathBuf),
    /// The file system says no.
    #[error("{}: {doing}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What is kept of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Ordered {
    /// Of the order; `None` for a journal that was put into the folder by hand.
    pub(crate) digest: Option<String>,
    pub(crate) options: OrderOptions,
}

/// A report on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Reported {
    /// Nothing more will happen.
    pub(crate) is_final: bool,
    pub(crate) report: Report,
}

/// The state folder of a service.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is not there, and keeps other processes out.
    ///
    /// # Errors
    /// [`FolderError::Busy`], [`FolderError::Io`].
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |doing| move |source| io_error(path, doing, source);
        fs::create_dir_all(path).map_err(failed("making the folder"))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK));
        let file = file.map_err(failed("opening its lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: file,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::Busy(path.to_owned())),
            Err(error) => Err(io_error(path, "locking it", error.into())),
        }
    }

    /// Every move that began. Orders of others are taken away.
    ///
    /// # Errors
    /// [`FolderError`].
    pub(crate) fn moves(&self) -> Result<BTreeMap<MoveId, Ordered>, FolderError> {
        let failed = |source| io_error(&self.path, "reading the folder", source);
        let (mut journals, mut orders) = (Vec::new(), Vec::new());
        for (count, entry) in fs::read_dir(&self.path).map_err(failed)?.enumerate() {
            if count >= FILES_MAX {
                let problem = format!("over {FILES_MAX} files");
                return Err(broken(&self.path, problem));
            }
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            let id = |end: &str| MoveId::parse(name.strip_suffix(end)?).ok();
            journals.extend(id(".jsonl"));
            orders.extend(id(".order.json"));
        }
        for id in orders.iter().filter(|id| !journals.contains(id)) {
            tracing::warn!(%id, "an order never became a move: it is taken away");
            self.remove(&self.order(id))?;
        }
        let read = |id: MoveId| {
            let ordered = self.read(&self.order(&id), ORDER_BYTES_MAX)?;
            let by_hand = || Ordered {
                digest: None,
                options: OrderOptions::default(),
            };
            Ok((id, ordered.unwrap_or_else(by_hand)))
        };
        journals.into_iter().map(read).collect()
    }

    /// Where the journal of a move is.
    pub(crate) fn journal(&self, id: &MoveId) -> PathBuf {
        self.path.join(format!("{id}.jsonl"))
    }

    /// What is asked of a move.
    pub(crate) fn requests(&self, id: &MoveId) -> Requests {
        Requests::of(&self.journal(id))
    }

    fn order(&self, id: &MoveId) -> PathBuf {
        self.path.join(format!("{id}.order.json"))
    }

    fn report_of(&self, id: &MoveId) -> PathBuf {
        self.path.join(format!("{id}.report.json"))
    }

    /// Begins a move: what is left of one that was forgotten half is not of this one.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn begin(
        &self,
        id: &MoveId,
        ordered: &Ordered,
        plan: &Plan,
        now_us: i64,
    ) -> Result<Journal, JournalError> {
        let io = |error: FolderError| match error {
            FolderError::Io {
                path,
                doing,
                source,
            } => JournalError::Io {
                path,
                doing,
                source,
            },
            other => JournalError::Io {
                path: self.path.clone(),
                doing: "writing the order",
                source: io::Error::other(other.to_string()),
            },
        };
        self.remove(&self.report_of(id)).map_err(io)?;
        self.write(&self.order(id), ordered).map_err(io)?;
        Journal::create(&self.journal(id), plan, ordered.options.policy(), now_us)
    }

    /// Keeps a report in the place of the one before.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub(crate) fn keep(&self, id: &MoveId, reported: &Reported) -> Result<(), FolderError> {
        self.write(&self.report_of(id), reported)
    }

    /// The report of a move, if there is one.
    ///
    /// # Errors
    /// [`FolderError`].
    pub(crate) fn report(&self, id: &MoveId) -> Result<Option<Reported>, FolderError> {
        self.read(&self.report_of(id), REPORT_BYTES_MAX)
    }

    /// Removes everything of a move. Requests go before the journal, so that they are never taken for
    /// those of a later move; the order goes after it, so that the rest of a removal is seen.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub(crate) fn forget(&self, id: &MoveId) -> Result<(), FolderError> {
        let journal = self.journal(id);
        let lock = self.path.join(format!("{id}.jsonl.lock"));
        let requests = self.path.join(format!("{id}.jsonl.requests"));
        for path in [requests, journal, self.report_of(id), self.order(id), lock] {
            self.remove(&path)?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), FolderError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(io_error(path, "removing it", source))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file beside its place, and gives it its name when it is on the disk.
    fn write(&self, path: &Path, content: &impl Serialize) -> Result<(), FolderError> {
        let failed = |source| io_error(path, "writing it", source);
        let text = serde_json::to_vec(content).map_err(|error| failed(error.into()))?;
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&fresh, path).map_err(failed)?;
        let folder = File::open(&self.path).and_then(|folder| folder.sync_all());
        folder.map_err(failed)
    }

    fn read<T: DeserializeOwned>(
        &self,
        path: &Path,
        bytes_max: u64,
    ) -> Result<Option<T>, FolderError> {
        let failed = |source| io_error(path, "reading it", source);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let mut text = Vec::new();
        let read = file.take(bytes_max + 1).read_to_end(&mut text);
        if read.map_err(failed)? as u64 > bytes_max {
            return Err(broken(path, format!("over {bytes_max} bytes")));
        }
        let content = serde_json::from_slice(&text);
        content
            .map(Some)
            .map_err(|error| broken(path, error.to_string()))
    }
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> FolderError {
    FolderError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

fn broken(path: &Path, problem: String) -> FolderError {
    FolderError::Broken {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use stamp_model::{DeviceId, StampId, TenantId};

    use super::*;
    use crate::plan::{PlannedDevice, Side};

    fn plan() -> Plan {
        let side = |stamp: &str| Side {
            stamp: StampId::parse(stamp).unwrap(),
            hub: format!("{stamp}.example"),
            registry_per_minute: 100,
            twin_reads_per_minute: 100,
        };
        let prod = StampId::parse("prod").unwrap();
        Plan {
            source: side("test"),
            targets: [(prod.clone(), side("prod"))].into(),
            devices: vec![PlannedDevice {
                device: DeviceId::parse("d".into()).unwrap(),
                registration: "d".to_owned(),
                tenant: TenantId::parse("contoso").unwrap(),
                target: prod,
            }],
        }
    }

    fn ordered() -> Ordered {
        Ordered {
            digest: Some("a".to_owned()),
            options: OrderOptions {
                acts_max: 3,
                ..OrderOptions::default()
            },
        }
    }

    fn id(text: &str) -> MoveId {
        MoveId::parse(text).unwrap()
    }

    #[test]
    fn moves_are_found_again_and_orders_that_never_began_are_taken_away() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("moves");
        let folder = Folder::open(&path).unwrap();
        drop(folder.begin(&id("line-7"), &ordered(), &plan(), 1).unwrap());
        folder.write(&folder.order(&id("cut")), &ordered()).unwrap();
        fs::copy(folder.journal(&id("line-7")), path.join("by-hand.jsonl")).unwrap();
        fs::write(path.join("notes.txt"), "a person's").unwrap();
        assert!(matches!(Folder::open(&path), Err(FolderError::Busy(_))));
        drop(folder);
        let folder = Folder::open(&path).unwrap();
        let moves = folder.moves().unwrap();
        assert_eq!(moves[&id("line-7")], ordered());
        assert_eq!(moves[&id("by-hand")].digest, None);
        assert_eq!(moves.len(), 2);
        assert!(!folder.order(&id("cut")).exists());
        fs::write(folder.order(&id("line-7")), "{}").unwrap();
        let error = folder.moves().unwrap_err().to_string();
        assert!(error.contains("line-7.order.json"), "{error}");
    }

    #[test]
    fn nothing_of_a_move_that_was_forgotten_is_left_to_a_later_one() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let (id, plan) = (id("line-7"), plan());
        drop(folder.begin(&id, &ordered(), &plan, 1).unwrap());
        let request = crate::Request {
            at_us: 1,
            what: crate::What::RollBack,
            devices: Vec::new(),
        };
        folder.requests(&id).leave(&request).unwrap();
        folder.forget(&id).unwrap();
        let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the lock of the folder: {left:?}");
        assert_eq!(folder.requests(&id).read().unwrap(), []);
        assert_eq!(folder.moves().unwrap().len(), 0);
    }
}
