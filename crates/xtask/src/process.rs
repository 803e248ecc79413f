//! Running other programs: plainly, for their output, or with output that is shown and kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Most lines that [`shown_and_kept`] keeps; the closing lines of a runner are far fewer.
const KEPT_LINES_MAX: usize = 4_000;

/// The command as one would type it, for messages.
pub(crate) fn typed(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Runs the command with this program's own output; its exit code (1 when a signal ended it).
pub(crate) fn status(command: &mut Command) -> Result<u8> {
    let status = command
        .status()
        .with_context(|| format!("start `{}`", typed(command)))?;
    Ok(exit_code(status))
}

/// Runs the command and fails unless it succeeds.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    match status(command)? {
        0 => Ok(()),
        code => bail!("`{}` ended with exit code {code}", typed(command)),
    }
}

/// Runs the command and returns what it printed on stdout; fails with its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start `{}`", typed(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}:\n{}",
            typed(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", typed(command)))
}

/// Runs the command and returns what it printed on stdout; its stderr is this program's.
pub(crate) fn output_beside_errors(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", typed(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", typed(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", typed(command)))
}

/// Which of a program's two outputs is kept; the other goes straight through.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    Stdout,
    Stderr,
}

/// Runs the command, showing its output as it comes and keeping the last lines of one stream.
pub(crate) fn shown_and_kept(command: &mut Command, kept: Kept) -> Result<(u8, Vec<String>)> {
    match kept {
        Kept::Stdout => command.stdout(Stdio::piped()),
        Kept::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command
        .spawn()
        .with_context(|| format!("start `{}`", typed(command)))?;
    let lines = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), _) => copy(stdout, std::io::stdout()),
        (_, Some(stderr)) => copy(stderr, std::io::stderr()),
        (None, None) => bail!("`{}` has no output to read", typed(command)),
    };
    let status = child.wait().context("wait for a started program")?;
    Ok((exit_code(status), lines.context("copy a program's output")?))
}

fn copy(from: impl Read, mut to: impl Write) -> std::io::Result<Vec<String>> {
    let mut kept = VecDeque::new();
    for line in BufReader::new(from).split(b'\n') {
        let mut line = line?;
        line.push(b'\n');
        to.write_all(&line)?;
        if kept.len() == KEPT_LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
    Ok(kept.into())
}

fn exit_code(status: std::process::ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(1),
        None => 1,
    }
}
