//! What can go wrong in the lake, by what the caller can do about it.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use delta_kernel::KernelError;
use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
use stamp_resilience::{Classify, FailureKind};

use crate::http::Answer;

/// The cause below a [`LakeError`], for the log.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// A failed attempt on the lake. Nothing in this crate repeats one.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The configuration is wrong: fix the key and start again.
    #[error("{key}: {reason}")]
    Config {
        /// The key under the store's section.
        key: &'static str,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The container, the folder or an object that must be there is missing.
    #[error("{operation} {path}: not found")]
    Missing {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The store's answer.
        source: Cause,
    },
    /// The store refused the credential, or the credential may not do this.
    #[error("{operation} {path}: access denied")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The store's answer.
        source: Cause,
    },
    /// The store refused the request for good; repeating it would get the same answer.
    #[error("{operation} {path}: refused")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The store's answer.
        source: Cause,
    },
    /// It did not work this time and nothing was changed, or repeating it changes nothing more.
    #[error("{operation} {path}: failed, may work later")]
    Transient {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The store's answer.
        source: Cause,
    },
    /// The store is busy.
    #[error("{operation} {path}: the store is busy")]
    Throttled {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// Come back no sooner than this, when the store said so.
        retry_after: Option<Duration>,
        /// The store's answer.
        source: Cause,
    },
    /// It may have been done. Read back before anything else; never repeat it blindly.
    #[error("{operation} {path}: it is unknown whether it was done")]
    Unknown {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// How it ended here.
        source: Cause,
    },
    /// Somebody else was first. Load again, drop what is already there, and build the write anew.
    #[error("{operation} {path}: somebody else was first")]
    Conflict {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
    },
    /// A commit would have left a mark where it is or moved it back
    /// ([`Invariant::OnlyForward`](stamp_model::Invariant::OnlyForward)). Nothing was written.
    #[error("mark {app} of {table} is at {mark} and cannot move to {asked}")]
    MarkNotForward {
        /// The table.
        table: String,
        /// Whose mark.
        app: String,
        /// Where the mark is, in the table or earlier in the same call.
        mark: i64,
        /// Where it was asked to go.
        asked: i64,
    },
    /// A column of the table has another type than the schema now says. Give the field a new name.
    #[error("column {column} of {table} is {in_table} and cannot become {in_schema}")]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type, with its unit, in the table.
        in_table: String,
        /// Its type, with its unit, in the schema.
        in_schema: String,
    },
    /// A field cannot be a column.
    #[error("field {column:?} cannot be a column: {reason}")]
    Column {
        /// The field.
        column: String,
        /// Why.
        reason: String,
    },
    /// The table's log is damaged, or asks for something this version does not do.
    #[error("{operation} {table}: the table cannot be used")]
    Broken {
        /// What was tried.
        operation: &'static str,
        /// The table.
        table: String,
        /// What the table library said.
        source: Cause,
    },
    /// Rows could not be encoded. A fault of the program, not of the store.
    #[error("encode: {reason}")]
    Encode {
        /// What and where.
        reason: String,
    },
    /// A checkpoint holds something that is not a position. Nothing is guessed from it.
    #[error("checkpoint {blob} holds {value:?}, not a position")]
    CorruptCheckpoint {
        /// The blob.
        blob: String,
        /// What it holds, cut to 200 characters.
        value: String,
    },
}

impl Classify for LakeError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Transient { .. } => FailureKind::Transient,
            Self::Throttled { retry_after, .. } => FailureKind::Throttled {
                retry_after: *retry_after,
            },
            Self::Unknown { .. } => FailureKind::Unknown,
            // A conflict is permanent for the attempt: the same write can never succeed.
            Self::Config { .. }
            | Self::Missing { .. }
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Conflict { .. }
            | Self::MarkNotForward { .. }
            | Self::ColumnType { .. }
            | Self::Column { .. }
            | Self::Broken { .. }
            | Self::Encode { .. }
            | Self::CorruptCheckpoint { .. } => FailureKind::Permanent,
        }
    }
}

/// What a failure of a request leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None: it reads, or repeating it ends in the same state.
    Repeatable,
    /// A write that must not be repeated blindly.
    Once,
}

/// One request, for error texts.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) operation: &'static str,
    pub(crate) path: String,
    pub(crate) effect: Effect,
}

impl Attempt {
    pub(crate) fn repeatable(operation: &'static str, path: impl ToString) -> Self {
        Self {
            operation,
            path: path.to_string(),
            effect: Effect::Repeatable,
        }
    }

    pub(crate) fn once(operation: &'static str, path: impl ToString) -> Self {
        Self {
            operation,
            path: path.to_string(),
            effect: Effect::Once,
        }
    }

    pub(crate) fn conflict(self) -> LakeError {
        LakeError::Conflict {
            operation: self.operation,
            path: self.path,
        }
    }

    pub(crate) fn broken(self, source: impl Into<Cause>) -> LakeError {
        LakeError::Broken {
            operation: self.operation,
            table: self.path,
            source: source.into(),
        }
    }

    pub(crate) fn unknown(self, source: impl Into<Cause>) -> LakeError {
        LakeError::Unknown {
            operation: self.operation,
            path: self.path,
            source: source.into(),
        }
    }

    /// Sorts the store's answer.
    pub(crate) fn store_failed(self, error: StoreError) -> LakeError {
        let Self {
            operation,
            path,
            effect,
        } = self;
        match error {
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
                LakeError::Conflict { operation, path }
            }
            StoreError::NotFound { .. } => LakeError::Missing {
                operation,
                path,
                source: error.into(),
            },
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                LakeError::Denied {
                    operation,
                    path,
                    source: error.into(),
                }
            }
            StoreError::InvalidPath { .. }
            | StoreError::NotSupported { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::UnknownConfigurationKey { .. } => LakeError::Refused {
                operation,
                path,
                source: error.into(),
            },
            other => Self {
                operation,
                path,
                effect,
            }
            .request_failed(other),
        }
    }

    /// Sorts what is left: an answer by its status, or no answer at all.
    fn request_failed(self, error: StoreError) -> LakeError {
        let verdict = Verdict::of(&error);
        self.judged(verdict, error.into())
    }

    fn judged(self, verdict: Verdict, source: Cause) -> LakeError {
        let Self {
            operation,
            path,
            effect,
        } = self;
        match (verdict, effect) {
            (Verdict::Denied, _) => LakeError::Denied {
                operation,
                path,
                source,
            },
            (Verdict::Refused, _) => LakeError::Refused {
                operation,
                path,
                source,
            },
            (Verdict::NotSent, _) | (Verdict::Failed, Effect::Repeatable) => LakeError::Transient {
                operation,
                path,
                source,
            },
            (Verdict::Busy(retry_after), Effect::Repeatable) => LakeError::Throttled {
                operation,
                path,
                retry_after,
                source,
            },
            // A busy answer to a write is no promise: it has been seen after the write was done.
            (Verdict::Busy(_) | Verdict::Failed, Effect::Once) => LakeError::Unknown {
                operation,
                path,
                source,
            },
        }
    }

    /// Sorts what the table library said. A request that failed below it is found in the chain.
    pub(crate) fn kernel_failed(self, error: KernelError) -> LakeError {
        match error {
            KernelError::Backtraced { source, .. } => self.kernel_failed(*source),
            KernelError::ObjectStore(error) => self.store_failed(error),
            KernelError::IOError(error) => self.store_failed(StoreError::Generic {
                store: "local files",
                source: error.into(),
            }),
            other => match Verdict::of(&other) {
                Verdict::Failed if !chain_has_store(&other) => self.broken(other),
                verdict => self.judged(verdict, other.into()),
            },
        }
    }
}

/// What an error chain says about a request.
enum Verdict {
    Busy(Option<Duration>),
    Denied,
    Refused,
    NotSent,
    Failed,
}

impl Verdict {
    fn of(error: &(dyn Error + 'static)) -> Self {
        for link in chain(error) {
            if let Some(answer) = link.downcast_ref::<Answer>() {
                return match answer.status {
                    401 | 403 => Self::Denied,
                    429 | 503 => Self::Busy(answer.retry_after),
                    408 | 500.. => Self::Failed,
                    _ => Self::Refused,
                };
            }
            if let Some(http) = link.downcast_ref::<HttpError>()
                && http.kind() == HttpErrorKind::Connect
            {
                return Self::NotSent;
            }
            if let Some(io) = link.downcast_ref::<std::io::Error>()
                && matches!(
                    io.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                )
            {
                return Self::Denied;
            }
        }
        Self::Failed
    }
}

fn chain_has_store(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|link| link.is::<StoreError>() || link.is::<std::io::Error>())
}

fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + 'a {
    std::iter::successors(Some(error), |&link| link.source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::ArrowError;

    /// As a read of a data file fails: the request's error is below those of two libraries.
    fn scan_failed(kind: HttpErrorKind, cause: impl Error + Send + Sync + 'static) -> FailureKind {
        let request = StoreError::Generic {
            store: "test",
            source: Box::new(HttpError::new(kind, cause)),
        };
        let error = KernelError::Arrow(ArrowError::ExternalError(Box::new(request)));
        Attempt::repeatable("scan", "table")
            .kernel_failed(error)
            .kind()
    }

    #[test]
    fn a_scan_that_cannot_reach_the_store_is_not_a_broken_table() {
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(
            scan_failed(HttpErrorKind::Connect, refused),
            FailureKind::Transient
        );
        let reset = std::io::Error::from(ErrorKind::ConnectionReset);
        assert_eq!(
            scan_failed(HttpErrorKind::Request, reset),
            FailureKind::Transient
        );
    }

    #[test]
    fn a_file_that_is_no_parquet_is_a_broken_table() {
        let error = KernelError::Arrow(ArrowError::ParquetError("no footer".to_owned()));
        let error = Attempt::repeatable("scan", "table").kernel_failed(error);
        assert!(matches!(error, LakeError::Broken { .. }), "{error}");
    }
}
