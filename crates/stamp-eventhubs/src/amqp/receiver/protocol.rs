//! The client's side of one connection as a state machine: bytes in, events and bytes out.
//!
//! It does no I/O, reads no clock and never waits. What a hub says is not trusted: whatever breaks
//! the protocol ends it with [`HubError::Protocol`], which says what came and at which byte of the
//! stream. Nothing it keeps grows with what the peer sends, but for one message in parts, which has
//! a limit, and the events of the pull that asks for them.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::definitions::Fields;
use fe2o3_amqp_types::messaging::FilterSet;
use stamp_model::BatchLimits;

use super::super::authorize::TokenQuestion;
use super::super::wire::Malformed;
use super::cbs::Cbs;
use super::compose::{AMQP, AMQP_HEADER, CHANNEL, Output, SASL, SASL_HEADER};
use super::frames::{self, Frames};
use super::intake::Intake;
use super::link::Inbound;
use super::performative::{self, Performative, Said};
use super::session::Session;
use super::transfer;
use crate::HubError;
use crate::error::Asked;

/// Bytes that may wait for a peer that does not read, before nothing more is read from it.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Least that every peer must take (AMQP 1.0 part 2.7.1).
const PEER_FRAME_BYTES_MIN: u32 = 512;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    /// Waits for the header of SASL.
    SaslHeader,
    /// Waits for the mechanisms that the peer offers.
    Mechanisms,
    /// Waits for what comes of our choice.
    Outcome,
    /// Waits for the header of AMQP.
    AmqpHeader,
    /// Waits for the peer's `open`.
    Open,
    /// The connection is open, without a session.
    Opened,
    /// The session has begun.
    Begun,
    /// We have closed; what still comes is passed over.
    Closing,
    /// Both sides have closed.
    Closed,
}

/// The partition's link.
#[derive(Debug)]
struct Partition {
    name: String,
    /// Key of the filter that must be in force.
    filter: &'static str,
    inbound: Inbound,
    attached: bool,
}

/// What opens a partition.
pub(crate) struct Reading {
    pub(crate) link: String,
    pub(crate) path: String,
    /// The key that must come back in the hub's answer, and the filter.
    pub(crate) filter: (&'static str, FilterSet),
    pub(crate) properties: Fields,
    pub(crate) credit: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Protocol {
    frames: Frames,
    out: Output,
    /// What conditions are judged by.
    pub(crate) asked: Asked,
    container: String,
    hostname: String,
    idle_ms: u32,
    phase: Phase,
    peer_frame_bytes_max: usize,
    peer_idle: Option<Duration>,
    session: Option<Session>,
    cbs: Option<Cbs>,
    partition: Option<Partition>,
    /// Links that we left, by the peer's numbers, and that it has not left yet.
    leaving: Vec<u32>,
    next_handle: u32,
}

impl Protocol {
    /// A connection of `container` to `hostname` that begins. `idle_ms` is how long the peer may be silent.
    pub(crate) fn new(container: String, hostname: String, idle_ms: u32, asked: Asked) -> Self {
        let mut out = Output::default();
        out.header(SASL_HEADER);
        Self {
            frames: Frames::new(),
            out,
            asked,
            container,
            hostname,
            idle_ms,
            phase: Phase::SaslHeader,
            peer_frame_bytes_max: PEER_FRAME_BYTES_MIN as usize,
            peer_idle: None,
            session: None,
            cbs: None,
            partition: None,
            leaving: Vec::new(),
            next_handle: 0,
        }
    }

    /// Whether the peer has opened the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.phase >= Phase::Opened
    }

    /// Whether the peer has closed the connection after us.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the session has begun.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether tokens can be put.
    pub(crate) fn has_cbs(&self) -> bool {
        self.cbs.as_ref().is_some_and(Cbs::is_attached)
    }

    /// Whether a token was put whose answer has not come.
    pub(crate) fn is_asking(&self) -> bool {
        self.cbs.as_ref().is_some_and(Cbs::is_asking)
    }

    /// Whether the partition is open.
    pub(crate) fn is_reading(&self) -> bool {
        self.partition.as_ref().is_some_and(|link| link.attached)
    }

    /// How long the peer waits for a sign of life of ours before it gives up.
    pub(crate) fn peer_idle(&self) -> Option<Duration> {
        self.peer_idle
    }

    /// Where to read into; then call [`Protocol::advance`].
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        self.frames.space()
    }

    /// Bytes that wait for the socket.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out.bytes
    }

    /// Whether the peer must take some of the output before more is read from it.
    pub(crate) fn is_stuffed(&self) -> bool {
        self.out.bytes.len() >= OUTPUT_BYTES_MAX
    }

    /// Begins the session, on an open connection.
    pub(crate) fn begin(&mut self) {
        self.out.begin();
    }

    /// Attaches to the node that takes tokens, by links that have `id` in their names.
    pub(crate) fn attach_cbs(&mut self, id: &str) {
        self.cbs = Some(Cbs::attach(self.next_handle, id, &mut self.out));
        self.next_handle += 2;
    }

    /// Puts a token, over new links when the hub has taken the earlier ones away.
    pub(crate) fn put_token(&mut self, id: &str, token: TokenQuestion) {
        if self.cbs.is_none() {
            self.attach_cbs(id);
        }
        if let Some(cbs) = &mut self.cbs {
            cbs.ask(token);
        }
        self.pump();
    }

    /// Asks for the partition. It gets no credit yet.
    pub(crate) fn attach(&mut self, reading: Reading) {
        let (filter, filters) = reading.filter;
        self.out.attach_receiver(
            &reading.link,
            self.next_handle,
            &reading.path,
            Some(filters),
            None,
            Some(reading.properties),
        );
        self.partition = Some(Partition {
            name: reading.link,
            filter,
            inbound: Inbound::new(self.next_handle, reading.credit),
            attached: false,
        });
        self.next_handle += 1;
    }

    /// Lets the hub send.
    pub(crate) fn grant(&mut self) {
        if let (Some(link), Some(session)) = (&mut self.partition, &mut self.session) {
            link.inbound.grant(session.state(), &mut self.out);
        }
    }

    /// Lets the peer hear that we are here.
    pub(crate) fn beat(&mut self) {
        self.out.beat();
    }

    /// Says goodbye. What the peer still sends is passed over.
    pub(crate) fn close(&mut self) {
        self.out.close();
        self.phase = Phase::Closing;
    }

    /// Handles what was read, until `intake` is full, nothing whole is left, or the peer must first
    /// take what there is to say.
    ///
    /// # Errors
    /// How the connection, session or link ended. Events before that are in `intake`; afterwards
    /// there is nothing to be done but to close.
    pub(crate) fn advance(
        &mut self,
        intake: &mut Intake,
        limits: BatchLimits,
    ) -> Result<(), HubError> {
        while !intake.is_full(limits) && !self.is_stuffed() && self.handle_one(intake)? {}
        Ok(())
    }

    /// Handles one frame or header; whether there was a whole one.
    #[inline]
    pub(super) fn handle_one(&mut self, intake: &mut Intake) -> Result<bool, HubError> {
        if matches!(self.phase, Phase::SaslHeader | Phase::AmqpHeader) {
            let Some(header) = self.frames.next_header() else {
                return Ok(false);
            };
            self.on_header(header)?;
        } else {
            let Some(place) = self.frames.next()? else {
                return Ok(false);
            };
            self.on_frame(place, intake)?;
        }
        Ok(true)
    }

    fn on_header(&mut self, header: [u8; 8]) -> Result<(), HubError> {
        match (self.phase, header) {
            (Phase::SaslHeader, SASL_HEADER) => self.phase = Phase::Mechanisms,
            (Phase::AmqpHeader, AMQP_HEADER) => {
                self.out.open(&self.container, &self.hostname, self.idle_ms);
                self.phase = Phase::Open;
            }
            _ => {
                return Err(HubError::Protocol {
                    detail: format!(
                        "{} came where the header of AMQP 1.0 must be",
                        header.escape_ascii()
                    ),
                });
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, place: Range<usize>, intake: &mut Intake) -> Result<(), HubError> {
        let frame = &self.frames.chunk()[place.clone()];
        let (head, body_at) = frames::head(frame).map_err(|what| self.wrong(place.start, what))?;
        let body = &frame[body_at..];
        if self.phase == Phase::Begun
            && head.kind == AMQP
            && let Some(fields_at) = transfer::descriptor(body)
        {
            let body = place.start + body_at..place.end;
            let outcome = self.on_transfer(head.channel, body, fields_at, intake);
            return self.judge(place.start, outcome);
        }
        // An empty frame is a sign of life.
        if body.is_empty() {
            return Ok(());
        }
        let wanted = match self.phase {
            Phase::Mechanisms | Phase::Outcome => SASL,
            _ => AMQP,
        };
        if head.kind != wanted {
            let what = format!("a frame of type {} instead of {wanted}", head.kind);
            return Err(self.wrong(place.start, what));
        }
        // A copy: it is short and rare, and what follows changes the state it lies in.
        let body = Bytes::copy_from_slice(body);
        let said = match performative::read(&body) {
            Ok(said) => said,
            Err(_) if self.phase == Phase::Closing => return Ok(()),
            Err(Malformed(what)) => return Err(self.wrong(place.start, what)),
        };
        let outcome = self.on_performative(head.channel, said);
        self.judge(place.start, outcome)
    }

    fn on_performative(&mut self, channel: u16, said: Performative<'_>) -> Result<(), Broken> {
        let phase = self.phase;
        match (phase, said) {
            (Phase::Closing, Performative::Close { .. }) => self.phase = Phase::Closed,
            (Phase::Closing | Phase::Closed, _) => {}
            (Phase::Mechanisms, Performative::Mechanisms { anonymous: true }) => {
                self.out.sasl_init(&self.hostname);
                self.phase = Phase::Outcome;
            }
            (Phase::Mechanisms, Performative::Mechanisms { anonymous: false }) => {
                return Err(Broken::rule("the peer does not offer SASL's ANONYMOUS"));
            }
            (Phase::Outcome, Performative::Outcome { code }) => self.on_outcome(code)?,
            (
                Phase::Open,
                Performative::Open {
                    frame_bytes_max,
                    idle_ms,
                },
            ) => {
                if frame_bytes_max < PEER_FRAME_BYTES_MIN {
                    return Err(Broken::Rule(format!(
                        "the peer takes frames of {frame_bytes_max} bytes only, less than \
                         {PEER_FRAME_BYTES_MIN}"
                    )));
                }
                self.peer_frame_bytes_max = frame_bytes_max as usize;
                self.peer_idle = (idle_ms > 0).then(|| Duration::from_millis(idle_ms.into()));
                self.phase = Phase::Opened;
            }
            (Phase::Open | Phase::Opened | Phase::Begun, Performative::Close { error }) => {
                self.out.close();
                return Err(self.ended(error, "the hub closed the connection"));
            }
            (
                Phase::Opened,
                Performative::Begin {
                    remote_channel,
                    next_outgoing_id,
                    incoming_window,
                },
            ) if remote_channel == Some(CHANNEL.into()) => {
                self.session = Some(Session::new(channel, next_outgoing_id, incoming_window));
                self.phase = Phase::Begun;
            }
            (Phase::Begun, said) => return self.on_session_frame(channel, said),
            (phase, _) => {
                return Err(Broken::Rule(format!(
                    "a performative that has no place in the phase {phase:?}"
                )));
            }
        }
        Ok(())
    }

    fn on_outcome(&mut self, code: u64) -> Result<(), Broken> {
        const NAMES: [&str; 5] = ["Ok", "Auth", "Sys", "SysPerm", "SysTemp"];
        if code == 0 {
            self.out.header(AMQP_HEADER);
            self.phase = Phase::AmqpHeader;
            return Ok(());
        }
        let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
        Err(Broken::Hub(HubError::Unauthorized {
            detail: format!("SASL outcome {}", name.unwrap_or(&"of no known code")),
        }))
    }

    fn judge(&self, at: usize, outcome: Result<(), Broken>) -> Result<(), HubError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Broken::Rule(what) | Broken::Hub(HubError::Protocol { detail: what })) => {
                Err(self.wrong(at, what))
            }
            Err(Broken::Hub(error)) => Err(error),
        }
    }

    /// A peer that breaks the protocol: what it does, and where.
    fn wrong(&self, at: usize, what: impl std::fmt::Display) -> HubError {
        HubError::Protocol {
            detail: format!(
                "{what} (the frame at byte {} of the stream, for {})",
                self.frames.position(at),
                self.asked.entity
            ),
        }
    }

    /// The end of a connection, session or link: in the peer's words, or in ours.
    fn ended(&self, said: Option<Said>, otherwise: &str) -> Broken {
        Broken::Hub(match said {
            Some(said) => HubError::from_condition(
                &said.condition,
                said.description.as_deref().unwrap_or("no description"),
                &self.asked,
            ),
            None => HubError::ConnectionLost {
                detail: otherwise.to_owned(),
            },
        })
    }
}

/// Why the connection is of no more use.
#[derive(Debug)]
enum Broken {
    /// The peer breaks this rule.
    Rule(String),
    Hub(HubError),
}

impl Broken {
    fn rule(what: &str) -> Self {
        Self::Rule(what.to_owned())
    }

    fn channel(channel: u16) -> Self {
        Self::Rule(format!(
            "a frame for channel {channel}, which has no session"
        ))
    }

    fn handle(handle: u32) -> Self {
        Self::Rule(format!("a frame for link {handle}, which is not attached"))
    }
}

impl From<String> for Broken {
    fn from(what: String) -> Self {
        Self::Rule(what)
    }
}

impl From<Malformed> for Broken {
    fn from(Malformed(what): Malformed) -> Self {
        Self::rule(what)
    }
}

impl From<HubError> for Broken {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

mod links;

#[cfg(test)]
mod tests;
