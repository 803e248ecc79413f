//! `amqp_stream`: the tap that takes payloads out of a hub's byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use stamp_emulator::amqp::performative::{self, Performative};
use stamp_eventhubs::wire::{Inbox, Tap};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::input::Input;

const FRAME_BYTES_MAX: usize = 512;
const SLOTS_MAX: usize = 64;
/// A data section of four bytes, in whose place the payload was.
const ANNOUNCED: [u8; 5] = [0x00, 0x53, 0x75, 0xa0, 4];

/// One try: the length of the pieces the stream comes in, then the stream.
///
/// # Panics
/// When a promise is broken.
pub fn amqp_stream(data: &[u8]) {
    let mut input = Input(data);
    let piece = usize::from(input.byte()).max(1);
    let said = input.0;
    let (inbox, whole) = pass(said, usize::MAX);
    let (_, in_pieces) = pass(said, piece);
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => {
            assert_eq!(whole, in_pieces, "the pieces of a stream matter");
            check_nothing_is_lost(said, &whole, &inbox);
        }
        (Err(_), Err(_)) => {}
        (whole, in_pieces) => panic!("whole: {whole:?}; in pieces: {in_pieces:?}"),
    }
    assert!(inbox.ended().is_some(), "the end of a stream is noted");
}

/// What passes the tap when the stream comes in pieces of this length.
fn pass(said: &[u8], piece: usize) -> (Arc<Inbox>, io::Result<Vec<u8>>) {
    let inbox = Inbox::new(SLOTS_MAX);
    let mut tap = Tap::new(Pieces { said, piece }, Arc::clone(&inbox), FRAME_BYTES_MAX);
    let mut passed = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    let outcome = runtime.block_on(tap.read_to_end(&mut passed));
    (inbox, outcome.map(|_| passed))
}

struct Pieces<'a> {
    said: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.said.len().min(self.piece).min(to.remaining());
        let (now, later) = self.said.split_at(length);
        to.put_slice(now);
        self.said = later;
        Poll::Ready(Ok(()))
    }
}

/// Every whole frame went through as it came, or with its payload in the inbox.
fn check_nothing_is_lost(mut said: &[u8], mut passed: &[u8], inbox: &Inbox) {
    while let Some(frame) = next_frame(&mut said) {
        if let Some(payload) = announced(frame, passed, inbox) {
            let length = frame.len() - payload.len() + ANNOUNCED.len() + 4;
            passed = &passed[length..];
            continue;
        }
        assert!(
            passed.starts_with(frame),
            "a frame was changed: {frame:02x?}"
        );
        assert!(!has_payload(frame), "a payload went through: {frame:02x?}");
        passed = &passed[frame.len()..];
    }
    assert!(passed.is_empty(), "bytes nobody said: {passed:02x?}");
    let left = (0..=u8::MAX).find_map(|slot| inbox.take(slot.into()));
    assert_eq!(left, None, "a payload nobody said");
}

/// The next protocol header or frame, when it is whole.
fn next_frame<'a>(said: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = said.first_chunk::<4>()?;
    let length = match start {
        b"AMQP" => 8,
        start => u32::from_be_bytes(*start) as usize,
    };
    let (frame, rest) = said.split_at_checked(length)?;
    *said = rest;
    Some(frame)
}

/// The payload of `frame`, when what passed is an announcement of it.
fn announced(frame: &[u8], passed: &[u8], inbox: &Inbox) -> Option<Bytes> {
    if frame.starts_with(b"AMQP") {
        return None;
    }
    let length = u32::from_be_bytes(*passed.first_chunk()?) as usize;
    let announcement = passed.get(..length)?;
    let head = length.checked_sub(ANNOUNCED.len() + 4)?;
    let slot = announcement.get(head..)?.strip_prefix(&ANNOUNCED)?;
    if head > frame.len() || frame.get(4..head)? != &announcement[4..head] {
        return None;
    }
    let payload = inbox.take(u32::from_be_bytes(*slot.first_chunk()?))?;
    assert_eq!(payload, frame[head..], "another payload than the frame's");
    Some(payload)
}

/// Whether another reader finds a payload in this frame.
fn has_payload(frame: &[u8]) -> bool {
    let body = usize::from(frame.get(4).copied().unwrap_or(0)) * 4;
    let Some(body) = frame.get(body..).filter(|_| frame.get(5) == Some(&0)) else {
        return false;
    };
    matches!(
        performative::read(&Bytes::copy_from_slice(body)),
        Ok(Performative::Transfer(transfer)) if !transfer.payload.is_empty()
    )
}
