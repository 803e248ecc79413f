//! One AMQP connection with one session, opened over a tapped socket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection as Amqp, Session};

use super::dial::Dialer;
use super::fault::Fault;
use super::tap::{Inbox, Tap};
use crate::HubError;
use crate::error::Asked;

/// Largest frame we take: what Event Hubs itself offers.
const FRAME_BYTES_MAX: u32 = 65_536;

/// Frames the hub may send ahead on the session. Credit is the real bound, so this is wide enough
/// never to be one; the engine opens it again when half of it is used.
const WINDOW_FRAMES: u32 = 65_536;

/// Frames of the largest message of Event Hubs, one megabyte, with room for small frames.
const FRAMES_PER_MESSAGE_MAX: usize = 32;

/// How a connection is opened.
#[derive(Clone)]
pub(crate) struct ConnectionSettings {
    pub(crate) dialer: Dialer,
    /// Name of the host in AMQP's `open`: the namespace, wherever it is really reached.
    pub(crate) hostname: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

/// An open connection. Dropping it closes it without waiting for the peer.
#[derive(Debug)]
pub(crate) struct Connection {
    handle: ConnectionHandle<()>,
    pub(crate) session: SessionHandle<()>,
    pub(crate) inbox: Arc<Inbox>,
    peer: String,
    timeout: Duration,
}

impl Connection {
    /// Opens a connection and a session on it, once. `credit` is the most messages that are under
    /// way at a time.
    pub(crate) async fn open(
        settings: &ConnectionSettings,
        credit: u32,
        asked: &Asked,
    ) -> Result<Self, HubError> {
        let stream = settings.dialer.dial().await?;
        // Answers of `$cbs` and `$management` come beside the events.
        let slots_max = (credit as usize + REQUEST_CREDIT as usize * 2) * FRAMES_PER_MESSAGE_MAX;
        let inbox = Inbox::new(slots_max);
        let tap = Tap::new(stream, Arc::clone(&inbox), FRAME_BYTES_MAX as usize);
        let peer = settings.dialer.peer();
        let timeout = settings.connect_timeout;
        let fault = Fault {
            asked,
            inbox: &inbox,
            peer: &peer,
        };
        let idle_ms = u32::try_from(settings.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        let opening = Amqp::builder()
            .container_id(format!("stampworks-{}", uuid::Uuid::new_v4()))
            .hostname(settings.hostname.as_str())
            .scheme("amqp")
            .sasl_profile(SaslProfile::Anonymous)
            .max_frame_size(FRAME_BYTES_MAX)
            .idle_time_out(idle_ms)
            .open_with_stream(tap);
        let mut handle = answer_within(timeout, "opening the connection", Box::pin(opening))
            .await?
            .map_err(|error| fault.open(error))?;
        let beginning = Session::builder()
            .incoming_window(WINDOW_FRAMES)
            .outgoing_window(WINDOW_FRAMES)
            .begin(&mut handle);
        let session = answer_within(timeout, "beginning a session", beginning)
            .await?
            .map_err(|error| fault.begin(error))?;
        Ok(Self {
            handle,
            session,
            inbox,
            peer,
            timeout,
        })
    }

    /// What turns the engine's errors on this connection into ours.
    pub(crate) fn fault<'a>(&'a self, asked: &'a Asked) -> Fault<'a> {
        Fault {
            asked,
            inbox: &self.inbox,
            peer: &self.peer,
        }
    }

    /// Longest wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether it is known to be of no more use.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed() || self.inbox.ended().is_some()
    }

    /// Closes it and waits for the peer's word, but not longer than for any other answer. How it
    /// ends is of no interest any more.
    pub(crate) async fn close(mut self) {
        let closing = self.handle.close();
        if let Err(error) = tokio::time::timeout(self.timeout, closing).await {
            tracing::debug!(peer = self.peer, %error, "the hub did not answer the closing");
        }
    }
}

/// Credit of the links that carry answers: one is awaited at a time.
pub(crate) const REQUEST_CREDIT: u32 = 10;

/// Waits for an answer of the peer.
pub(crate) async fn answer_within<F: Future>(
    timeout: Duration,
    doing: &str,
    answer: F,
) -> Result<F::Output, HubError> {
    tokio::time::timeout(timeout, answer)
        .await
        .map_err(|_| HubError::TimedOut {
            doing: doing.to_owned(),
        })
}
