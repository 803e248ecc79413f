//! A client that talks to an engine without a socket, frame by frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::super::engine::Engine;
use crate::amqp::decode::{Reader, Value};
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::performative::{self, Flow, Performative, Role, Transfer};
use crate::amqp::{code, encode as put};
use crate::eventhubs::config::{EmulatorConfig, HubConfig};
use crate::eventhubs::hub::Hub;
use crate::eventhubs::message::OutgoingEvent;
use crate::eventhubs::server::Namespace;
use crate::eventhubs::signal::Signal;

/// A namespace with the hub `telemetry` and a clock that only the test moves.
pub(super) struct World {
    pub(super) namespace: Arc<Namespace>,
    pub(super) hub: Hub,
    pub(super) clock_us: Arc<AtomicI64>,
}

impl World {
    pub(super) fn new(hub: HubConfig) -> Self {
        Self::with(EmulatorConfig {
            hubs: vec![hub],
            ..EmulatorConfig::default()
        })
    }

    pub(super) fn with(mut config: EmulatorConfig) -> Self {
        let clock_us = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let clock = Arc::clone(&clock_us);
        config.clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let namespace = Arc::new(Namespace::new(&config));
        let hub = Hub::new(Arc::clone(&namespace.hubs[0]));
        Self {
            namespace,
            hub,
            clock_us,
        }
    }

    /// A connection that is open, with a session on channel 0.
    pub(super) fn connect(&self) -> Client {
        let mut client = Client::raw(self);
        client.bytes(&frame::AMQP_HEADER);
        client.output.clear();
        client.begin(2_000_000_000);
        client
    }

    pub(super) fn publish(&self, partition: u32, events: usize, bytes: usize) {
        for _ in 0..events {
            let body = Bytes::from(vec![7; bytes]);
            let event = OutgoingEvent {
                body,
                ..OutgoingEvent::default()
            };
            self.hub.publish(partition, event).unwrap();
        }
    }
}

/// See the module.
pub(super) struct Client {
    pub(super) engine: Engine,
    pub(super) signal: Arc<Signal>,
    pub(super) now: Instant,
    pub(super) output: Vec<u8>,
    frame_max: u32,
}

/// What an engine said, as far as the tests ask.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Frame(Performative),
    /// `detach`, `end` or `close` with the condition of its error.
    Over(u8, Option<String>),
    /// `disposition` with the name of its outcome.
    Outcome(u32, u32, &'static str),
    Empty,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub(super) fn raw(world: &World) -> Self {
        let signal = Arc::new(Signal::default());
        Self {
            engine: Engine::new(Arc::clone(&world.namespace), Arc::clone(&signal)),
            signal,
            now: Instant::now(),
            output: Vec::new(),
            frame_max: 65_000,
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        self.engine.feed(&mut input);
        self.pump();
    }

    /// Lets the engine send until it has nothing more, as a fast socket would.
    pub(super) fn pump(&mut self) {
        loop {
            let more = self.engine.pump(self.now);
            self.output.append(self.engine.out());
            if !more {
                break;
            }
        }
    }

    pub(super) fn frame(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, FrameKind::Amqp, 0, fill);
        self.bytes(&bytes);
    }

    /// Sends `open` and `begin` and drops the answers.
    pub(super) fn begin(&mut self, window: u32) {
        let frame_max = self.frame_max;
        self.frame(|out| {
            put::descriptor(out, code::OPEN);
            put::list(out, 3, |out| {
                put::string(out, "test");
                put::null(out);
                put::uint(out, frame_max);
            });
        });
        self.session(window);
    }

    /// Sends `begin` and drops the answer.
    pub(super) fn session(&mut self, window: u32) {
        self.frame(|out| {
            put::descriptor(out, code::BEGIN);
            put::list(out, 4, |out| {
                put::null(out);
                put::uint(out, 0);
                put::uint(out, window);
                put::uint(out, window);
            });
        });
        self.said();
    }

    /// Attaches a link with an address, a selector and an owner level.
    pub(super) fn attach(
        &mut self,
        handle: u32,
        role: Role,
        address: &str,
        filter: Option<&str>,
        level: Option<i64>,
    ) -> Vec<Said> {
        let source = |out: &mut Vec<u8>, address: &str| {
            put::descriptor(out, code::SOURCE);
            put::list(out, 8, |out| {
                put::string(out, address);
                out.extend_from_slice(&[0x40; 6]);
                put::or_null(out, filter, |out, filter| {
                    put::map(out, 1, |out| {
                        put::symbol(out, "apache.org:selector-filter:string");
                        out.push(0);
                        put::ulong(out, 0x0000_468C_0000_0004);
                        put::string(out, filter);
                    });
                });
            });
        };
        let target = |out: &mut Vec<u8>, address: &str| {
            put::descriptor(out, code::TARGET);
            put::list(out, 1, |out| put::string(out, address));
        };
        self.frame(|out| {
            put::descriptor(out, code::ATTACH);
            put::list(out, 14, |out| {
                put::string(out, &format!("link-{handle}"));
                put::uint(out, handle);
                put::boolean(out, role == Role::Receiver);
                put::ubyte(out, 2);
                put::ubyte(out, 0);
                let (from, to) = match role {
                    Role::Receiver => (address, "client-node"),
                    Role::Sender => ("client-node", address),
                };
                source(out, from);
                target(out, to);
                out.extend_from_slice(&[0x40; 2]);
                put::uint(out, 0);
                out.extend_from_slice(&[0x40; 3]);
                put::or_null(out, level, |out, level| {
                    put::map(out, 1, |out| {
                        put::symbol(out, "com.microsoft:epoch");
                        put::long(out, level);
                    });
                });
            });
        });
        self.said()
    }

    /// Attaches a receiver of partition 0 at the earliest event.
    pub(super) fn receive(&mut self, handle: u32, level: Option<i64>) -> Vec<Said> {
        let address = "telemetry/ConsumerGroups/$Default/Partitions/0";
        self.attach(handle, Role::Receiver, address, None, level)
    }

    pub(super) fn flow(&mut self, flow: &Flow) {
        self.frame(|out| performative::put_flow(out, flow));
    }

    /// Grants credit from the start of a link.
    pub(super) fn credit(&mut self, handle: u32, credit: u32) {
        self.flow(&Flow {
            next_incoming_id: Some(0),
            incoming_window: 2_000_000_000,
            handle: Some(handle),
            delivery_count: Some(0),
            link_credit: Some(credit),
            ..Flow::default()
        });
    }

    pub(super) fn transfer(&mut self, handle: u32, id: u32, format: u32, more: bool, bytes: &[u8]) {
        self.frame(|out| {
            put::descriptor(out, code::TRANSFER);
            put::list(out, 6, |out| {
                put::uint(out, handle);
                put::uint(out, id);
                put::binary(out, &id.to_be_bytes());
                put::uint(out, format);
                put::boolean(out, false);
                put::boolean(out, more);
            });
            out.extend_from_slice(bytes);
        });
    }

    /// Everything the engine said since the last call.
    pub(super) fn said(&mut self) -> Vec<Said> {
        let mut input = BytesMut::from(&std::mem::take(&mut self.output)[..]);
        let mut said = Vec::new();
        while let Some(frame) = frame::cut(&mut input, 1 << 20).unwrap() {
            said.push(read(&frame.body));
        }
        assert!(input.is_empty(), "half a frame: {input:02x?}");
        said
    }

    /// The whole deliveries the engine sent since the last call.
    pub(super) fn deliveries(&mut self) -> Vec<Vec<u8>> {
        let mut deliveries = Vec::new();
        let mut partial = Vec::new();
        for said in self.said() {
            if let Said::Frame(Performative::Transfer(Transfer { payload, more, .. })) = said {
                partial.extend_from_slice(&payload);
                if !more {
                    deliveries.push(std::mem::take(&mut partial));
                }
            }
        }
        deliveries
    }

    /// Sequence numbers of the events the engine sent since the last call.
    pub(super) fn sequences(&mut self) -> Vec<i64> {
        self.deliveries()
            .iter()
            .map(|message| sequence(message))
            .collect()
    }
}

fn read(body: &Bytes) -> Said {
    if body.is_empty() {
        return Said::Empty;
    }
    let mut reader = Reader::new(body);
    let kind = u8::try_from(reader.descriptor().unwrap()).unwrap();
    let mut items = reader.list().unwrap();
    match kind {
        code::DETACH | code::END | code::CLOSE => {
            items
                .pass(if kind == code::DETACH { 2 } else { 0 })
                .unwrap();
            Said::Over(kind, condition(items.value().unwrap()))
        }
        code::DISPOSITION => {
            items.pass(1).unwrap();
            let (first, last) = (
                items.uint().unwrap().unwrap(),
                items.uint().unwrap().unwrap(),
            );
            items.pass(1).unwrap();
            let mut state = Reader::new(items.raw().unwrap().unwrap());
            let outcome = match state.descriptor().unwrap() {
                0x24 => "accepted",
                _ => "rejected",
            };
            Said::Outcome(first, last, outcome)
        }
        _ => Said::Frame(performative::read(body).unwrap()),
    }
}

fn condition(error: Option<Value>) -> Option<String> {
    let Some(Value::Described(_, list)) = error else {
        return None;
    };
    let Value::List(fields) = *list else {
        return None;
    };
    fields[0].as_text().map(str::to_owned)
}

/// `x-opt-sequence-number` of a stored message, which begins with its annotations.
fn sequence(message: &[u8]) -> i64 {
    let mut reader = Reader::new(message);
    loop {
        let section = reader.descriptor().unwrap();
        let value = reader.value().unwrap();
        if section == u64::from(code::MESSAGE_ANNOTATIONS) {
            return value
                .get("x-opt-sequence-number")
                .unwrap()
                .as_i64()
                .unwrap();
        }
    }
}
