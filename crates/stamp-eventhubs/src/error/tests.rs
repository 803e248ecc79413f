use stamp_model::PartitionId;
use stamp_resilience::{Classify, FailureKind};

use super::{Asked, HubError, THROTTLED_PAUSE};

fn asked(granted: bool) -> Asked {
    Asked {
        entity: "telemetry/ConsumerGroups/$Default/Partitions/3".to_owned(),
        partition: PartitionId::new(3),
        granted,
    }
}

fn variant(error: &HubError) -> &'static str {
    match error {
        HubError::Unreachable { .. } => "Unreachable",
        HubError::Certificate { .. } => "Certificate",
        HubError::ConnectionLost { .. } => "ConnectionLost",
        HubError::TimedOut { .. } => "TimedOut",
        HubError::Throttled { .. } => "Throttled",
        HubError::OwnershipLost { .. } => "OwnershipLost",
        HubError::Unauthorized { .. } => "Unauthorized",
        HubError::NotFound { .. } => "NotFound",
        HubError::BeyondEnd { .. } => "BeyondEnd",
        HubError::QuotaReaders { .. } => "QuotaReaders",
        HubError::Refused { .. } => "Refused",
        HubError::Protocol { .. } => "Protocol",
        HubError::BadConfig { .. } => "BadConfig",
    }
}

const THROTTLED: FailureKind = FailureKind::Throttled {
    retry_after: Some(THROTTLED_PAUSE),
};

#[test]
fn every_condition_says_what_the_caller_can_do() {
    use FailureKind::{Permanent, Transient};
    let readers = "At least one receiver for the endpoint is created, 5 Receivers in use";
    let beyond = "The supplied sequence number '9' is invalid. The last sequence number in the system is '4'";
    let table = [
        (
            "com.microsoft:argument-error",
            beyond,
            "BeyondEnd",
            Permanent,
        ),
        ("amqp:connection:forced", "", "ConnectionLost", Transient),
        (
            "amqp:connection:framing-error",
            "",
            "ConnectionLost",
            Transient,
        ),
        ("amqp:connection:redirect", "", "ConnectionLost", Transient),
        ("amqp:session:errant-link", "", "ConnectionLost", Transient),
        (
            "amqp:session:window-violation",
            "",
            "ConnectionLost",
            Transient,
        ),
        (
            "amqp:link:detach-forced",
            "RenewToken",
            "ConnectionLost",
            Transient,
        ),
        ("amqp:link:stolen", "", "OwnershipLost", Permanent),
        ("com.microsoft:server-busy", "", "Throttled", THROTTLED),
        ("com.microsoft:timeout", "", "TimedOut", Transient),
        (
            "com.microsoft:operation-cancelled",
            "",
            "ConnectionLost",
            Transient,
        ),
        (
            "com.microsoft:container-close",
            "",
            "ConnectionLost",
            Transient,
        ),
        (
            "com.microsoft:entity-updated",
            "",
            "ConnectionLost",
            Transient,
        ),
        ("amqp:internal-error", "", "ConnectionLost", Transient),
        ("amqp:unauthorized-access", "", "Unauthorized", Permanent),
        ("com.microsoft:auth-failed", "", "Unauthorized", Permanent),
        (
            "amqp:resource-limit-exceeded",
            readers,
            "QuotaReaders",
            Permanent,
        ),
        (
            "amqp:resource-limit-exceeded",
            "egress quota",
            "Throttled",
            THROTTLED,
        ),
        ("amqp:not-found", "", "NotFound", Permanent),
        ("com.microsoft:entity-disabled", "", "Refused", Permanent),
        ("com.microsoft:argument-error", "", "Refused", Permanent),
        (
            "com.microsoft:argument-out-of-range",
            "",
            "Refused",
            Permanent,
        ),
        ("amqp:precondition-failed", "", "Refused", Permanent),
        ("amqp:decode-error", "", "Refused", Permanent),
        ("amqp:not-allowed", "", "Refused", Permanent),
        ("amqp:not-implemented", "", "Refused", Permanent),
        ("amqp:link:message-size-exceeded", "", "Refused", Permanent),
        ("amqp:resource-deleted", "", "Refused", Permanent),
        ("amqp:resource-locked", "", "ConnectionLost", Transient),
        ("com.example:never-heard-of", "", "Refused", Permanent),
    ];
    for (condition, words, expected, kind) in table {
        let error = HubError::from_condition(condition, words, &asked(false));
        assert_eq!(variant(&error), expected, "{condition}");
        assert_eq!(error.kind(), kind, "{condition}");
        assert!(error.to_string().contains(condition), "{error}");
    }
}

#[test]
fn every_status_says_what_the_caller_can_do() {
    use FailureKind::{Permanent, Transient};
    let table = [
        (401, "Unauthorized", Permanent),
        (403, "Unauthorized", Permanent),
        (404, "NotFound", Permanent),
        (410, "NotFound", Permanent),
        (408, "TimedOut", Transient),
        (429, "Throttled", THROTTLED),
        (500, "ConnectionLost", Transient),
        (502, "ConnectionLost", Transient),
        (503, "Throttled", THROTTLED),
        (504, "TimedOut", Transient),
        (400, "Refused", Permanent),
        (0, "Refused", Permanent),
    ];
    for (status, expected, kind) in table {
        let error = HubError::from_status(status, "words", &asked(false));
        assert_eq!(variant(&error), expected, "{status}");
        assert_eq!(error.kind(), kind, "{status}");
    }
}

#[test]
fn a_credential_that_was_good_has_only_run_out() {
    let lost = HubError::from_condition("amqp:unauthorized-access", "expired", &asked(true));
    assert_eq!(lost.kind(), FailureKind::Transient);
    let lost = HubError::from_status(401, "expired", &asked(true));
    assert_eq!(lost.kind(), FailureKind::Transient);
}

#[test]
fn a_stolen_link_names_its_partition() {
    let error = HubError::from_condition("amqp:link:stolen", "epoch 7", &asked(true));
    assert!(
        matches!(error, HubError::OwnershipLost { partition, .. } if partition.number() == 3),
        "{error}"
    );
}

#[test]
fn a_failure_to_connect_is_transient_and_a_bad_certificate_is_not() {
    let source = || std::io::Error::other("x");
    let peer = || "hub:5671".to_owned();
    let unreachable = HubError::Unreachable {
        peer: peer(),
        source: source(),
    };
    assert_eq!(unreachable.kind(), FailureKind::Transient);
    let certificate = HubError::Certificate {
        peer: peer(),
        source: source(),
    };
    assert_eq!(certificate.kind(), FailureKind::Permanent);
    let protocol = HubError::Protocol {
        detail: "x".to_owned(),
    };
    assert_eq!(protocol.kind(), FailureKind::Permanent);
}
