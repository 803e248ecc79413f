//! MQTT 3.1.1 for devices: sessions over a published protocol library, one task a connection.
//!
//! The library keeps the protocol's rules (packets, order, acknowledgements, keep-alive); what a
//! topic means is the [`Broker`]'s business.

mod connection;
mod server;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use server::serve;

/// Messages that wait for one device to take them; further ones are dropped, as QoS 0 allows.
const OUTGOING_MAX: usize = 256;

/// What a client says when it connects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user_name: &'a str,
    pub(crate) password: &'a str,
}

/// Why a connection is refused (MQTT 3.1.1, 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    ServerUnavailable,
    BadUserNameOrPassword,
    NotAuthorized,
}

/// A message to the client, QoS 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A message from the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
}

/// What follows from a message from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken: acknowledged if it asks for that.
    Accept,
    /// The connection ends without an acknowledgement.
    Close,
}

/// The server's end of a connection that was admitted.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Message>,
    ended: CancellationToken,
}

impl Outbox {
    fn new() -> (Self, mpsc::Receiver<Message>) {
        let (messages, receiver) = mpsc::channel(OUTGOING_MAX);
        let ended = CancellationToken::new();
        (Self { messages, ended }, receiver)
    }

    /// Sends a message if the client keeps up.
    pub(crate) fn send(&self, topic: String, payload: Vec<u8>) {
        if self.messages.try_send(Message { topic, payload }).is_err() {
            tracing::debug!("a message for a device was dropped");
        }
    }

    /// Closes the connection.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}

/// What decides about connections and topics.
pub(crate) trait Broker: Send + Sync + 'static {
    /// One admitted connection.
    type Session: Session;

    /// Admits a client or refuses it.
    fn connect(
        self: &Arc<Self>,
        login: Login<'_>,
        outbox: Outbox,
    ) -> Result<Self::Session, Refused>;
}

/// One connection's meaning. Dropping it means the connection is gone.
pub(crate) trait Session: Send + 'static {
    /// Whether a subscription is granted.
    fn subscribe(&mut self, filter: &str) -> bool;

    /// Ends a subscription.
    fn unsubscribe(&mut self, filter: &str);

    /// Takes a message. What it sends through the outbox goes out after the acknowledgement.
    fn publish(&mut self, message: Incoming<'_>) -> impl Future<Output = Verdict> + Send;
}

/// Reads `name=value` pairs of a topic's tail, such as `?$rid=1&$version=4`.
pub(crate) fn topic_value(topic: &str, name: &str) -> Option<String> {
    let (_, tail) = topic.rsplit_once('?')?;
    let pairs = crate::http::pairs(tail);
    let mut named = pairs.into_iter().filter(|(key, _)| key == name);
    named.next().map(|(_, value)| value)
}
