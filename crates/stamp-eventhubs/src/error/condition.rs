//! From an AMQP error condition to what the caller can do about it.

use stamp_model::PartitionId;

use super::{HubError, THROTTLED_PAUSE};

/// What was asked for when the condition came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path of the entity, such as `telemetry/ConsumerGroups/$Default/Partitions/0`.
    pub(crate) entity: String,
    /// The partition, when one was asked for.
    pub(crate) partition: Option<PartitionId>,
    /// Whether it had been granted before. A credential that was good and is refused now has run
    /// out, which a new attempt with a new token repairs.
    pub(crate) granted: bool,
}

impl HubError {
    /// Classifies an AMQP error. Conditions are those that Event Hubs sends; the classes follow
    /// the clients of Azure. A condition that is not known is not worth another attempt.
    pub(crate) fn from_condition(condition: &str, description: &str, asked: &Asked) -> Self {
        let detail = format!("{condition}: {description}");
        match (condition, asked.partition) {
            ("amqp:link:stolen", Some(partition)) => Self::OwnershipLost { partition, detail },
            (_, Some(partition)) if description.contains(BEYOND_END) => {
                Self::BeyondEnd { partition, detail }
            }
            ("amqp:resource-limit-exceeded", _) => limit_exceeded(detail, asked),
            ("com.microsoft:server-busy", _) => Self::Throttled {
                retry_after: Some(THROTTLED_PAUSE),
                detail,
            },
            ("com.microsoft:timeout", _) => Self::TimedOut {
                doing: format!("working on {} ({detail})", asked.entity),
            },
            ("amqp:unauthorized-access" | "com.microsoft:auth-failed", _) => {
                if asked.granted {
                    Self::ConnectionLost { detail }
                } else {
                    Self::Unauthorized { detail }
                }
            }
            ("com.microsoft:argument-out-of-range", _) if description.contains(NO_PARTITION) => {
                Self::NotFound {
                    entity: asked.entity.clone(),
                    detail,
                }
            }
            ("amqp:not-found" | "com.microsoft:messaging-entity-not-found", _) => Self::NotFound {
                entity: asked.entity.clone(),
                detail,
            },
            (condition, _) if TRANSIENT.contains(&condition) => Self::ConnectionLost { detail },
            _ => Self::Refused {
                condition: condition.to_owned(),
                detail: description.to_owned(),
            },
        }
    }

    /// Classifies the status code of an answer of `$cbs` or `$management`, which follow HTTP.
    pub(crate) fn from_status(status: i32, description: &str, asked: &Asked) -> Self {
        let detail = format!("status {status}: {description}");
        match status {
            401 | 403 if asked.granted => Self::ConnectionLost { detail },
            401 | 403 => Self::Unauthorized { detail },
            404 | 410 => Self::NotFound {
                entity: asked.entity.clone(),
                detail,
            },
            408 | 504 => Self::TimedOut {
                doing: format!("working on {} ({detail})", asked.entity),
            },
            429 | 503 => Self::Throttled {
                retry_after: Some(THROTTLED_PAUSE),
                detail,
            },
            500..=599 => Self::ConnectionLost { detail },
            _ => Self::Refused {
                condition: format!("status {status}"),
                detail: description.to_owned(),
            },
        }
    }
}

/// Conditions after which a new link on a new connection is worth an attempt.
const TRANSIENT: [&str; 11] = [
    "amqp:connection:forced",
    "amqp:connection:framing-error",
    "amqp:connection:redirect",
    "amqp:session:errant-link",
    "amqp:session:window-violation",
    "amqp:link:detach-forced",
    "amqp:internal-error",
    "amqp:resource-locked",
    "com.microsoft:operation-cancelled",
    "com.microsoft:container-close",
    "com.microsoft:entity-updated",
];

/// What the service says of a sequence number or an offset after the end, before it names the
/// last; the condition alone is that of any bad argument.
const BEYOND_END: &str = "in the system is";

/// What the service says of a partition that the hub does not have.
const NO_PARTITION: &str = "specified partition is invalid";

/// One condition for two things: too many readers, which only a person or a balancer changes, and a
/// quota of throughput, which passes. The service's words tell them apart.
fn limit_exceeded(detail: String, asked: &Asked) -> HubError {
    let words = detail.to_ascii_lowercase();
    match asked.partition {
        Some(partition) if words.contains("receiver") => {
            HubError::QuotaReaders { partition, detail }
        }
        _ => HubError::Throttled {
            retry_after: Some(THROTTLED_PAUSE),
            detail,
        },
    }
}
