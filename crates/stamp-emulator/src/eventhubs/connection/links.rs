//! The engine's side of links: attaching, flow, transfers from clients, and sending to clients.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::address::{self, Address};
use super::super::faults::CutWhat;
use super::super::filter;
use super::super::hub::HubShared;
use super::super::message::{BATCH_FORMAT, Sections};
use super::super::readers::{self, ReaderControl, Registered};
use super::egress::{Egress, Turn};
use super::engine::{Engine, Violation};
use super::link::{Delivery, Inbound, Outbound, Wire};
use super::request::{self, Node};
use super::session::{Ingress, Link, LinkKind, Reply, Session};
use crate::amqp::decode::{DecodeError, Value};
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::performative::{
    self, AmqpError, Attach, Disposition, Flow, Outcome, Role, Transfer,
};

/// Bytes one turn of [`Engine::pump`] may put in the buffer, shared by the links.
pub(super) const PUMP_BYTES: usize = 256 * 1024;

/// The least a link gets of them, however many links there are.
const LINK_BYTES_MIN: usize = 4 * 1024;

/// The link property that holds the owner level.
const EPOCH: &str = "com.microsoft:epoch";

fn not_found(address: &str) -> AmqpError {
    AmqpError::new(
        "amqp:not-found",
        format!("The messaging entity '{address}' could not be found."),
    )
}

fn bad_message(error: &DecodeError) -> AmqpError {
    AmqpError::new(
        "amqp:decode-error",
        format!("the message cannot be read: {error}"),
    )
}

impl Engine {
    pub(super) fn on_attach(&mut self, channel: u16, attach: &Attach) -> Result<(), Violation> {
        let limits = self.namespace.limits;
        let session = self.session(channel)?;
        let handle = attach.handle;
        if handle >= limits.links_max {
            let text = format!(
                "handle {handle} is above the agreed {}",
                limits.links_max - 1
            );
            return Err(Violation::connection("amqp:connection:framing-error", text));
        }
        if session.links.contains_key(&handle) {
            let text = format!("handle {handle} has a link already");
            return Err(Violation::session(
                channel,
                "amqp:session:handle-in-use",
                text,
            ));
        }
        let kind = self.open_link(attach);
        frame::put(&mut self.out, FrameKind::Amqp, channel, |out| {
            performative::put_attach(out, attach, limits.message_bytes_max as u64);
        });
        let refusal = kind.as_ref().err().cloned();
        let kind = kind.unwrap_or(LinkKind::Gone);
        let takes_transfers = matches!(kind, LinkKind::Ingress(_) | LinkKind::Request(..));
        let link = Link {
            name: attach.name.clone(),
            kind,
        };
        let session = self
            .sessions
            .get_mut(&channel)
            .expect("the session was found above and not removed");
        session.links.insert(handle, link);
        if let Some(error) = refusal {
            session.detach(&mut self.out, handle, &error);
        } else if takes_transfers {
            session.put_link_flow(&mut self.out, handle, false);
        }
        Ok(())
    }

    /// What a new link is, or why it is refused. A refused link is attached and then detached with
    /// the error, as the service does it.
    fn open_link(&mut self, attach: &Attach) -> Result<LinkKind, AmqpError> {
        let terminus = match attach.role {
            Role::Receiver => &attach.source,
            Role::Sender => &attach.target,
        };
        let text = terminus
            .as_ref()
            .and_then(|t| t.address.as_deref())
            .unwrap_or_default();
        let address = address::parse(text);
        match (attach.role, address) {
            (Role::Receiver, Address::Cbs) => Ok(reply_link(Node::Cbs, attach)),
            (Role::Receiver, Address::Management) => Ok(reply_link(Node::Management, attach)),
            (Role::Sender, Address::Cbs) => Ok(LinkKind::Request(Node::Cbs, inbound(attach))),
            (Role::Sender, Address::Management) => {
                Ok(LinkKind::Request(Node::Management, inbound(attach)))
            }
            (
                Role::Receiver,
                Address::Receiver {
                    hub,
                    group,
                    partition,
                },
            ) => self
                .hub_for(&hub, Role::Receiver)
                .and_then(|hub| self.open_egress(&hub, &group, &partition, attach)),
            (Role::Sender, Address::Hub { hub }) => self
                .hub_for(&hub, Role::Sender)
                .and_then(|hub| Self::open_ingress(hub, None, attach)),
            (Role::Sender, Address::Partition { hub, partition }) => self
                .hub_for(&hub, Role::Sender)
                .and_then(|hub| Self::open_ingress(hub, Some(&partition), attach)),
            _ => {
                self.namespace.counters.attaches_refused.add(1);
                Err(not_found(text))
            }
        }
    }

    /// The named hub, with the attach counted; refused if the fault hook says so.
    fn hub_for(&mut self, name: &str, role: Role) -> Result<Arc<HubShared>, AmqpError> {
        let namespace = Arc::clone(&self.namespace);
        let hub = namespace.hub(name);
        for counters in hub
            .map(|hub| &hub.counters)
            .into_iter()
            .chain([&namespace.counters])
        {
            match role {
                Role::Receiver => counters.receiver_attaches.add(1),
                Role::Sender => counters.sender_attaches.add(1),
            }
        }
        let Some(hub) = hub else {
            namespace.counters.attaches_refused.add(1);
            return Err(not_found(name));
        };
        self.touch(hub);
        match hub.faults.attach_refusal() {
            Some(error) => Err(refused(hub, error)),
            None => Ok(Arc::clone(hub)),
        }
    }

    fn open_ingress(
        hub: Arc<HubShared>,
        partition: Option<&str>,
        attach: &Attach,
    ) -> Result<LinkKind, AmqpError> {
        let partition = match partition {
            None => None,
            Some(text) => Some(find_partition(&hub, text)?),
        };
        let generation = hub.generation();
        Ok(LinkKind::Ingress(Ingress {
            hub,
            partition,
            generation,
            inbound: inbound(attach),
        }))
    }

    fn open_egress(
        &mut self,
        hub: &Arc<HubShared>,
        group: &str,
        partition: &str,
        attach: &Attach,
    ) -> Result<LinkKind, AmqpError> {
        if !hub.has_group(group) {
            return Err(refused(hub, not_found(&format!("{}:{group}", hub.name()))));
        }
        let id = find_partition(hub, partition)?;
        let filters = attach
            .source
            .as_ref()
            .and_then(|source| source.filter.as_ref());
        let invalid =
            |text: String| refused(hub, AmqpError::new("com.microsoft:argument-error", text));
        let position = filter::position(filters).map_err(|error| invalid(error.to_string()))?;
        let level = attach
            .properties
            .as_ref()
            .and_then(|p| p.get(EPOCH))
            .and_then(Value::as_i64);
        let control = Arc::new(ReaderControl::new(Arc::clone(&self.signal)));
        let registered = Registered {
            group: group.to_owned(),
            level,
            control: Arc::clone(&control),
            idle: false,
        };
        let Some(mut state) = hub.partition(id) else {
            return Err(not_found(partition));
        };
        let next = state
            .log
            .start(position)
            .map_err(|error| invalid(error.to_string()))?;
        let displaced =
            readers::admit(&mut state.readers, registered).map_err(|error| refused(hub, error))?;
        drop(state);
        hub.counters.receivers_displaced.add(displaced as u64);
        Ok(LinkKind::Egress(Box::new(Egress {
            hub: Arc::clone(hub),
            partition: id,
            control,
            outbound: Outbound::new(attach.snd_settle_mode == 1),
            next,
            release_at: None,
        })))
    }

    pub(super) fn on_detach(
        &mut self,
        channel: u16,
        handle: u32,
        closed: bool,
    ) -> Result<(), Violation> {
        let session = self.session(channel)?;
        match session.links.remove(&handle) {
            Some(Link {
                kind: LinkKind::Gone,
                ..
            }) => Ok(()),
            Some(_) => {
                frame::put(&mut self.out, FrameKind::Amqp, channel, |out| {
                    performative::put_detach(out, handle, closed, None);
                });
                Ok(())
            }
            None => Err(unattached(channel, handle)),
        }
    }

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

fn find_partition(hub: &HubShared, text: &str) -> Result<u32, AmqpError> {
    hub.parse_partition(text).ok_or_else(|| {
        let last = hub.partition_count() - 1;
        let text = format!(
            "The specified partition is invalid for an EventHub partition sender or receiver. It \
             should be between 0 and {last}."
        );
        refused(
            hub,
            AmqpError::new("com.microsoft:argument-out-of-range", text),
        )
    })
}

fn refused(hub: &HubShared, error: AmqpError) -> AmqpError {
    hub.counters.attaches_refused.add(1);
    error
}

fn unattached(channel: u16, handle: u32) -> Violation {
    let text = format!("handle {handle} has no link");
    Violation::session(channel, "amqp:session:unattached-handle", text)
}

fn inbound(attach: &Attach) -> Inbound {
    Inbound::new(attach.initial_delivery_count.unwrap_or(0))
}

fn reply_link(node: Node, attach: &Attach) -> LinkKind {
    LinkKind::Reply(Reply {
        node,
        target: attach
            .target
            .as_ref()
            .and_then(|target| target.address.clone()),
        outbound: Outbound::new(attach.snd_settle_mode == 1),
        waiting: std::collections::VecDeque::new(),
    })
}
