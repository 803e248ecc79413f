//! A session: its windows and its links.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::hub::{HubShared, deleted};
use super::egress::Egress;
use super::link::{Inbound, Outbound, SessionOut};
use super::request::Node;
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::performative::{self, AmqpError, Flow};

/// Transfer frames a client may send before it hears of a new window.
pub(super) const WINDOW: u32 = 2_048;

/// One session. Its channel number is the client's, in both directions.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) channel: u16,
    /// We ended it and wait for the client's `end`: whatever else comes is ignored.
    pub(super) ended: bool,
    pub(super) out: SessionOut,
    next_incoming_id: u32,
    window_left: u32,
    pub(super) links: BTreeMap<u32, Link>,
}

/// One link. Its handle is the client's, in both directions.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) kind: LinkKind,
}

#[derive(Debug)]
pub(super) enum LinkKind {
    /// A client sends events.
    Ingress(Ingress),
    /// A client receives events.
    Egress(Box<Egress>),
    /// A client sends requests to a node.
    Request(Node, Inbound),
    /// A client receives a node's replies.
    Reply(Reply),
    /// We detached it and wait for the client's `detach`: whatever else comes is ignored.
    Gone,
}

/// A sender's link to a hub, or to one partition of it.
#[derive(Debug)]
pub(super) struct Ingress {
    pub(super) hub: Arc<HubShared>,
    pub(super) partition: Option<u32>,
    pub(super) generation: u64,
    pub(super) inbound: Inbound,
}

impl Ingress {
    /// Why the link is over, once its hub was made anew.
    pub(super) fn deleted(&self) -> Option<AmqpError> {
        (self.generation != self.hub.generation()).then(deleted)
    }
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) node: Node,
    pub(super) target: Option<String>,
    pub(super) outbound: Outbound,
    pub(super) waiting: VecDeque<Vec<u8>>,
}

impl Session {
    pub(super) fn new(channel: u16, next_incoming_id: u32, peer_window: u32) -> Self {
        Self {
            channel,
            ended: false,
            out: SessionOut::new(peer_window),
            next_incoming_id,
            window_left: WINDOW,
            links: BTreeMap::new(),
        }
    }

    /// Counts one incoming transfer frame.
    ///
    /// # Errors
    /// What the session is to be ended with, when the client ran over its window.
    pub(super) fn count_transfer(&mut self) -> Result<(), AmqpError> {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        self.window_left = self.window_left.checked_sub(1).ok_or_else(|| {
            AmqpError::new(
                "amqp:session:window-violation",
                "more transfers than the window allows",
            )
        })?;
        Ok(())
    }

    /// Opens the incoming window again once half of it is used.
    pub(super) fn top_up_window(&mut self, out: &mut Vec<u8>) {
        if self.window_left <= WINDOW / 2 {
            self.put_flow(out, Flow::default());
        }
    }

    /// Writes a `flow` with the session's state and what `link` says about a link.
    pub(super) fn put_flow(&mut self, out: &mut Vec<u8>, link: Flow) {
        self.window_left = WINDOW;
        let flow = Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: WINDOW,
            next_outgoing_id: self.out.next_outgoing_id,
            outgoing_window: WINDOW,
            ..link
        };
        frame::put(out, FrameKind::Amqp, self.channel, |out| {
            performative::put_flow(out, &flow)
        });
    }

    /// Writes a `flow` with the credit of the link at `handle`, if there is such a link.
    pub(super) fn put_link_flow(&mut self, out: &mut Vec<u8>, handle: u32, echo: bool) {
        let Some(link) = self.links.get(&handle) else {
            return;
        };
        let (delivery_count, link_credit) = match &link.kind {
            LinkKind::Ingress(Ingress { inbound, .. }) | LinkKind::Request(_, inbound) => {
                (inbound.delivery_count, inbound.credit)
            }
            LinkKind::Egress(egress) => (egress.outbound.sent, egress.outbound.credit),
            LinkKind::Reply(reply) => (reply.outbound.sent, reply.outbound.credit),
            LinkKind::Gone => return,
        };
        self.put_flow(
            out,
            Flow {
                handle: Some(handle),
                delivery_count: Some(delivery_count),
                link_credit: Some(link_credit),
                available: Some(0),
                drain: echo,
                ..Flow::default()
            },
        );
    }

    /// Detaches a link for good. It stays, as [`LinkKind::Gone`], until the client detaches too.
    pub(super) fn detach(&mut self, out: &mut Vec<u8>, handle: u32, error: &AmqpError) {
        if let Some(link) = self.links.get_mut(&handle) {
            link.kind = LinkKind::Gone;
        }
        tracing::debug!(
            channel = self.channel,
            handle,
            condition = error.condition,
            "detach"
        );
        frame::put(out, FrameKind::Amqp, self.channel, |out| {
            performative::put_detach(out, handle, true, Some(error));
        });
    }

    /// Ends the session. It stays until the client ends it too.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, error: &AmqpError) {
        self.ended = true;
        self.links.clear();
        tracing::debug!(channel = self.channel, condition = error.condition, "end");
        frame::put(out, FrameKind::Amqp, self.channel, |out| {
            performative::put_end(out, Some(error));
        });
    }

    /// When a link's delayed burst may go.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let release = |link: &Link| match &link.kind {
            LinkKind::Egress(egress) => egress.release_at,
            _ => None,
        };
        self.links.values().filter_map(release).min()
    }

    /// Bytes of deliveries that clients have begun but not finished.
    pub(super) fn partial_bytes(&self) -> usize {
        let bytes = |link: &Link| match &link.kind {
            LinkKind::Ingress(Ingress { inbound, .. }) | LinkKind::Request(_, inbound) => {
                inbound.partial_bytes()
            }
            _ => 0,
        };
        self.links.values().map(bytes).sum()
    }
}
