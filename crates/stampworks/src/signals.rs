//! Signals that ask a process to stop, or a service to read its files again.
//!
//! They are watched first of all, so that a stop in the middle of a start is a clean stop too. Nothing
//! here ends the process: whoever waits decides.

use std::sync::Arc;

use stamp_telemetry::Health;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|cause| Failure::failed("signals cannot be watched", cause))
}

/// SIGTERM and Ctrl-C, watched from the moment this is made.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn watch() -> Result<Self, Failure> {
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    /// Returns when the process was asked to stop.
    pub(crate) async fn received(mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The same, and SIGHUP, for a service that can read its files again.
pub(crate) struct ServiceSignals {
    stop: StopSignals,
    hangup: Signal,
}

/// What a service is asked by signals, as long as this lives.
pub(crate) struct Asked {
    /// Cancelled by the first signal to stop.
    pub(crate) stop: CancellationToken,
    /// Notified by each SIGHUP.
    pub(crate) reload: Arc<Notify>,
    task: JoinHandle<()>,
}

impl ServiceSignals {
    pub(crate) fn watch() -> Result<Self, Failure> {
        Ok(Self {
            stop: StopSignals::watch()?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// Takes the signals from now on. A stop is logged as `said`, and `health` says that the service
    /// drains. Inside a runtime only.
    pub(crate) fn taken(self, health: &Health, said: &'static str) -> Asked {
        let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        let task = tokio::spawn({
            let (stop, reload, health) = (stop.clone(), Arc::clone(&reload), health.clone());
            let Self {
                stop: signals,
                mut hangup,
            } = self;
            async move {
                let stopped = signals.received();
                tokio::pin!(stopped);
                loop {
                    tokio::select! {
                        () = &mut stopped => break,
                        Some(()) = hangup.recv() => reload.notify_one(),
                    }
                }
                tracing::info!("{said}");
                health.draining();
                stop.cancel();
            }
        });
        Asked { stop, reload, task }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}
