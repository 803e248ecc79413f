//! One process: a runtime with a clock of its own, which the world drives.
//!
//! A host that is not driven is a process that the machine does not schedule (SIGSTOP): nothing of
//! it runs, and when it goes on, its clock jumps. A killed host is dropped where it stands.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_consumer::Progress;
use stamp_model::PartitionId;
use stamp_telemetry::Registry;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, wait_until};

/// What runs in a host, and how the world reaches it.
pub(crate) struct Process {
    pub(crate) actor: Arc<Actor>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), String>>,
    pub(crate) progress: Arc<Mutex<Option<Progress>>>,
    pub(crate) registry: Registry,
}

pub(crate) struct Host {
    runtime: Option<Runtime>,
    born_ms: u64,
    epoch: Instant,
    process: Process,
    ended: Option<Ended>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    Killed,
    Failed(String),
    Panicked,
}

impl Host {
    pub(crate) fn start(born_ms: u64, spawn: impl FnOnce() -> Process) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // Encoding is all that still runs beside the runtime: one after the other.
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (epoch, process) = runtime.block_on(async { (Instant::now(), spawn()) });
        Self {
            runtime: Some(runtime),
            born_ms,
            epoch,
            process,
            ended: None,
        }
    }

    pub(crate) fn actor(&self) -> &Actor {
        &self.process.actor
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.process.registry
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Whether the machine schedules it.
    pub(crate) fn runs(&self) -> bool {
        self.ended.is_none() && !self.actor().is_frozen()
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        self.process.progress.lock().unwrap().clone()
    }

    /// Whether it has a receiver of this partition open.
    pub(crate) fn reads(&self, partition: PartitionId) -> bool {
        let reading = self.actor().reading.lock().unwrap();
        reading.get(&partition).is_some_and(|&count| count > 0)
    }

    /// Lets it run until its clock stands for `to_ms`, or until it dies or freezes.
    pub(crate) fn step(&mut self, to_ms: u64) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| self.runs()) else {
            return;
        };
        let (actor, epoch, ms) = (&self.process.actor, self.epoch, to_ms - self.born_ms);
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = actor.halted.notified() => {}
                () = wait_until(epoch, ms) => {}
            }
        });
        if self.actor().is_dead() {
            self.kill();
        } else if self.process.task.is_finished() {
            self.ended = Some(outcome(runtime, &mut self.process.task));
            self.drop_runtime();
        }
    }

    pub(crate) fn stop(&self) {
        self.process.stop.cancel();
    }

    pub(crate) fn freeze(&self) {
        self.actor().freeze();
    }

    /// Goes on after a freeze: its clock jumps to now at once, whatever it was waiting for.
    pub(crate) fn thaw(&mut self, now_ms: u64) {
        if !self.actor().is_frozen() || self.ended.is_some() {
            return;
        }
        self.actor().thaw();
        if let Some(runtime) = &self.runtime {
            let here = self.epoch + Duration::from_millis(now_ms - self.born_ms);
            runtime.block_on(async {
                tokio::time::advance(here.saturating_duration_since(Instant::now())).await;
            });
        }
    }

    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(Ended::Killed);
            self.drop_runtime();
        }
    }

    /// Drops every task where it stands. A blocking job of it gets nothing done any more.
    fn drop_runtime(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn outcome(runtime: &Runtime, task: &mut JoinHandle<Result<(), String>>) -> Ended {
    match runtime.block_on(task) {
        Ok(Ok(())) => Ended::Stopped,
        Ok(Err(error)) if error.starts_with("panic") => Ended::Panicked,
        Ok(Err(error)) => Ended::Failed(error),
        Err(_) => Ended::Panicked,
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.drop_runtime();
    }
}
