//! What can go wrong, by what the caller can do.

use sqlx::error::DatabaseError;
use stamp_resilience::{Classify, FailureKind};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ReservationsError {
    /// The configuration cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// The key in `[reservations]`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The database cannot be reached, or is too busy now. Nothing was done.
    #[error("{operation}: the database cannot be used now")]
    Transient {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        #[source]
        cause: sqlx::Error,
    },
    /// The database does not let us in, or not at this. Nothing was done.
    #[error("{operation}: access denied")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        #[source]
        cause: sqlx::Error,
    },
    /// The database or what is in it is not as it must be. Nothing was done.
    #[error("{operation}: refused")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        #[source]
        cause: sqlx::Error,
    },
    /// A row that no version of this service writes. Nothing was done.
    #[error("booking {subject}: {column} is {value:?}")]
    Corrupt {
        /// Whose row.
        subject: String,
        /// Which column.
        column: &'static str,
        /// What is in it.
        value: String,
    },
    /// The answer to a commit was lost: it may have been done. Read the booking.
    #[error("{operation}: it is unknown whether it was done")]
    Unknown {
        /// What was tried.
        operation: &'static str,
        /// What happened.
        #[source]
        cause: sqlx::Error,
    },
}

impl Classify for ReservationsError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Transient { .. } => FailureKind::Transient,
            Self::Unknown { .. } => FailureKind::Unknown,
            Self::Config { .. }
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Corrupt { .. } => FailureKind::Permanent,
        }
    }
}

/// Sorts a failure before the commit was sent: nothing was done.
pub(crate) fn undone(operation: &'static str, cause: sqlx::Error) -> ReservationsError {
    match sort(&cause) {
        Sort::Passing => ReservationsError::Transient { operation, cause },
        Sort::Denied => ReservationsError::Denied { operation, cause },
        Sort::Lasting => ReservationsError::Refused { operation, cause },
    }
}

/// A row that was there a statement ago: somebody else removed it, and nothing was done.
pub(crate) fn vanished(operation: &'static str) -> ReservationsError {
    ReservationsError::Transient {
        operation,
        cause: sqlx::Error::RowNotFound,
    }
}

/// Sorts a failure of the commit itself: only where the database said that it took the work back was
/// nothing done. A torn connection, a server that is shut down and a disk that fails leave it open.
pub(crate) fn uncertain(operation: &'static str, cause: sqlx::Error) -> ReservationsError {
    let code = cause.as_database_error().and_then(DatabaseError::code);
    let taken_back = match code.as_deref() {
        // PostgreSQL: a constraint, a transaction rolled back, a failed transaction.
        Some(code) if code.len() == 5 => matches!(code.get(..2), Some("23" | "25" | "40")),
        // SQLite: BUSY, LOCKED, CONSTRAINT.
        Some(code) => code
            .parse()
            .is_ok_and(|code: u32| matches!(code & 0xff, 5 | 6 | 19)),
        None => false,
    };
    if taken_back {
        undone(operation, cause)
    } else {
        ReservationsError::Unknown { operation, cause }
    }
}

enum Sort {
    Passing,
    Denied,
    Lasting,
}

/// Codes: [PostgreSQL's SQLSTATE classes](https://www.postgresql.org/docs/15/errcodes-appendix.html)
/// and [SQLite's extended result codes](https://www.sqlite.org/rescode.html).
fn sort(cause: &sqlx::Error) -> Sort {
    let code = match cause {
        sqlx::Error::Database(error) => error.code(),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            return Sort::Passing;
        }
        _ => return Sort::Lasting,
    };
    let Some(code) = code else {
        return Sort::Lasting;
    };
    if let (false, Ok(number)) = (code.len() == 5, code.parse::<u32>()) {
        // The low byte is the primary code: BUSY, LOCKED, IOERR and FULL pass; PERM, READONLY,
        // CANTOPEN and AUTH are a matter of rights.
        return match number & 0xff {
            5 | 6 | 10 | 13 => Sort::Passing,
            3 | 8 | 14 | 23 => Sort::Denied,
            _ => Sort::Lasting,
        };
    }
    match code.get(..2) {
        // Connection, transaction rollback (serialisation, deadlock), resources, shutdown, I/O.
        Some("08" | "40" | "53" | "57" | "58") => Sort::Passing,
        Some("28") => Sort::Denied,
        _ if code == "42501" || code == "25006" => Sort::Denied,
        // Lock not available.
        _ if code == "55P03" => Sort::Passing,
        _ => Sort::Lasting,
    }
}
