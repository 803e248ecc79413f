//! Frames and protocol headers: cutting them from a byte stream, and writing them.

use bytes::{Bytes, BytesMut};

use super::encode;

/// `AMQP` protocol 0, version 1.0.0.
pub const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// `AMQP` protocol 3 (SASL), version 1.0.0.
pub const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

const FRAME_HEADER_BYTES: usize = 8;

/// Which protocol a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Amqp,
    Sasl,
}

/// One whole frame. An empty body is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    pub channel: u16,
    pub body: Bytes,
}

/// Why the stream cannot be cut into frames. The connection has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {size} bytes is larger than the agreed {max}")]
    TooLarge { size: usize, max: usize },
    #[error("a frame's size is {0} bytes, less than its own header")]
    TooSmall(usize),
    #[error("unknown frame type {0}")]
    Kind(u8),
}

/// Cuts the next whole frame from the front of `input`; `None` when more bytes are needed.
pub fn cut(input: &mut BytesMut, frame_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(header) = input.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let [s0, s1, s2, s3, offset_words, kind, c0, c1] = *header;
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    let offset = usize::from(offset_words) * 4;
    if size > frame_max {
        return Err(FrameError::TooLarge {
            size,
            max: frame_max,
        });
    }
    if offset < FRAME_HEADER_BYTES || size < offset {
        return Err(FrameError::TooSmall(size));
    }
    let kind = match kind {
        0 => FrameKind::Amqp,
        1 => FrameKind::Sasl,
        other => return Err(FrameError::Kind(other)),
    };
    if input.len() < size {
        return Ok(None);
    }
    let mut body = input.split_to(size).freeze();
    let _ = body.split_to(offset);
    Ok(Some(Frame {
        kind,
        channel: u16::from_be_bytes([c0, c1]),
        body,
    }))
}

/// Writes one frame whose body `fill` writes.
pub fn put(out: &mut Vec<u8>, kind: FrameKind, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    let kind = match kind {
        FrameKind::Amqp => 0,
        FrameKind::Sasl => 1,
    };
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind, c0, c1]);
    fill(out);
    let size = out.len() - at;
    encode::patch_size(out, at, size);
}

/// Writes a heartbeat.
pub fn put_empty(out: &mut Vec<u8>) {
    put(out, FrameKind::Amqp, 0, |_| {});
}
