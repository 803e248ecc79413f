//! Cuts the byte stream of a hub into frames, without a copy of what they hold.
//!
//! Bytes are read into a buffer that many frames share. Whole frames are given out as places in it;
//! what is sliced out of it keeps it alive, and it is read into again when nobody does. A frame that
//! is not whole is moved, once, in front of what comes next.

use std::mem;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::HubError;

/// Largest frame we take: what Event Hubs itself offers.
pub(crate) const FRAME_BYTES_MAX: usize = 65_536;

/// Length of a read buffer. Twice the largest frame, so that one always fits after the rest of
/// another.
pub(crate) const BUFFER_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// Least space for a read: with less another buffer is taken.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Buffers that are kept to be read into again. What a pull of the usual size fills is in use when
/// the next begins; more than this is given back to the allocator.
const BUFFERS_KEPT: usize = 4;

/// Length of a frame's own header: size, offset of the body, type and channel.
const FRAME_HEADER_BYTES: usize = 8;

/// `AMQP` and four more bytes: what both sides send before the first frame of each layer.
pub(crate) const PROTOCOL_HEADER_BYTES: usize = 8;

/// A frame's own header, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// 0 for AMQP, 1 for SASL.
    pub(super) kind: u8,
    pub(super) channel: u16,
}

/// Bytes that came and were not handled yet.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Frames to be given out, from `at` on; perhaps with the beginning of another.
    chunk: Bytes,
    at: usize,
    /// What follows them, and space to read into.
    buffer: BytesMut,
    kept: Vec<BytesMut>,
    /// Bytes of the stream before `chunk`: says where something is wrong.
    passed: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            chunk: Bytes::new(),
            at: 0,
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            kept: Vec::new(),
            passed: 0,
        }
    }

    /// Where to read into, after [`Frames::next`] said that there is no whole frame: a buffer with
    /// space for [`READ_BYTES_MIN`] at least, or for all of the frame that has begun.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        let missing = match length(&self.buffer) {
            Ok(Some(length)) => length.saturating_sub(self.buffer.len()),
            _ => 0,
        };
        if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES_MIN) {
            let begun = self.fresh();
            let full = mem::replace(&mut self.buffer, begun);
            self.buffer.extend_from_slice(&full);
            self.keep(full);
        }
        &mut self.buffer
    }

    /// An empty buffer: one that nobody looks into any more, or a new one.
    fn fresh(&mut self) -> BytesMut {
        let free = (0..self.kept.len()).find(|&at| self.kept[at].try_reclaim(BUFFER_BYTES));
        match free {
            Some(at) => self.kept.swap_remove(at),
            None => BytesMut::with_capacity(BUFFER_BYTES),
        }
    }

    fn keep(&mut self, mut full: BytesMut) {
        full.clear();
        if self.kept.len() >= BUFFERS_KEPT {
            self.kept.remove(0);
        }
        self.kept.push(full);
    }

    /// The next protocol header, when it is whole.
    pub(super) fn next_header(&mut self) -> Option<[u8; PROTOCOL_HEADER_BYTES]> {
        self.unread();
        let header = *self.buffer.first_chunk()?;
        let _ = self.buffer.split_to(PROTOCOL_HEADER_BYTES);
        self.passed += PROTOCOL_HEADER_BYTES as u64;
        Some(header)
    }

    /// The place of the next whole frame in [`Frames::chunk`]; `None` when more has to be read.
    pub(super) fn next(&mut self) -> Result<Option<Range<usize>>, HubError> {
        loop {
            let rest = &self.chunk[self.at..];
            match self.checked_length(rest)? {
                Some(length) if length <= rest.len() => {
                    let start = self.at;
                    self.at += length;
                    return Ok(Some(start..self.at));
                }
                _ => self.unread(),
            }
            match self.checked_length(&self.buffer)? {
                Some(length) if length <= self.buffer.len() => {
                    self.chunk = self.buffer.split().freeze();
                }
                _ => return Ok(None),
            }
        }
    }

    /// Puts what is left of the chunk, less than a frame, back in front of what is read next.
    fn unread(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = mem::take(&mut self.chunk);
        self.passed += self.at as u64;
        let rest = &chunk[mem::take(&mut self.at)..];
        if !rest.is_empty() {
            debug_assert!(
                self.buffer.is_empty(),
                "nothing is read before a chunk ends"
            );
            if self.buffer.capacity() < rest.len() {
                let begun = self.fresh();
                let full = mem::replace(&mut self.buffer, begun);
                self.keep(full);
            }
            self.buffer.extend_from_slice(rest);
        }
    }

    /// The bytes that frames are places in.
    pub(super) fn chunk(&self) -> &Bytes {
        &self.chunk
    }

    /// Bytes of the stream before a place in the chunk.
    pub(super) fn position(&self, at: usize) -> u64 {
        self.passed + at as u64
    }

    fn checked_length(&self, rest: &[u8]) -> Result<Option<usize>, HubError> {
        length(rest).map_err(|what| HubError::Protocol {
            detail: format!("{what}, at byte {} of the stream", self.position(self.at)),
        })
    }
}

/// Length of the frame that begins here; `None` when more bytes are needed to tell.
fn length(rest: &[u8]) -> Result<Option<usize>, String> {
    let Some(&size) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(size) as usize;
    if (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Ok(Some(length));
    }
    Err(if &size == b"AMQP" {
        "a protocol header came in the place of a frame".to_owned()
    } else {
        format!(
            "a frame claims {length} bytes, which is not from {FRAME_HEADER_BYTES} to {FRAME_BYTES_MAX}"
        )
    })
}

/// Reads the header of a whole frame: what it says, and where its body begins.
pub(super) fn head(frame: &[u8]) -> Result<(FrameHead, usize), &'static str> {
    let Some(&[_, _, _, _, words, kind, channel_0, channel_1]) = frame.first_chunk() else {
        return Err("a frame is shorter than its header");
    };
    let body_at = usize::from(words) * 4;
    if body_at < FRAME_HEADER_BYTES || body_at > frame.len() {
        return Err("a frame's body begins outside of it");
    }
    let channel = u16::from_be_bytes([channel_0, channel_1]);
    Ok((FrameHead { kind, channel }, body_at))
}

/// Writes one frame whose body `fill` writes.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, channel: u16, body: &[u8]) {
    let [c0, c1] = channel.to_be_bytes();
    let length = (FRAME_HEADER_BYTES + body.len()) as u32;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[2, kind, c0, c1]);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests;
