//! From the errors of the AMQP engine to a [`HubError`].

use std::io;

use fe2o3_amqp::connection::{ConnectionStopReason, OpenError};
use fe2o3_amqp::link::{
    DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
    SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp_types::definitions::{
    AmqpError, ConnectionError, Error as AmqpFault, ErrorCondition, LinkError, SessionError,
};

use super::tap::Inbox;
use crate::HubError;
use crate::error::Asked;

/// What is known when the engine reports an error.
pub(crate) struct Fault<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) inbox: &'a Inbox,
    pub(crate) peer: &'a str,
}

impl Fault<'_> {
    /// The peer's own words.
    fn said(&self, fault: &AmqpFault) -> HubError {
        let condition = condition_name(&fault.condition);
        let description = fault.description.as_deref().unwrap_or("no description");
        HubError::from_condition(condition, description, self.asked)
    }

    /// The connection ended; the tap may know more than the engine about how.
    fn lost(&self, how: &str) -> HubError {
        HubError::ConnectionLost {
            detail: self.inbox.ended().unwrap_or_else(|| how.to_owned()),
        }
    }

    fn protocol(&self, error: &dyn std::error::Error) -> HubError {
        HubError::Protocol {
            detail: format!("{error} ({})", self.asked.entity),
        }
    }

    pub(crate) fn open(&self, error: OpenError) -> HubError {
        match error {
            OpenError::RemoteClosedWithError(fault) => self.said(&fault),
            OpenError::SaslError { code, .. } => HubError::Unauthorized {
                detail: format!("SASL outcome {code:?}"),
            },
            OpenError::ProtocolHeaderMismatch(_) | OpenError::NotImplemented(_) => {
                self.protocol(&error)
            }
            OpenError::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                self.protocol(&source)
            }
            OpenError::Io(source) => HubError::Unreachable {
                peer: self.peer.to_owned(),
                source,
            },
            error => self.lost(&error.to_string()),
        }
    }

    pub(crate) fn begin(&self, error: BeginError) -> HubError {
        match error {
            BeginError::RemoteEndedWithError(fault) => self.said(&fault),
            BeginError::ConnectionStopped(reason) => self.connection_stopped(reason),
            error => self.lost(&error.to_string()),
        }
    }

    pub(crate) fn attach_receiver(&self, error: ReceiverAttachError) -> HubError {
        match error {
            ReceiverAttachError::RemoteClosedWithError(fault) => self.said(&fault),
            ReceiverAttachError::SessionStopped(reason) => self.session_stopped(reason),
            ReceiverAttachError::DesiredFilterNotSupported(_) => self.protocol(&error),
            error => self.lost(&error.to_string()),
        }
    }

    pub(crate) fn attach_sender(&self, error: SenderAttachError) -> HubError {
        match error {
            SenderAttachError::RemoteClosedWithError(fault) => self.said(&fault),
            SenderAttachError::SessionStopped(reason) => self.session_stopped(reason),
            error => self.lost(&error.to_string()),
        }
    }

    pub(crate) fn receive(&self, error: RecvError) -> HubError {
        match error {
            RecvError::LinkStateError(error) => self.link(error),
            error => self.protocol(&error),
        }
    }

    pub(crate) fn send(&self, error: SendError) -> HubError {
        match error {
            SendError::LinkStateError(error) => self.link(error),
            SendError::Detached(error) => self.detached(error),
            error => self.protocol(&error),
        }
    }

    pub(crate) fn dispose(&self, error: IllegalLinkStateError) -> HubError {
        self.link(error.into())
    }

    fn link(&self, error: LinkStateError) -> HubError {
        match error {
            LinkStateError::RemoteClosedWithError(fault)
            | LinkStateError::RemoteDetachedWithError(fault) => self.said(&fault),
            LinkStateError::SessionStopped(reason) => self.session_stopped(reason),
            error => self.lost(&error.to_string()),
        }
    }

    fn detached(&self, error: DetachError) -> HubError {
        match error {
            DetachError::RemoteClosedWithError(fault)
            | DetachError::RemoteDetachedWithError(fault) => self.said(&fault),
            DetachError::SessionStopped(reason) => self.session_stopped(reason),
            error => self.lost(&error.to_string()),
        }
    }

    fn session_stopped(&self, reason: SessionStopReason) -> HubError {
        match reason {
            SessionStopReason::RemoteEndedWithError(fault) => self.said(&fault),
            SessionStopReason::ConnectionStopped(reason) => self.connection_stopped(reason),
            SessionStopReason::EndedWithError(fault) => self.lost(&described(&fault)),
            SessionStopReason::RemoteEnded => self.lost("the hub ended the session"),
            SessionStopReason::Ended => self.lost("the session ended"),
        }
    }

    fn connection_stopped(&self, reason: ConnectionStopReason) -> HubError {
        match reason {
            ConnectionStopReason::RemoteClosedWithError(fault) => self.said(&fault),
            ConnectionStopReason::ClosedWithError(fault) => self.lost(&described(&fault)),
            ConnectionStopReason::RemoteClosed => self.lost("the hub closed the connection"),
            ConnectionStopReason::Closed => self.lost("the connection was cut or fell silent"),
        }
    }
}

fn described(fault: &AmqpFault) -> String {
    format!(
        "{}: {}",
        condition_name(&fault.condition),
        fault.description.as_deref().unwrap_or("no description")
    )
}

fn condition_name(condition: &ErrorCondition) -> &str {
    match condition {
        ErrorCondition::AmqpError(error) => amqp_name(error),
        ErrorCondition::ConnectionError(error) => match error {
            ConnectionError::ConnectionForced => "amqp:connection:forced",
            ConnectionError::FramingError => "amqp:connection:framing-error",
            ConnectionError::Redirect => "amqp:connection:redirect",
        },
        ErrorCondition::SessionError(error) => match error {
            SessionError::WindowViolation => "amqp:session:window-violation",
            SessionError::ErrantLink => "amqp:session:errant-link",
            SessionError::HandleInUse => "amqp:session:handle-in-use",
            SessionError::UnattachedHandle => "amqp:session:unattached-handle",
        },
        ErrorCondition::LinkError(error) => match error {
            LinkError::DetachForced => "amqp:link:detach-forced",
            LinkError::TransferLimitExceeded => "amqp:link:transfer-limit-exceeded",
            LinkError::MessageSizeExceeded => "amqp:link:message-size-exceeded",
            LinkError::Redirect => "amqp:link:redirect",
            LinkError::Stolen => "amqp:link:stolen",
        },
        ErrorCondition::Custom(symbol) => symbol.as_str(),
    }
}

fn amqp_name(error: &AmqpError) -> &'static str {
    match error {
        AmqpError::InternalError => "amqp:internal-error",
        AmqpError::NotFound => "amqp:not-found",
        AmqpError::UnauthorizedAccess => "amqp:unauthorized-access",
        AmqpError::DecodeError => "amqp:decode-error",
        AmqpError::ResourceLimitExceeded => "amqp:resource-limit-exceeded",
        AmqpError::NotAllowed => "amqp:not-allowed",
        AmqpError::InvalidField => "amqp:invalid-field",
        AmqpError::NotImplemented => "amqp:not-implemented",
        AmqpError::ResourceLocked => "amqp:resource-locked",
        AmqpError::PreconditionFailed => "amqp:precondition-failed",
        AmqpError::ResourceDeleted => "amqp:resource-deleted",
        AmqpError::IllegalState => "amqp:illegal-state",
        AmqpError::FrameSizeTooSmall => "amqp:frame-size-too-small",
    }
}
