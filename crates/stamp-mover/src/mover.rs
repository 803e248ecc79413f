//! Runs what is in a journal until nothing is due.

mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stamp_iothub::{DeviceRegistry, ProvisioningService};
use stamp_placement::device_move::Stage;
use tokio_util::sync::CancellationToken;

use crate::doors::Doors;
use crate::journal::{Change, Journal, JournalError};
use crate::metrics::Observed;
use crate::report::DeviceReport;
use crate::request::{RequestError, Requests};
use crate::schedule::Bounds;
use crate::sighting::Sightings;

/// Most devices that are begun and not verified: as many as are looked for at once.
pub(crate) const UNDER_WAY_MAX: usize = 100_000;

/// Microseconds since 1970 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a move is run.
#[derive(Clone)]
pub struct MoverOptions {
    /// Acts that run at the same time, 1 to 256. Default 8.
    pub acts_max: usize,
    /// Devices that were begun and are not verified yet, 1 to 100,000. Default 1,000: as many as
    /// register with DPS in a minute.
    pub under_way_max: usize,
    /// With this many stragglers no further device is begun, at least 1. Default 20.
    pub stragglers_max: usize,
    /// How often an act that was given up is tried again before its device is left for another run.
    /// Default 3.
    pub tries_max: u32,
    /// Between two looks into the target's tables. Default 10 s.
    pub look_every: Duration,
    /// Leave verified devices at the source, to be erased by another run. Default `false`.
    pub stop_at_verified: bool,
    /// The time. Devices count as seen when a hub's clock says so: both should agree.
    pub clock: Clock,
}

impl MoverOptions {
    /// The defaults with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            acts_max: 8,
            under_way_max: 1_000,
            stragglers_max: 20,
            tries_max: 3,
            look_every: Duration::from_secs(10),
            stop_at_verified: false,
            clock,
        }
    }
}

impl std::fmt::Debug for MoverOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MoverOptions")
            .field("acts_max", &self.acts_max)
            .field("under_way_max", &self.under_way_max)
            .field("stragglers_max", &self.stragglers_max)
            .finish_non_exhaustive()
    }
}

/// How far a move is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Devices of the move.
    pub devices: usize,
    /// Devices at each stage that has any.
    pub stages: BTreeMap<Stage, usize>,
    /// Devices that wait for a person.
    pub persons: usize,
    /// Devices that have not been seen for too long.
    pub stragglers: usize,
    /// Devices that a person paused.
    pub paused: usize,
}

impl Progress {
    /// Devices at the end: moved, or taken back.
    #[must_use]
    pub fn ended(&self) -> usize {
        let ended = self.stages.iter().filter(|(stage, _)| stage.is_end());
        ended.map(|(_, count)| count).sum()
    }
}

/// Why a run ended without an answer. What is in the journal is true, and can be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum MoverError {
    /// The journal cannot be written: nothing more was begun.
    #[error("the journal of the move cannot be used")]
    Journal(#[from] JournalError),
    /// The requests cannot be read.
    #[error("the requests to the move cannot be read")]
    Requests(#[from] RequestError),
    /// A task is gone. A fault of ours.
    #[error("an act panicked: {0}")]
    Panicked(String),
}

/// A move that is run.
pub struct Mover<H, D, S> {
    pub(crate) doors: Doors<H, D, S>,
    journal: Arc<Mutex<Journal>>,
    requests: Requests,
    options: MoverOptions,
    observed: Arc<dyn Observed>,
    /// How often the act of a device was given up in this run, and when it was for the last time.
    given_up: BTreeMap<usize, u32>,
}

/// Looks at the devices of a move, whoever runs it.
#[derive(Debug, Clone)]
pub struct Glimpse(Arc<Mutex<Journal>>);

impl Glimpse {
    /// At most `count` devices from the one of number `first` on, as they are now. Waits for a write
    /// of the journal that is under way.
    #[must_use]
    pub fn devices(&self, first: usize, count: usize, now_us: i64) -> Vec<DeviceReport> {
        let journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = journal.devices().iter().skip(first).take(count);
        let told = devices.map(|moving| DeviceReport::of(moving, journal.policy(), now_us));
        told.collect()
    }
}

impl<H, D, S> std::fmt::Debug for Mover<H, D, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<H, D, S> Mover<H, D, S>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    /// A move with this journal, which must be open for writing.
    #[must_use]
    pub fn new(
        doors: Doors<H, D, S>,
        journal: Journal,
        options: MoverOptions,
        observed: Arc<dyn Observed>,
    ) -> Self {
        Self {
            doors,
            requests: Requests::of(journal.path()),
            journal: Arc::new(Mutex::new(journal)),
            options,
            observed,
            given_up: BTreeMap::new(),
        }
    }

    /// Runs until nothing is due, or all that is waited for are stragglers, or it is told to pause,
    /// or cancelled. Acts that were begun are finished first.
    ///
    /// Not cancel safe: dropped, an act may have been done and its outcome not be in the journal.
    /// The next run does it again.
    ///
    /// # Errors
    /// [`MoverError`]. What a service refuses is no error but in the journal.
    pub async fn run(&mut self, cancel: &CancellationToken) -> Result<(), MoverError> {
        run::run(self, cancel).await
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.journal().progress(self.now_us())
    }

    /// A look at the devices that can be kept while the mover runs.
    #[must_use]
    pub fn glimpse(&self) -> Glimpse {
        Glimpse(Arc::clone(&self.journal))
    }

    /// The journal, also after the run.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.options.clock)()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            under_way_max: self.options.under_way_max.clamp(1, UNDER_WAY_MAX),
            stragglers_max: self.options.stragglers_max.max(1),
            stop_at_verified: self.options.stop_at_verified,
        }
    }

    /// Puts changes on the disk, away from the tasks that talk to services.
    async fn save(&self, changes: Vec<Change>, requests: Option<usize>) -> Result<(), MoverError> {
        if changes.is_empty() && requests.is_none() {
            return Ok(());
        }
        let journal = Arc::clone(&self.journal);
        let saved = tokio::task::spawn_blocking(move || {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.save(&changes, requests)
        });
        let saved = saved
            .await
            .map_err(|error| MoverError::Panicked(error.to_string()))?;
        Ok(saved?)
    }
}
