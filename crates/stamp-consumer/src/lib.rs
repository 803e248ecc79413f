//! The per-stamp service: Event Hub partitions in, Delta tables out, each row exactly once.
//!
//! [`PartitionWorker`](worker) is the parent of one partition and holds every branch; decoding,
//! rollups, encoding and committing are leaves in other crates. Nothing here retries by itself or
//! sleeps: single operations run under `stamp-resilience`, and what is given up on is kept and
//! tried again. Nothing is dropped: an event ends as readings, as a row of `rejected` or as a row
//! of `quarantine`, and what the hub lost is a row of `gaps`.

mod balance;
mod buffer;
mod commit;
mod config;
mod consumer;
mod directory;
mod error;
mod facts;
mod flush;
mod lanes;
mod memory;
mod muster;
mod owners;
mod ownership;
mod parts;
mod progress;
mod quota;
mod raw;
mod reader;
mod recover;
mod replay;
mod replica;
mod shared;
mod start;
mod tally;
mod turns;
mod worker;

pub use commit::CommitError;
pub use config::{
    ConsumerConfig, GapPolicy, LogFormat, OwnershipConfig, QuotaConfig, ReadConfig,
    ResilienceConfig, RollupConfig, StartPolicy, TelemetryConfig, TenancyConfig, TenantConfig,
    TracesConfig,
};
pub use consumer::{
    Clock, Consumer, ConsumerError, Parts, TenantPlan, check_directory, plan_tenants, wall_clock,
};
pub use directory::{Directory, Route, TenantIndex};
pub use error::ConfigError;
pub use progress::{PartitionProgress, Progress};
pub use replay::{
    Replay, ReplayError, ReplayOptions, ReplayParts, ReplayProgress, ReplayReport, ReplaySource,
};
pub use start::StartError;
pub use worker::WorkerError;

/// Prints an error with its causes, `a: b: c`.
pub fn chain<'a>(error: &'a (dyn std::error::Error + 'a)) -> Chain<'a> {
    Chain(error)
}

/// See [`chain`].
pub struct Chain<'a>(&'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
