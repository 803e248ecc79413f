//! `amqp_receiver`: everything a hub may say to the receiver of a partition.

use std::mem;

use bytes::{Bytes, BytesMut};
use stamp_emulator::amqp::frame::{self, AMQP_HEADER, FrameKind, SASL_HEADER};
use stamp_emulator::amqp::performative::{
    self, AmqpError, Attach, Open, Performative, Role, Terminus,
};
use stamp_emulator::amqp::{code, encode as put};
use stamp_eventhubs::HubError;
use stamp_eventhubs::wire::{Listener, read_event};
use stamp_model::Event;

use crate::input::Input;

/// Largest frame the receiver takes.
const FRAME_BYTES_MAX: usize = 65_536;
/// Longest input that is tried: libFuzzer's own limit is far below.
const SAID_BYTES_MAX: usize = 64 << 10;
/// Bytes the receiver says to what it hears: a flow or a detach for a frame, and what it opens with.
const ANSWER_BYTES_MAX: usize = 128;
const OPENING_BYTES_MAX: usize = 4_096;

/// One try: how the conversation begins, the length of the pieces it comes in, the credit, and what
/// the hub says.
///
/// # Panics
/// When a promise is broken.
pub fn amqp_receiver(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let piece = usize::from(input.byte()).max(1);
    let credit = u32::from(input.byte()).max(1);
    let said = input.take(SAID_BYTES_MAX);
    let opened = mode & 1 != 0;
    let whole = hear(opened, mode & 2 != 0, credit, said, usize::MAX);
    let in_pieces = hear(opened, mode & 2 != 0, credit, said, piece);
    assert_eq!(whole.events, in_pieces.events, "the pieces matter");
    assert_eq!(whole.end, in_pieces.end, "the pieces matter");
    assert_eq!(whole.said, in_pieces.said, "the pieces matter");
    check_answers(&whole.said, said.len());
    if let Some((error, is_protocol)) = &whole.end
        && *is_protocol
    {
        assert!(
            error.contains("at byte ") || error.contains("came where"),
            "{error} does not say where"
        );
    }
    if opened && mode & 2 == 0 {
        check_events(said, &whole);
    }
}

/// What a listener makes of it.
struct Heard {
    events: Vec<Event>,
    /// What the client said, after the opening.
    said: Vec<u8>,
    /// How it ended, and whether the hub broke the protocol.
    end: Option<(String, bool)>,
}

fn hear(opened: bool, with_token: bool, credit: u32, said: &[u8], piece: usize) -> Heard {
    let mut listener = Listener::new(credit, with_token);
    if opened {
        listener
            .hear(&opening(with_token))
            .expect("a hub that opens a partition is understood");
        listener.said();
        assert!(with_token || listener.is_reading());
    }
    let outcome = said
        .chunks(piece.min(SAID_BYTES_MAX))
        .try_for_each(|piece| listener.hear(piece));
    let end = outcome.err().map(|error| {
        let broken = matches!(error, HubError::Protocol { .. });
        (error.to_string(), broken)
    });
    Heard {
        events: listener.events(),
        said: listener.said(),
        end,
    }
}

/// What a hub says until it sends events; with a token, until it awaits that.
fn opening(with_token: bool) -> Vec<u8> {
    let mut out = SASL_HEADER.to_vec();
    frame::put(&mut out, FrameKind::Sasl, 0, |out| {
        performative::put_sasl_mechanisms(out, &["ANONYMOUS"]);
    });
    frame::put(&mut out, FrameKind::Sasl, 0, |out| {
        performative::put_sasl_outcome(out, 0);
    });
    out.extend_from_slice(&AMQP_HEADER);
    let open = Open {
        container_id: "hub".to_owned(),
        frame_max: 65_536,
        channel_max: 10,
        idle_timeout_ms: Some(60_000),
    };
    frame::put(&mut out, FrameKind::Amqp, 0, |out| {
        performative::put_open(out, &open);
    });
    frame::put(&mut out, FrameKind::Amqp, 0, |out| {
        performative::put_begin(out, 0, 2_048, 10);
    });
    if with_token {
        attach(&mut out, "$cbs-sender-id", 7, Role::Sender);
        attach(&mut out, "$cbs-receiver-id", 8, Role::Receiver);
    } else {
        attach(&mut out, Listener::LINK, 2, Role::Receiver);
    }
    out
}

/// The hub's answer to an attach of ours in this role.
fn attach(out: &mut Vec<u8>, name: &str, handle: u32, role: Role) {
    let asked = Attach {
        name: name.to_owned(),
        handle,
        role,
        snd_settle_mode: 2,
        source: Some(source()),
        target: Some(target()),
        initial_delivery_count: None,
        properties: None,
    };
    frame::put(out, FrameKind::Amqp, 0, |out| {
        performative::put_attach(out, &asked, 1 << 20);
    });
}

fn source() -> Terminus {
    let mut raw = Vec::new();
    put::descriptor(&mut raw, code::SOURCE);
    put::list(&mut raw, 8, |out| {
        put::string(out, "hub");
        (0..6).for_each(|_| put::null(out));
        put::map(out, 1, |out| {
            put::symbol(out, "apache.org:selector-filter:string");
            put::string(out, "x");
        });
    });
    terminus(raw)
}

fn target() -> Terminus {
    let mut raw = Vec::new();
    put::descriptor(&mut raw, code::TARGET);
    put::list(&mut raw, 0, |_| {});
    terminus(raw)
}

fn terminus(raw: Vec<u8>) -> Terminus {
    Terminus {
        raw,
        address: None,
        filter: None,
    }
}

/// What the client says is whole frames that another reader reads, and not more than there was
/// cause for.
fn check_answers(said: &[u8], heard_bytes: usize) {
    let frames_max = heard_bytes / 8 + 1;
    assert!(
        said.len() <= OPENING_BYTES_MAX + frames_max * ANSWER_BYTES_MAX,
        "{} bytes in answer to {heard_bytes}",
        said.len()
    );
    let mut rest = BytesMut::from(said);
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            let _ = rest.split_to(8);
            continue;
        }
        let cut = frame::cut(&mut rest, FRAME_BYTES_MAX).expect("the client says frames");
        let frame = cut.expect("the client says whole frames");
        if !frame.body.is_empty() {
            performative::read(&frame.body).expect("the client says what can be read");
        }
    }
}

/// The events are those that another reader of frames puts together, as far as it goes.
fn check_events(said: &[u8], heard: &Heard) {
    let mut expected = Vec::new();
    let mut rest = BytesMut::from(said);
    let mut begun = Vec::new();
    while let Ok(Some(frame)) = frame::cut(&mut rest, FRAME_BYTES_MAX) {
        if frame.body.is_empty() {
            continue;
        }
        let transfer = match performative::read(&frame.body) {
            Ok(Performative::Transfer(transfer)) => transfer,
            Ok(_) => continue,
            Err(_) => break,
        };
        if frame.kind != FrameKind::Amqp || frame.channel != 0 || transfer.handle != 2 {
            break;
        }
        if transfer.aborted {
            begun.clear();
            continue;
        }
        begun.extend_from_slice(&transfer.payload);
        if !transfer.more {
            let Ok(event) = read_event(&Bytes::from(mem::take(&mut begun))) else {
                break;
            };
            expected.push(event);
        }
    }
    let ours = &heard.events;
    if heard.end.is_none() {
        assert!(
            expected.len() <= ours.len(),
            "{} events of {} came",
            ours.len(),
            expected.len()
        );
    }
    let both = expected.len().min(ours.len());
    assert_eq!(ours[..both], expected[..both]);
}

/// A seed for the corpus: a conversation in which the hub sends `messages` in frames of at most `piece` bytes, and then
/// ends the link with `condition`, if there is one.
#[must_use]
pub fn conversation(messages: &[Vec<u8>], piece: usize, condition: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, message) in (0_u32..).zip(messages) {
        let mut pieces = message.chunks(piece.max(1)).peekable();
        while let Some(now) = pieces.next() {
            let more = pieces.peek().is_some();
            frame::put(&mut out, FrameKind::Amqp, 0, |out| {
                put::descriptor(out, code::TRANSFER);
                put::list(out, 6, |out| {
                    put::uint(out, 2);
                    put::uint(out, id);
                    put::binary(out, &id.to_be_bytes());
                    put::uint(out, 0);
                    put::boolean(out, id % 5 == 4);
                    put::boolean(out, more);
                });
                out.extend_from_slice(now);
            });
        }
    }
    if let Some(condition) = condition {
        let error = AmqpError::new(condition, "by the seed");
        frame::put(&mut out, FrameKind::Amqp, 0, |out| {
            performative::put_detach(out, 2, true, Some(&error));
        });
    }
    out
}

/// A seed for the corpus: what a hub says until it sends events; with a token, until it awaits that.
#[must_use]
pub fn opened_conversation(with_token: bool) -> Vec<u8> {
    opening(with_token)
}
