//! Logs of the service: on stderr only, one line an event, and a limit on each place that writes them.

mod limit;

use std::io;
use std::time::Instant;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Format as Formatter, JsonFields};
use tracing_subscriber::util::SubscriberInitExt;

use crate::TelemetryError;
use limit::Limited;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object with the stable keys `timestamp` (RFC 3339, UTC), `level`, `target`,
    /// `message` and, inside a span, `span`; the event's own fields stand beside them.
    Json,
    /// For a person at a terminal.
    Text,
}

/// Sends this process's logs to stderr.
///
/// `filter` is a level with exceptions by module, such as `info,stamp_consumer=debug`. The table
/// library is silent unless the filter names `delta_kernel`.
///
/// One place in the program may write 100 lines at once and 10 a second; the next line of that place
/// is preceded by one that says how many were left out (`left_out`, and in `of` the place).
///
/// # Errors
/// [`TelemetryError::Filter`] when the filter cannot be read, [`TelemetryError::LogsInstalled`]
/// when the process has set up logs before.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    subscriber(format, filter, io::stderr, Instant::now)?
        .try_init()
        .map_err(TelemetryError::LogsInstalled)
}

/// The subscriber behind [`init`], for any writer.
fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
    clock: fn() -> Instant,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let refused = |source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    };
    // The table library says ERROR on ordinary paths, such as an attempt that is made again; what
    // matters of it is the cause of an error of ours. A filter that names it has its way.
    let quiet = if filter.contains("delta_kernel") {
        ""
    } else {
        ",delta_kernel=off"
    };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}")).map_err(refused)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // It would tell of a line that cannot be written by panicking on the same full disk.
        .log_internal_errors(false);
    Ok(match format {
        Format::Json => {
            let lines = Formatter::default()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            let builder = builder.fmt_fields(JsonFields::new());
            Box::new(
                builder
                    .event_format(Limited::new(lines, format, clock))
                    .finish(),
            )
        }
        Format::Text => {
            let lines = Formatter::default().with_ansi(false);
            let builder = builder.with_ansi(false);
            Box::new(
                builder
                    .event_format(Limited::new(lines, format, clock))
                    .finish(),
            )
        }
    })
}

#[cfg(test)]
mod tests;
