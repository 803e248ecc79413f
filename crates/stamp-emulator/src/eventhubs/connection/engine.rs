//! One connection as a state machine: bytes in, bytes out, no I/O and no clock of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::super::hub::HubShared;
use super::super::server::Namespace;
use super::super::signal::Signal;
use super::session::{Session, WINDOW};
use crate::amqp::frame::{self, AMQP_HEADER, Frame, FrameKind, SASL_HEADER};
use crate::amqp::performative::{self, AmqpError, Begin, Open, Outcome, Performative, Role};

/// What the service offers; every client that is known picks ANONYMOUS or MSSBCBS and proves itself
/// through `$cbs`. No credential is checked.
const MECHANISMS: [&str; 4] = ["MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"];

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the first protocol header.
    Header,
    /// Waits for `sasl-init`.
    Sasl,
    /// Waits for the AMQP header after SASL.
    SecondHeader,
    /// Waits for `open`.
    Open,
    Running,
    /// We closed; what still comes is ignored until the client's `close`.
    Closing,
    /// Nothing more is read; what is written goes out and the socket closes.
    Done,
}

/// Why a frame cannot be handled, and how much of the connection that costs.
#[derive(Debug)]
pub(super) enum Violation {
    Connection(AmqpError),
    Session(u16, AmqpError),
}

impl Violation {
    pub(super) fn connection(condition: &str, text: impl Into<String>) -> Self {
        Self::Connection(AmqpError::new(condition, text))
    }

    pub(super) fn session(channel: u16, condition: &str, text: impl Into<String>) -> Self {
        Self::Session(channel, AmqpError::new(condition, text))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) namespace: Arc<Namespace>,
    pub(super) signal: Arc<Signal>,
    phase: Phase,
    /// Bytes for the client.
    pub(super) out: Vec<u8>,
    pub(super) peer_frame_max: usize,
    peer_idle: Option<Duration>,
    pub(super) sessions: BTreeMap<u16, Session>,
    /// Hubs this connection was counted for.
    pub(super) hubs: Vec<Arc<HubShared>>,
    /// Deliveries that were accepted but not answered yet: channel, first and last id.
    accepted: Option<(u16, u32, u32)>,
}

impl Engine {
    pub(crate) fn new(namespace: Arc<Namespace>, signal: Arc<Signal>) -> Self {
        Self {
            peer_frame_max: 512,
            namespace,
            signal,
            phase: Phase::Header,
            out: Vec::new(),
            peer_idle: None,
            sessions: BTreeMap::new(),
            hubs: Vec::new(),
            accepted: None,
        }
    }

    /// How long the client waits without hearing anything before it gives up.
    pub(crate) fn peer_idle(&self) -> Option<Duration> {
        self.peer_idle
    }

    /// The socket can be closed once everything is written.
    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The client was told that the connection is over and has not answered yet.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// A fault hook says that this connection neither reads nor writes now.
    pub(crate) fn is_frozen(&self) -> bool {
        self.hubs.iter().any(|hub| hub.faults.is_frozen())
    }

    /// Bytes that wait for the socket.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Handles every whole frame at the front of `input`.
    pub(crate) fn feed(&mut self, input: &mut BytesMut) {
        let frame_max = self.namespace.limits.frame_bytes_max as usize;
        loop {
            match self.phase {
                Phase::Done => {
                    input.clear();
                    break;
                }
                Phase::Header | Phase::SecondHeader => {
                    let Some(header) = input.first_chunk::<8>().copied() else {
                        break;
                    };
                    input.advance(8);
                    self.on_header(header);
                }
                _ => match frame::cut(input, frame_max) {
                    Ok(Some(frame)) => self.on_frame(frame),
                    Ok(None) => break,
                    Err(error) => {
                        let text = error.to_string();
                        self.close(&AmqpError::new("amqp:connection:framing-error", text));
                        self.phase = Phase::Done;
                    }
                },
            }
        }
        self.flush_accepted();
        for session in self.sessions.values_mut().filter(|session| !session.ended) {
            session.top_up_window(&mut self.out);
        }
    }

    fn on_header(&mut self, header: [u8; 8]) {
        match (self.phase, header) {
            (Phase::Header, SASL_HEADER) => {
                self.out.extend_from_slice(&SASL_HEADER);
                frame::put(&mut self.out, FrameKind::Sasl, 0, |out| {
                    performative::put_sasl_mechanisms(out, &MECHANISMS);
                });
                self.phase = Phase::Sasl;
            }
            (_, AMQP_HEADER) => {
                self.out.extend_from_slice(&AMQP_HEADER);
                self.phase = Phase::Open;
            }
            _ => {
                // The answer to an unknown protocol is the header of a known one (part 2.2).
                self.out.extend_from_slice(&SASL_HEADER);
                self.phase = Phase::Done;
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) {
        if frame.body.is_empty() {
            return;
        }
        let wanted = if self.phase == Phase::Sasl {
            FrameKind::Sasl
        } else {
            FrameKind::Amqp
        };
        let result = if frame.kind == wanted {
            performative::read(&frame.body)
                .map_err(|error| Violation::connection("amqp:decode-error", error.to_string()))
                .and_then(|performative| self.on_performative(frame.channel, performative))
        } else {
            Err(Violation::connection(
                "amqp:connection:framing-error",
                "wrong frame type",
            ))
        };
        match result {
            Ok(()) => {}
            Err(Violation::Connection(error)) => self.close(&error),
            Err(Violation::Session(channel, error)) => {
                self.flush_accepted();
                if let Some(session) = self.sessions.get_mut(&channel) {
                    session.end(&mut self.out, &error);
                }
            }
        }
    }

    fn on_performative(&mut self, channel: u16, what: Performative) -> Result<(), Violation> {
        match (self.phase, what) {
            (Phase::Closing, Performative::Close) => self.phase = Phase::Done,
            (Phase::Closing, _) => {}
            (Phase::Sasl, Performative::SaslInit(mechanism)) => self.on_sasl_init(&mechanism),
            (Phase::Open, Performative::Open(open)) => return self.on_open(&open),
            (Phase::Running, Performative::Begin(begin)) => return self.on_begin(channel, &begin),
            (Phase::Open | Phase::Running, Performative::Close) => {
                self.flush_accepted();
                frame::put(&mut self.out, FrameKind::Amqp, 0, |out| {
                    performative::put_close(out, None);
                });
                self.finish();
            }
            (Phase::Running, Performative::End) => self.on_end(channel)?,
            (Phase::Running, what) => return self.on_session_frame(channel, what),
            _ => {
                return Err(Violation::connection(
                    "amqp:illegal-state",
                    "a frame came too early",
                ));
            }
        }
        Ok(())
    }

    fn on_session_frame(&mut self, channel: u16, what: Performative) -> Result<(), Violation> {
        if self.session(channel)?.ended {
            return Ok(());
        }
        match what {
            Performative::Attach(attach) => self.on_attach(channel, &attach),
            Performative::Flow(flow) => self.on_flow(channel, &flow),
            Performative::Transfer(transfer) => self.on_transfer(channel, transfer),
            Performative::Disposition(disposition) => self.on_disposition(channel, &disposition),
            Performative::Detach { handle, closed } => self.on_detach(channel, handle, closed),
            _ => Err(Violation::connection(
                "amqp:illegal-state",
                "this frame has no place here",
            )),
        }
    }

    fn on_sasl_init(&mut self, mechanism: &str) {
        let known = MECHANISMS.contains(&mechanism);
        frame::put(&mut self.out, FrameKind::Sasl, 0, |out| {
            performative::put_sasl_outcome(out, u8::from(!known));
        });
        self.phase = if known {
            Phase::SecondHeader
        } else {
            Phase::Done
        };
    }

    fn on_open(&mut self, open: &Open) -> Result<(), Violation> {
        let limits = self.namespace.limits;
        let idle_ms = limits.idle_timeout.as_millis() / 2;
        let own = Open {
            container_id: self.namespace.container_id.clone(),
            frame_max: limits.frame_bytes_max,
            channel_max: limits.sessions_max - 1,
            idle_timeout_ms: Some(u32::try_from(idle_ms).unwrap_or(u32::MAX)),
        };
        frame::put(&mut self.out, FrameKind::Amqp, 0, |out| {
            performative::put_open(out, &own)
        });
        self.phase = Phase::Running;
        tracing::debug!(
            container = open.container_id,
            channel_max = open.channel_max,
            "open"
        );
        if open.frame_max < 512 {
            return Err(Violation::connection(
                "amqp:invalid-field",
                "max-frame-size is below 512",
            ));
        }
        self.peer_frame_max = open.frame_max.min(limits.frame_bytes_max) as usize;
        self.peer_idle = open
            .idle_timeout_ms
            .filter(|ms| *ms > 0)
            .map(|ms| Duration::from_millis(ms.into()));
        Ok(())
    }

    fn on_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Violation> {
        let limits = &self.namespace.limits;
        if channel >= limits.sessions_max {
            return Err(Violation::connection(
                "amqp:connection:framing-error",
                format!(
                    "channel {channel} is above the agreed {}",
                    limits.sessions_max - 1
                ),
            ));
        }
        if self.sessions.contains_key(&channel) {
            return Err(Violation::connection(
                "amqp:illegal-state",
                format!("channel {channel} has a session already"),
            ));
        }
        let session = Session::new(channel, begin.next_outgoing_id, begin.incoming_window);
        self.sessions.insert(channel, session);
        let handle_max = limits.links_max - 1;
        frame::put(&mut self.out, FrameKind::Amqp, channel, |out| {
            performative::put_begin(out, channel, WINDOW, handle_max);
        });
        Ok(())
    }

    fn on_end(&mut self, channel: u16) -> Result<(), Violation> {
        self.flush_accepted();
        let ended = self.session(channel)?.ended;
        self.sessions.remove(&channel);
        if !ended {
            frame::put(&mut self.out, FrameKind::Amqp, channel, |out| {
                performative::put_end(out, None);
            });
        }
        Ok(())
    }

    pub(super) fn session(&mut self, channel: u16) -> Result<&mut Session, Violation> {
        self.sessions.get_mut(&channel).ok_or_else(|| {
            Violation::connection(
                "amqp:connection:framing-error",
                format!("channel {channel} has no session"),
            )
        })
    }

    /// Remembers that a delivery was accepted. Consecutive ones share one `disposition`.
    pub(super) fn accept(&mut self, channel: u16, id: u32) {
        match &mut self.accepted {
            Some((c, _, last)) if *c == channel && last.wrapping_add(1) == id => *last = id,
            _ => {
                self.flush_accepted();
                self.accepted = Some((channel, id, id));
            }
        }
    }

    pub(super) fn reject(&mut self, channel: u16, id: u32, error: AmqpError) {
        self.flush_accepted();
        self.put_disposition(channel, Role::Receiver, (id, id), &Outcome::Rejected(error));
    }

    fn flush_accepted(&mut self) {
        if let Some((channel, first, last)) = self.accepted.take() {
            self.put_disposition(channel, Role::Receiver, (first, last), &Outcome::Accepted);
        }
    }

    pub(super) fn put_disposition(
        &mut self,
        channel: u16,
        role: Role,
        ids: (u32, u32),
        outcome: &Outcome,
    ) {
        frame::put(&mut self.out, FrameKind::Amqp, channel, |out| {
            performative::put_disposition(out, role, ids, outcome);
        });
    }

    /// Closes the connection with an error and waits for the client's `close`.
    pub(crate) fn close(&mut self, error: &AmqpError) {
        if matches!(self.phase, Phase::Running | Phase::Open) {
            tracing::debug!(
                condition = error.condition,
                text = error.description,
                "close"
            );
            self.flush_accepted();
            if self.phase == Phase::Open {
                // A client has to see an open before it can see a close.
                let open = Open {
                    container_id: self.namespace.container_id.clone(),
                    frame_max: self.namespace.limits.frame_bytes_max,
                    channel_max: 0,
                    idle_timeout_ms: None,
                };
                frame::put(&mut self.out, FrameKind::Amqp, 0, |out| {
                    performative::put_open(out, &open);
                });
            }
            frame::put(&mut self.out, FrameKind::Amqp, 0, |out| {
                performative::put_close(out, Some(error));
            });
            self.sessions.clear();
            self.phase = Phase::Closing;
        } else {
            self.finish();
        }
    }

    /// Nothing more is read or answered; what is in the buffer still goes out.
    pub(super) fn finish(&mut self) {
        self.accepted = None;
        self.sessions.clear();
        self.phase = Phase::Done;
    }

    /// When [`Engine::pump`] has something to do without anybody saying so.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Session::deadline).min()
    }

    /// Counts the connection for a hub when it is first named on it.
    pub(super) fn touch(&mut self, hub: &Arc<HubShared>) {
        if !self.hubs.iter().any(|known| Arc::ptr_eq(known, hub)) {
            hub.connect(&self.signal);
            self.hubs.push(Arc::clone(hub));
        }
    }
}
