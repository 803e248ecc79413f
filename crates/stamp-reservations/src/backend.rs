//! The two databases behind one door.
//!
//! The operations are written once and compiled for each database: the statements are the same, the
//! library's types are not.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use stamp_model::{StampId, TenantId};
use stamp_placement::Load;
use tokio::sync::Semaphore;

use crate::booking::{Booked, Booking, Claim, Moved, Subject};
use crate::config::Place;
use crate::error::undone;
use crate::{ReservationsConfig, ReservationsError};

mod operations;

/// How long SQLite waits for another process that writes. It is a lock, not another attempt.
const LOCK_WAIT_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// Most bookings of one page of [`Reservations::list`].
const PAGE_MAX: i64 = 1_000;

/// The bookings of a fleet. Clones share their connections.
#[derive(Clone)]
pub struct Reservations {
    backend: Arc<Backend>,
}

impl fmt::Debug for Reservations {
    /// Says nothing of how the database is reached: the password is among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservations").finish_non_exhaustive()
    }
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It and its tables are made when they are not there.
    Making,
    Changing,
    Reading,
}

enum Backend {
    Sqlite(Connections<SqliteConnectOptions, SqliteConnection>),
    Postgres(Connections<PgConnectOptions, PgConnection>),
}

/// A few connections, made when they are first needed. The library's own pool is not used because it
/// connects again and again by itself.
struct Connections<O, C> {
    options: O,
    permits: Semaphore,
    idle: Mutex<Vec<C>>,
}

impl<O: ConnectOptions<Connection = C>, C: Connection> Connections<O, C> {
    fn new(options: O, max: usize) -> Self {
        Self {
            options,
            permits: Semaphore::new(max),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<C>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is used by nobody else, until it is put back. One that failed, or whose
    /// caller went away in the middle, is not put back.
    async fn take(&self) -> Result<C, sqlx::Error> {
        let idle = self.idle().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.options.connect().await,
        }
    }

    fn put_back(&self, connection: C) {
        self.idle().push(connection);
    }

    /// After a failure: connections that were made before it may be as dead as the one that failed,
    /// and each would cost another attempt.
    fn forget(&self) {
        self.idle().clear();
    }
}

/// Runs one operation on a connection of its own, whichever database it is.
macro_rules! on_connection {
    ($self:ident, $what:literal, $function:ident ( $($argument:expr),* )) => {
        match &*$self.backend {
            Backend::Sqlite(connections) => {
                on_connection!(connections, $what, sqlite::$function($($argument),*))
            }
            Backend::Postgres(connections) => {
                on_connection!(connections, $what, postgres::$function($($argument),*))
            }
        }
    };
    ($connections:ident, $what:literal, $module:ident :: $function:ident ( $($argument:expr),* )) => {{
        let _permit = $connections.permits.acquire().await;
        let taken = $connections.take().await;
        let mut connection = taken.map_err(|cause| undone($what, cause))?;
        let result = operations::$module::$function(&mut connection, $($argument),*).await;
        match &result {
            Ok(_) => $connections.put_back(connection),
            Err(_) => $connections.forget(),
        }
        result
    }};
}

impl Reservations {
    /// Opens the database and makes the tables that are not there. One attempt.
    ///
    /// # Errors
    /// [`ReservationsError::Config`] with the key that is wrong; else what the database said.
    pub async fn open(config: &ReservationsConfig) -> Result<Self, ReservationsError> {
        let reservations = Self::at(config, Use::Making)?;
        reservations.make_tables().await?;
        Ok(reservations)
    }

    /// A database that is there already, to change bookings in it. Nothing is made, and nobody is
    /// reached before the first call.
    ///
    /// # Errors
    /// [`ReservationsError::Config`] with the key that is wrong.
    pub fn existing(config: &ReservationsConfig) -> Result<Self, ReservationsError> {
        Self::at(config, Use::Changing)
    }

    /// The same, to look only: the database refuses every change.
    ///
    /// # Errors
    /// As [`Self::existing`].
    pub fn read_only(config: &ReservationsConfig) -> Result<Self, ReservationsError> {
        Self::at(config, Use::Reading)
    }

    fn at(config: &ReservationsConfig, purpose: Use) -> Result<Self, ReservationsError> {
        let backend = match config.place()? {
            Place::Sqlite(path) => {
                if purpose != Use::Making
                    && let Err(error) = std::fs::metadata(&path)
                {
                    return Err(ReservationsError::Config {
                        key: "url",
                        reason: format!("{}: {error}", path.display()),
                    });
                }
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .busy_timeout(LOCK_WAIT_MAX)
                    .disable_statement_logging();
                let options = match purpose {
                    Use::Reading => options.read_only(true),
                    Use::Making | Use::Changing => options
                        .create_if_missing(purpose == Use::Making)
                        .journal_mode(SqliteJournalMode::Wal)
                        // A booking that was answered must outlive a power cut, not only a kill.
                        .synchronous(SqliteSynchronous::Full),
                };
                Backend::Sqlite(Connections::new(options, 1))
            }
            Place::Postgres(url, password) => {
                let options: PgConnectOptions =
                    url.parse()
                        .map_err(|error: sqlx::Error| ReservationsError::Config {
                            key: "url",
                            reason: error.to_string(),
                        })?;
                let options = match password {
                    Some(password) => options.password(&password),
                    None => options,
                };
                let options = match purpose {
                    Use::Reading => options.options([("default_transaction_read_only", "on")]),
                    Use::Making | Use::Changing => options,
                };
                let options = options
                    .application_name("stampworks")
                    .disable_statement_logging();
                Backend::Postgres(Connections::new(options, config.connections_max))
            }
        };
        Ok(Self {
            backend: Arc::new(backend),
        })
    }

    async fn make_tables(&self) -> Result<(), ReservationsError> {
        on_connection!(self, "make tables", make_tables())
    }

    /// Books, unless the subject is booked already or the stamp has no room.
    ///
    /// Idempotent by subject. Not cancel-safe: it may have been done; [`Self::get`] tells.
    ///
    /// # Errors
    /// [`ReservationsError::Unknown`] when it may have been done, else nothing was done.
    pub async fn book(&self, claim: &Claim, now_us: i64) -> Result<Booked, ReservationsError> {
        on_connection!(self, "book", book(claim, now_us))
    }

    /// Books the subject on `to` as well and makes it its stamp; the old one is `leaving`, and its
    /// capacity stays taken until [`Self::end_move`] or [`Self::undo_move`].
    ///
    /// `version` is that of the booking the caller knows. Not cancel-safe, as [`Self::book`].
    ///
    /// # Errors
    /// As [`Self::book`].
    pub async fn begin_move(
        &self,
        subject: &Subject,
        version: i64,
        to: &StampId,
        limits: Load,
        now_us: i64,
    ) -> Result<Moved, ReservationsError> {
        on_connection!(
            self,
            "begin a move",
            begin_move(subject, version, to, limits, now_us)
        )
    }

    /// Gives back what the subject took of the stamp it has left.
    ///
    /// # Errors
    /// As [`Self::book`].
    pub async fn end_move(
        &self,
        subject: &Subject,
        version: i64,
        now_us: i64,
    ) -> Result<Moved, ReservationsError> {
        on_connection!(
            self,
            "end a move",
            finish_move(subject, version, true, now_us)
        )
    }

    /// Makes the stamp that the subject was leaving its stamp again, and gives back the other.
    ///
    /// # Errors
    /// As [`Self::book`].
    pub async fn undo_move(
        &self,
        subject: &Subject,
        version: i64,
        now_us: i64,
    ) -> Result<Moved, ReservationsError> {
        on_connection!(
            self,
            "undo a move",
            finish_move(subject, version, false, now_us)
        )
    }

    /// Makes a booking another tenant's. Where it is and what it takes stays as it is.
    ///
    /// # Errors
    /// As [`Self::book`].
    pub async fn give_to(
        &self,
        subject: &Subject,
        version: i64,
        tenant: &TenantId,
        now_us: i64,
    ) -> Result<Moved, ReservationsError> {
        on_connection!(
            self,
            "give to a tenant",
            give_to(subject, version, tenant, now_us)
        )
    }

    /// Removes a booking and gives back everything it took. [`Moved::Done`] holds it as it was.
    ///
    /// # Errors
    /// As [`Self::book`].
    pub async fn release(
        &self,
        subject: &Subject,
        version: i64,
    ) -> Result<Moved, ReservationsError> {
        on_connection!(self, "release", release(subject, version))
    }

    /// Where the subject is booked.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// Never [`ReservationsError::Unknown`].
    pub async fn get(&self, subject: &Subject) -> Result<Option<Booking>, ReservationsError> {
        on_connection!(self, "read a booking", get(subject))
    }

    /// Bookings that are on a stamp or are leaving it, in order of the subject, after `after` (empty:
    /// from the first), at most `limit` and never more than 1,000.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list(
        &self,
        stamp: &StampId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Booking>, ReservationsError> {
        let limit = i64::from(limit).min(PAGE_MAX);
        on_connection!(self, "list bookings", list(stamp, after, limit))
    }

    /// Bookings of tenants, in order of the subject, after `after` (empty: from the first), at most
    /// `limit` and never more than 1,000.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn tenants(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Booking>, ReservationsError> {
        let limit = i64::from(limit).min(PAGE_MAX);
        on_connection!(self, "list tenants", tenants(after, limit))
    }

    /// Devices of a tenant on a stamp, or on any, in order of the subject, after `after` (empty: from
    /// the first), at most `limit` and never more than 1,000. Those that are leaving the stamp too.
    ///
    /// It may read over all rows of the database: for people, not for registrations.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn devices(
        &self,
        tenant: &TenantId,
        stamp: Option<&StampId>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Booking>, ReservationsError> {
        let limit = i64::from(limit).min(PAGE_MAX);
        on_connection!(self, "list devices", devices(tenant, stamp, after, limit))
    }

    /// How many devices of a tenant are on a stamp or are leaving it. It reads over the stamp's rows.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn count_devices(
        &self,
        tenant: &TenantId,
        stamp: &StampId,
    ) -> Result<u64, ReservationsError> {
        on_connection!(self, "count devices", count_devices(tenant, stamp))
    }

    /// What is booked of every stamp that ever had a booking.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn usage(&self) -> Result<Vec<(StampId, Load)>, ReservationsError> {
        on_connection!(self, "read what is booked", usage())
    }
}
