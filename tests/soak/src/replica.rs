//! One process of the service: started, watched from outside, killed, stopped, started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A process that does not answer in this time is stopped, or as good as.
const SCRAPE_MAX: Duration = Duration::from_millis(800);

/// Of a log's last line, in the report.
const END_CHARS_MAX: usize = 1_000;

/// Counters that are summed over all lives of a replica.
const COUNTED: [&str; 4] = [
    "stamp_commit_conflicts_total",
    "stamp_duplicate_rows_dropped_total",
    "stamp_redelivered_events_total",
    "stamp_invariant_violations_total",
];

/// A replica's process, and what is known of it.
pub(crate) struct Replica {
    program: PathBuf,
    config: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    lives: u32,
    endpoints: Option<String>,
    pub(crate) is_stopped: bool,
    /// How it ended without being killed, each time.
    pub(crate) own_ends: Vec<String>,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_max: u64,
    /// Of the lives that are over, and of this one as last seen.
    counted: BTreeMap<&'static str, (f64, f64)>,
}

impl Replica {
    pub(crate) fn new(program: &Path, config: PathBuf, folder: PathBuf) -> Self {
        Self {
            program: program.to_owned(),
            config,
            folder,
            child: None,
            lives: 0,
            endpoints: None,
            is_stopped: false,
            own_ends: Vec::new(),
            resident_bytes: 0,
            resident_bytes_max: 0,
            counted: BTreeMap::new(),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("log-{}", self.lives))
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        self.lives += 1;
        self.endpoints = None;
        self.is_stopped = false;
        for (before, now) in self.counted.values_mut() {
            *before += *now;
            *now = 0.0;
        }
        let log = File::create(self.log_path()).context("make a log file")?;
        let child = Command::new(&self.program)
            .args(["consume", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts it again when it has ended by itself.
    pub(crate) fn restart_if_ended(&mut self) -> Result<()> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => return self.start(),
        };
        let Some(status) = ended else {
            return Ok(());
        };
        if let Some(2 | 3) = status.code() {
            bail!(
                "the service refuses to start: see {}",
                self.log_path().display()
            );
        }
        let log = std::fs::read_to_string(self.log_path())?;
        let last: String = log
            .lines()
            .last()
            .into_iter()
            .flat_map(str::chars)
            .take(END_CHARS_MAX)
            .collect();
        self.own_ends.push(format!("{status}: {last}"));
        self.start()
    }

    /// SIGKILL; it stays dead until it is started again.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.is_stopped = false;
        Ok(())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status()?;
        // It may have ended by itself a moment ago.
        let _sent = sent.success();
        Ok(())
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn terminate(&mut self) -> Result<Option<i32>> {
        self.signal("TERM")?;
        match self.child.take() {
            Some(mut child) => Ok(child.wait()?.code()),
            None => Ok(Some(0)),
        }
    }

    /// Reads its memory and its counters, as far as it answers.
    pub(crate) async fn sample(&mut self) -> Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        if let Some(bytes) = resident_bytes(child.id()) {
            self.resident_bytes = bytes;
            self.resident_bytes_max = self.resident_bytes_max.max(bytes);
        }
        if self.is_stopped {
            return Ok(());
        }
        if self.endpoints.is_none() {
            let log = std::fs::read_to_string(self.log_path())?;
            let found = log.lines().find_map(|line| line.split_once("endpoints="));
            self.endpoints =
                found.and_then(|(_, rest)| Some(rest.split_whitespace().next()?.to_owned()));
        }
        let Some(endpoints) = &self.endpoints else {
            return Ok(());
        };
        if let Ok(Ok(text)) = timeout(SCRAPE_MAX, scrape(endpoints)).await {
            for name in COUNTED {
                self.counted.entry(name).or_default().1 = sum(&text, name);
            }
        }
        Ok(())
    }

    /// A counter over all lives, as last seen in each.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.counted
            .get(name)
            .map_or(0, |(before, now)| (before + now) as u64)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Nobody is left to tell that it could not be killed.
        let _killed = self.kill();
    }
}

async fn scrape(endpoints: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(endpoints).await?;
    let request = "GET /metrics HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The sum of a metric over its series.
fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
