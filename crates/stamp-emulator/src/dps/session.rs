//! A device's conversation with the service over MQTT.

use std::sync::Arc;

use serde_json::{Value, json};

use super::error::DpsError;
use super::registration::Status;
use super::service::DpsCore;
use crate::faults::{self, Met, Operation};
use crate::mqtt::{Broker, Incoming, Login, Outbox, Refused, Session, Verdict, topic_value};
use crate::time;

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/";

/// A device that proved an enrolment. What it proved is looked at again with each request.
#[derive(Debug)]
pub(crate) struct ProvisioningSession {
    core: Arc<DpsCore>,
    scope: String,
    id: String,
    token: String,
    outbox: Outbox,
}

/// An answer: status, the tail of its topic, body.
type Answer = (u16, String, Value);

impl Broker for DpsCore {
    type Session = ProvisioningSession;

    fn connect(
        self: &Arc<Self>,
        login: Login<'_>,
        outbox: Outbox,
    ) -> Result<ProvisioningSession, Refused> {
        if self.faults.meet(Operation::Connect).refusal.is_some() {
            return Err(Refused::ServerUnavailable);
        }
        // `{id scope}/registrations/{id}/api-version=...`
        let mut parts = login.user_name.splitn(4, '/');
        let (Some(scope), Some("registrations"), Some(id)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::BadUserNameOrPassword);
        };
        if login.client_id != id {
            return Err(Refused::BadUserNameOrPassword);
        }
        let proven = self.authorize_device(scope, id, login.password);
        proven.map_err(|_| Refused::NotAuthorized)?;
        Ok(ProvisioningSession {
            core: Arc::clone(self),
            scope: scope.to_owned(),
            id: id.to_owned(),
            token: login.password.to_owned(),
            outbox,
        })
    }
}

impl Session for ProvisioningSession {
    fn subscribe(&mut self, filter: &str) -> bool {
        filter == "$dps/registrations/res/#"
    }

    fn unsubscribe(&mut self, _filter: &str) {}

    async fn publish(&mut self, message: Incoming<'_>) -> Verdict {
        let operation = match message.topic {
            topic if topic.starts_with(REGISTER) => Operation::Register,
            topic if topic.starts_with(POLL) => Operation::Poll,
            _ => return Verdict::Close,
        };
        let Some(request) = topic_value(message.topic, "$rid") else {
            return Verdict::Close;
        };
        let Met {
            delay,
            refusal,
            lose_reply,
        } = self.core.faults.meet(operation);
        faults::wait(delay).await;
        let answer = match refusal {
            Some(refusal) => Err(DpsError::from_fault(refusal)),
            None if operation == Operation::Register => self.register(message.payload),
            None => self.poll(message.topic),
        };
        if lose_reply {
            return Verdict::Close;
        }
        let (status, tail, body) = answer.unwrap_or_else(|error| self.refused(&error));
        let topic = format!("$dps/registrations/res/{status}/?$rid={request}{tail}");
        self.outbox.send(topic, body.to_string().into_bytes());
        Verdict::Accept
    }
}

impl ProvisioningSession {
    fn register(&self, payload: &[u8]) -> Result<Answer, DpsError> {
        let body: Value = serde_json::from_slice(payload)
            .map_err(|_| DpsError::argument("the body is not JSON"))?;
        let named = body["registrationId"].as_str().unwrap_or(&self.id);
        if named != self.id {
            return Err(DpsError::argument("registrationId is not the connection's"));
        }
        let enrollment = self
            .core
            .authorize_device(&self.scope, &self.id, &self.token)?;
        self.core.throttle_register()?;
        let payload = Some(body["payload"].clone()).filter(|payload| !payload.is_null());
        let operation = self.core.register(&self.id, enrollment, payload)?;
        Ok(self.assigning(&operation))
    }

    fn poll(&self, topic: &str) -> Result<Answer, DpsError> {
        let operation = topic_value(topic, "operationId").unwrap_or_default();
        self.core.throttle_poll()?;
        let registration = self.core.registration(&self.id)?;
        if registration.operation != operation {
            return Err(DpsError::no_operation(&operation));
        }
        match registration.status {
            Status::Assigning => Ok(self.assigning(&operation)),
            _ => Ok((200, String::new(), registration.operation_json())),
        }
    }

    fn assigning(&self, operation: &str) -> Answer {
        let tail = format!("&retry-after={}", self.core.retry_after_s());
        let body = json!({ "operationId": operation, "status": "assigning" });
        (202, tail, body)
    }

    fn refused(&self, error: &DpsError) -> Answer {
        let tail = error
            .retry_after_s
            .map(|seconds| format!("&retry-after={seconds}"));
        let body = error.json(&self.core.tracking_id(), &time::utc(self.core.now_us()));
        (error.status, tail.unwrap_or_default(), body)
    }
}
