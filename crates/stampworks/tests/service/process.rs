//! The real process: started, listened to, measured, signalled, ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::PROCESS_MAX;

/// Most lines of a log that are kept; a test that makes more has gone wrong.
const LINES_MAX: usize = 200_000;

/// A running `stampworks consume` or `provision`. Dropping it is SIGKILL.
pub(crate) struct Service {
    child: Child,
    log: Arc<Log>,
    /// Lines that [`Service::wait_for`] has passed.
    passed: usize,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    texts: Vec<String>,
    ended: bool,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`, the end of the process or `until`; whether it was `ready`.
    fn wait(&self, until: Instant, mut ready: impl FnMut(&Lines) -> bool) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let (lines, _) = self
            .changed
            .wait_timeout_while(self.lines(), left, |lines| !lines.ended && !ready(lines))
            .unwrap_or_else(PoisonError::into_inner);
        ready(&lines)
    }
}

impl Service {
    pub(crate) fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_by(
            Command::new(env!("CARGO_BIN_EXE_stampworks")),
            config,
            environment,
        )
    }

    /// The provisioner, with its configuration.
    pub(crate) fn provision(config: &Path) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_stampworks"));
        Self::run(program, &["provision"], config, &[] as &[(&str, &str)])
    }

    /// The service of moves, with its configuration.
    pub(crate) fn moves(config: &Path) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_stampworks"));
        let words = ["device", "serve"];
        Self::run(program, &words, config, &[] as &[(&str, &str)])
    }

    /// Starts it by a command that ends with the program, such as one that enters a namespace.
    pub(crate) fn start_by<V: AsRef<OsStr>>(
        command: Command,
        config: &Path,
        environment: &[(&str, V)],
    ) -> Self {
        Self::run(command, &["consume"], config, environment)
    }

    fn run<V: AsRef<OsStr>>(
        mut command: Command,
        subcommand: &[&str],
        config: &Path,
        environment: &[(&str, V)],
    ) -> Self {
        let mut child = command
            .args(subcommand)
            .arg("--config")
            .arg(config)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        let kept = log.clone();
        // Ends with the process, which never waits for a test that does not listen.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut lines = kept.lines();
                if lines.texts.len() < LINES_MAX {
                    lines.texts.push(line);
                }
                kept.changed.notify_all();
            }
            kept.lines().ended = true;
            kept.changed.notify_all();
        });
        Self {
            child,
            log,
            passed: 0,
        }
    }

    /// Lets `time` pass, or less when the process ends.
    pub(crate) fn watch(&self, time: Duration) {
        self.log.wait(Instant::now() + time, |_| false);
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines().texts.join("\n")
    }

    /// Waits until a line holds `text`, from after the last line that was waited for.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let from = self.passed;
        let place = |lines: &Lines| {
            let new = lines.texts.iter().skip(from);
            new.clone().position(|line| line.contains(text))
        };
        let found = self
            .log
            .wait(Instant::now() + PROCESS_MAX, |lines| place(lines).is_some());
        assert!(found, "never said {text:?}:\n{}", self.log());
        self.passed = from + place(&self.log.lines()).unwrap() + 1;
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Where the service says that its endpoints are.
    #[track_caller]
    pub(crate) fn endpoints(&self) -> String {
        self.said("endpoints=")
    }

    /// The word after `key` in the first line that has it.
    #[track_caller]
    pub(crate) fn said(&self, key: &str) -> String {
        let endpoints = |lines: &Lines| {
            let line = lines.texts.iter().find_map(|line| line.split_once(key));
            let (_, rest) = line?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        self.log.wait(Instant::now() + PROCESS_MAX, |lines| {
            endpoints(lines).is_some()
        });
        let found = endpoints(&self.log.lines());
        found.unwrap_or_else(|| panic!("never said {key}:\n{}", self.log()))
    }

    /// The sum of a metric over the series that have all of `labels`; 0 when there is none.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let answer = http_get(&self.endpoints(), "/metrics");
        let wanted: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{value}\""))
            .collect();
        let series = answer.lines().filter_map(|line| line.rsplit_once(' '));
        series
            .filter(|(key, _)| key.split('{').next() == Some(name))
            .filter(|(key, _)| wanted.iter().all(|label| key.contains(label.as_str())))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    /// What the kernel says of it.
    #[track_caller]
    pub(crate) fn proc_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap()
    }

    /// Resident memory, in bytes.
    #[track_caller]
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = self.proc_status();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1_024
    }

    /// Sends a signal such as `STOP`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// SIGTERM, and the log.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.ended()
    }

    /// SIGTERM, and it must be a clean end.
    #[track_caller]
    pub(crate) fn stop(self) {
        let (status, log) = self.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    /// Waits for the end of one whose log goes elsewhere.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits for the end, and the log.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let ended = self
            .log
            .wait(Instant::now() + PROCESS_MAX, |lines| lines.ended);
        assert!(ended, "did not end:\n{}", self.log());
        (self.child.wait().unwrap(), self.log())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of process {}\n{}", self.child.id(), self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PROCESS_MAX)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: stamp\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
