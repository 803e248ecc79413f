//! The service as a whole: what it starts with, what it looks at again and again, how it stops.

use std::net::SocketAddr;
use std::sync::Arc;

use stamp_http::{Access, Served, Tls, serve};
use stamp_placement::Fleet;
use stamp_placement::catalogue::Catalogue;
use stamp_reservations::{Reservations, ReservationsError};
use stamp_resilience::{GaveUp, Observer, Peer, idempotent};
use stamp_status::Facts;
use stamp_telemetry::ProvisionMetrics;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::allocator::{Allocator, AllocatorParts};
use crate::api::Api;
use crate::error::chain;
use crate::files::{Mark, marks, read_catalogue};
use crate::journal::Journal;
use crate::{CatalogueError, Clock, ConfigError, ProvisionConfig, ProvisionError};

/// What the program gives a provisioner.
pub struct ProvisionParts {
    /// Its metrics.
    pub metrics: ProvisionMetrics,
    /// Is told about every attempt at the database.
    pub observer: Arc<dyn Observer>,
    /// Seed of the jitter.
    pub seed: u64,
    /// The time.
    pub clock: Clock,
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Stamps of the catalogue.
    pub stamps: usize,
    /// Its tenants.
    pub tenants: usize,
}

/// Reads everything that a start would read, and reaches nobody. Blocks.
///
/// # Errors
/// As [`Provisioner::start`], but for the database and the address.
pub fn check(config: &ProvisionConfig) -> Result<Checked, ProvisionError> {
    let fleet = read_catalogue(&config.fleet)?.fleet;
    Access::load(config.access.clone()).map_err(ConfigError::from)?;
    config.tls.clone().map(Tls::load).transpose()?;
    Ok(Checked {
        stamps: fleet.stamps().len(),
        tenants: fleet.tenants().len(),
    })
}

/// A provisioner that accepts requests.
pub struct Provisioner {
    config: ProvisionConfig,
    allocator: Arc<Allocator>,
    access: Arc<Access>,
    tls: Option<Tls>,
    metrics: ProvisionMetrics,
    served: Served,
    /// What the files were like when they were last read.
    fleet_marks: Vec<Mark>,
    secret_marks: Vec<Mark>,
    /// Cancelled once the last request is answered.
    closed: CancellationToken,
}

impl Provisioner {
    /// Reads the files, waits until the database is reached, writes down what an earlier process gave
    /// away, and starts the server.
    ///
    /// # Errors
    /// [`ProvisionError`]; `Stopped` when `stop` was cancelled before the database was reached.
    pub async fn start(
        config: ProvisionConfig,
        parts: ProvisionParts,
        stop: &CancellationToken,
    ) -> Result<Self, ProvisionError> {
        let read = Read::files(&config)?;
        let policy = config.resilience.reservations.clone();
        let peer = Peer::new("reservations", policy, parts.seed, parts.observer)
            .map_err(|error| ConfigError::value("resilience.reservations", error.to_string()))?;
        peer.spread(config.resilience.look_every, stop).await;
        let door = open(&config, &peer, stop).await?;
        let closed = CancellationToken::new();
        let allocator = Arc::new(Allocator::new(AllocatorParts {
            fleet: read.fleet,
            door,
            peer: peer.clone(),
            part: config.part(),
            journal: read.journal,
            metrics: parts.metrics.clone(),
            clock: parts.clock,
            stop: closed.clone(),
        }));
        while !settled(&allocator, stop)
            .await
            .ok_or(ProvisionError::Stopped)?
        {
            peer.rest(stop).await;
        }
        let access = Arc::new(read.access);
        let api = Api {
            allocator: Arc::clone(&allocator),
            access: Arc::clone(&access),
            metrics: parts.metrics.clone(),
            cache_max: config.http.cache_max,
        };
        let (limits, tls) = (config.http.limits(), read.tls);
        let served = serve(
            config.listen,
            tls.clone(),
            limits,
            Arc::new(api),
            stop.clone(),
        )
        .await?;
        if config.tls.is_none() {
            tracing::warn!(
                "no TLS: keys travel in clear, and DPS calls only what stands before this"
            );
        }
        Ok(Self {
            config,
            allocator,
            access,
            tls,
            metrics: parts.metrics,
            served,
            fleet_marks: read.fleet_marks,
            secret_marks: read.secret_marks,
            closed,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// What the status page shows of it beside metrics, each time it is asked; `None` once it is gone.
    pub fn facts(&self) -> impl Fn() -> Option<Facts> + Send + Sync + 'static {
        let allocator = Arc::downgrade(&self.allocator);
        move || Some(Facts::Provisioner(allocator.upgrade()?.facts()))
    }

    /// Goes on until the `stop` that it was started with is cancelled, and returns once requests under
    /// way are answered. `reload` has the files read again, changed or not.
    pub async fn run(mut self, reload: &Notify, stop: &CancellationToken) {
        let mut ticks = interval(self.config.resilience.look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reached = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = reload.notified() => self.read_again(true),
                _ = ticks.tick() => {
                    self.read_again(false);
                    let Some(now) = settled(&self.allocator, stop).await else {
                        break;
                    };
                    if now && !reached {
                        tracing::info!("the database of reservations is back");
                    }
                    reached = now;
                }
            }
        }
        self.served.stopped().await;
        self.closed.cancel();
    }

    /// Reads what has changed, or everything. What cannot be used stays as it was.
    ///
    /// Files are small and on a disk, so that reading them here holds up nobody for long; the server
    /// runs on other tasks.
    fn read_again(&mut self, everything: bool) {
        let now = marks([&self.config.fleet]);
        if everything || now != self.fleet_marks {
            self.fleet_marks = now;
            let read = read_catalogue(&self.config.fleet);
            self.metrics.catalogue_read(read.is_ok());
            match read {
                Ok(catalogue) => {
                    let (stamps, tenants) = (
                        catalogue.fleet.stamps().len(),
                        catalogue.fleet.tenants().len(),
                    );
                    self.allocator.use_fleet(warned(catalogue));
                    tracing::info!(stamps, tenants, "the catalogue was read again");
                }
                Err(error) => refused(&error),
            }
        }
        let now = marks(&self.config.secrets());
        if everything || now != self.secret_marks {
            self.secret_marks = now;
            if let Err(error) = self.access.reload() {
                tracing::error!(error = chain(&error), "the keys before stay in force");
            }
            if let Some(Err(error)) = self.tls.as_ref().map(Tls::reload) {
                tracing::error!(error = chain(&error), "the certificates before stay in use");
            }
        }
    }
}

/// [`Allocator::settle`], unless it is to stop: a long journal is not waited for. What was not written
/// down is still in it, and what was is found in the database by the next start.
async fn settled(allocator: &Allocator, stop: &CancellationToken) -> Option<bool> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        reached = allocator.settle() => Some(reached),
    }
}

fn refused(error: &CatalogueError) {
    match error {
        CatalogueError::Wrong(findings) => {
            for finding in findings {
                tracing::error!(%finding, "the catalogue has an error");
            }
            tracing::error!("the catalogue before stays in force");
        }
        CatalogueError::Read { .. } => {
            tracing::error!(error = chain(error), "the catalogue before stays in force");
        }
    }
}

fn warned(catalogue: Catalogue) -> Fleet {
    for finding in &catalogue.warnings {
        tracing::warn!(%finding, "the catalogue has a warning");
    }
    catalogue.fleet
}

/// What is read before anybody is reached.
struct Read {
    fleet: Fleet,
    access: Access,
    tls: Option<Tls>,
    journal: Option<(Journal, Vec<crate::journal::Given>)>,
    fleet_marks: Vec<Mark>,
    secret_marks: Vec<Mark>,
}

impl Read {
    fn files(config: &ProvisionConfig) -> Result<Self, ProvisionError> {
        // Marks first: what changes while it is read is read again.
        let fleet_marks = marks([&config.fleet]);
        let secret_marks = marks(&config.secrets());
        let journal = config
            .reserve
            .as_ref()
            .map(|reserve| Journal::open(&reserve.journal));
        Ok(Self {
            fleet: warned(read_catalogue(&config.fleet)?),
            access: Access::load(config.access.clone()).map_err(ConfigError::from)?,
            tls: config.tls.clone().map(Tls::load).transpose()?,
            journal: journal.transpose()?,
            fleet_marks,
            secret_marks,
        })
    }
}

/// Waits until the database is there.
async fn open(
    config: &ProvisionConfig,
    peer: &Peer,
    stop: &CancellationToken,
) -> Result<Reservations, ProvisionError> {
    loop {
        let open = |_| Reservations::open(&config.reservations);
        match peer.run(idempotent("open"), stop, open).await {
            Ok(door) => return Ok(door),
            Err(GaveUp::Permanent { last, .. }) => return Err(denied(last)),
            Err(gave_up) if gave_up.is_cancelled() => return Err(ProvisionError::Stopped),
            Err(gave_up) => {
                tracing::warn!(
                    error = chain(&gave_up),
                    "waiting for the database of reservations"
                );
                peer.rest(stop).await;
            }
        }
    }
}

fn denied(error: ReservationsError) -> ProvisionError {
    match error {
        ReservationsError::Config { key, reason } => {
            ConfigError::value(format!("reservations.{key}"), reason).into()
        }
        error => ProvisionError::Database(error),
    }
}
