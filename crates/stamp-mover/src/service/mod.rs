//! Moves as a service: many at a time, one journal each, begun and asked over HTTP.
//!
//! [`MoverService::start`] takes in every move of its state folder and goes on with those that have
//! not ended; [`MoverService::run`] answers requests until it is stopped. A pause is on the disk and
//! holds until somebody takes it back, however often the service is started. What the catalogue,
//! the clients and the tables are is the [`Estate`]'s business; what may follow what in a move is
//! `stamp_placement::device_move`'s, here as everywhere.

mod api;
mod entry;
mod estate;
mod folder;
mod live;
mod moves;
mod order;
mod refused;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stamp_http::{Access, AccessError, HttpError, Limits, Served, Tls, serve};
use stamp_resilience::Observer;
use stamp_telemetry::MoverMetrics;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use api::OPENAPI;
pub use estate::{Estate, EstateError, OpenOf, Survey};
pub use folder::FolderError;
pub use moves::MoveLimits;
pub use order::OrderOptions;
pub use refused::Reason;

use crate::journal::Journal;
use crate::mover::Clock;
use crate::step::chain;
use api::Api;
use entry::State;
use folder::Folder;
use moves::{Moves, MovesParts};

/// Every state that a move can have, as answers and metrics write it.
pub const STATES: [&str; 6] = [
    State::Running.as_str(),
    State::Waiting.as_str(),
    State::Paused.as_str(),
    State::Held.as_str(),
    State::Failed.as_str(),
    State::Ended.as_str(),
];

/// Between two looks at the files of keys and certificates.
const FILES_EVERY: Duration = Duration::from_secs(2);

/// Why a service of moves cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The state folder cannot be used, or another process has it.
    #[error("state")]
    Folder(#[from] FolderError),
    /// The keys cannot be used.
    #[error("access")]
    Access(#[from] AccessError),
    /// The address or the certificates cannot be used.
    #[error("the server cannot start")]
    Http(#[from] HttpError),
    /// A task is gone. A fault of ours.
    #[error("a task panicked: {0}")]
    Panicked(String),
}

/// What the program gives a service.
pub struct ServiceParts<E> {
    /// The fleet with its services.
    pub estate: Arc<E>,
    /// The state folder.
    pub state: PathBuf,
    /// Where it is served.
    pub listen: SocketAddr,
    /// The server's certificate; none behind something that has one.
    pub tls: Option<Tls>,
    /// Who may ask.
    pub access: Access,
    /// Files of keys and certificates, which are read again when they change.
    pub watched: Vec<PathBuf>,
    /// What callers may take of the server.
    pub http: Limits,
    /// How many moves there may be.
    pub limits: MoveLimits,
    /// Its metrics.
    pub metrics: MoverMetrics,
    /// Is told about every attempt at a service.
    pub observer: Arc<dyn Observer>,
    /// The time.
    pub clock: Clock,
}

/// A service of moves that accepts requests.
pub struct MoverService<E> {
    moves: Arc<Moves<E>>,
    access: Arc<Access>,
    tls: Option<Tls>,
    watched: Vec<PathBuf>,
    served: Served,
}

impl<E: Estate> MoverService<E> {
    /// Takes the state folder, goes on with every move of it that has not ended, and starts the
    /// server. `stop` ends it, see [`MoverService::run`].
    ///
    /// # Errors
    /// [`ServiceError`]. A journal that cannot be read is no error but a move that has failed.
    pub async fn start(
        parts: ServiceParts<E>,
        stop: &CancellationToken,
    ) -> Result<Self, ServiceError> {
        let state = parts.state;
        let (folder, found) = blocking(move || {
            let folder = Folder::open(&state)?;
            let found = folder.moves()?;
            Ok::<_, FolderError>((folder, found))
        })
        .await??;
        let moves = Moves::new(MovesParts {
            estate: parts.estate,
            folder,
            limits: parts.limits,
            metrics: parts.metrics.clone(),
            observer: parts.observer,
            clock: parts.clock,
            stop: stop.clone(),
        });
        for (id, ordered) in found {
            let folder = Arc::clone(&moves.folder);
            let of = id.clone();
            let (reported, journal) = blocking(move || {
                let reported = folder.report(&of).unwrap_or_else(|error| {
                    tracing::warn!(id = %of, error = chain(&error), "a report is made again");
                    None
                });
                let journal = Journal::open(&folder.journal(&of));
                (reported, journal.map_err(|error| chain(&error)))
            })
            .await?;
            moves.found(id, ordered, reported, journal);
        }
        let access = Arc::new(parts.access);
        let api = Api::new(Arc::clone(&moves), Arc::clone(&access), parts.metrics);
        let tls = parts.tls;
        let served = serve(
            parts.listen,
            tls.clone(),
            parts.http,
            Arc::new(api),
            stop.clone(),
        );
        let served = match served.await {
            Ok(served) => served,
            Err(error) => {
                // Moves that were gone on with finish their acts.
                stop.cancel();
                moves.stopped().await;
                return Err(error.into());
            }
        };
        if tls.is_none() {
            tracing::warn!("no TLS: keys travel in clear");
        }
        Ok(Self {
            moves,
            access,
            tls,
            watched: parts.watched,
            served,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// Goes on until the `stop` that it was started with is cancelled, and returns once requests under
    /// way are answered and every act under way is finished. `reload` has keys and certificates read
    /// again, changed or not.
    pub async fn run(mut self, reload: &Notify, stop: &CancellationToken) {
        let mut ticks = interval(FILES_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut marks = marks(&self.watched);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = reload.notified() => self.read_again(),
                _ = ticks.tick() => {
                    let now = self::marks(&self.watched);
                    if now != marks {
                        marks = now;
                        self.read_again();
                    }
                }
            }
        }
        self.served.stopped().await;
        self.moves.stopped().await;
    }

    /// Small files on a disk: reading them here holds up nobody for long.
    fn read_again(&self) {
        if let Err(error) = self.access.reload() {
            tracing::error!(error = chain(&error), "the keys before stay in force");
        }
        if let Some(Err(error)) = self.tls.as_ref().map(Tls::reload) {
            tracing::error!(error = chain(&error), "the certificates before stay in use");
        }
    }
}

/// Size and time of each file, as far as they can be seen.
fn marks(files: &[PathBuf]) -> Vec<Option<(u64, SystemTime)>> {
    let mark = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    };
    files.iter().map(|file| mark(file)).collect()
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| ServiceError::Panicked(error.to_string()))
}
