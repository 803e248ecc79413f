//! How a command can fail, and the exit code that says so.

use std::error::Error;

use stamp_consumer::{ConfigError, ConsumerError, StartError, WorkerError};
use stamp_eventhubs::HubError;
use stamp_lake::LakeError;
use stamp_provisioner::{CatalogueError, ProvisionError};

/// Why a command ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Exit code 1.
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Exit code 3.
    #[error("the configuration cannot be used")]
    Config(#[source] ConfigError),
    /// Exit code 3.
    #[error("the fleet's catalogue has {0} problems")]
    Catalogue(usize),
    /// Exit code 4.
    #[error("{what}; check the credential, its rights and this machine's clock")]
    Auth {
        what: String,
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The exit code of the gravest problem.
    #[error("{problems} problems; what to do is said with each")]
    Unwell { problems: usize, code: u8 },
    /// Exit code 5.
    #[error("verification found {0} differences")]
    Difference(u64),
}

impl Failure {
    pub(crate) fn failed(
        what: impl Into<String>,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed {
            what: what.into(),
            cause: Some(Box::new(cause)),
        }
    }

    pub(crate) fn because(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            cause: None,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            Self::Config(_) | Self::Catalogue(_) => 3,
            Self::Auth { .. } => 4,
            Self::Unwell { code, .. } => *code,
            Self::Difference(_) => 5,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<ConsumerError> for Failure {
    fn from(error: ConsumerError) -> Self {
        match error {
            ConsumerError::Config(error) => Self::Config(error),
            error if is_auth(&error) => Self::Auth {
                what: "access was refused".into(),
                cause: Box::new(error),
            },
            error => Self::failed("the consumer ended", error),
        }
    }
}

impl From<ProvisionError> for Failure {
    fn from(error: ProvisionError) -> Self {
        use stamp_provisioner::ConfigError as Wrong;
        match error {
            ProvisionError::Config(Wrong::Read { path, cause })
            | ProvisionError::Catalogue(CatalogueError::Read { path, cause }) => {
                Self::Config(ConfigError::Read { path, cause })
            }
            ProvisionError::Config(Wrong::Syntax { path, cause }) => {
                Self::Config(ConfigError::Syntax { path, cause })
            }
            ProvisionError::Config(Wrong::Value { key, why }) => {
                Self::Config(ConfigError::Value { key, why })
            }
            ProvisionError::Catalogue(CatalogueError::Wrong(found)) => Self::Catalogue(found.len()),
            error if error.is_denied() => Self::Auth {
                what: "access was refused".into(),
                cause: Box::new(error),
            },
            error => Self::failed("the provisioner cannot start", error),
        }
    }
}

fn is_auth(error: &ConsumerError) -> bool {
    match error {
        ConsumerError::Hub(gave_up) => refused(gave_up.last(), hub_refused),
        ConsumerError::Store { cause, .. } => refused(cause.last(), store_denied),
        ConsumerError::Worker(WorkerError::Hub { cause, .. }) => refused(cause.last(), hub_refused),
        ConsumerError::Worker(WorkerError::Start { cause, .. }) => match &**cause {
            StartError::Hub(gave_up) => refused(gave_up.last(), hub_refused),
            StartError::Store(gave_up) => refused(gave_up.last(), store_denied),
        },
        ConsumerError::Worker(
            WorkerError::Displaced { .. } | WorkerError::Gap { .. } | WorkerError::Panicked { .. },
        )
        | ConsumerError::Config(_)
        | ConsumerError::Panicked(_) => false,
    }
}

fn refused<E>(last: Option<&E>, is: impl Fn(&E) -> bool) -> bool {
    last.is_some_and(is)
}

fn hub_refused(error: &HubError) -> bool {
    matches!(error, HubError::Unauthorized { .. })
}

fn store_denied(error: &LakeError) -> bool {
    matches!(error, LakeError::Denied { .. })
}
