//! What a peer says inside the session: links, their flow, and what comes on them.

use std::ops::Range;

use bytes::Bytes;

use super::super::intake::Intake;
use super::super::link::{Arrived, Inbound};
use super::super::performative::{Performative, Said};
use super::super::transfer;
use super::{Broken, Protocol};

impl Protocol {
    /// The hot path: one frame of an event, or of an answer of `$cbs`.
    pub(super) fn on_transfer(
        &mut self,
        channel: u16,
        body: Range<usize>,
        fields_at: usize,
        intake: &mut Intake,
    ) -> Result<(), Broken> {
        let Self {
            frames,
            out,
            session: Some(session),
            partition,
            cbs,
            asked,
            leaving,
            ..
        } = self
        else {
            return Err(Broken::rule("a transfer came without a session"));
        };
        if channel != session.remote_channel {
            return Err(Broken::channel(channel));
        }
        let chunk = frames.chunk();
        let transfer = transfer::read(&chunk[body.clone()], fields_at)?;
        session
            .received()
            .ok_or_else(|| Broken::rule("a transfer came without room in the session's window"))?;
        let place = body.start + transfer.payload_at..body.end;
        let payload = &chunk[place.clone()];
        let is_of = |link: &Inbound| link.remote_handle == Some(transfer.handle);
        if let Some(link) = partition.as_mut().filter(|link| is_of(&link.inbound)) {
            match link.inbound.take(transfer, payload, out)? {
                Arrived::Nothing => {}
                Arrived::InPlace => intake.take(chunk, place)?,
                Arrived::Joined(bytes) => intake.take(&bytes, 0..bytes.len())?,
            }
            asked.granted |= !intake.is_empty();
            if link.inbound.is_due() {
                link.inbound.grant(session.state(), out);
            }
        } else if let Some(cbs) = cbs.as_mut().filter(|cbs| is_of(&cbs.receiver)) {
            let answer = match cbs.receiver.take(transfer, payload, out)? {
                Arrived::Nothing => None,
                Arrived::InPlace => Some(Bytes::copy_from_slice(payload)),
                Arrived::Joined(bytes) => Some(bytes),
            };
            if cbs.receiver.is_due() {
                cbs.receiver.grant(session.state(), out);
            }
            if let Some(answer) = answer {
                cbs.answered(answer, asked)?;
            }
        } else if !leaving.contains(&transfer.handle) {
            return Err(Broken::handle(transfer.handle));
        }
        if session.is_due() {
            out.flow(session.state(), None);
        }
        Ok(())
    }

    pub(super) fn on_session_frame(
        &mut self,
        channel: u16,
        said: Performative<'_>,
    ) -> Result<(), Broken> {
        let session = self.session.as_mut();
        let Some(session) = session.filter(|session| session.remote_channel == channel) else {
            return Err(Broken::channel(channel));
        };
        match said {
            Performative::Attach {
                name,
                handle,
                filters,
                target,
                initial_delivery_count,
            } => self.on_attach(
                name,
                handle,
                filters.as_deref(),
                target,
                initial_delivery_count,
            ),
            Performative::Flow {
                next_incoming_id,
                incoming_window,
                handle,
                delivery_count,
                link_credit,
                echo,
            } => {
                session.told(next_incoming_id, incoming_window);
                if let Some(handle) = handle {
                    self.on_link_flow(handle, delivery_count, link_credit)?;
                }
                self.pump();
                if echo {
                    self.echo(handle);
                }
                Ok(())
            }
            Performative::Disposition {
                by_receiver: true,
                first,
                last,
                rejected: Some(said),
            } => match &self.cbs {
                Some(cbs) if cbs.is_rejected(first, last) => {
                    Err(self.ended(Some(said), "the hub rejected the token"))
                }
                _ => Ok(()),
            },
            Performative::Disposition { .. } => Ok(()),
            Performative::Detach { handle, error } => self.on_detach(handle, error),
            Performative::End { error } => Err(self.ended(error, "the hub ended the session")),
            _ => Err(Broken::rule(
                "a performative that has no place in a session",
            )),
        }
    }

    fn on_attach(
        &mut self,
        name: &[u8],
        handle: u32,
        filters: Option<&[&[u8]]>,
        target: bool,
        initial_delivery_count: u32,
    ) -> Result<(), Broken> {
        if self.handles().any(|taken| taken == handle) {
            return Err(Broken::Rule(format!("link {handle} is attached twice")));
        }
        if let Some(link) = self
            .partition
            .as_mut()
            .filter(|link| link.name.as_bytes() == name)
        {
            link.inbound.attached(handle, initial_delivery_count);
            // Without a source the link is refused, and a detach says why.
            let Some(filters) = filters else {
                return Ok(());
            };
            if !filters.contains(&link.filter.as_bytes()) {
                return Err(Broken::Rule(format!(
                    "the hub does not take the start position: {} is not in its answer",
                    link.filter
                )));
            }
            link.attached = true;
            return Ok(());
        }
        match &mut self.cbs {
            // Without a target it is refused.
            Some(cbs) if cbs.sender.name.as_bytes() == name => {
                cbs.sender.remote_handle = target.then_some(handle);
            }
            Some(cbs) if cbs.receiver_name.as_bytes() == name => {
                cbs.receiver.attached(handle, initial_delivery_count);
                if let Some(session) = &mut self.session {
                    cbs.receiver.grant(session.state(), &mut self.out);
                }
            }
            _ => {
                return Err(Broken::rule("a link is attached that nobody asked for"));
            }
        }
        self.pump();
        Ok(())
    }

    fn on_link_flow(
        &mut self,
        handle: u32,
        delivery_count: Option<u32>,
        link_credit: u32,
    ) -> Result<(), Broken> {
        if let Some(cbs) = &mut self.cbs
            && cbs.sender.remote_handle == Some(handle)
        {
            cbs.credited(delivery_count, link_credit);
            return Ok(());
        }
        // What a sender says of its own side is of no use to us.
        if self.handles().any(|known| known == handle) {
            Ok(())
        } else {
            Err(Broken::handle(handle))
        }
    }

    /// Answers a flow that asks for one.
    fn echo(&mut self, handle: Option<u32>) {
        let Some(session) = &mut self.session else {
            return;
        };
        let partition = self.partition.as_ref().map(|link| &link.inbound);
        let answers = self.cbs.as_ref().map(|cbs| &cbs.receiver);
        let asked = |link: &&Inbound| handle.is_some() && link.remote_handle == handle;
        match [partition, answers].into_iter().flatten().find(asked) {
            Some(link) => link.state(session.state(), &mut self.out),
            None => self.out.flow(session.state(), None),
        }
    }

    fn on_detach(&mut self, handle: u32, error: Option<Said>) -> Result<(), Broken> {
        if let Some(at) = self.leaving.iter().position(|&left| left == handle) {
            self.leaving.swap_remove(at);
            return Ok(());
        }
        let of_partition = self
            .partition
            .as_ref()
            .is_some_and(|link| link.inbound.remote_handle == Some(handle));
        if of_partition {
            if let Some(link) = &self.partition {
                self.out.detach(link.inbound.handle());
            }
            return Err(self.ended(error, "the hub closed the link"));
        }
        let Some(cbs) = self
            .cbs
            .take_if(|cbs| !cbs.is_attached() || cbs.has(handle))
        else {
            return Err(Broken::handle(handle));
        };
        let needed = !cbs.is_attached() || cbs.is_asking();
        self.leaving.extend(cbs.detach(handle, &mut self.out));
        if needed {
            return Err(self.ended(error, "the hub closed the links to $cbs"));
        }
        // The next token gets new links.
        Ok(())
    }

    /// Sends what waits for credit or window.
    pub(super) fn pump(&mut self) {
        if let (Some(cbs), Some(session)) = (&mut self.cbs, &mut self.session) {
            cbs.pump(session, self.peer_frame_bytes_max, &mut self.out);
        }
    }

    /// The peer's numbers of all links.
    fn handles(&self) -> impl Iterator<Item = u32> {
        let partition = self.partition.as_ref();
        let cbs = self.cbs.as_ref();
        let known = [
            partition.and_then(|link| link.inbound.remote_handle),
            cbs.and_then(|cbs| cbs.sender.remote_handle),
            cbs.and_then(|cbs| cbs.receiver.remote_handle),
        ];
        known
            .into_iter()
            .flatten()
            .chain(self.leaving.iter().copied())
    }
}
