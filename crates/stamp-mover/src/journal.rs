//! The state of a move on disk: a log of lines that only grows, each on the disk before what it
//! says is acted on.
//!
//! The first line is the plan, then a line a device, then a line for each change of one. A line
//! that a crash has cut short is the last one and was never acted on: it is taken away. One process
//! at a time may have a journal open for writing: its lock file is locked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use stamp_model::StampId;
use stamp_placement::device_move::{DeviceMove, Due, MovePolicy};

use crate::kept::Kept;
use crate::mover::Progress;
use crate::plan::{DEVICES_MAX, Plan, PlannedDevice, Side};
use crate::request::{Request, RequestError, Requests};

/// Of this program's lines.
const FORMAT: u32 = 1;
/// Longest line. A device's twin has at most 72 KB.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Most bytes of what is kept of a device, so that it fits a line with the rest of it.
pub(crate) const KEPT_BYTES_MAX: usize = LINE_BYTES_MAX - (64 << 10);
/// A journal with this many lines a device is written anew when it is opened.
const LINES_A_DEVICE_MAX: usize = 16;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is one of this name already.
    #[error("{} is there already: resume it, or give another name", .0.display())]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("another process runs the move of {}", .0.display())]
    Busy(PathBuf),
    /// The file system says no.
    #[error("{}: {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no journal of this program, or of a later one.
    #[error("{}, line {line}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// One device of a move and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Moving {
    /// The device.
    pub planned: PlannedDevice,
    /// How far it is.
    pub state: DeviceMove,
    /// What the source looked like, from [`Stage::Recorded`](stamp_placement::device_move::Stage) on.
    pub kept: Option<Kept>,
    /// Why its last act was not done.
    pub why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Header {
    stampworks_move: u32,
    began_us: i64,
    source: Side,
    targets: Vec<Side>,
    policy: MovePolicy,
    devices: usize,
}

/// A line after the first. Devices are numbered in the order of their first lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Line {
    device: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    planned: Option<PlannedDevice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<DeviceMove>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    /// Empty takes an earlier one away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Requests that were taken in so far; `device` means nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests: Option<usize>,
}

/// What changed of one device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) device: usize,
    pub(crate) state: DeviceMove,
    pub(crate) kept: Option<Kept>,
    pub(crate) why: Option<String>,
}

/// A move's journal. Open for writing, or read only.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` when it was opened for reading.
    file: Option<File>,
    /// Held for as long as this lives.
    _lock: Option<File>,
    header: Header,
    moving: Vec<Moving>,
    requests: usize,
    /// A write failed: what is at the end of the file is not known.
    failed: bool,
}

impl Journal {
    /// Begins a move: writes the plan and every device, and only then gives the file its name. What
    /// was asked of an earlier move of this name is not asked of this one.
    ///
    /// # Errors
    /// [`JournalError::Exists`], [`JournalError::Busy`], [`JournalError::Io`].
    pub fn create(
        path: &Path,
        plan: &Plan,
        policy: MovePolicy,
        now_us: i64,
    ) -> Result<Self, JournalError> {
        let lock = lock(path)?;
        if path.exists() {
            return Err(JournalError::Exists(path.to_owned()));
        }
        Requests::of(path)
            .remove()
            .map_err(|source| io_error(path, "removing requests to an earlier move", source))?;
        let header = Header {
            stampworks_move: FORMAT,
            began_us: now_us,
            source: plan.source.clone(),
            targets: plan.targets.values().cloned().collect(),
            policy,
            devices: plan.devices.len(),
        };
        let moving = plan.devices.iter().map(|planned| Moving {
            planned: planned.clone(),
            state: DeviceMove::planned(now_us),
            kept: None,
            why: None,
        });
        let moving: Vec<Moving> = moving.collect();
        let file = write_whole(path, &header, &moving, 0)?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            _lock: Some(lock),
            header,
            moving,
            requests: 0,
            failed: false,
        })
    }

    /// Opens a journal to go on with its move. One that has grown long is written anew.
    ///
    /// # Errors
    /// [`JournalError::Busy`], [`JournalError::Broken`], [`JournalError::Io`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let lock = lock(path)?;
        let read = read(path)?;
        let file = if read.lines > read.moving.len().saturating_mul(LINES_A_DEVICE_MAX) + 1_000 {
            write_whole(path, &read.header, &read.moving, read.requests)?
        } else {
            let failed = |source| io_error(path, "opening it to write", source);
            let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            file.set_len(read.whole_bytes).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
            file
        };
        let mut opened = Self {
            path: path.to_owned(),
            file: Some(file),
            _lock: Some(lock),
            header: read.header,
            moving: read.moving,
            requests: read.requests,
            failed: false,
        };
        if opened.requests > 0 && Requests::of(path).are_gone() {
            // Those that come now are counted from the first.
            opened.save(&[], Some(0))?;
        }
        Ok(opened)
    }

    /// Reads a journal as it is now, also while another process writes it.
    ///
    /// # Errors
    /// [`JournalError::Broken`], [`JournalError::Io`].
    pub fn look(path: &Path) -> Result<Self, JournalError> {
        let read = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            file: None,
            _lock: None,
            header: read.header,
            moving: read.moving,
            requests: read.requests,
            failed: false,
        })
    }

    /// Whether a process has the journal open for writing.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn is_running(path: &Path) -> Result<bool, JournalError> {
        match lock(path) {
            Ok(_given_back) => Ok(false),
            Err(JournalError::Busy(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every device, in the order of the plan.
    #[must_use]
    pub fn devices(&self) -> &[Moving] {
        &self.moving
    }

    /// How long stages last.
    #[must_use]
    pub fn policy(&self) -> &MovePolicy {
        &self.header.policy
    }

    /// How far the move is.
    #[must_use]
    pub fn progress(&self, now_us: i64) -> Progress {
        let mut progress = Progress {
            devices: self.moving.len(),
            ..Progress::default()
        };
        for moving in &self.moving {
            *progress.stages.entry(moving.state.stage()).or_default() += 1;
            match moving.state.next(now_us, &self.header.policy) {
                Due::Person(_) => progress.persons += 1,
                Due::Telemetry { straggler: true } => progress.stragglers += 1,
                Due::Paused => progress.paused += 1,
                _ => {}
            }
        }
        progress
    }

    /// When the move was planned, microseconds since 1970 UTC.
    #[must_use]
    pub fn began_us(&self) -> i64 {
        self.header.began_us
    }

    /// The stamp that the devices leave.
    #[must_use]
    pub fn source(&self) -> &StampId {
        &self.header.source.stamp
    }

    /// The plan as it was made.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let targets = self.header.targets.iter();
        Plan {
            source: self.header.source.clone(),
            targets: targets
                .map(|side| (side.stamp.clone(), side.clone()))
                .collect(),
            devices: self
                .moving
                .iter()
                .map(|moving| moving.planned.clone())
                .collect(),
        }
    }

    /// The requests to the move that no mover has taken in yet.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn pending(&self) -> Result<Vec<Request>, RequestError> {
        let requests = Requests::of(&self.path);
        requests.after(requests.read()?, self.requests)
    }

    /// Says anew why the act of a device was not done. In memory only: the file has an earlier reason.
    pub(crate) fn tell(&mut self, device: usize, why: Option<String>) {
        if let Some(moving) = self.moving.get_mut(device) {
            moving.why = why;
        }
    }

    /// Requests that were taken in so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// Writes changes, and how many requests were taken in, and waits until they are on the disk.
    /// Only then are they what [`Journal::devices`] says.
    ///
    /// # Errors
    /// [`JournalError::Io`]. Nothing more may be done then: what is on the disk is not known, so
    /// nothing is written after it until the journal is opened again.
    pub(crate) fn save(
        &mut self,
        changes: &[Change],
        requests: Option<usize>,
    ) -> Result<(), JournalError> {
        if changes.is_empty() && requests.is_none() {
            return Ok(());
        }
        let mut text = Vec::new();
        for change in changes {
            push(
                &mut text,
                &Line {
                    device: change.device,
                    planned: None,
                    state: Some(change.state),
                    kept: change.kept.clone(),
                    why: Some(change.why.clone().unwrap_or_default()),
                    requests: None,
                },
            );
        }
        if let Some(requests) = requests {
            // After the changes that they caused: when it is missing they are taken in again.
            push(&mut text, &taken(requests));
        }
        let failed = |source| io_error(&self.path, "writing it", source);
        if self.failed {
            // A line behind one that was cut short would make one that nobody can read.
            return Err(failed(io::Error::other("a write before this one failed")));
        }
        let read_only = || failed(io::Error::from(io::ErrorKind::PermissionDenied));
        let file = self.file.as_mut().ok_or_else(read_only)?;
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if let Err(source) = written {
            self.failed = true;
            return Err(failed(source));
        }
        for change in changes {
            if let Some(moving) = self.moving.get_mut(change.device) {
                moving.state = change.state;
                moving.why.clone_from(&change.why);
                if change.kept.is_some() {
                    moving.kept.clone_from(&change.kept);
                }
            }
        }
        self.requests = requests.unwrap_or(self.requests);
        Ok(())
    }
}

fn taken(requests: usize) -> Line {
    Line {
        device: 0,
        planned: None,
        state: None,
        kept: None,
        why: None,
        requests: Some(requests),
    }
}

fn push(text: &mut Vec<u8>, line: &impl Serialize) {
    // Texts, numbers and JSON values always have a JSON form.
    if let Ok(json) = serde_json::to_vec(line) {
        text.extend(json);
        text.push(b'\n');
    }
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// `name` with another end, in the same folder.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// The kernel gives the lock back when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, JournalError> {
    let lock = beside(path, ".lock");
    let failed = |source| io_error(&lock, "opening it", source);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock);
    let file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Busy(path.to_owned())),
        Err(error) => Err(io_error(&lock, "locking it", error.into())),
    }
}

/// Writes a journal beside its place, and gives it its name when it is on the disk.
fn write_whole(
    path: &Path,
    header: &Header,
    moving: &[Moving],
    requests: usize,
) -> Result<File, JournalError> {
    let fresh = beside(path, ".new");
    let failed = |source| io_error(&fresh, "writing it", source);
    let mut text = Vec::new();
    push(&mut text, header);
    for (device, moving) in moving.iter().enumerate() {
        push(
            &mut text,
            &Line {
                device,
                planned: Some(moving.planned.clone()),
                state: Some(moving.state),
                kept: moving.kept.clone(),
                why: moving.why.clone(),
                requests: None,
            },
        );
    }
    push(&mut text, &taken(requests));
    let mut file = File::create(&fresh).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&fresh, path).map_err(|source| io_error(path, "giving it its name", source))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    let synced = folder.and_then(|folder| folder.sync_all());
    synced.map_err(|source| io_error(path, "writing its folder", source))?;
    Ok(file)
}

struct Read {
    header: Header,
    moving: Vec<Moving>,
    requests: usize,
    lines: usize,
    /// Without a last line that was cut short.
    whole_bytes: u64,
}

fn read(path: &Path) -> Result<Read, JournalError> {
    let failed = |source| io_error(path, "reading it", source);
    let broken = |line: usize, problem: String| JournalError::Broken {
        path: path.to_owned(),
        line,
        problem,
    };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let (mut number, mut whole_bytes) = (0, 0);
    let mut header = None;
    let mut moving: Vec<Moving> = Vec::new();
    let mut requests = 0;
    loop {
        let mut text = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut text);
        let bytes = read.map_err(failed)?;
        if text.pop() != Some(b'\n') {
            if bytes > LINE_BYTES_MAX {
                return Err(broken(number + 1, format!("over {LINE_BYTES_MAX} bytes")));
            }
            break;
        }
        number += 1;
        if header.is_none() {
            header = Some(read_header(&text).map_err(|problem| broken(number, problem))?);
        } else {
            let line =
                serde_json::from_slice(&text).map_err(|error| broken(number, error.to_string()))?;
            take_in(line, &mut moving, &mut requests).map_err(|problem| broken(number, problem))?;
        }
        whole_bytes += bytes as u64;
    }
    let header = header.ok_or_else(|| broken(1, "it is empty".to_owned()))?;
    if header.devices != moving.len() {
        let problem = format!("{} of {} devices", moving.len(), header.devices);
        return Err(broken(number, problem));
    }
    Ok(Read {
        header,
        moving,
        requests,
        lines: number,
        whole_bytes,
    })
}

fn read_header(text: &[u8]) -> Result<Header, String> {
    let json: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match json["stampworks-move"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => return Err(format!("format {format}; this program reads {FORMAT}")),
        None => return Err("it is no journal of a move".to_owned()),
    }
    serde_json::from_value(json).map_err(|error| error.to_string())
}

fn take_in(line: Line, moving: &mut Vec<Moving>, requests: &mut usize) -> Result<(), String> {
    if let Some(taken) = line.requests {
        *requests = taken;
        return Ok(());
    }
    if let Some(planned) = line.planned {
        if line.device != moving.len() || moving.len() >= DEVICES_MAX {
            return Err(format!("device {} does not come next", line.device));
        }
        let state = line.state.ok_or("a device without a state")?;
        moving.push(Moving {
            planned,
            state,
            kept: line.kept,
            why: line.why.filter(|why| !why.is_empty()),
        });
        return Ok(());
    }
    let known = moving.get_mut(line.device);
    let known = known.ok_or_else(|| format!("there is no device {}", line.device))?;
    known.state = line.state.unwrap_or(known.state);
    if line.kept.is_some() {
        known.kept = line.kept;
    }
    if let Some(why) = line.why {
        known.why = Some(why).filter(|why| !why.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
