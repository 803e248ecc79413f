//! Questions and answers over a pair of links: what `$cbs` and `$management` speak.

use bytes::Bytes;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::{Receiver, Sender};
use fe2o3_amqp_types::messaging::{
    AmqpValue as Body, ApplicationProperties, Message, MessageId, Properties, Target,
};
use fe2o3_amqp_types::primitives::{SimpleValue, Value as AmqpValue};

use super::connection::{Connection, REQUEST_CREDIT, answer_within};
use super::engine_source::receive_payload;
use super::message;
use super::text::to_text;
use super::wire::Value;
use crate::HubError;
use crate::error::Asked;

/// Most answers to earlier questions, which nobody awaits any more, that are passed over.
pub(super) const STALE_ANSWERS_MAX: usize = 16;

/// Place of the correlation id in the properties section (AMQP 1.0 part 3.2.4).
const CORRELATION_ID: usize = 5;

/// A node that answers questions, one at a time.
pub(crate) struct Requests {
    node: &'static str,
    reply_to: String,
    sender: Sender,
    receiver: Receiver,
    asked_count: u64,
}

/// An answer as it came.
pub(crate) struct Answer {
    encoded: Bytes,
}

impl Requests {
    /// Attaches both links to `node`.
    pub(crate) async fn attach(
        connection: &mut Connection,
        node: &'static str,
        asked: &Asked,
    ) -> Result<Self, HubError> {
        let timeout = connection.timeout();
        let doing = format!("attaching to {node}");
        let id = uuid::Uuid::new_v4();
        let reply_to = format!("{}-reply-{id}", node.trim_start_matches('$'));
        let attaching = Sender::builder()
            .name(format!("{node}-sender-{id}"))
            .source(reply_to.as_str())
            .target(node)
            .attach(&mut connection.session);
        let sender = answer_within(timeout, &doing, attaching)
            .await?
            .map_err(|error| connection.fault(asked).attach_sender(error))?;
        let attaching = Receiver::builder()
            .name(format!("{node}-receiver-{id}"))
            .source(node)
            .target(Target::builder().address(reply_to.as_str()).build())
            .credit_mode(CreditMode::Auto(REQUEST_CREDIT))
            .auto_accept(true)
            .attach(&mut connection.session);
        let receiver = answer_within(timeout, &doing, attaching)
            .await?
            .map_err(|error| connection.fault(asked).attach_receiver(error))?;
        Ok(Self {
            node,
            reply_to,
            sender,
            receiver,
            asked_count: 0,
        })
    }

    /// Asks once and waits for the answer, good or bad.
    pub(crate) async fn ask(
        &mut self,
        connection: &Connection,
        properties: Vec<(&'static str, SimpleValue)>,
        body: AmqpValue,
        asked: &Asked,
    ) -> Result<Answer, HubError> {
        let doing = format!("waiting for an answer of {}", self.node);
        let exchange = self.exchange(connection, properties, body, asked);
        answer_within(connection.timeout(), &doing, exchange).await?
    }

    async fn exchange(
        &mut self,
        connection: &Connection,
        properties: Vec<(&'static str, SimpleValue)>,
        body: AmqpValue,
        asked: &Asked,
    ) -> Result<Answer, HubError> {
        let fault = connection.fault(asked);
        let id = self.asked_count;
        self.asked_count += 1;
        let message = question(id, &self.reply_to, properties, body);
        self.sender
            .send(message)
            .await
            .map_err(|error| fault.send(error))?;
        for _ in 0..STALE_ANSWERS_MAX {
            let (_, encoded) = receive_payload(&mut self.receiver, &connection.inbox)
                .await
                .map_err(|failure| failure.into_error(&fault))?;
            let answer = Answer::new(encoded);
            if answer.correlation_id() == Some(id) {
                return Ok(answer);
            }
        }
        Err(HubError::Protocol {
            detail: format!("{} answers other questions than ours", self.node),
        })
    }
}

/// A question as a message.
pub(super) fn question(
    id: u64,
    reply_to: &str,
    properties: Vec<(&'static str, SimpleValue)>,
    body: AmqpValue,
) -> Message<Body<AmqpValue>> {
    Message::builder()
        .properties(
            Properties::builder()
                .message_id(MessageId::Ulong(id))
                .reply_to(reply_to)
                .build(),
        )
        .application_properties(
            properties
                .into_iter()
                .fold(ApplicationProperties::builder(), |all, (key, value)| {
                    all.insert(key, value)
                })
                .build(),
        )
        .value(body)
        .build()
}

impl Answer {
    /// The answer that was encoded so.
    pub(super) fn new(encoded: Bytes) -> Self {
        Self { encoded }
    }

    pub(super) fn correlation_id(&self) -> Option<u64> {
        let mut list = message::Message::parse(&self.encoded).properties?;
        for _ in 0..CORRELATION_ID {
            list.value().ok()?;
        }
        match list.value().ok()? {
            Value::Uint(id) => Some(id),
            _ => None,
        }
    }

    /// The answer's message when its status is one of success, otherwise what the caller can do.
    pub(crate) fn success(&self, asked: &Asked) -> Result<message::Message<'_>, HubError> {
        let message = message::Message::parse(&self.encoded);
        let mut status = None;
        let mut description = None;
        let entries = message::Message::entries(message.application_properties);
        for (key, value) in entries.flatten() {
            match (key, value) {
                (Value::Text(b"status-code" | b"statusCode"), Value::Int(code)) => {
                    status = Some(code);
                }
                (Value::Text(b"status-description" | b"statusDescription"), value) => {
                    description = to_text(value, &self.encoded);
                }
                _ => {}
            }
        }
        match status {
            Some(200..=299) => Ok(message),
            Some(code) => Err(HubError::from_status(
                i32::try_from(code).unwrap_or_default(),
                description.as_deref().unwrap_or("no description"),
                asked,
            )),
            None => Err(HubError::Protocol {
                detail: format!("an answer about {} has no status code", asked.entity),
            }),
        }
    }

    /// Text of a value of this answer.
    pub(crate) fn text(&self, value: Value<'_>) -> Option<stamp_model::Text> {
        to_text(value, &self.encoded)
    }
}
