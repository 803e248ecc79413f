//! One device's connection over MQTT: what its topics mean.

use std::sync::Arc;

use serde_json::Value;

use super::error::HubError;
use super::events::{Proof, Telemetry};
use super::hub::{HubCore, Throttle};
use crate::faults::{self, Operation};
use crate::mqtt::{Broker, Incoming, Login, Outbox, Refused, Session, Verdict, topic_value};

/// A device that was admitted.
#[derive(Debug)]
pub(crate) struct DeviceSession {
    hub: Arc<HubCore>,
    id: String,
    number: u64,
    proof: Proof,
    outbox: Outbox,
}

impl Drop for DeviceSession {
    fn drop(&mut self) {
        self.hub.disconnected(&self.id, self.number);
    }
}

impl Broker for HubCore {
    type Session = DeviceSession;

    fn connect(
        self: &Arc<Self>,
        login: Login<'_>,
        outbox: Outbox,
    ) -> Result<DeviceSession, Refused> {
        if self.faults.meet(Operation::Connect).refusal.is_some() {
            return Err(Refused::ServerUnavailable);
        }
        if self.throttle(Throttle::Connects).is_err() {
            return Err(Refused::ServerUnavailable);
        }
        // `{host}/{device id}/?api-version=...`
        let mut parts = login.user_name.splitn(3, '/');
        let host = parts.next().unwrap_or_default();
        let id = crate::http::decode(parts.next().unwrap_or_default());
        if !self.is_own_host(host) || login.client_id != id {
            return Err(Refused::BadUserNameOrPassword);
        }
        let admitted = self
            .authorize_device(&id, login.password)
            .and_then(|proof| Ok((proof, self.connected(&id, outbox.clone())?)));
        match admitted {
            Ok((proof, number)) => Ok(DeviceSession {
                hub: Arc::clone(self),
                id,
                number,
                proof,
                outbox,
            }),
            Err(error) => {
                tracing::debug!(device = %id, code = error.code, "a device is refused");
                Err(Refused::NotAuthorized)
            }
        }
    }
}

impl Session for DeviceSession {
    fn subscribe(&mut self, filter: &str) -> bool {
        let own = format!("devices/{}/messages/devicebound/#", self.id);
        match filter {
            "$iothub/twin/res/#" => true,
            "$iothub/twin/PATCH/properties/desired/#" => {
                self.hub.listen(&self.id, self.number, Some(true), None);
                true
            }
            "$iothub/methods/POST/#" => {
                self.hub.listen(&self.id, self.number, None, Some(true));
                true
            }
            // Nothing is sent there: see the page about the emulator.
            other => other == own,
        }
    }

    fn unsubscribe(&mut self, filter: &str) {
        match filter {
            "$iothub/twin/PATCH/properties/desired/#" => {
                self.hub.listen(&self.id, self.number, Some(false), None);
            }
            "$iothub/methods/POST/#" => self.hub.listen(&self.id, self.number, None, Some(false)),
            _ => {}
        }
    }

    async fn publish(&mut self, message: Incoming<'_>) -> Verdict {
        let own = format!("devices/{}/messages/events/", self.id);
        match message.topic {
            topic if topic.starts_with(&own) => {
                self.telemetry(&topic[own.len()..], message.payload).await
            }
            topic if topic.starts_with("$iothub/twin/GET/") => self.twin(topic, None).await,
            topic if topic.starts_with("$iothub/twin/PATCH/properties/reported/") => {
                self.twin(topic, Some(message.payload)).await
            }
            topic if topic.starts_with("$iothub/methods/res/") => {
                self.method_answer(topic, message.payload)
            }
            topic => {
                tracing::debug!(device = %self.id, topic, "no such topic");
                Verdict::Close
            }
        }
    }
}

impl DeviceSession {
    async fn telemetry(&self, tail: &str, payload: &[u8]) -> Verdict {
        let met = self.hub.faults.meet(Operation::Telemetry);
        faults::wait(met.delay).await;
        if met.refusal.is_some() {
            return Verdict::Close;
        }
        let telemetry = Telemetry::from_topic(tail, payload);
        match self.hub.telemetry(&self.id, telemetry, self.proof) {
            Ok(()) if met.lose_reply => Verdict::Close,
            Ok(()) => Verdict::Accept,
            Err(error) => {
                tracing::debug!(device = %self.id, code = error.code, "a message is refused");
                Verdict::Close
            }
        }
    }

    /// Answers a request for the twin, or takes reported properties.
    async fn twin(&self, topic: &str, reported: Option<&[u8]>) -> Verdict {
        let Some(request) = topic_value(topic, "$rid") else {
            return Verdict::Close;
        };
        let met = self.hub.faults.meet(Operation::DeviceTwin);
        faults::wait(met.delay).await;
        let answer = match (met.refusal, reported) {
            (Some(refusal), _) => Err(HubError::from_fault(refusal)),
            (None, Some(patch)) => self.report(patch),
            (None, None) => self.get_twin(),
        };
        if met.lose_reply {
            return Verdict::Close;
        }
        let (status, tail, body) = match answer {
            Ok((status, tail, body)) => (status, tail, body),
            Err(error) => (error.status, String::new(), String::new()),
        };
        let topic = format!("$iothub/twin/res/{status}/?$rid={request}{tail}");
        self.outbox.send(topic, body.into_bytes());
        Verdict::Accept
    }

    fn get_twin(&self) -> Result<(u16, String, String), HubError> {
        let twin = self.hub.get(&self.id)?.twin;
        let body = serde_json::json!({
            "desired": twin.desired.plain(),
            "reported": twin.reported.plain(),
        });
        Ok((200, String::new(), body.to_string()))
    }

    fn report(&self, patch: &[u8]) -> Result<(u16, String, String), HubError> {
        let patch: Value = serde_json::from_slice(patch)
            .map_err(|_| HubError::argument("reported properties are not JSON"))?;
        let patch = patch
            .as_object()
            .ok_or_else(|| HubError::argument("reported properties must be an object"))?;
        self.hub.throttle(Throttle::Twins)?;
        let version = self.hub.report(&self.id, patch)?;
        Ok((204, format!("&$version={version}"), String::new()))
    }

    /// `$iothub/methods/res/{status}/?$rid={number}`
    fn method_answer(&self, topic: &str, payload: &[u8]) -> Verdict {
        let status = topic.split('/').nth(3).and_then(|text| text.parse().ok());
        let number = topic_value(topic, "$rid");
        let number = number.and_then(|text| u64::from_str_radix(&text, 16).ok());
        let (Some(status), Some(number)) = (status, number) else {
            return Verdict::Close;
        };
        let body = serde_json::from_slice(payload).unwrap_or(Value::Null);
        // An answer nobody waits for is late, not wrong.
        let _asked = self.hub.answer_method(&self.id, number, (status, body));
        Verdict::Accept
    }
}
