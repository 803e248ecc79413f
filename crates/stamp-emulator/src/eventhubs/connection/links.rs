//! The engine's side of attached links: flow, transfers from clients, and sending to clients.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::faults::CutWhat;
use super::super::hub::HubShared;
use super::super::message::{BATCH_FORMAT, Sections};
use super::egress::Turn;
use super::engine::{Engine, Violation};
use super::link::{Delivery, Wire};
use super::request::{self, Node};
use super::session::{Ingress, Link, LinkKind, Reply, Session};
use crate::amqp::decode::DecodeError;
use crate::amqp::performative::{AmqpError, Disposition, Flow, Outcome, Role, Transfer};

/// Bytes one turn of [`Engine::pump`] may put in the buffer, shared by the links.
pub(super) const PUMP_BYTES: usize = 256 * 1024;

/// The least a link gets of them, however many links there are.
const LINK_BYTES_MIN: usize = 4 * 1024;

fn bad_message(error: &DecodeError) -> AmqpError {
    AmqpError::new(
        "amqp:decode-error",
        format!("the message cannot be read: {error}"),
    )
}

impl Engine {
    pub(super) fn on_flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Violation> {
        let session = self.session(channel)?;
        session.out.flow(flow);
        let Some(handle) = flow.handle else {
            if flow.echo {
                self.session_out(channel, |session, out| {
                    session.put_flow(out, Flow::default())
                });
            }
            return Ok(());
        };
        let Some(link) = session.links.get_mut(&handle) else {
            return Err(unattached(channel, handle));
        };
        match &mut link.kind {
            LinkKind::Egress(egress) => egress.outbound.flow(flow),
            LinkKind::Reply(reply) => reply.outbound.flow(flow),
            _ => {}
        }
        if flow.echo {
            self.session_out(channel, |session, out| {
                session.put_link_flow(out, handle, false)
            });
        }
        Ok(())
    }

    fn session_out(&mut self, channel: u16, act: impl FnOnce(&mut Session, &mut Vec<u8>)) {
        if let Some(session) = self.sessions.get_mut(&channel) {
            act(session, &mut self.out);
        }
    }

    pub(super) fn on_disposition(
        &mut self,
        channel: u16,
        disposition: &Disposition,
    ) -> Result<(), Violation> {
        if disposition.role == Role::Receiver {
            if let Some(hub) = self.receiving(channel) {
                hub.counters.dispositions_received.add(1);
            }
            // There is no redelivery: an outcome changes nothing. One that is not settled waits for
            // us to settle it.
            if !disposition.settled {
                let ids = (disposition.first, disposition.last);
                self.put_disposition(channel, Role::Sender, ids, &Outcome::Accepted);
            }
        }
        Ok(())
    }

    /// The hub that a session's receivers read: a disposition does not say which link it is about,
    /// and no client mixes hubs in a session.
    fn receiving(&self, channel: u16) -> Option<&HubShared> {
        let session = self.sessions.get(&channel)?;
        session.links.values().find_map(|link| match &link.kind {
            LinkKind::Egress(egress) => Some(egress.hub.as_ref()),
            _ => None,
        })
    }

    pub(super) fn on_transfer(
        &mut self,
        channel: u16,
        transfer: Transfer,
    ) -> Result<(), Violation> {
        let limits = self.namespace.limits;
        let begun: usize = if transfer.more {
            self.sessions.values().map(Session::partial_bytes).sum()
        } else {
            0
        };
        let session = self.session(channel)?;
        session
            .count_transfer()
            .map_err(|error| Violation::Session(channel, error))?;
        let handle = transfer.handle;
        let Some(link) = session.links.get_mut(&handle) else {
            return Err(unattached(channel, handle));
        };
        let (LinkKind::Ingress(Ingress { inbound, .. }) | LinkKind::Request(_, inbound)) =
            &mut link.kind
        else {
            // A transfer that crossed our detach; or one to a link that only sends, which is lost.
            return Ok(());
        };
        let taken = if begun + transfer.payload.len() > limits.partial_bytes_max {
            let text = "too many bytes of unfinished messages on the connection";
            Err(AmqpError::new("amqp:resource-limit-exceeded", text))
        } else {
            inbound.take(transfer, &limits)
        };
        let topped_up = inbound.top_up();
        match taken {
            Ok(Some(delivery)) => self.on_delivery(channel, handle, &delivery)?,
            Ok(None) => {}
            Err(error) => {
                self.session_out(channel, |session, out| session.detach(out, handle, &error));
            }
        }
        if topped_up {
            self.session_out(channel, |session, out| {
                session.put_link_flow(out, handle, false)
            });
        }
        Ok(())
    }

    fn on_delivery(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Delivery,
    ) -> Result<(), Violation> {
        let Some(link) = self.session(channel)?.links.get(&handle) else {
            return Ok(());
        };
        match &link.kind {
            LinkKind::Request(node, _) => {
                let node = *node;
                match self.on_request(node, delivery) {
                    Ok(()) => self.settle(channel, delivery, Ok(())),
                    Err(error) => self.settle(channel, delivery, Err(bad_message(&error))),
                }
            }
            LinkKind::Ingress(ingress) => {
                let (hub, partition) = (Arc::clone(&ingress.hub), ingress.partition);
                if let Some(error) = ingress.deleted() {
                    self.session_out(channel, |session, out| session.detach(out, handle, &error));
                    return Ok(());
                }
                hub.counters.deliveries_received.add(1);
                let stored = store(&hub, partition, delivery);
                if stored.is_ok() && hub.faults.loses_reply() {
                    self.finish();
                } else {
                    self.settle(channel, delivery, stored);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, channel: u16, delivery: &Delivery, result: Result<(), AmqpError>) {
        match result {
            _ if delivery.settled => {}
            Ok(()) => self.accept(channel, delivery.id),
            Err(error) => self.reject(channel, delivery.id, error),
        }
    }

    /// Answers a request on the receiver it asked for: by link name or target address, else on the
    /// node's latest receiver.
    fn on_request(&mut self, node: Node, delivery: &Delivery) -> Result<(), DecodeError> {
        let namespace = Arc::clone(&self.namespace);
        let answer = request::answer(node, &namespace, &delivery.payload)?;
        if let Some(hub) = answer.hub.as_deref().and_then(|name| namespace.hub(name)) {
            self.touch(hub);
        }
        let wanted = answer.reply_to.as_deref();
        let mut best = None;
        for session in self.sessions.values_mut() {
            for link in session.links.values_mut() {
                let Link {
                    name,
                    kind: LinkKind::Reply(reply),
                } = link
                else {
                    continue;
                };
                let named = wanted == Some(name.as_str())
                    || (wanted.is_some() && wanted == reply.target.as_deref());
                let better = best.as_ref().is_none_or(|(was, _)| named >= *was);
                if reply.node == node && better {
                    best = Some((named, reply));
                }
            }
        }
        // Without a receiver the reply is lost, as a client that detached it expects.
        if let Some((_, reply)) = best
            && reply.waiting.len() < namespace.limits.replies_max
        {
            reply.waiting.push_back(answer.message);
        }
        Ok(())
    }

    /// Sends what credit, windows and the buffer allow; whether there is more.
    pub(crate) fn pump(&mut self, now: Instant) -> bool {
        let links: usize = self
            .sessions
            .values()
            .map(|session| session.links.len())
            .sum();
        let share = (PUMP_BYTES / links.max(1)).max(LINK_BYTES_MIN);
        let mut more = false;
        let mut cut = false;
        for session in self.sessions.values_mut() {
            let handles: Vec<u32> = session.links.keys().copied().collect();
            for handle in handles {
                let turn = pump_link(
                    session,
                    &mut self.out,
                    handle,
                    (self.peer_frame_max, share),
                    now,
                );
                more |= turn.more;
                match turn.end {
                    Some(CutWhat::Link(error)) => session.detach(&mut self.out, handle, &error),
                    Some(CutWhat::Connection) => cut = true,
                    None => {}
                }
            }
        }
        if cut {
            self.finish();
        }
        more
    }
}

fn pump_link(
    session: &mut Session,
    out: &mut Vec<u8>,
    handle: u32,
    (frame_max, share): (usize, usize),
    now: Instant,
) -> Turn {
    let Some(link) = session.links.get_mut(&handle) else {
        return Turn::default();
    };
    let full_at = out.len() + share;
    let channel = session.channel;
    let mut wire = Wire {
        out,
        session: &mut session.out,
        channel,
        handle,
        frame_max,
        full_at,
    };
    let (turn, drained) = match &mut link.kind {
        LinkKind::Egress(egress) => {
            let turn = egress.pump(&mut wire, now);
            let drains = egress.outbound.drain && turn.end.is_none();
            let exhausted = drains && (egress.outbound.credit == 0 || egress.is_at_end());
            (turn, exhausted && egress.outbound.drained())
        }
        LinkKind::Reply(reply) => {
            let turn = pump_reply(reply, &mut wire);
            (turn, reply.waiting.is_empty() && reply.outbound.drained())
        }
        LinkKind::Ingress(ingress) => {
            return Turn {
                more: false,
                end: ingress.deleted().map(CutWhat::Link),
            };
        }
        _ => return Turn::default(),
    };
    if drained {
        session.put_link_flow(out, handle, true);
    }
    turn
}

fn pump_reply(reply: &mut Reply, wire: &mut Wire<'_>) -> Turn {
    reply.outbound.resume(wire);
    while reply.outbound.may_send(wire) && !wire.is_full() {
        let Some(message) = reply.waiting.pop_front() else {
            break;
        };
        reply.outbound.send(wire, &message);
    }
    Turn {
        more: wire.is_full(),
        end: None,
    }
}

/// Stores what a delivery holds: one message, or every message of a batch, or nothing.
fn store(hub: &HubShared, partition: Option<u32>, delivery: &Delivery) -> Result<(), AmqpError> {
    if let Some(error) = hub.faults.send_refusal() {
        return Err(error);
    }
    let envelope = Sections::read(&delivery.payload).map_err(|error| bad_message(&error))?;
    let key = envelope.partition_key().map(str::to_owned);
    let partition = partition.unwrap_or_else(|| hub.choose_partition(key.as_deref()));
    if delivery.format != BATCH_FORMAT {
        hub.store(partition, &[envelope], key.as_deref());
        return Ok(());
    }
    let messages: Result<Vec<_>, _> = envelope
        .batch()
        .iter()
        .map(|bytes| Sections::read(bytes))
        .collect();
    hub.store(
        partition,
        &messages.map_err(|error| bad_message(&error))?,
        key.as_deref(),
    );
    Ok(())
}

pub(super) fn unattached(channel: u16, handle: u32) -> Violation {
    let text = format!("handle {handle} has no link");
    Violation::session(channel, "amqp:session:unattached-handle", text)
}
