use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::{Inbox, Tap};

const FRAME_BYTES_MAX: usize = 512;

/// A peer that says its bytes in the given pieces and then closes.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop_front() {
            let (now, later) = piece.split_at(piece.len().min(to.remaining()));
            to.put_slice(now);
            if !later.is_empty() {
                self.0.push_front(later.to_vec());
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend([2, 0, 0, 0]);
    frame.extend(body);
    frame
}

/// A transfer performative of three fields, then the payload.
fn transfer(payload: &[u8]) -> Vec<u8> {
    let performative = [0x00, 0x53, 0x14, 0xc0, 5, 3, 0x43, 0x52, 1, 0x40];
    frame(&[&performative, payload].concat())
}

/// The same transfer with the number of a slot in the place of its payload.
fn announced(slot: u8) -> Vec<u8> {
    transfer(&[0x00, 0x53, 0x75, 0xa0, 4, 0, 0, 0, slot])
}

async fn pass(pieces: Vec<Vec<u8>>, inbox: &Arc<Inbox>) -> io::Result<Vec<u8>> {
    let mut tap = Tap::new(Pieces(pieces.into()), Arc::clone(inbox), FRAME_BYTES_MAX);
    let mut output = Vec::new();
    tap.read_to_end(&mut output).await.map(|_| output)
}

/// What a peer says in the tests, what the engine is to see of it, and the payloads put aside.
fn conversation() -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let header = b"AMQP\x03\x01\x00\x00".to_vec();
    let sasl = [
        &[0, 0, 0, 13, 2, 1, 0, 0],
        [0x00, 0x53, 0x14, 0x45, 1].as_slice(),
    ]
    .concat();
    let flow = frame(&[0x00, 0x53, 0x13, 0x45]);
    let payloads = vec![vec![7; 1], vec![8; 400], b"AMQP".to_vec()];
    let mut said = [header.clone(), sasl.clone(), header.clone(), flow.clone()].concat();
    let mut seen = said.clone();
    for (slot, payload) in (0..).zip(&payloads) {
        said.extend(transfer(payload));
        seen.extend(announced(slot));
    }
    // A heartbeat, and a transfer without a payload, go through as they are.
    for whole in [frame(&[]), transfer(&[]), flow] {
        said.extend(&whole);
        seen.extend(&whole);
    }
    (said, seen, payloads)
}

#[tokio::test]
async fn a_payload_waits_in_the_inbox_and_all_else_passes() {
    let inbox = Inbox::new(8);
    let (said, seen, payloads) = conversation();
    assert_eq!(pass(vec![said], &inbox).await.unwrap(), seen);
    for (slot, payload) in (0..).zip(&payloads) {
        assert_eq!(inbox.take(slot).unwrap(), payload);
        assert!(inbox.take(slot).is_none(), "a payload is taken once");
    }
    assert!(inbox.take(99).is_none());
    assert_eq!(
        inbox.ended().as_deref(),
        Some("the peer closed the connection")
    );
}

#[tokio::test]
async fn a_slot_is_used_again() {
    let inbox = Inbox::new(1);
    for payload in [[1], [2], [3]] {
        let seen = pass(vec![transfer(&payload)], &inbox).await.unwrap();
        assert_eq!(seen, announced(0));
        assert_eq!(inbox.take(0).unwrap(), payload.as_slice());
    }
}

#[tokio::test]
async fn more_transfers_than_there_is_credit_for_end_the_stream() {
    let inbox = Inbox::new(2);
    let error = pass(vec![transfer(&[1]).repeat(3)], &inbox)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(inbox.ended().unwrap().contains("credit"));
}

#[tokio::test]
async fn what_is_not_amqp_ends_the_stream() {
    let too_large = u32::try_from(FRAME_BYTES_MAX + 1)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    for said in [
        b"HTTP/1.1 400 Bad Request".to_vec(),
        vec![0, 0, 0, 7, 2],
        too_large,
    ] {
        let error = pass(vec![said], &Inbox::new(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

proptest! {
    #[test]
    fn the_pieces_a_stream_comes_in_do_not_matter(cuts in prop::collection::vec(1_usize..40, 1..60)) {
        let (mut said, seen, _) = conversation();
        let mut pieces = Vec::new();
        for cut in cuts {
            let rest = said.split_off(cut.min(said.len()));
            if !said.is_empty() {
                pieces.push(std::mem::replace(&mut said, rest));
            }
        }
        if !said.is_empty() {
            pieces.push(said);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(pass(pieces, &Inbox::new(8))).unwrap(), seen);
    }

    #[test]
    fn no_bytes_make_the_tap_panic(said in prop::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let small = [&[0, 0, 0, 40, 2, 0, 0, 0, 0x00, 0x53, 0x14], said.as_slice()].concat();
        for said in [said, small] {
            let inbox = Inbox::new(8);
            let passed = runtime.block_on(pass(vec![said], &inbox));
            prop_assert_eq!(passed.is_ok(), inbox.ended().unwrap().contains("closed"));
        }
    }
}
