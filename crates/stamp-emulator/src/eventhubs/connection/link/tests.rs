use bytes::BytesMut;

use super::*;
use crate::amqp::frame;
use crate::amqp::performative::{self, Performative};

fn transfer(id: Option<u32>, more: bool, payload: &'static [u8]) -> Transfer {
    Transfer {
        handle: 0,
        delivery_id: id,
        message_format: id.map(|_| 7),
        settled: None,
        more,
        aborted: false,
        payload: Bytes::from_static(payload),
    }
}

#[test]
fn a_delivery_is_whole_after_its_last_frame() {
    let limits = Limits::default();
    let mut inbound = Inbound::new(u32::MAX);
    assert!(
        inbound
            .take(transfer(Some(5), true, b"ab"), &limits)
            .unwrap()
            .is_none()
    );
    assert_eq!(inbound.partial_bytes(), 2);
    assert!(
        inbound
            .take(transfer(None, true, b"cd"), &limits)
            .unwrap()
            .is_none()
    );
    let delivery = inbound
        .take(transfer(None, false, b"e"), &limits)
        .unwrap()
        .unwrap();
    assert_eq!((delivery.id, delivery.format), (5, 7));
    assert_eq!(&delivery.payload[..], b"abcde");
    assert_eq!(
        (
            inbound.delivery_count,
            inbound.credit,
            inbound.partial_bytes()
        ),
        (0, CREDIT - 1, 0)
    );
}

#[test]
fn an_aborted_delivery_is_forgotten_and_counted() {
    let limits = Limits::default();
    let mut inbound = Inbound::new(0);
    inbound
        .take(transfer(Some(1), true, b"ab"), &limits)
        .unwrap();
    let abort = Transfer {
        aborted: true,
        ..transfer(None, false, b"")
    };
    assert!(inbound.take(abort, &limits).unwrap().is_none());
    let next = inbound
        .take(transfer(Some(2), false, b"x"), &limits)
        .unwrap()
        .unwrap();
    assert_eq!((next.id, &next.payload[..]), (2, &b"x"[..]));
    assert_eq!(inbound.delivery_count, 2);
}

#[test]
fn a_message_above_the_limit_ends_the_link_at_the_frame_that_shows_it() {
    let limits = Limits {
        message_bytes_max: 3,
        ..Limits::default()
    };
    let mut inbound = Inbound::new(0);
    inbound
        .take(transfer(Some(1), true, b"ab"), &limits)
        .unwrap();
    let error = inbound
        .take(transfer(None, true, b"cd"), &limits)
        .unwrap_err();
    assert_eq!(error.condition, "amqp:link:message-size-exceeded");
}

#[test]
fn a_sender_without_credit_or_without_id_is_told() {
    let limits = Limits::default();
    let mut inbound = Inbound::new(0);
    assert!(inbound.take(transfer(None, false, b"x"), &limits).is_err());
    inbound.credit = 0;
    let error = inbound
        .take(transfer(Some(1), false, b"x"), &limits)
        .unwrap_err();
    assert_eq!(error.condition, "amqp:link:transfer-limit-exceeded");
    assert!(inbound.top_up() && inbound.credit == CREDIT);
    assert!(!inbound.top_up());
}

/// Sends with a window of `window` frames of at most 100 bytes; gives the transfers.
fn sent(
    outbound: &mut Outbound,
    session: &mut SessionOut,
    payload: Option<&[u8]>,
) -> Vec<Transfer> {
    let mut out = Vec::new();
    let mut wire = Wire {
        out: &mut out,
        session,
        channel: 4,
        handle: 9,
        frame_max: 100,
        full_at: usize::MAX,
    };
    match payload {
        Some(payload) => outbound.send(&mut wire, payload),
        None => {
            outbound.resume(&mut wire);
        }
    }
    let mut input = BytesMut::from(&out[..]);
    let mut transfers = Vec::new();
    while let Some(frame) = frame::cut(&mut input, 100).unwrap() {
        assert_eq!(frame.channel, 4);
        match performative::read(&frame.body).unwrap() {
            Performative::Transfer(transfer) => transfers.push(transfer),
            other => panic!("{other:?}"),
        }
    }
    transfers
}

#[test]
fn a_large_delivery_goes_in_frames_that_fit_and_waits_for_the_window() {
    let mut outbound = Outbound::new(false);
    let mut session = SessionOut::new(2);
    outbound.credit = 1;
    let payload: Vec<u8> = (0..200).collect();
    let mut transfers = sent(&mut outbound, &mut session, Some(&payload));
    assert_eq!((transfers.len(), session.window), (2, 0));
    assert_eq!(sent(&mut outbound, &mut session, None), []);
    session.window = 10;
    transfers.extend(sent(&mut outbound, &mut session, None));
    let joined: Vec<u8> = transfers.iter().flat_map(|t| t.payload.to_vec()).collect();
    assert_eq!(joined, payload);
    let more: Vec<bool> = transfers.iter().map(|t| t.more).collect();
    assert_eq!(more, [true, true, true, false]);
    assert!(
        transfers
            .iter()
            .all(|t| t.delivery_id == Some(0) && t.handle == 9)
    );
    assert_eq!(
        (outbound.sent, outbound.credit, session.next_outgoing_id),
        (1, 0, 4)
    );
}

#[test]
fn a_payload_that_fills_its_frame_exactly_is_one_frame() {
    let mut outbound = Outbound::new(true);
    let mut session = SessionOut::new(10);
    outbound.credit = 2;
    let exact = sent(&mut outbound, &mut session, Some(&[1; 62]));
    assert_eq!(
        (exact.len(), exact[0].settled, exact[0].more),
        (1, Some(true), false)
    );
    assert_eq!(sent(&mut outbound, &mut session, Some(&[1; 63])).len(), 2);
}

#[test]
fn draining_gives_back_the_credit_once() {
    let mut outbound = Outbound::new(false);
    outbound.flow(&Flow {
        delivery_count: Some(0),
        link_credit: Some(10),
        drain: true,
        ..Flow::default()
    });
    assert!(outbound.drained());
    assert_eq!((outbound.sent, outbound.credit), (10, 0));
    assert!(!outbound.drained());
}
