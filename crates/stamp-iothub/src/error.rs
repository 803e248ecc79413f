//! What can go wrong at a service, by what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use stamp_resilience::{Classify, FailureKind};

/// What a service said when it refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Host, and port unless it is 443.
    pub peer: String,
    /// Method and path without the query, such as `PUT /devices/press-7`.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// The service's own code, such as 404001.
    pub code: Option<u32>,
    /// The service's own name for it, such as `DeviceNotFound`.
    pub name: Option<String>,
    /// Its words, at most [`Refusal::MESSAGE_CHARS_MAX`] characters.
    pub message: String,
    /// What its operators find the request by.
    pub tracking_id: Option<String>,
}

impl Refusal {
    /// Most characters of a message that are kept.
    pub const MESSAGE_CHARS_MAX: usize = 500;
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {} with ", self.peer, self.request)?;
        match self.code {
            Some(code) => write!(f, "{code}")?,
            None => write!(f, "status {}", self.status)?,
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.tracking_id {
            Some(id) => write!(f, " (tracking id {id})"),
            None => Ok(()),
        }
    }
}

/// Why an attempt at a service failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No connection could be made, so nothing was asked. Transient.
    #[error("cannot reach {peer}")]
    Unreachable {
        /// `host:port`
        peer: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The peer's certificate is not one we trust, or is for another name. Permanent: look at the
    /// host and at `extra-ca-file`.
    #[error("{peer} has no certificate that we trust")]
    Certificate {
        /// `host:port`
        peer: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },

    /// The connection broke before the answer was there. Transient for a read, unknown for a write.
    #[error("{peer} did not answer {request}: the connection was lost")]
    Lost {
        /// `host:port`
        peer: String,
        /// Method and path.
        request: String,
        /// Whether it was a write, which may have been done.
        may_have_happened: bool,
        /// How the connection ended.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The service failed or is busy. Unknown for a write unless the service says that it was not
    /// begun; else transient.
    #[error("{refusal}")]
    Busy {
        /// Its words.
        refusal: Box<Refusal>,
        /// Whether it was a write, which may have been done.
        may_have_happened: bool,
    },

    /// The service asks for fewer requests (429, or 503 with a pause). Throttled.
    #[error("{refusal}")]
    Throttled {
        /// Its words.
        refusal: Box<Refusal>,
        /// The least pause, when it was given.
        retry_after: Option<Duration>,
    },

    /// The hub's quota of the day is used up (403002). Permanent until the next UTC day.
    #[error("{0}: it ends at 00:00 UTC")]
    QuotaUsedUp(Box<Refusal>),

    /// The service does not take our credential. Transient when the token was made some time ago,
    /// since the next attempt makes a new one; else permanent: look at the key, its rights and this
    /// machine's clock.
    #[error("{refusal}; check the credential, its rights and this machine's clock")]
    Unauthorized {
        /// Its words.
        refusal: Box<Refusal>,
        /// Whether the token was one kept from an earlier request.
        token_was_kept: bool,
    },

    /// The credential is good but does not have this right, or something is switched off (403).
    /// Permanent.
    #[error("{0}")]
    Denied(Box<Refusal>),

    /// There is no such device, enrolment or registration. Permanent.
    #[error("{0}")]
    NotFound(Box<Refusal>),

    /// It is there already. Permanent.
    #[error("{0}")]
    Exists(Box<Refusal>),

    /// The record has another entity tag: somebody changed it since it was read. Permanent: read it
    /// again and decide.
    #[error("{0}")]
    Changed(Box<Refusal>),

    /// The service refuses for a reason that another attempt does not change. Permanent.
    #[error("{0}")]
    Refused(Box<Refusal>),

    /// The answer is not what the service answers: no JSON, a missing field, or over the limit.
    /// Permanent for a read, unknown for a write.
    #[error("{peer} answered {request} with something else: {detail}")]
    Answer {
        /// Host, and port unless it is 443.
        peer: String,
        /// Method and path.
        request: String,
        /// What is wrong with it.
        detail: String,
        /// Whether it was a write, which may have been done.
        may_have_happened: bool,
    },

    /// No token could be had for the request, which was not sent. As its cause.
    #[error("no token for {peer}")]
    Token {
        /// The service that the token is for.
        peer: String,
        /// What went wrong at the token's issuer.
        #[source]
        source: Box<ServiceError>,
    },

    /// The configuration cannot be used. Permanent.
    #[error("{key}: {problem}")]
    BadConfig {
        /// The key in the configuration.
        key: &'static str,
        /// What is wrong with it and what to write. Never holds a secret.
        problem: String,
    },
}

impl Classify for ServiceError {
    fn kind(&self) -> FailureKind {
        let unless = |may_have_happened: &bool, otherwise| match may_have_happened {
            true => FailureKind::Unknown,
            false => otherwise,
        };
        match self {
            Self::Unreachable { .. } => FailureKind::Transient,
            Self::Lost {
                may_have_happened, ..
            }
            | Self::Busy {
                may_have_happened, ..
            } => unless(may_have_happened, FailureKind::Transient),
            Self::Throttled { retry_after, .. } => FailureKind::Throttled {
                retry_after: *retry_after,
            },
            Self::Unauthorized { token_was_kept, .. } => match token_was_kept {
                true => FailureKind::Transient,
                false => FailureKind::Permanent,
            },
            Self::Answer {
                may_have_happened, ..
            } => unless(may_have_happened, FailureKind::Permanent),
            Self::Token { source, .. } => source.kind(),
            Self::Certificate { .. }
            | Self::QuotaUsedUp(_)
            | Self::Denied(_)
            | Self::NotFound(_)
            | Self::Exists(_)
            | Self::Changed(_)
            | Self::Refused(_)
            | Self::BadConfig { .. } => FailureKind::Permanent,
        }
    }
}

impl ServiceError {
    /// What the service said, when it answered.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Busy { refusal, .. }
            | Self::Throttled { refusal, .. }
            | Self::Unauthorized { refusal, .. }
            | Self::QuotaUsedUp(refusal)
            | Self::Denied(refusal)
            | Self::NotFound(refusal)
            | Self::Exists(refusal)
            | Self::Changed(refusal)
            | Self::Refused(refusal) => Some(refusal),
            Self::Token { source, .. } => source.refusal(),
            Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::Lost { .. }
            | Self::Answer { .. }
            | Self::BadConfig { .. } => None,
        }
    }

    /// Whether a person has to look at the credential.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        match self {
            Self::Unauthorized { .. } | Self::Denied(_) => true,
            Self::Token { source, .. } => {
                source.is_auth() || matches!(**source, Self::Refused(_) | Self::BadConfig { .. })
            }
            _ => false,
        }
    }
}

pub(crate) fn bad<T>(key: &'static str, problem: impl Into<String>) -> Result<T, ServiceError> {
    Err(ServiceError::BadConfig {
        key,
        problem: problem.into(),
    })
}
