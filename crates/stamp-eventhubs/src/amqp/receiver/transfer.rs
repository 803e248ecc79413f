//! The transfer performative, read by hand: one comes with every event.

use super::super::wire::{Malformed, Reader};

/// What a transfer says (AMQP 1.0 part 2.7.5), as far as a receiver needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// The link, by the peer's number.
    pub(crate) handle: u32,
    /// Must be there on the first frame of a delivery.
    pub(crate) delivery_id: Option<u32>,
    /// Whether the sender wants to hear nothing of it any more.
    pub(crate) settled: bool,
    /// Whether more frames of this delivery follow.
    pub(crate) more: bool,
    /// Whether the delivery is given up: what came of it counts for nothing.
    pub(crate) aborted: bool,
    /// Where the payload begins, counted from the performative's first byte.
    pub(crate) payload_at: usize,
}

/// How a frame's body usually begins when it is a transfer: with the short form of the code.
const DESCRIPTOR: [u8; 3] = [0x00, 0x53, 0x14];

const NAME: [(&str, u64); 1] = [("amqp:transfer:list", 0x14)];

/// Length of the descriptor, when a frame's body begins with that of a transfer.
#[inline]
pub(crate) fn descriptor(body: &[u8]) -> Option<usize> {
    if body.starts_with(&DESCRIPTOR) {
        return Some(DESCRIPTOR.len());
    }
    let mut reader = Reader::new(body);
    match reader.descriptor(&NAME) {
        Ok(0x14) => Some(body.len() - reader.rest().len()),
        _ => None,
    }
}

const NOT_A_LIST: Malformed = Malformed("a transfer is not a list");
const CUT_OFF: Malformed = Malformed("a field of a transfer is longer than the transfer");
const WRONG_TYPE: Malformed = Malformed("a field of a transfer has a wrong type");
const NO_HANDLE: Malformed = Malformed("a transfer names no link");

/// Fields in their order; what is left out at the end is null.
struct Fields<'a> {
    /// The performative to its end.
    fields: &'a [u8],
    at: usize,
    /// How many fields are there still.
    left: u32,
}

/// Reads the transfer at the beginning of `body`, after its [`descriptor`] of so many bytes.
///
/// # Errors
/// [`Malformed`] says which rule of the encoding is broken.
#[inline]
pub(crate) fn read(body: &[u8], at: usize) -> Result<Transfer, Malformed> {
    let mut fields = Fields::begin(body, at)?;
    let payload_at = fields.fields.len();
    let handle = fields.uint()?.ok_or(NO_HANDLE)?;
    let delivery_id = fields.uint()?;
    fields.skip()?; // delivery-tag
    fields.skip()?; // message-format: Event Hubs delivers single messages only
    let settled = fields.flag()?;
    let more = fields.flag()?;
    fields.skip()?; // rcv-settle-mode
    fields.skip()?; // state
    fields.flag()?; // resume
    let aborted = fields.flag()?;
    Ok(Transfer {
        handle,
        delivery_id,
        settled,
        more,
        aborted,
        payload_at,
    })
}

impl<'a> Fields<'a> {
    #[inline]
    fn begin(body: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let (head, size, left) = match *body.get(at..).unwrap_or_default() {
            [0x45, ..] => (1, 0, 0),
            // The size counts the count that follows it.
            [0xc0, size, count, ..] if size >= 1 => (3, usize::from(size) - 1, u32::from(count)),
            [0xd0, s0, s1, s2, s3, c0, c1, c2, c3, ..] => {
                let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
                let size = size.checked_sub(4).ok_or(NOT_A_LIST)?;
                (9, size, u32::from_be_bytes([c0, c1, c2, c3]))
            }
            _ => return Err(NOT_A_LIST),
        };
        let at = at + head;
        match body.get(..at + size) {
            Some(fields) => Ok(Self { fields, at, left }),
            None => Err(Malformed("a transfer is longer than its frame")),
        }
    }

    /// What is left of the fields, none when the next one was left out.
    #[inline]
    fn rest(&mut self) -> &'a [u8] {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                &self.fields[self.at..]
            }
            None => &[0x40],
        }
    }

    #[inline]
    fn uint(&mut self) -> Result<Option<u32>, Malformed> {
        let (number, length) = match *self.rest() {
            [0x70, b0, b1, b2, b3, ..] => (Some(u32::from_be_bytes([b0, b1, b2, b3])), 5),
            [0x52, number, ..] => (Some(u32::from(number)), 2),
            [0x43, ..] => (Some(0), 1),
            [0x40, ..] => (None, 1),
            [0x70 | 0x52, ..] | [] => return Err(CUT_OFF),
            _ => return Err(WRONG_TYPE),
        };
        self.at += length;
        Ok(number)
    }

    /// A boolean; null is false, which is the default of each of them here.
    #[inline]
    fn flag(&mut self) -> Result<bool, Malformed> {
        let (flag, length) = match *self.rest() {
            [0x42 | 0x40, ..] => (false, 1),
            [0x41, ..] => (true, 1),
            [0x56, flag @ (0 | 1), ..] => (flag == 1, 2),
            [] => return Err(CUT_OFF),
            _ => return Err(WRONG_TYPE),
        };
        self.at += length;
        Ok(flag)
    }

    #[inline]
    fn skip(&mut self) -> Result<(), Malformed> {
        let rest = self.rest();
        let length = match *rest {
            [0x40..=0x45, ..] => 1,
            [0xa0, length, ..] => 2 + usize::from(length),
            [] => return Err(CUT_OFF),
            _ => {
                let mut reader = Reader::new(rest);
                reader.value()?;
                rest.len() - reader.rest().len()
            }
        };
        if length > rest.len() {
            return Err(CUT_OFF);
        }
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
