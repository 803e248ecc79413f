use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::decode::{DecodeError, Reader, Value};
use super::frame::{self, Frame, FrameError, FrameKind};
use super::performative::{self, AmqpError, Attach, Flow, Open, Outcome, Performative, Role};
use super::{code, encode};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn fields(body: &[u8]) -> u32 {
    let mut reader = Reader::new(body);
    reader.descriptor().unwrap();
    reader.list().unwrap().left()
}

fn attach() -> Attach {
    Attach {
        name: "link".into(),
        handle: 3,
        role: Role::Receiver,
        snd_settle_mode: 2,
        source: None,
        target: None,
        initial_delivery_count: None,
        properties: None,
    }
}

#[test]
fn every_performative_has_its_full_length() {
    let open = Open {
        container_id: "c".into(),
        frame_max: 1,
        channel_max: 1,
        idle_timeout_ms: None,
    };
    let error = AmqpError::new("amqp:not-found", "no");
    let ids = (1, 2);
    let flow = Flow::default();
    let bodies = [
        (10, written(|out| performative::put_open(out, &open))),
        (8, written(|out| performative::put_begin(out, 0, 1, 1))),
        (
            14,
            written(|out| performative::put_attach(out, &attach(), 1)),
        ),
        (11, written(|out| performative::put_flow(out, &flow))),
        (
            6,
            written(|out| {
                performative::put_disposition(out, Role::Receiver, ids, &Outcome::Accepted);
            }),
        ),
        (
            3,
            written(|out| performative::put_detach(out, 1, true, None)),
        ),
        (
            3,
            written(|out| performative::put_detach(out, 1, true, Some(&error))),
        ),
        (1, written(|out| performative::put_end(out, None))),
        (1, written(|out| performative::put_close(out, None))),
    ];
    for (count, body) in bodies {
        assert_eq!(fields(&body), count, "{body:02x?}");
        assert!(performative::read(&Bytes::from(body)).is_ok());
    }
}

#[test]
fn an_error_carries_condition_description_and_info() {
    let body = written(|out| {
        performative::put_close(out, Some(&AmqpError::new("amqp:not-found", "no such hub")));
    });
    let mut reader = Reader::new(&body);
    reader.descriptor().unwrap();
    let error = reader.list().unwrap().value().unwrap().unwrap();
    let Value::Described(_, list) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        *list,
        Value::List(vec![
            Value::Symbol("amqp:not-found".into()),
            Value::String("no such hub".into()),
            Value::Null
        ])
    );
}

#[test]
fn trailing_fields_may_be_missing() {
    // A list of two fields: `flow` needs four.
    let short = written(|out| {
        encode::descriptor(out, code::FLOW);
        encode::list(out, 2, |out| {
            encode::uint(out, 0);
            encode::uint(out, 10);
        });
    });
    assert_eq!(
        performative::read(&Bytes::from(short)),
        Err(DecodeError::Missing("next-outgoing-id"))
    );
    let begin = written(|out| {
        encode::descriptor(out, code::BEGIN);
        encode::list(out, 4, |out| {
            encode::null(out);
            encode::uint(out, 7);
            encode::uint(out, 10);
            encode::uint(out, 10);
        });
    });
    assert!(matches!(
        performative::read(&Bytes::from(begin)),
        Ok(Performative::Begin(begin)) if begin.next_outgoing_id == 7
    ));
}

#[test]
fn a_symbolic_descriptor_means_the_same_as_its_number() {
    let mut body = vec![0x00];
    encode::symbol(&mut body, "amqp:end:list");
    body.push(0x45);
    assert_eq!(
        performative::read(&Bytes::from(body)),
        Ok(Performative::End)
    );
}

#[test]
fn deep_nesting_is_refused_without_using_the_stack() {
    // Lists in lists: each level is a two-byte head around the next.
    let mut nested = vec![0x45];
    for _ in 0..10_000 {
        let mut outer = vec![0xd0];
        outer.extend_from_slice(&u32::try_from(nested.len() + 4).unwrap().to_be_bytes());
        outer.extend_from_slice(&1_u32.to_be_bytes());
        outer.append(&mut nested);
        nested = outer;
        if nested.len() > 60_000 {
            break;
        }
    }
    assert_eq!(Reader::new(&nested).value(), Err(DecodeError::Depth));
    assert_eq!(Reader::new(&nested).skip(), Err(DecodeError::Depth));
    // Described values as descriptors of described values.
    let described = vec![0; 60_000];
    assert_eq!(Reader::new(&described).skip(), Err(DecodeError::Depth));
}

#[test]
fn an_array_of_nothing_cannot_grow() {
    // Four billion nulls in ten bytes.
    let bomb = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
    assert_eq!(Reader::new(&bomb).value(), Err(DecodeError::Elements));
    assert_eq!(Reader::new(&bomb).skip(), Ok(&bomb[..]));
}

#[test]
fn sizes_and_counts_have_to_agree() {
    for bad in [
        &[0xc0, 3, 1, 0x41, 0x41][..],
        &[0xc1, 2, 1, 0x41],
        &[0xc0, 0],
        &[0xa1, 5, b'a'],
        &[0xa1, 1, 0xff],
        &[0x3f],
        &[0x70, 0, 0],
    ] {
        assert!(Reader::new(bad).value().is_err(), "{bad:02x?}");
        assert!(Reader::new(bad).skip().is_err(), "{bad:02x?}");
    }
}

#[test]
fn a_frame_is_refused_by_its_size_before_its_bytes_are_there() {
    let cut = |bytes: &[u8], max| frame::cut(&mut BytesMut::from(bytes), max);
    assert_eq!(
        cut(&[0, 1, 0, 0, 2, 0, 0, 0], 512),
        Err(FrameError::TooLarge {
            size: 65_536,
            max: 512
        })
    );
    assert_eq!(
        cut(&[0, 0, 0, 7, 2, 0, 0, 0], 512),
        Err(FrameError::TooSmall(7))
    );
    assert_eq!(
        cut(&[0, 0, 0, 8, 1, 0, 0, 0], 512),
        Err(FrameError::TooSmall(8))
    );
    assert_eq!(
        cut(&[0, 0, 0, 8, 2, 9, 0, 0], 512),
        Err(FrameError::Kind(9))
    );
    assert_eq!(cut(&[0, 0, 0, 9, 2, 0, 0, 0], 512), Ok(None));
}

proptest! {
    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        cuts in prop::collection::vec(1_usize..200, 1..40),
    ) {
        let mut stream = Vec::new();
        for (channel, body) in bodies.iter().enumerate() {
            let channel = u16::try_from(channel).unwrap();
            frame::put(&mut stream, FrameKind::Amqp, channel, |out| out.extend_from_slice(body));
        }
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            input.extend_from_slice(head);
            rest = tail;
            while let Some(frame) = frame::cut(&mut input, 512).unwrap() {
                frames.push(frame);
            }
            if rest.is_empty() {
                break;
            }
        }
        let expected: Vec<Frame> = bodies
            .iter()
            .enumerate()
            .map(|(channel, body)| Frame {
                kind: FrameKind::Amqp,
                channel: u16::try_from(channel).unwrap(),
                body: Bytes::copy_from_slice(body),
            })
            .collect();
        prop_assert_eq!(frames, expected);
    }

    #[test]
    fn random_bytes_never_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reader::new(&bytes).value();
        let _ = Reader::new(&bytes).skip();
        let _ = performative::read(&Bytes::from(bytes));
    }

    #[test]
    fn what_can_be_read_can_be_skipped(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut reader = Reader::new(&bytes);
        if reader.value().is_ok() {
            let read = bytes.len() - reader.rest().len();
            prop_assert_eq!(Reader::new(&bytes).skip(), Ok(&bytes[..read]));
        }
    }
}
