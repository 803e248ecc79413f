//! What people ask of a move: lines in a file beside its journal, which a running mover takes in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Largest file of requests.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Finish the acts that are under way, then end. Going on takes a [`What::Continue`].
    Pause,
    /// Go on, and try again what was refused.
    Continue,
    /// Begin with no further device: those that were not touched stay where they are, the others go
    /// on to the end.
    Abort,
    /// Take everything back that can be.
    RollBack,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// What.
    pub what: What,
    /// Of these devices; of all when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// Why requests cannot be read or left.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The file system says no.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There are fewer than the move has taken in: somebody cut or replaced the file, and what was
    /// asked since may be among those that are there.
    #[error(
        "{} has {found} requests and the move has taken in {taken}: put back the file as it was, or remove it and ask again",
        path.display()
    )]
    Fewer {
        /// The file.
        path: PathBuf,
        /// Requests that it has.
        found: usize,
        /// Requests that it had.
        taken: usize,
    },
    /// A line is no request.
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

/// The requests of one move.
#[derive(Debug, Clone)]
pub struct Requests {
    path: PathBuf,
}

impl Requests {
    /// Those of the move with this journal.
    #[must_use]
    pub fn of(journal: &Path) -> Self {
        let mut name = journal.file_name().unwrap_or_default().to_owned();
        name.push(".requests");
        Self {
            path: journal.with_file_name(name),
        }
    }

    /// Leaves a request. It is on the disk when this returns. What somebody before did not write to
    /// the end, because the disk was full or the machine went down, was not asked and is taken away.
    ///
    /// # Errors
    /// [`RequestError::Io`], also when the file would be over 64 MiB.
    pub fn leave(&self, request: &Request) -> Result<(), RequestError> {
        let failed = |source| self.io_error(source);
        let mut text = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.path);
        let mut file = file.map_err(failed)?;
        // Others who ask at the same time wait for their turn: it takes one write.
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let end = whole_lines(&mut file).map_err(failed)?;
        if end + text.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(too_large()));
        }
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::Start(end)).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// How many bytes there are: more than before means that somebody asked something.
    pub(crate) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// All of them, but for a line that is still being written.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(&self) -> Result<Vec<Request>, RequestError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.io_error(source)),
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        let read = read.map_err(|source| self.io_error(source))?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(self.io_error(too_large()));
        }
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().enumerate();
        lines
            .map(|(index, line)| {
                serde_json::from_str(line).map_err(|error| RequestError::Broken {
                    path: self.path.clone(),
                    line: index + 1,
                    problem: error.to_string(),
                })
            })
            .collect()
    }

    /// Whether there is none, and never was since the file was removed.
    pub(crate) fn are_gone(&self) -> bool {
        matches!(self.path.try_exists(), Ok(false))
    }

    /// Removes them all.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Those that came after the first `taken`.
    ///
    /// # Errors
    /// [`RequestError::Fewer`].
    pub(crate) fn after(
        &self,
        mut all: Vec<Request>,
        taken: usize,
    ) -> Result<Vec<Request>, RequestError> {
        match all.len() < taken {
            true => Err(RequestError::Fewer {
                path: self.path.clone(),
                found: all.len(),
                taken,
            }),
            false => Ok(all.split_off(taken)),
        }
    }

    fn io_error(&self, source: io::Error) -> RequestError {
        RequestError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!("over {FILE_BYTES_MAX} bytes"))
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; 4_096];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - from).unwrap_or_default()];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(what: What) -> Request {
        Request {
            at_us: 7,
            what,
            devices: vec!["d-1".to_owned()],
        }
    }

    #[test]
    fn a_request_that_was_cut_short_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::of(&folder.path().join("move.jsonl"));
        let cut = "{\"at-us\":7,\"what\":\"pau";
        std::fs::write(&requests.path, cut).unwrap();
        assert_eq!(requests.read().unwrap(), []);
        requests.leave(&asked(What::Pause)).unwrap();
        assert_eq!(requests.read().unwrap(), [asked(What::Pause)]);
        let mut text = std::fs::read(&requests.path).unwrap();
        text.extend("x".repeat(10_000).bytes());
        std::fs::write(&requests.path, text).unwrap();
        requests.leave(&asked(What::RollBack)).unwrap();
        let all = [asked(What::Pause), asked(What::RollBack)];
        assert_eq!(requests.read().unwrap(), all);
    }

    #[test]
    fn more_than_can_be_read_again_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::of(&folder.path().join("move.jsonl"));
        let mut file = File::create(&requests.path).unwrap();
        file.set_len(FILE_BYTES_MAX - 1).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"\n").unwrap();
        let error = requests.leave(&asked(What::Pause)).unwrap_err();
        assert!(matches!(error, RequestError::Io { .. }), "{error}");
        assert_eq!(requests.bytes(), FILE_BYTES_MAX);
    }
}
