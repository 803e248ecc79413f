//! The engine's side of attaching and detaching links: which entity, whether it may, and as whom.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::address::{self, Address};
use super::super::filter;
use super::super::hub::HubShared;
use super::super::readers::{self, ReaderControl, Registered};
use super::egress::Egress;
use super::engine::{Engine, Violation};
use super::link::{Inbound, Outbound};
use super::links::unattached;
use super::request::Node;
use super::session::{Ingress, Link, LinkKind, Reply};
use crate::amqp::decode::Value;
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::performative::{self, AmqpError, Attach, Role};

/// The link property that holds the owner level.
const EPOCH: &str = "com.microsoft:epoch";

fn not_found(address: &str) -> AmqpError {
    AmqpError::new(
        "amqp:not-found",
        format!("The messaging entity '{address}' could not be found."),
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
            begun: false,
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
        waiting: VecDeque::new(),
    })
}
