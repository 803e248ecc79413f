//! What can go wrong at the hub, by what the caller can do about it.

use std::io;
use std::time::Duration;

use stamp_model::PartitionId;
use stamp_resilience::{Classify, FailureKind};

/// Least pause after `com.microsoft:server-busy`: the condition carries none, and the clients of
/// Azure wait four seconds.
pub const THROTTLED_PAUSE: Duration = Duration::from_secs(4);

/// Why an attempt at the hub failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No connection could be made: name not found, refused, reset, or no answer in time.
    /// Transient.
    #[error("cannot reach {peer}")]
    Unreachable {
        /// `host:port`.
        peer: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The peer's certificate is not one we trust, or is for another name. Permanent: look at the
    /// endpoint and at `extra-ca-file`.
    #[error("{peer} has no certificate that we trust")]
    Certificate {
        /// `host:port`.
        peer: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },

    /// The connection, session or link ended: cut, idle, moved to another node, token run out.
    /// Transient: open again, after the last event that is safe.
    #[error("connection to the hub was lost: {detail}")]
    ConnectionLost {
        /// The condition and words of the peer, or how it ended.
        detail: String,
    },

    /// The hub did not answer in time. Transient: every request of this crate only reads.
    #[error("no answer from the hub while {doing}")]
    TimedOut {
        /// What was being done.
        doing: String,
    },

    /// The hub asks to be left alone. Throttled.
    #[error("the hub is busy: {detail}")]
    Throttled {
        /// Least time to stay away, when it is known.
        retry_after: Option<Duration>,
        /// The peer's words.
        detail: String,
    },

    /// Another reader has taken the partition. Permanent: stop this one and write no more
    /// checkpoints.
    #[error("partition {partition} belongs to another reader: {detail}")]
    OwnershipLost {
        /// Which one.
        partition: PartitionId,
        /// The peer's words.
        detail: String,
    },

    /// The hub does not take our credential. Permanent: each attempt makes a fresh token, so an old
    /// one cannot be the reason. Look at the key, its `Listen` right and this machine's clock.
    #[error("the hub refuses our credential: {detail}")]
    Unauthorized {
        /// The peer's words.
        detail: String,
    },

    /// There is no such hub, consumer group or partition. Permanent.
    #[error("{entity} does not exist: {detail}")]
    NotFound {
        /// Path of what was asked for.
        entity: String,
        /// The peer's words.
        detail: String,
    },

    /// The start position lies after the newest event. Permanent: the hub was made again, or the
    /// position is not of this partition. Ask [`EventHub::properties`](crate::EventHub::properties)
    /// who the hub is now.
    #[error("the start position is after the end of partition {partition}: {detail}")]
    BeyondEnd {
        /// Which one.
        partition: PartitionId,
        /// The peer's words.
        detail: String,
    },

    /// Five readers without an owner level are there already, the most that Event Hubs allows for
    /// one partition and consumer group. Permanent until one of them leaves.
    #[error("partition {partition} has all the readers it may have: {detail}")]
    QuotaReaders {
        /// Which one.
        partition: PartitionId,
        /// The peer's words.
        detail: String,
    },

    /// The hub refuses for a reason that another attempt does not change: entity disabled, bad
    /// argument, not allowed, or a condition that this version does not know. Permanent.
    #[error("the hub refuses with {condition}: {detail}")]
    Refused {
        /// The AMQP error condition.
        condition: String,
        /// The peer's words.
        detail: String,
    },

    /// The peer says something that is not Event Hubs. Permanent: look at the endpoint.
    #[error("the peer does not speak the protocol of Event Hubs: {detail}")]
    Protocol {
        /// What came, and where.
        detail: String,
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

impl Classify for HubError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Unreachable { .. } | Self::ConnectionLost { .. } | Self::TimedOut { .. } => {
                FailureKind::Transient
            }
            Self::Throttled { retry_after, .. } => FailureKind::Throttled {
                retry_after: *retry_after,
            },
            Self::Certificate { .. }
            | Self::OwnershipLost { .. }
            | Self::Unauthorized { .. }
            | Self::NotFound { .. }
            | Self::BeyondEnd { .. }
            | Self::QuotaReaders { .. }
            | Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::BadConfig { .. } => FailureKind::Permanent,
        }
    }
}

mod condition;

pub(crate) use condition::Asked;

#[cfg(test)]
mod tests;
