//! The commands of this very program that the demo runs beside each other, and the devices' script.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::output;

/// Lines that wait to be read; whoever writes more waits.
const LINES_MAX: usize = 10_000;

/// Where the standard output of a process goes.
enum Answers {
    ToLog,
    Read,
}

/// This program with arguments, which are shown.
fn stampworks(arguments: &[&str]) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|cause| Failure::failed("this program cannot be found", cause))?;
    output::note(&format!("$ stampworks {}", arguments.join(" ")));
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// A process that ends with this value.
pub(super) struct Process {
    name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts `stampworks` with arguments, as a person would; all that it writes goes to
    /// `logs/NAME.log`.
    pub(super) fn start(name: &str, folder: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        Self::spawn(name, folder, stampworks(arguments)?, Answers::ToLog)
    }

    /// As [`Self::start`], with lines that are read here.
    pub(super) fn start_read(
        name: &str,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<(Self, Lines), Failure> {
        Self::spawn_read(name, folder, stampworks(arguments)?)
    }

    /// Starts any command in `folder`, with lines that are read here.
    pub(super) fn spawn_read(
        name: &str,
        folder: &Path,
        command: Command,
    ) -> Result<(Self, Lines), Failure> {
        let mut process = Self::spawn(name, folder, command, Answers::Read)?;
        let lines = Lines::of(process.child.stdout.take());
        Ok((process, lines))
    }

    fn spawn(
        name: &str,
        folder: &Path,
        mut command: Command,
        answers: Answers,
    ) -> Result<Self, Failure> {
        let log = folder.join("logs").join(format!("{name}.log"));
        let cannot = |cause| Failure::failed(format!("{name} cannot be started"), cause);
        let file = File::create(&log).map_err(cannot)?;
        let stdout = match answers {
            // A pipe that nobody reads would hold the process up once it is full.
            Answers::ToLog => file.try_clone().map_err(cannot)?.into(),
            Answers::Read => Stdio::piped(),
        };
        let child = command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(file)
            .spawn();
        Ok(Self {
            name: name.to_owned(),
            child: child.map_err(cannot)?,
            log,
        })
    }

    /// Closes its standard input.
    pub(super) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Fails when it has ended by itself.
    pub(super) fn check_running(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(cause) => Err(Failure::failed(format!("{} is lost", self.name), cause)),
        }
    }

    /// Fails when it has ended with another exit code than 0.
    pub(super) fn check_not_failed(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(Some(status)) if !status.success() => Err(self.ended(status)),
            _ => Ok(()),
        }
    }

    /// Waits until it ends, and fails when that is not with exit code 0.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let lost = |cause| Failure::failed("a process is lost", cause);
        match self.child.wait().map_err(lost)? {
            status if status.success() => Ok(()),
            status => Err(self.ended(status)),
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(self) -> Result<(), Failure> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // One that is gone already is told by its exit code.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.finish()
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        Failure::because(format!(
            "{} ended with {status}; the end of {}:\n  {last}",
            self.name,
            self.log.display()
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone after `finish`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a process, with a time limit for each.
pub(super) struct Lines(Receiver<String>);

impl Lines {
    fn of(stdout: Option<ChildStdout>) -> Self {
        let (sender, lines) = sync_channel(LINES_MAX);
        if let Some(stdout) = stdout {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self(lines)
    }

    /// The next line; `None` when there is none in time, or none any more.
    pub(super) fn next(&self, until: Instant) -> Option<String> {
        let left = until.saturating_duration_since(Instant::now());
        self.0.recv_timeout(left).ok()
    }

    /// All lines until the process closes its output, at most for `time`.
    pub(super) fn rest(&self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        std::iter::from_fn(|| self.next(until)).collect()
    }
}
