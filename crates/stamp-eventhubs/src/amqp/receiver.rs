//! One open partition, received at the speed of the wire: the parts, from the inside out.
//!
//! - [`frames`] cuts the stream into frames, in buffers that the events share;
//! - [`transfer`] reads the one performative that comes with every event, by hand, and
//!   [`super::quick`] the usual message; [`performative`] reads all others and [`compose`] writes
//!   ours, both with no care for speed;
//! - [`session`], [`link`] and [`cbs`] keep windows, credit, settlement and tokens;
//! - [`protocol`] holds them together as a state machine without I/O and without a clock;
//! - [`socket`] moves the bytes, and [`AmqpSource`] has the clock and the promises of a source.
//!
//! It never retries, reconnects or reads ahead of a pull. A sign of life for the hub is the only
//! thing that happens between pulls.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stamp_model::{BatchLimits, EventBatch, PartitionId};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::authorize::{Renewal, TokenQuestion};
use super::{Hub, asked, position};
use crate::config::Credential;
use crate::{HubError, PartitionSource, StartPosition};

mod cbs;
mod compose;
mod frames;
mod intake;
mod link;
pub(crate) mod listener;
mod performative;
mod protocol;
mod session;
mod socket;
mod transfer;

use protocol::{Protocol, Reading};
use socket::Socket;

/// Shortest time between two signs of life. A hub that asks for more of them loses us.
const BEAT_MIN: Duration = Duration::from_millis(100);

/// An open partition of an [`AmqpHub`](crate::AmqpHub), on a connection of its own.
///
/// When a token is about to end, the next pull puts a new one, once; when that fails the pull
/// fails, after the events that came before.
#[derive(Debug)]
pub struct AmqpSource {
    line: Line,
    tokens: Tokens,
    opened_at: Instant,
    /// When the answer to a token must be there.
    answer_by: Option<Instant>,
    /// Follows the events that wait.
    failure: Option<HubError>,
}

/// A socket with its timeouts, and the task that gives signs of life on it.
#[derive(Debug)]
struct Line {
    socket: Arc<Mutex<Socket>>,
    /// Longest wait for an answer.
    timeout: Duration,
    /// Longest silence of the hub.
    idle: Duration,
    beating: Option<AbortHandle>,
}

/// The right to read, for a limited time.
struct Tokens {
    credential: Credential,
    audience: String,
    renewal: Option<Renewal>,
}

impl AmqpSource {
    pub(crate) async fn open(
        hub: &Hub,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<Self, HubError> {
        let settings = &hub.connection;
        let path = hub.partition_path(partition);
        let idle_ms = u32::try_from(settings.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        let asked = asked(path.clone(), Some(partition));
        let container = format!("stampworks-{}", unique());
        let protocol = Protocol::new(container, settings.hostname.clone(), idle_ms, asked);
        let stream = settings.dialer.dial().await?;
        let socket = Socket::new(stream, settings.dialer.peer(), protocol);
        let mut line = Line {
            socket: Arc::new(Mutex::new(socket)),
            timeout: settings.connect_timeout,
            idle: settings.idle_timeout,
            beating: None,
        };
        line.reach("opening the connection", Protocol::is_open)
            .await?;
        line.start_beating();
        line.lock().protocol.begin();
        line.reach("beginning a session", Protocol::has_session)
            .await?;
        let mut tokens = Tokens {
            credential: hub.credential.clone(),
            audience: hub.audience(&path),
            renewal: None,
        };
        if let Some(token) = tokens.next() {
            line.lock().protocol.attach_cbs(&unique());
            line.reach("attaching to $cbs", Protocol::has_cbs).await?;
            line.lock().protocol.put_token(&unique(), token);
            line.reach(ANSWER_OF_CBS, |protocol| !protocol.is_asking())
                .await?;
        }
        line.lock().protocol.attach(Reading {
            link: format!("{path}-{}", unique()),
            path,
            filter: (position::SELECTOR, position::filter(start)),
            properties: position::link_properties(owner_level),
            credit: hub.credit,
        });
        line.reach("opening the partition", Protocol::is_reading)
            .await?;
        line.lock().protocol.grant();
        // Nobody has to pull for the hub to begin.
        line.reach("asking for events", |_| true).await?;
        Ok(Self {
            line,
            tokens,
            opened_at: Instant::now(),
            answer_by: None,
            failure: None,
        })
    }

    async fn fill(&mut self, limits: BatchLimits) -> Result<(), HubError> {
        self.renew_when_due();
        let wait_end = Instant::now() + limits.wait_max;
        loop {
            let give_up_at = self.give_up_at();
            let deadline = wait_end.min(give_up_at);
            let events = poll_fn(|cx| self.line.lock().poll_events(cx, limits));
            let came = timeout_at(deadline, events).await;
            self.check_answer()?;
            if let Ok(outcome) = came {
                return outcome;
            }
            let now = Instant::now();
            let silent = now >= self.line.lock().heard_at + self.line.idle;
            if silent {
                return Err(HubError::ConnectionLost {
                    detail: format!("the hub said nothing for {:?}", self.line.idle),
                });
            }
            if now >= wait_end {
                return Ok(());
            }
        }
    }

    /// Puts a new token when the one in force ends soon. Events go on while the hub looks at it.
    fn renew_when_due(&mut self) {
        let due = self.tokens.renewal.is_some_and(|renewal| renewal.is_due());
        if self.answer_by.is_none()
            && due
            && let Some(token) = self.tokens.next()
        {
            self.line.lock().protocol.put_token(&unique(), token);
            self.answer_by = Some(Instant::now() + self.line.timeout);
        }
    }

    /// Fails when the hub did not answer to a token in time.
    fn check_answer(&mut self) -> Result<(), HubError> {
        let Some(answer_by) = self.answer_by else {
            return Ok(());
        };
        if !self.line.lock().protocol.is_asking() {
            self.answer_by = None;
        } else if Instant::now() >= answer_by {
            return Err(HubError::TimedOut {
                doing: ANSWER_OF_CBS.to_owned(),
            });
        }
        Ok(())
    }

    /// When the hub has been silent for too long.
    fn give_up_at(&self) -> Instant {
        let silence_end = self.line.lock().heard_at + self.line.idle;
        self.answer_by
            .map_or(silence_end, |answer_by| answer_by.min(silence_end))
    }
}

/// What tells links apart.
fn unique() -> String {
    uuid::Uuid::new_v4().to_string()
}

const ANSWER_OF_CBS: &str = "waiting for an answer of $cbs";

impl PartitionSource for AmqpSource {
    async fn next_batch(&mut self, limits: BatchLimits) -> Result<EventBatch, HubError> {
        if self.opened_at.elapsed() >= self.line.timeout {
            // The hub may answer a link before it looks at the token, and take it away right
            // after: the right to read is shown by an event, or by a link that stays.
            self.line.lock().protocol.asked.granted = true;
        }
        if self.failure.is_none()
            && let Err(error) = self.fill(limits).await
        {
            self.failure = Some(error);
        }
        let mut socket = self.line.lock();
        if socket.intake.is_empty()
            && let Some(error) = self.failure.take()
        {
            let detail = format!("the source failed before: {error}");
            self.failure = Some(HubError::ConnectionLost { detail });
            return Err(error);
        }
        Ok(socket.intake.give_out(limits))
    }

    async fn close(self) {
        self.line.lock().protocol.close();
        let closing = self.line.reach("closing", Protocol::is_closed);
        if let Err(error) = closing.await {
            tracing::debug!(%error, "the hub did not answer the closing");
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Socket> {
        // What a panic may leave half done is read by nobody: it ends the task that pulls.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an answer of the hub.
    async fn reach(&self, doing: &str, done: impl Fn(&Protocol) -> bool) -> Result<(), HubError> {
        let reached = poll_fn(|cx| self.lock().poll_until(cx, &done));
        tokio::time::timeout(self.timeout, reached)
            .await
            .map_err(|_| HubError::TimedOut {
                doing: doing.to_owned(),
            })?
    }

    /// Gives signs of life from now on, as often as the hub wants to hear them.
    fn start_beating(&mut self) {
        let Some(idle) = self.lock().protocol.peer_idle() else {
            return;
        };
        let period = (idle / 2).max(BEAT_MIN);
        let beating = beat(Arc::downgrade(&self.socket), period);
        self.beating = Some(tokio::spawn(beating).abort_handle());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(beating) = &self.beating {
            beating.abort();
        }
    }
}

/// Gives a sign of life where we were silent for half of a `period`, at each of its ends.
async fn beat(socket: Weak<Mutex<Socket>>, period: Duration) {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(socket) = socket.upgrade() else {
            return;
        };
        poll_fn(|cx| {
            let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            socket.poll_beat(cx, period / 2)
        })
        .await;
    }
}

impl Tokens {
    /// Makes the next token, if any is needed, and notes when to replace it.
    fn next(&mut self) -> Option<TokenQuestion> {
        let token = TokenQuestion::make(&self.credential, &self.audience)?;
        self.renewal = token.renewal;
        Some(token)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("audience", &self.audience)
            .field("renewal", &self.renewal)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
