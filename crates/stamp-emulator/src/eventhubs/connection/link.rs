//! What sender and receiver links of every kind share: reassembly of incoming deliveries, and
//! outgoing deliveries under credit, session window and frame size.

use bytes::{Bytes, BytesMut};

use super::super::config::Limits;
use crate::amqp::performative::{AmqpError, Flow, Transfer};
use crate::amqp::{code, serial};

/// Credit a sender gets, and below which half of it is topped up.
pub(super) const CREDIT: u32 = 1_000;

/// The client sends, we receive.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) delivery_count: u32,
    pub(super) credit: u32,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    id: u32,
    format: u32,
    settled: bool,
    bytes: BytesMut,
}

/// One whole delivery of a client.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) id: u32,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) payload: Bytes,
}

impl Inbound {
    pub(super) fn new(initial_delivery_count: u32) -> Self {
        Self {
            delivery_count: initial_delivery_count,
            credit: CREDIT,
            partial: None,
        }
    }

    /// Bytes of a delivery that is not finished.
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| partial.bytes.len())
    }

    /// Takes one transfer frame; gives the delivery it completes.
    ///
    /// # Errors
    /// What the link is to be detached with.
    pub(super) fn take(
        &mut self,
        transfer: Transfer,
        limits: &Limits,
    ) -> Result<Option<Delivery>, AmqpError> {
        if transfer.aborted {
            self.partial = None;
            self.count()?;
            return Ok(None);
        }
        let size = self.partial_bytes() + transfer.payload.len();
        if size > limits.message_bytes_max {
            return Err(too_large(size, limits.message_bytes_max));
        }
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None if transfer.more => Partial::begin(&transfer)?,
            None => {
                self.count()?;
                return Partial::begin(&transfer).map(|p| Some(p.finish(transfer.payload)));
            }
        };
        partial.bytes.extend_from_slice(&transfer.payload);
        partial.settled |= transfer.settled.unwrap_or(false);
        if transfer.more {
            self.partial = Some(partial);
            return Ok(None);
        }
        self.count()?;
        let payload = std::mem::take(&mut partial.bytes).freeze();
        Ok(Some(partial.finish(payload)))
    }

    fn count(&mut self) -> Result<(), AmqpError> {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.checked_sub(1).ok_or_else(|| {
            AmqpError::new(
                "amqp:link:transfer-limit-exceeded",
                "a transfer came without credit",
            )
        })?;
        Ok(())
    }

    /// Whether the sender should hear of new credit; it then has it.
    pub(super) fn top_up(&mut self) -> bool {
        let due = self.credit <= CREDIT / 2;
        if due {
            self.credit = CREDIT;
        }
        due
    }
}

impl Partial {
    fn begin(transfer: &Transfer) -> Result<Self, AmqpError> {
        let id = transfer.delivery_id.ok_or_else(|| {
            AmqpError::new(
                "amqp:invalid-field",
                "the first transfer of a delivery has no id",
            )
        })?;
        Ok(Self {
            id,
            format: transfer.message_format.unwrap_or(0),
            settled: transfer.settled.unwrap_or(false),
            bytes: BytesMut::new(),
        })
    }

    fn finish(self, payload: Bytes) -> Delivery {
        Delivery {
            id: self.id,
            format: self.format,
            settled: self.settled,
            payload,
        }
    }
}

fn too_large(size: usize, max: usize) -> AmqpError {
    AmqpError::new(
        "amqp:link:message-size-exceeded",
        format!(
            "The received message (delivery-id:0, size:{size} bytes) exceeds the limit ({max} \
             bytes) currently allowed on the link."
        ),
    )
}

/// A session's outgoing side.
#[derive(Debug)]
pub(super) struct SessionOut {
    pub(super) next_outgoing_id: u32,
    /// Transfer frames the client still takes.
    pub(super) window: u32,
    next_delivery_id: u32,
}

impl SessionOut {
    pub(super) fn new(window: u32) -> Self {
        Self {
            next_outgoing_id: 0,
            window,
            next_delivery_id: 0,
        }
    }

    /// What a client's `flow` says about the session. Our first outgoing id is 0.
    pub(super) fn flow(&mut self, flow: &Flow) {
        let next = flow.next_incoming_id.unwrap_or(0);
        self.window = serial::session_window(next, flow.incoming_window, self.next_outgoing_id);
    }
}

/// Where a link writes its frames.
pub(super) struct Wire<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) session: &'a mut SessionOut,
    pub(super) channel: u16,
    pub(super) handle: u32,
    pub(super) frame_max: usize,
    /// The buffer is full for this link at this length.
    pub(super) full_at: usize,
}

impl Wire<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= self.full_at
    }
}

/// We send, the client receives.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) sent: u32,
    pub(super) credit: u32,
    pub(super) drain: bool,
    settled: bool,
    unfinished: Option<Unfinished>,
}

/// A delivery of several frames of which some are still to be written.
#[derive(Debug)]
struct Unfinished {
    id: u32,
    payload: Vec<u8>,
    at: usize,
}

/// Length of what comes before a transfer's payload.
const HEAD_BYTES: usize = 38;

impl Outbound {
    pub(super) fn new(settled: bool) -> Self {
        Self {
            sent: 0,
            credit: 0,
            drain: false,
            settled,
            unfinished: None,
        }
    }

    /// What a client's `flow` says about the link.
    pub(super) fn flow(&mut self, flow: &Flow) {
        let seen = flow.delivery_count.unwrap_or(0);
        self.credit = serial::link_credit(seen, flow.link_credit.unwrap_or(0), self.sent);
        self.drain = flow.drain;
    }

    /// Whether a new delivery may start.
    pub(super) fn may_send(&self, wire: &Wire<'_>) -> bool {
        self.unfinished.is_none() && self.credit > 0 && wire.session.window > 0
    }

    /// Sends one delivery, as much of it as window and buffer take; the rest waits for
    /// [`Outbound::resume`].
    pub(super) fn send(&mut self, wire: &mut Wire<'_>, payload: &[u8]) {
        let id = wire.session.next_delivery_id;
        wire.session.next_delivery_id = id.wrapping_add(1);
        self.sent = self.sent.wrapping_add(1);
        self.credit -= 1;
        if HEAD_BYTES + payload.len() <= wire.frame_max {
            self.put_transfer(wire, id, false, payload);
        } else {
            self.unfinished = Some(Unfinished {
                id,
                payload: payload.to_vec(),
                at: 0,
            });
            self.resume(wire);
        }
    }

    /// Whether frames of the latest delivery are still to be written.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Writes on at an unfinished delivery; whether none is left.
    pub(super) fn resume(&mut self, wire: &mut Wire<'_>) -> bool {
        let Some(mut unfinished) = self.unfinished.take() else {
            return true;
        };
        let chunk = wire.frame_max - HEAD_BYTES;
        while wire.session.window > 0 && !wire.is_full() {
            let end = (unfinished.at + chunk).min(unfinished.payload.len());
            let more = end < unfinished.payload.len();
            self.put_transfer(
                wire,
                unfinished.id,
                more,
                &unfinished.payload[unfinished.at..end],
            );
            if !more {
                return true;
            }
            unfinished.at = end;
        }
        self.unfinished = Some(unfinished);
        false
    }

    fn put_transfer(&self, wire: &mut Wire<'_>, id: u32, more: bool, payload: &[u8]) {
        let [s0, s1, s2, s3] = frame_size(payload.len());
        let [c0, c1] = wire.channel.to_be_bytes();
        let [h0, h1, h2, h3] = wire.handle.to_be_bytes();
        let [i0, i1, i2, i3] = id.to_be_bytes();
        let flag = |set: bool| if set { 0x41 } else { 0x42 };
        #[rustfmt::skip]
        let head: [u8; HEAD_BYTES] = [
            s0, s1, s2, s3, 2, 0, c0, c1,
            0x00, 0x53, code::TRANSFER,
            // A list of eleven fields in 25 bytes, counting the count.
            0xc0, 25, 11,
            0x70, h0, h1, h2, h3,         // handle
            0x70, i0, i1, i2, i3,         // delivery-id
            0xa0, 4, i0, i1, i2, i3,      // delivery-tag
            0x43,                         // message-format 0
            flag(self.settled),
            flag(more),
            0x40, 0x40,                   // rcv-settle-mode, state
            0x42, 0x42, 0x42,             // resume, aborted, batchable
        ];
        wire.out.extend_from_slice(&head);
        wire.out.extend_from_slice(payload);
        wire.session.next_outgoing_id = wire.session.next_outgoing_id.wrapping_add(1);
        wire.session.window -= 1;
    }

    /// Gives up what is left of the credit when the client drains; whether it has to be told.
    pub(super) fn drained(&mut self) -> bool {
        let told = self.drain && self.unfinished.is_none();
        if told {
            self.sent = self.sent.wrapping_add(self.credit);
            self.credit = 0;
            self.drain = false;
        }
        told
    }
}

fn frame_size(payload: usize) -> [u8; 4] {
    u32::try_from(HEAD_BYTES + payload)
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

#[cfg(test)]
mod tests;
