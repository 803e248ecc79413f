//! Prometheus and its `promtool`: one server a test, on a free loopback port, in a folder of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use serde_json::Value;

/// Longest start: it takes a second on a quiet machine, and tests share the machine with builds.
const START_MAX: Duration = Duration::from_secs(120);
/// Longest answer to a query.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What the server prints before its address, and once it answers.
const LISTENS: &str = "msg=\"Listening on\" address=";
const READY: &str = "Server is ready to receive web requests";
const LINES_MAX: usize = 50;

/// A running server; dropping it ends the process and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    folder: tempfile::TempDir,
    server: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts a server with this configuration (the text of `prometheus.yml`; paths in it must be
    /// absolute) and returns once it answers queries.
    ///
    /// # Panics
    /// When Prometheus is not installed or does not come up; the message holds what it printed.
    #[must_use]
    #[track_caller]
    pub fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("write the configuration");
        let mut server = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start prometheus: {error}"));
        let stderr = server.stderr.take().expect("stderr is piped");
        let (sender, ready) = sync_channel(1);
        std::thread::spawn(move || watch(stderr, &sender));
        // From here on a panic drops the guard, which ends the process.
        let mut prometheus = Self {
            folder,
            server,
            address: ([127, 0, 0, 1], 0).into(),
        };
        match ready.recv_timeout(START_MAX) {
            Ok(Ok(address)) => prometheus.address = address,
            Ok(Err(printed)) => panic!("prometheus ended:\n{printed}"),
            Err(error) => panic!("prometheus did not start: {error}"),
        }
        prometheus
    }

    /// Where its interface and its API are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `data` of an answer of the API to `/api/v1/{path}`, with parameters.
    ///
    /// # Errors
    /// What the server says is wrong, such as a query that does not parse.
    ///
    /// # Panics
    /// When it does not answer, or not with the API's JSON.
    #[track_caller]
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut target = format!("/api/v1/{path}");
        for (at, (name, value)) in parameters.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(&format!("{name}={}", percent_encoded(value)));
        }
        let answer = get(self.address, &target);
        let parsed: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{target} answered no JSON ({error}): {answer}"));
        if parsed["status"] == "success" {
            return Ok(parsed["data"].clone());
        }
        Err(parsed["error"].as_str().unwrap_or(&answer).to_owned())
    }

    /// The series that a query answers with now.
    ///
    /// # Errors
    /// As [`Prometheus::api`].
    #[track_caller]
    pub fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let data = self.api("query", &[("query", query)])?;
        Ok(match data["result"].as_array() {
            // A scalar is a time and a value, no series.
            Some(result) if data["resultType"] != "scalar" => result.clone(),
            _ => vec![data["result"].clone()],
        })
    }

    /// Every rule as the server understands it.
    ///
    /// # Panics
    /// As [`Prometheus::api`].
    #[must_use]
    #[track_caller]
    pub fn rules(&self) -> Vec<Value> {
        let answer = self.api("rules", &[]).expect("the rules");
        let groups = answer["groups"].as_array().expect("groups of rules");
        let rules = groups.iter().flat_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    /// The server's folder, for files beside its configuration.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Already gone is what we want.
        let _gone = self.server.kill();
        let _reaped = self.server.wait();
    }
}

/// What `promtool` printed, and whether it was content.
///
/// # Panics
/// When it is not installed or cannot be run.
#[must_use]
#[track_caller]
pub fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start promtool: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // Aside, so that neither waits for the other with a full pipe. One that reads no input ends it.
    let fed = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("wait for promtool");
    let _ended_early = fed.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// One of the two programs: on the path, or where `cargo xtask test` puts them.
#[track_caller]
fn program(name: &str) -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    folders.push(crate::tools().join("prometheus/usr/bin"));
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no `{name}`, neither on the path nor in target/interop: `cargo xtask test` fetches it on \
             Debian or Ubuntu; elsewhere install Prometheus"
        )
    })
}

/// Reads what the server prints to its end, so that it never blocks on a full pipe, and says once
/// where it listens when it is ready.
fn watch(stderr: impl Read, ready: &SyncSender<Result<SocketAddr, String>>) {
    let mut printed = Vec::new();
    let mut address = None;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once(LISTENS) {
            address = rest
                .split_whitespace()
                .next()
                .and_then(|text| text.parse().ok());
        }
        if let Some(address) = address.filter(|_| line.contains(READY)) {
            let _already_known = ready.try_send(Ok(address));
        }
        if printed.len() < LINES_MAX {
            printed.push(line);
        }
    }
    let _already_known = ready.try_send(Err(printed.join("\n")));
}

/// The body of one answer. HTTP/1.0, so that it comes in one piece and ends with the connection.
#[track_caller]
fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("reach prometheus");
    stream
        .set_read_timeout(Some(ANSWER_MAX))
        .expect("limit the time of an answer");
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("ask prometheus");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a whole answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    body.to_owned()
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
