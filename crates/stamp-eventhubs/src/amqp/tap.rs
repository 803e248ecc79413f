//! Takes the payload of transfers out of the stream before the AMQP engine sees it.
//!
//! The engine decodes every message into owned maps of owned values, which costs more than all its
//! other work, and a message that it cannot decode is lost to us. So the tap sits between socket and
//! engine: it puts the payload of each transfer frame aside in an [`Inbox`] and gives the engine a
//! message of a few bytes in its place, one data section that holds the number of the slot. The
//! engine keeps the protocol (sessions, links, credit, settlement, the parts of a large message);
//! the bytes stay as they came, and are copied once.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{Malformed, Reader, Value};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 128 * 1024;

/// Length of a frame's own header: size, offset of the body, type and channel.
const FRAME_HEADER_BYTES: usize = 8;

/// `AMQP` and four more bytes: what both sides send before the first frame of each layer.
const PROTOCOL_HEADER_BYTES: usize = 8;

const TRANSFER: [(&str, u64); 1] = [("amqp:transfer:list", 0x14)];

/// Payloads of one connection that the engine has announced or will announce.
#[derive(Debug)]
pub struct Inbox {
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    payloads: Vec<Option<Bytes>>,
    free: Vec<u32>,
    slots_max: usize,
    ended: Option<String>,
}

impl Inbox {
    /// An inbox for at most `slots_max` payloads at a time. More means that the peer sends more
    /// than it has credit for, and ends the connection.
    pub fn new(slots_max: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::new(Slots {
                payloads: Vec::new(),
                free: Vec::new(),
                slots_max,
                ended: None,
            }),
        })
    }

    /// Takes a payload out of its slot.
    pub fn take(&self, slot: u32) -> Option<Bytes> {
        let mut slots = self.lock();
        let payload = slots.payloads.get_mut(slot as usize)?.take()?;
        slots.free.push(slot);
        Some(payload)
    }

    /// Payloads that were not taken yet.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().payloads.iter().flatten().count()
    }

    /// How the stream ended, when it has.
    pub fn ended(&self) -> Option<String> {
        self.lock().ended.clone()
    }

    fn end(&self, how: String) {
        self.lock().ended.get_or_insert(how);
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Every change under the lock is complete in itself, so a panic elsewhere spoils nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn put(&mut self, payload: Bytes) -> io::Result<u32> {
        if let Some(slot) = self.free.pop() {
            self.payloads[slot as usize] = Some(payload);
            return Ok(slot);
        }
        let slot = u32::try_from(self.payloads.len()).unwrap_or(u32::MAX);
        if self.payloads.len() >= self.slots_max {
            return Err(invalid(
                "the peer sends more transfers than it has credit for",
            ));
        }
        self.payloads.push(Some(payload));
        Ok(slot)
    }
}

/// A stream whose read side is tapped. Writing goes through unchanged.
#[derive(Debug)]
pub struct Tap<S> {
    stream: S,
    inbox: Arc<Inbox>,
    frame_bytes_max: usize,
    /// Bytes from the socket; a frame that is not whole waits here.
    input: Box<[u8]>,
    filled: usize,
    /// Bytes for the engine.
    output: BytesMut,
}

impl<S> Tap<S> {
    /// Taps `stream`. `frame_bytes_max` is what the peer was told in `open`.
    pub fn new(stream: S, inbox: Arc<Inbox>, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            inbox,
            frame_bytes_max,
            input: vec![0; READ_BYTES.max(2 * frame_bytes_max)].into_boxed_slice(),
            filled: 0,
            output: BytesMut::new(),
        }
    }

    /// Moves every whole frame from input to output.
    fn pass_frames(&mut self) -> io::Result<()> {
        let mut slots = self.inbox.lock();
        let mut rest = &self.input[..self.filled];
        while let Some(length) = frame_length(rest, self.frame_bytes_max)? {
            let Some((frame, after)) = rest.split_at_checked(length) else {
                break;
            };
            match split_transfer(frame) {
                Some((head, payload)) => {
                    let slot = slots.put(Bytes::copy_from_slice(payload))?;
                    announce(head, slot, &mut self.output);
                }
                None => self.output.extend_from_slice(frame),
            }
            rest = after;
        }
        drop(slots);
        let waiting = rest.len();
        let passed = self.filled - waiting;
        self.input.copy_within(passed..self.filled, 0);
        self.filled = waiting;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Tap<S> {
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.input[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.filled += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        while tap.output.is_empty() {
            let read = ready!(tap.poll_input(cx)).and_then(|count| {
                if count == 0 {
                    tap.inbox.end("the peer closed the connection".to_owned());
                    return Ok(0);
                }
                tap.pass_frames().map(|()| count)
            });
            match read {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) => {
                    tap.inbox.end(error.to_string());
                    return Poll::Ready(Err(error));
                }
            }
        }
        let count = tap.output.len().min(to.remaining());
        to.put_slice(&tap.output[..count]);
        tap.output.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Length of what comes next, a protocol header or a frame; `None` when more bytes are needed to
/// tell.
fn frame_length(rest: &[u8], frame_bytes_max: usize) -> io::Result<Option<usize>> {
    let Some(&start) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    if &start == b"AMQP" {
        return Ok(Some(PROTOCOL_HEADER_BYTES));
    }
    let length = u32::from_be_bytes(start) as usize;
    if (FRAME_HEADER_BYTES..=frame_bytes_max).contains(&length) {
        Ok(Some(length))
    } else {
        Err(invalid(
            "what the peer sends is not AMQP frames of the agreed size",
        ))
    }
}

/// Splits a transfer frame with a payload into frame header with performative, and payload.
/// `None` for every other frame; one that is malformed is left for the engine to refuse.
fn split_transfer(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    const AMQP_FRAME: u8 = 0;
    if frame.get(5) != Some(&AMQP_FRAME) {
        return None;
    }
    let body_at = usize::from(frame[4]) * 4;
    let payload = skip_transfer(frame.get(body_at..)?).ok().flatten()?;
    let head = frame.len() - payload.len();
    (!payload.is_empty()).then(|| frame.split_at(head))
}

/// What follows the transfer performative; `None` for another performative.
fn skip_transfer(body: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut reader = Reader::new(body);
    if reader.descriptor(&TRANSFER)? != 0x14 {
        return Ok(None);
    }
    match reader.value()? {
        Value::List(_) => Ok(Some(reader.rest())),
        _ => Ok(None),
    }
}

/// Writes the frame of `head` with a data section of four bytes, the slot, as its payload.
fn announce(head: &[u8], slot: u32, output: &mut BytesMut) {
    const DATA_OF_FOUR_BYTES: [u8; 5] = [0x00, 0x53, 0x75, 0xa0, 4];
    let slot = slot.to_be_bytes();
    let length = (head.len() + DATA_OF_FOUR_BYTES.len() + slot.len()) as u32;
    output.extend_from_slice(&length.to_be_bytes());
    output.extend_from_slice(&head[4..]);
    output.extend_from_slice(&DATA_OF_FOUR_BYTES);
    output.extend_from_slice(&slot);
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
