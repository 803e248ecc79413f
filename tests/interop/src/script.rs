//! Runs one script to its end, or to its time limit, and returns the JSON it printed.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Most bytes that are read of each output of a script.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a script is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The pinned packages of `requirements.txt`.
    Python,
    /// CommonJS (`.cjs`), so that the pinned packages of `package.json` are found by `require`.
    Node,
}

/// Runs a script and returns the JSON value on the last line of its standard output.
///
/// `path` is relative to `tests/interop`, such as `scripts/send.py`. The script runs with that
/// folder as its own and gets no input. After `time_limit` it is killed.
///
/// # Panics
/// When the tools are not installed, when the script fails or passes its time limit, or when its
/// last line is not JSON. The message holds the end of what it printed.
#[must_use]
#[track_caller]
pub fn run_script(
    language: Language,
    path: &str,
    args: &[&str],
    time_limit: Duration,
) -> serde_json::Value {
    run_script_with(language, path, args, &[], time_limit)
}

/// As [`run_script`], with more variables in the script's environment.
///
/// # Panics
/// As [`run_script`].
#[must_use]
#[track_caller]
pub fn run_script_with(
    language: Language,
    path: &str,
    args: &[&str],
    variables: &[(&str, &str)],
    time_limit: Duration,
) -> serde_json::Value {
    let mut command = interpreter(language);
    command.arg(crate::folder().join(path)).args(args);
    command.envs(variables.iter().copied());
    let end = run(command, time_limit);
    let last = end
        .stdout
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty());
    let answer = last.map(serde_json::from_str);
    match (&end.how, answer) {
        (How::Success, Some(Ok(value))) => value,
        (How::Success, _) => panic!("{path} printed no JSON on its last line{}", end.shown()),
        (How::Failure(status), _) => panic!("{path} ended with {status}{}", end.shown()),
        (How::TimeLimit, _) => panic!("{path} was killed after {time_limit:?}{}", end.shown()),
    }
}

#[track_caller]
fn interpreter(language: Language) -> Command {
    let mut command = match language {
        Language::Python => {
            let mut command = Command::new(crate::python());
            // Unbuffered: what was printed before a kill is in the message.
            command.args(["-u", "-X", "faulthandler"]);
            command
        }
        Language::Node => {
            let mut command = Command::new(crate::node());
            command.env("NODE_PATH", crate::node_modules());
            command
        }
    };
    command.current_dir(crate::folder());
    command
}

/// How a script ended.
pub(crate) enum How {
    Success,
    Failure(std::process::ExitStatus),
    TimeLimit,
}

pub(crate) struct End {
    pub(crate) how: How,
    pub(crate) stdout: String,
    stderr: String,
}

impl End {
    pub(crate) fn shown(&self) -> String {
        format!(
            "\n--- stdout\n{}\n--- stderr\n{}",
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

/// The last 8,000 bytes or so: a failure's cause is at the end.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(8_000);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[track_caller]
pub(crate) fn run(mut command: Command, time_limit: Duration) -> End {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let stdout = read_aside(child.stdout.take().expect("stdout is piped"));
    let stderr = read_aside(child.stderr.take().expect("stderr is piped"));

    // Both outputs close when the script ends: waiting for them is waiting for it.
    let remaining = || time_limit.saturating_sub(started.elapsed());
    let first = stdout.recv_timeout(remaining());
    let second = stderr.recv_timeout(remaining());
    let in_time = first.is_ok() && second.is_ok();
    let how = finish(&mut child, in_time);
    End {
        how,
        stdout: first.or_else(|_| late(&stdout)).unwrap_or_default(),
        stderr: second.or_else(|_| late(&stderr)).unwrap_or_default(),
    }
}

fn finish(child: &mut Child, in_time: bool) -> How {
    if !in_time {
        // Already gone is as good as killed.
        let _gone = child.kill();
    }
    match child.wait() {
        Ok(_) if !in_time => How::TimeLimit,
        Ok(status) if status.success() => How::Success,
        Ok(status) => How::Failure(status),
        Err(error) => panic!("wait for a script: {error}"),
    }
}

/// What a killed script had printed; nothing when a process of its own still holds the output.
fn late(output: &Receiver<String>) -> Result<String, RecvTimeoutError> {
    output.recv_timeout(Duration::from_secs(1))
}

fn read_aside(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An unreadable end still leaves what came before it.
        let _end = output.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        let _nobody_waits = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
