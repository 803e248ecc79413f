use fe2o3_amqp_types::definitions::{Error, ErrorCondition, Handle, LinkError, Role};
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Message, MessageId, Properties, Source, Target,
    TargetArchetype,
};
use fe2o3_amqp_types::performatives::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Transfer,
};
use fe2o3_amqp_types::primitives::{Array, Binary, Symbol, Value};
use fe2o3_amqp_types::sasl::{SaslCode, SaslMechanisms, SaslOutcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stamp_model::BatchLimits;
use std::time::Duration;

use super::super::intake::Intake;
use super::super::link::MESSAGE_BYTES_MAX;
use super::super::listener::Listener;
use super::super::{compose, frames};
use super::{OUTPUT_BYTES_MAX, Protocol};
use crate::HubError;

/// What a hub says, frame by frame.
#[derive(Default, Clone)]
struct Hub(Vec<u8>);

/// Numbers that the hub chooses in its answers.
#[derive(Clone, Copy)]
struct Begins {
    outgoing_id: u32,
    delivery_count: u32,
}

const AT_ZERO: Begins = Begins {
    outgoing_id: 0,
    delivery_count: 0,
};

const LINK: u32 = 5;
const CBS_SENDER: u32 = 7;
const CBS_RECEIVER: u32 = 8;
const CHANNEL: u16 = 3;

impl Hub {
    fn frame(&mut self, kind: u8, channel: u16, said: &impl Serialize, payload: &[u8]) {
        let mut body = serde_amqp::to_vec(said).unwrap();
        body.extend_from_slice(payload);
        frames::put(&mut self.0, kind, channel, &body);
    }

    fn say(&mut self, said: &impl Serialize) {
        self.frame(compose::AMQP, CHANNEL, said, &[]);
    }

    /// All that a hub says until a session has begun.
    fn begun(begins: Begins) -> Self {
        let mut hub = Self(compose::SASL_HEADER.to_vec());
        let mechanisms = SaslMechanisms {
            sasl_server_mechanisms: Array(vec![Symbol::from("ANONYMOUS")]),
        };
        hub.frame(compose::SASL, 0, &mechanisms, &[]);
        let outcome = SaslOutcome {
            code: SaslCode::Ok,
            additional_data: None,
        };
        hub.frame(compose::SASL, 0, &outcome, &[]);
        hub.0.extend(compose::AMQP_HEADER);
        hub.frame(compose::AMQP, 0, &open(), &[]);
        hub.say(&begin(begins.outgoing_id));
        hub
    }

    /// All that a hub says until it may send events.
    fn opened(begins: Begins) -> Self {
        let mut hub = Self::begun(begins);
        hub.say(&attach(Listener::LINK, LINK, begins.delivery_count));
        hub
    }

    fn transfer(&mut self, id: u32, payload: &[u8]) {
        self.frame(compose::AMQP, CHANNEL, &transfer(LINK, id), payload);
    }

    /// A delivery in so many frames.
    fn parts(&mut self, id: u32, message: &[u8], count: usize) {
        let size = message.len().div_ceil(count).max(1);
        let last = message.chunks(size).count() - 1;
        for (number, part) in message.chunks(size).enumerate() {
            let transfer = Transfer {
                delivery_id: (number == 0).then_some(id),
                more: number < last,
                ..transfer(LINK, id)
            };
            self.frame(compose::AMQP, CHANNEL, &transfer, part);
        }
    }

    fn hear(&self, credit: u32) -> (Listener, Result<(), HubError>) {
        let mut listener = Listener::new(credit, false);
        let heard = listener.hear(&self.0);
        (listener, heard)
    }
}

fn open() -> Open {
    Open {
        container_id: "hub".to_owned(),
        hostname: None,
        max_frame_size: 65_536.into(),
        channel_max: 10.into(),
        idle_time_out: Some(10_000),
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn begin(next_outgoing_id: u32) -> Begin {
    Begin {
        remote_channel: Some(0),
        next_outgoing_id,
        incoming_window: 100,
        outgoing_window: 100,
        handle_max: Handle(10),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn attach(name: &str, handle: u32, delivery_count: u32) -> Attach {
    let filter = (
        Symbol::from("apache.org:selector-filter:string"),
        Value::String("x".to_owned()),
    );
    let source = Source::builder()
        .address("hub")
        .filter([filter].into_iter().collect())
        .build();
    Attach {
        name: name.to_owned(),
        handle: Handle(handle),
        role: Role::Sender,
        snd_settle_mode: Default::default(),
        rcv_settle_mode: Default::default(),
        source: Some(Box::new(source)),
        target: Some(Box::new(TargetArchetype::Target(Target::default()))),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(delivery_count),
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    }
}

fn transfer(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle: Handle(handle),
        delivery_id: Some(id),
        delivery_tag: Some(Binary::from(id.to_be_bytes().to_vec())),
        message_format: Some(0),
        settled: Some(false),
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

fn flow(handle: Option<u32>) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        next_outgoing_id: 0,
        outgoing_window: 100,
        handle: handle.map(Handle),
        delivery_count: Some(0),
        link_credit: Some(10),
        available: None,
        drain: false,
        echo: false,
        properties: None,
    }
}

fn fault(condition: &str) -> Option<Error> {
    let condition = match condition {
        "amqp:link:stolen" => LinkError::Stolen.into(),
        other => ErrorCondition::Custom(Symbol::from(other)),
    };
    Some(Error::new(condition, Some("by the test".to_owned()), None))
}

/// A message with this sequence number and a body of so many bytes.
fn message(sequence: u8, length: usize) -> Vec<u8> {
    let mut out = [
        &[0x00, 0x53, 0x72, 0xc1, 57, 4, 0xa3, 21][..],
        b"x-opt-sequence-number",
        &[0x53, sequence, 0xa3, 19],
        b"x-opt-enqueued-time",
        &[0x83, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
    .concat();
    out[4] = u8::try_from(out.len() - 5).unwrap();
    out.extend([0x00, 0x53, 0x75, 0xb0]);
    out.extend(u32::try_from(length).unwrap().to_be_bytes());
    out.extend(vec![sequence; length]);
    out
}

fn sequences(listener: &mut Listener) -> Vec<i64> {
    let events = listener.events();
    events.iter().map(|event| event.sequence).collect()
}

/// The performatives with this code that the client said, as the other library reads them.
fn said<T: DeserializeOwned>(bytes: &[u8], code: u8) -> Vec<T> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = match rest {
            [b'A', b'M', b'Q', b'P', ..] => 8,
            _ => u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize,
        };
        let (frame, after) = rest.split_at(length);
        rest = after;
        if frame.get(8..11) == Some(&[0x00, 0x53, code]) {
            found.push(serde_amqp::from_slice(&frame[8..]).unwrap());
        }
    }
    found
}

fn flows(bytes: &[u8]) -> Vec<Flow> {
    said(bytes, 0x13)
}

fn accepted(bytes: &[u8]) -> Vec<(u32, u32)> {
    said(bytes, 0x15)
        .into_iter()
        .map(|d: Disposition| (d.first, d.last.unwrap()))
        .collect()
}

#[test]
fn a_partition_is_opened_step_by_step_and_then_given_credit() {
    let (mut listener, heard) = Hub::opened(AT_ZERO).hear(100);
    heard.unwrap();
    assert!(listener.is_reading());
    let bytes = listener.said();
    assert!(bytes.starts_with(&compose::SASL_HEADER));
    let opens: Vec<Open> = said(&bytes, 0x10);
    assert_eq!(opens[0].hostname.as_deref(), Some("host"));
    assert_eq!(opens[0].idle_time_out, Some(30_000));
    assert_eq!(said::<Begin>(&bytes, 0x11).len(), 1);
    let attaches: Vec<Attach> = said(&bytes, 0x12);
    assert_eq!(attaches.len(), 1);
    assert_eq!(attaches[0].role, Role::Receiver);
    let flows = flows(&bytes);
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].link_credit, Some(100));
    assert_eq!(flows[0].delivery_count, Some(0));
}

#[test]
fn nothing_is_asked_for_before_the_hub_has_answered() {
    let mut listener = Listener::new(10, false);
    let mut steps = Vec::new();
    for byte in Hub::opened(AT_ZERO).0 {
        listener.hear(&[byte]).unwrap();
        let said = listener.said();
        if !said.is_empty() {
            steps.push(said.get(10).copied());
        }
    }
    // The header of SASL, which waits for nobody, init, the header of AMQP, open, begin, attach,
    // flow.
    let codes = [0x41, 0x10, 0x11, 0x12, 0x13].map(Some);
    assert_eq!([steps[1], steps[3], steps[4], steps[5], steps[6]], codes);
    assert_eq!(steps.len(), 7);
}

#[test]
fn events_come_however_the_stream_is_cut() {
    let mut hub = Hub::opened(AT_ZERO);
    let opening = hub.0.len();
    hub.transfer(0, &message(1, 3));
    hub.parts(1, &message(2, 50), 4);
    hub.say(&flow(None));
    frames::put(&mut hub.0, compose::AMQP, 0, &[]);
    hub.transfer(2, &message(3, 0));
    let (mut whole, heard) = hub.hear(100);
    heard.unwrap();
    let events = whole.events();
    let answers = whole.said();
    assert_eq!(events.len(), 3);
    for cut in opening..hub.0.len() {
        let mut listener = Listener::new(100, false);
        listener.hear(&hub.0[..cut]).unwrap();
        listener.hear(&hub.0[cut..]).unwrap();
        assert_eq!(listener.events(), events, "cut at {cut}");
        assert_eq!(listener.said(), answers, "cut at {cut}");
    }
}

#[test]
fn a_delivery_that_is_given_up_uses_credit_and_leaves_nothing() {
    let mut hub = Hub::opened(AT_ZERO);
    hub.transfer(0, &message(1, 1));
    let first = Transfer {
        more: true,
        ..transfer(LINK, 1)
    };
    hub.frame(compose::AMQP, CHANNEL, &first, &message(9, 9)[..20]);
    let aborted = Transfer {
        aborted: true,
        ..transfer(LINK, 1)
    };
    hub.say(&aborted);
    hub.transfer(2, &message(2, 1));
    hub.transfer(3, &message(3, 1));
    let (mut listener, heard) = hub.hear(8);
    heard.unwrap();
    assert_eq!(sequences(&mut listener), [1, 2, 3]);
    let bytes = listener.said();
    // Half of the credit is used by four deliveries, one of which was given up.
    let flows = flows(&bytes);
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].delivery_count, Some(4));
    assert_eq!(flows[1].link_credit, Some(8));
    // It is not settled: the hub does not wait for that, and the numbers have a gap there.
    assert_eq!(accepted(&bytes), [(0, 0), (2, 3)]);
}

#[test]
fn counts_wrap_around_at_their_end() {
    let begins = Begins {
        outgoing_id: u32::MAX - 2,
        delivery_count: u32::MAX - 3,
    };
    let mut hub = Hub::opened(begins);
    for number in 0..8_u8 {
        let id = (u32::MAX - 1).wrapping_add(number.into());
        hub.transfer(id, &message(number, 1));
    }
    let (mut listener, heard) = hub.hear(8);
    heard.unwrap();
    assert_eq!(sequences(&mut listener), (0..8).collect::<Vec<_>>());
    let bytes = listener.said();
    let state: Vec<_> = flows(&bytes)
        .iter()
        .map(|flow| (flow.next_incoming_id.unwrap(), flow.delivery_count.unwrap()))
        .collect();
    assert_eq!(state, [(u32::MAX - 2, u32::MAX - 3), (1, 0), (5, 4)]);
    assert_eq!(
        accepted(&bytes),
        [(u32::MAX - 1, u32::MAX), (0, 1), (2, 3), (4, 5)]
    );
}

#[test]
fn the_window_is_opened_again_inside_of_a_message_of_many_frames() {
    let mut hub = Hub::opened(AT_ZERO);
    let frames = compose::WINDOW_FRAMES / 2 + 1;
    let part = Transfer {
        more: true,
        ..transfer(LINK, 0)
    };
    for _ in 0..frames {
        hub.say(&part);
    }
    hub.transfer(0, &message(1, 1));
    let (mut listener, heard) = hub.hear(8);
    heard.unwrap();
    assert_eq!(sequences(&mut listener), [1]);
    let flows = flows(&listener.said());
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].handle, None);
    assert_eq!(flows[1].next_incoming_id, Some(frames - 1));
    assert_eq!(flows[1].incoming_window, compose::WINDOW_FRAMES);
}

#[test]
fn what_was_settled_by_the_hub_is_not_settled_again() {
    let mut hub = Hub::opened(AT_ZERO);
    for id in 0..4 {
        let settled = Transfer {
            settled: Some(id < 3),
            ..transfer(LINK, id)
        };
        hub.frame(compose::AMQP, CHANNEL, &settled, &message(1, 1));
    }
    let (mut listener, heard) = hub.hear(4);
    heard.unwrap();
    assert_eq!(listener.events().len(), 4);
    assert_eq!(accepted(&listener.said()), [(3, 3)]);
}

#[test]
fn a_flow_that_asks_for_an_answer_gets_one() {
    let mut hub = Hub::opened(AT_ZERO);
    for handle in [Some(LINK), None] {
        hub.say(&Flow {
            echo: true,
            ..flow(handle)
        });
    }
    let (mut listener, heard) = hub.hear(50);
    heard.unwrap();
    let answers: Vec<_> = flows(&listener.said())
        .iter()
        .map(|flow| (flow.handle.clone().map(|handle| handle.0), flow.link_credit))
        .collect();
    let link = (Some(0), Some(50));
    assert_eq!(answers, [link, link, (None, None)]);
}

mod anything;
mod ends;
mod tokens;
