//! The receiving side of a link: credit, the parts of a delivery, and what was not settled yet.

use bytes::{Bytes, BytesMut};

use super::compose::{LinkState, Output, SessionState};
use super::transfer::Transfer;

/// Largest message that is put together. Event Hubs takes a megabyte, and twenty in its dedicated
/// tier; this only keeps a peer that never ends a message from filling the memory.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A link on which the hub sends.
///
/// Counts wrap around at 2^32 (AMQP 1.0 part 2.8.10): they are compared by their difference only.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Our number of the link.
    handle: u32,
    /// The peer's, once it has answered.
    pub(super) remote_handle: Option<u32>,
    delivery_count: u32,
    /// What the credit is filled up to.
    credit: u32,
    /// Deliveries that the hub may still begin.
    left: u32,
    begun: Option<Begun>,
    unsettled: Option<Range>,
}

/// A delivery of which some frames came.
#[derive(Debug)]
struct Begun {
    id: u32,
    settled: bool,
    bytes: BytesMut,
}

/// Deliveries that follow one another by their numbers.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
}

/// What a transfer frame completes.
#[derive(Debug)]
pub(super) enum Arrived {
    /// Nothing yet, or a delivery that its sender gave up.
    Nothing,
    /// A delivery of this one frame: its payload is where it came.
    InPlace,
    /// A delivery of several frames.
    Joined(Bytes),
}

impl Inbound {
    pub(super) fn new(handle: u32, credit: u32) -> Self {
        Self {
            handle,
            remote_handle: None,
            delivery_count: 0,
            credit,
            left: 0,
            begun: None,
            unsettled: None,
        }
    }

    /// Our number of the link.
    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// The peer has answered the attach.
    pub(super) fn attached(&mut self, remote_handle: u32, initial_delivery_count: u32) {
        self.remote_handle = Some(remote_handle);
        self.delivery_count = initial_delivery_count;
    }

    /// Takes one frame of a delivery.
    ///
    /// # Errors
    /// Which rule of the protocol the peer breaks.
    pub(super) fn take(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Arrived, String> {
        if self.begun.is_none() && !transfer.more && !transfer.aborted {
            let id = transfer.delivery_id.ok_or(NO_ID)?;
            self.count(id, transfer.settled, out)?;
            return Ok(Arrived::InPlace);
        }
        self.take_part(transfer, payload, out)
    }

    fn take_part(
        &mut self,
        transfer: Transfer,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Arrived, String> {
        let mut begun = match (self.begun.take(), transfer.delivery_id) {
            (Some(begun), None) => begun,
            (Some(begun), Some(id)) if id == begun.id => begun,
            (Some(begun), Some(id)) => {
                return Err(format!(
                    "delivery {id} begins inside of delivery {}",
                    begun.id
                ));
            }
            (None, Some(id)) => Begun {
                id,
                settled: false,
                bytes: BytesMut::new(),
            },
            (None, None) => return Err(NO_ID.to_owned()),
        };
        begun.settled |= transfer.settled;
        if transfer.aborted {
            // It used credit, and the hub does not wait for a word about it.
            self.count(begun.id, true, out)?;
            return Ok(Arrived::Nothing);
        }
        let length = begun.bytes.len() + payload.len();
        if length > MESSAGE_BYTES_MAX {
            return Err(format!(
                "delivery {} is longer than {MESSAGE_BYTES_MAX} bytes",
                begun.id
            ));
        }
        begun.bytes.extend_from_slice(payload);
        if transfer.more {
            self.begun = Some(begun);
            return Ok(Arrived::Nothing);
        }
        self.count(begun.id, begun.settled, out)?;
        Ok(Arrived::Joined(begun.bytes.freeze()))
    }

    /// Counts a delivery that is over. The hub is told about a quarter of the credit at a time, or
    /// earlier when the numbers have a gap: those of other links lie between.
    fn count(&mut self, id: u32, settled: bool, out: &mut Output) -> Result<(), String> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("delivery {id} came without credit"))?;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        if settled {
            return Ok(());
        }
        let waiting = match self.unsettled {
            Some(before) if before.first.wrapping_add(before.count) == id => Range {
                count: before.count + 1,
                ..before
            },
            before => {
                before.inspect(|before| before.accept(out));
                Range {
                    first: id,
                    count: 1,
                }
            }
        };
        if waiting.count >= (self.credit / 4).max(1) {
            waiting.accept(out);
            self.unsettled = None;
        } else {
            self.unsettled = Some(waiting);
        }
        Ok(())
    }

    /// Whether half of the credit is used, so that it is to be filled up.
    pub(super) fn is_due(&self) -> bool {
        self.credit - self.left >= (self.credit / 2).max(1)
    }

    /// Fills the credit up, and says so.
    pub(super) fn grant(&mut self, session: SessionState, out: &mut Output) {
        self.left = self.credit;
        self.state(session, out);
    }

    /// Says how much credit there is.
    pub(super) fn state(&self, session: SessionState, out: &mut Output) {
        let link = LinkState {
            handle: self.handle,
            delivery_count: self.delivery_count,
            link_credit: self.left,
        };
        out.flow(session, Some(link));
    }
}

impl Range {
    fn accept(self, out: &mut Output) {
        out.accept(self.first, self.first.wrapping_add(self.count - 1));
    }
}

const NO_ID: &str = "the first frame of a delivery has no delivery-id";
