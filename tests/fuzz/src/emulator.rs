//! `emulator`: a whole conversation with the emulated namespace, and what is left for the next.

use std::sync::Arc;

use bytes::BytesMut;
use stamp_emulator::amqp::frame::{self, AMQP_HEADER, FrameKind};
use stamp_emulator::amqp::performative::{self, Flow, Performative};
use stamp_emulator::amqp::{code, encode as put};
use stamp_emulator::{
    EmulatorConfig, HubConfig, Offline, OfflineConnection, OutgoingEvent, Position, parse_selector,
};
use stamp_eventhubs::wire::read_event;

use crate::input::Input;

/// Longest conversation that is tried.
const SAID_BYTES_MAX: usize = 16 << 10;
/// What a client can make the namespace say in one conversation: an answer to each small frame,
/// and the events that lie there, over and over.
const HEARD_BYTES_MAX: usize = 8 << 20;
const AT_US: i64 = 1_700_000_000_000_000;
const PUBLISHED: usize = 3;

/// One try: the length of a selector, the selector, where the conversation is cut, the
/// conversation.
///
/// # Panics
/// When a promise is broken.
pub fn emulator(data: &[u8]) {
    let mut input = Input(data);
    let length = usize::from(input.byte());
    let selector = String::from_utf8_lossy(input.take(length)).into_owned();
    check_selector(&selector);
    let cut = usize::from(input.u16());
    let said = &input.0[..input.0.len().min(SAID_BYTES_MAX)];

    let whole = world();
    converse(&mut whole.connect(), &[said]);
    let in_pieces = world();
    let (first, second) = said.split_at(cut.min(said.len()));
    converse(&mut in_pieces.connect(), &[first, second]);
    assert_eq!(
        stored(&whole),
        stored(&in_pieces),
        "the pieces of a stream matter"
    );

    // Whatever became of that connection, the next one is served.
    let sequences = receive(&whole, None);
    let expected: Vec<i64> = (0..).take(PUBLISHED + stored_in_0(&whole)).collect();
    assert_eq!(sequences.as_deref(), Some(&expected[..]));
    let selected = receive(&whole, Some(&selector));
    match parse_selector(&selector) {
        Err(_) => assert_eq!(selected, None, "a bad selector was taken"),
        Ok(_) => {
            let selected = selected.unwrap_or_default();
            assert!(
                expected.ends_with(&selected),
                "{selected:?} of {expected:?}"
            );
        }
    }
}

/// A position that is written down is the same position when it is read.
fn check_selector(text: &str) {
    let Ok(position) = parse_selector(text) else {
        return;
    };
    let write = |name: &str, bound: stamp_emulator::Bound| {
        let than = if bound.inclusive { ">=" } else { ">" };
        format!("amqp.annotation.x-opt-{name} {than} '{}'", bound.value)
    };
    let written = match position {
        Position::Earliest => "amqp.annotation.x-opt-offset > '-1'".to_owned(),
        Position::Latest => "amqp.annotation.x-opt-offset > '@latest'".to_owned(),
        Position::Sequence(bound) => write("sequence-number", bound),
        Position::Offset(bound) => write("offset", bound),
        Position::EnqueuedMs(bound) => write("enqueued-time", bound),
    };
    assert_eq!(parse_selector(&written), Ok(position), "{written}");
}

/// A namespace with one hub and three events in its partition 0.
fn world() -> Offline {
    let world = Offline::new(&EmulatorConfig {
        hubs: vec![HubConfig {
            partitions: 2,
            ..HubConfig::default()
        }],
        clock: Arc::new(|| AT_US),
        ..EmulatorConfig::default()
    })
    .expect("the target's own configuration is valid");
    let hub = world.hub("telemetry").expect("it is configured");
    for number in 0..PUBLISHED {
        let event = OutgoingEvent {
            body: format!("{{\"n\":{number}}}").into(),
            ..OutgoingEvent::default()
        };
        hub.publish(0, event).expect("a small event fits");
    }
    world
}

fn stored(world: &Offline) -> [i64; 2] {
    let hub = world.hub("telemetry").expect("it is configured");
    [0, 1].map(|partition| hub.last_sequence(partition))
}

fn stored_in_0(world: &Offline) -> usize {
    let published = i64::try_from(PUBLISHED).expect("three");
    usize::try_from(stored(world)[0] + 1 - published).expect("events only come")
}

/// Says the pieces; what is heard is whole frames, and not without bound.
fn converse(connection: &mut OfflineConnection, pieces: &[&[u8]]) {
    let mut heard = Vec::new();
    for piece in pieces {
        heard.extend(connection.say(piece));
    }
    assert!(
        heard.len() <= HEARD_BYTES_MAX,
        "{} bytes were heard",
        heard.len()
    );
    let mut heard = BytesMut::from(&heard[..]);
    while heard.starts_with(b"AMQP") {
        let _ = heard.split_to(8);
        while !heard.starts_with(b"AMQP") {
            match frame::cut(&mut heard, 1 << 20).expect("the emulator says frames") {
                Some(_) => {}
                None => break,
            }
        }
    }
    assert!(heard.is_empty(), "half a frame was heard: {heard:02x?}");
}

/// Receives partition 0 by a client that does all right: the sequence numbers, or `None` when the
/// receiver was refused.
fn receive(world: &Offline, selector: Option<&str>) -> Option<Vec<i64>> {
    let mut said = AMQP_HEADER.to_vec();
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| frame::put(&mut said, FrameKind::Amqp, 0, fill);
    add(&|out| {
        put::descriptor(out, code::OPEN);
        put::list(out, 3, |out| {
            put::string(out, "next");
            put::null(out);
            put::uint(out, 65_000);
        });
    });
    add(&|out| {
        put::descriptor(out, code::BEGIN);
        put::list(out, 4, |out| {
            put::null(out);
            put::uint(out, 0);
            put::uint(out, 1 << 30);
            put::uint(out, 1 << 30);
        });
    });
    add(&|out| put_attach(out, selector));
    add(&|out| {
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: 1 << 30,
            handle: Some(0),
            delivery_count: Some(0),
            link_credit: Some(1 << 20),
            ..Flow::default()
        };
        performative::put_flow(out, &flow);
    });
    let heard = world.connect().say(&said);
    let mut heard = BytesMut::from(heard.strip_prefix(&AMQP_HEADER).unwrap_or(&heard));
    let mut deliveries = vec![Vec::new()];
    while let Some(frame) = frame::cut(&mut heard, 1 << 20).expect("the emulator says frames") {
        match performative::read(&frame.body).expect("the emulator says performatives") {
            Performative::Detach { .. } => return None,
            Performative::Transfer(transfer) => {
                let last = deliveries.last_mut().expect("there is always one");
                last.extend_from_slice(&transfer.payload);
                if !transfer.more {
                    deliveries.push(Vec::new());
                }
            }
            _ => {}
        }
    }
    let unfinished = deliveries.pop();
    assert!(
        unfinished.is_none_or(|rest| rest.is_empty()),
        "half a delivery"
    );
    let events = deliveries.into_iter().map(|encoded| {
        let event = read_event(&encoded.into()).expect("our own reader reads what was stored");
        assert_eq!(event.enqueued_at_us, AT_US);
        event.sequence
    });
    Some(events.collect())
}

fn put_attach(out: &mut Vec<u8>, selector: Option<&str>) {
    put::descriptor(out, code::ATTACH);
    put::list(out, 7, |out| {
        put::string(out, "receiver");
        put::uint(out, 0);
        put::boolean(out, true);
        put::ubyte(out, 2);
        put::ubyte(out, 0);
        put::descriptor(out, code::SOURCE);
        put::list(out, 8, |out| {
            put::string(out, "telemetry/ConsumerGroups/$Default/Partitions/0");
            out.extend_from_slice(&[0x40; 6]);
            put::or_null(out, selector, |out, selector| {
                put::map(out, 1, |out| {
                    put::symbol(out, "apache.org:selector-filter:string");
                    put::string(out, selector);
                });
            });
        });
        put::descriptor(out, code::TARGET);
        put::list(out, 1, |out| put::string(out, "client-node"));
    });
}
