//! What can go wrong while telemetry is set up. Nothing here happens on the data path.

use std::net::SocketAddr;

/// Why logs, metrics or the health endpoints could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Metrics of this stamp are already in the registry.
    #[error("metric {name} of stamp {stamp} is already registered")]
    Registered {
        /// The metric.
        name: &'static str,
        /// The stamp, the constant label.
        stamp: String,
        /// The registry's own words.
        #[source]
        source: prometheus::Error,
    },
    /// The address cannot be listened on: taken, not of this machine, or not allowed.
    #[error("listen on {address} for health and metrics")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The log filter is not one.
    #[error("log filter {filter:?} is not of the form `info,stamp_consumer=debug`")]
    Filter {
        /// As configured.
        filter: String,
        /// Which part is wrong.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Spans cannot be sent like this.
    #[error("traces to {endpoint}: {why}")]
    Traces {
        /// As configured.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// Logs were already set up in this process.
    #[error("logs are already set up in this process")]
    LogsInstalled(#[source] tracing_subscriber::util::TryInitError),
}
