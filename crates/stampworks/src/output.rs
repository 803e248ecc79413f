//! The only place that writes to stdout and stderr; logs aside.

use std::error::Error;
use std::io::{self, Write};

/// Writes a line of data to stdout. A closed pipe ends nothing: the exit code still tells.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes a line for a person to stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes an error with its causes, one a line, to stderr.
pub(crate) fn error(error: &dyn Error) {
    note(&format!("error: {error}"));
    let mut cause = error.source();
    while let Some(error) = cause {
        note(&format!("  because: {error}"));
        cause = error.source();
    }
}
