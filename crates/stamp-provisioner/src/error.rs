//! What can go wrong at the start, by what a person does about it.

use std::path::PathBuf;

use stamp_http::{AccessError, HttpError};
use stamp_placement::catalogue::Finding;
use stamp_reservations::ReservationsError;

use crate::JournalError;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is missing, unreadable or too large.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The TOML does not parse, a key is unknown or a value has the wrong form.
    #[error("{path} is not a valid configuration")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and key.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// A value is out of range, or two values contradict.
    #[error("{key}: {why}")]
    Value {
        /// The key, such as `reserve.share`.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl ConfigError {
    pub(crate) fn value(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            why: why.into(),
        }
    }
}

impl From<AccessError> for ConfigError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Read { path, cause } => Self::Read { path, cause },
            AccessError::Value { key, why } => Self::value(key, why),
        }
    }
}

/// The catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or folder cannot be read, or is too large.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It has errors.
    #[error("the catalogue has {} problems, the first: {}", .0.len(), first(.0))]
    Wrong(Vec<Finding>),
}

fn first(findings: &[Finding]) -> String {
    findings.first().map(Finding::to_string).unwrap_or_default()
}

/// Why a provisioner could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// See the cause.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// See the cause.
    #[error("fleet")]
    Catalogue(#[from] CatalogueError),
    /// See the cause.
    #[error("reserve")]
    Journal(#[from] JournalError),
    /// The address or the certificates cannot be used.
    #[error("the server cannot start")]
    Http(#[from] HttpError),
    /// The database does not let us in, or is not as it must be.
    #[error("the database of reservations cannot be used")]
    Database(#[source] ReservationsError),
    /// It was asked to stop before it had started.
    #[error("stopped before the database was reached")]
    Stopped,
}

impl ProvisionError {
    /// Whether the database refused us: a matter of credentials and rights.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Database(ReservationsError::Denied { .. }))
    }
}

/// An error with its causes on one line, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
