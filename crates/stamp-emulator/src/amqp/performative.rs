//! The nine performatives and the three SASL frames: decoded from a peer, encoded for a peer.
//!
//! Every list is written in its full length: Python's client reads fields by position.

use bytes::Bytes;

use super::code;
use super::decode::{DecodeError, Items, Reader, Value};
use super::encode as put;

/// An AMQP error: what a peer is told when something ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpError {
    pub condition: String,
    pub description: String,
}

impl AmqpError {
    pub fn new(condition: &str, description: impl Into<String>) -> Self {
        Self {
            condition: condition.to_owned(),
            description: description.into(),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        put::descriptor(out, code::ERROR);
        put::list(out, 3, |out| {
            put::symbol(out, &self.condition);
            put::string(out, &self.description);
            // Python reads the third field without looking at the length.
            put::null(out);
        });
    }
}

/// Which end of a link its sender is. On the wire `true` is the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

impl Role {
    fn read(items: &mut Items<'_>) -> Result<Self, DecodeError> {
        let receiver = items.boolean()?.ok_or(DecodeError::Missing("role"))?;
        Ok(if receiver {
            Self::Receiver
        } else {
            Self::Sender
        })
    }
}

/// A source or target: what the emulator reads of it, and its bytes so that it can be echoed.
#[derive(Debug, Clone, PartialEq)]
pub struct Terminus {
    pub raw: Vec<u8>,
    pub address: Option<String>,
    /// The filter set of a source, a map by filter name.
    pub filter: Option<Value>,
}

impl Terminus {
    fn read(raw: Option<&[u8]>) -> Result<Option<Self>, DecodeError> {
        let Some(raw) = raw else { return Ok(None) };
        let mut reader = Reader::new(raw);
        let kind = reader.descriptor()?;
        let mut items = reader.list()?;
        let mut terminus = Self {
            raw: raw.to_vec(),
            address: None,
            filter: None,
        };
        let source = kind == u64::from(code::SOURCE);
        if source || kind == u64::from(code::TARGET) {
            if let Some(Value::String(address) | Value::Symbol(address)) = items.value()? {
                terminus.address = Some(address);
            }
            if source {
                items.pass(6)?;
                terminus.filter = items.value()?;
            }
        }
        Ok(Some(terminus))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub container_id: String,
    pub frame_max: u32,
    pub channel_max: u16,
    pub idle_timeout_ms: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    pub next_outgoing_id: u32,
    pub incoming_window: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attach {
    pub name: String,
    pub handle: u32,
    pub role: Role,
    /// 0 unsettled, 1 settled, 2 mixed.
    pub snd_settle_mode: u8,
    pub source: Option<Terminus>,
    pub target: Option<Terminus>,
    pub initial_delivery_count: Option<u32>,
    pub properties: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flow {
    pub next_incoming_id: Option<u32>,
    pub incoming_window: u32,
    pub next_outgoing_id: u32,
    pub outgoing_window: u32,
    pub handle: Option<u32>,
    pub delivery_count: Option<u32>,
    pub link_credit: Option<u32>,
    pub available: Option<u32>,
    pub drain: bool,
    pub echo: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    pub handle: u32,
    pub delivery_id: Option<u32>,
    pub message_format: Option<u32>,
    pub settled: Option<bool>,
    pub more: bool,
    pub aborted: bool,
    pub payload: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Disposition {
    pub role: Role,
    pub first: u32,
    pub last: u32,
    pub settled: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach {
        handle: u32,
        closed: bool,
    },
    End,
    Close,
    /// The mechanism the client picked.
    SaslInit(String),
}

/// Reads one frame's body.
pub fn read(body: &Bytes) -> Result<Performative, DecodeError> {
    let mut reader = Reader::new(body);
    let descriptor = reader.descriptor()?;
    let mut items = reader.list()?;
    let kind = u8::try_from(descriptor).unwrap_or(0);
    Ok(match kind {
        code::OPEN => Performative::Open(read_open(&mut items)?),
        code::BEGIN => Performative::Begin(read_begin(&mut items)?),
        code::ATTACH => Performative::Attach(Box::new(read_attach(&mut items)?)),
        code::FLOW => Performative::Flow(read_flow(&mut items)?),
        code::TRANSFER => {
            let payload = body.slice_ref(reader.rest());
            Performative::Transfer(read_transfer(&mut items, payload)?)
        }
        code::DISPOSITION => Performative::Disposition(read_disposition(&mut items)?),
        code::DETACH => Performative::Detach {
            handle: items.uint()?.ok_or(DecodeError::Missing("handle"))?,
            closed: items.boolean()?.unwrap_or(false),
        },
        code::END => Performative::End,
        code::CLOSE => Performative::Close,
        code::SASL_INIT => {
            Performative::SaslInit(items.text()?.ok_or(DecodeError::Missing("mechanism"))?)
        }
        found => {
            return Err(DecodeError::Type {
                expected: "a performative",
                found,
            });
        }
    })
}

fn read_open(items: &mut Items<'_>) -> Result<Open, DecodeError> {
    let container_id = items.text()?.ok_or(DecodeError::Missing("container-id"))?;
    items.pass(1)?;
    Ok(Open {
        container_id,
        frame_max: items.uint()?.unwrap_or(u32::MAX),
        channel_max: items.ushort()?.unwrap_or(u16::MAX),
        idle_timeout_ms: items.uint()?,
    })
}

fn read_begin(items: &mut Items<'_>) -> Result<Begin, DecodeError> {
    items.pass(1)?;
    Ok(Begin {
        next_outgoing_id: items
            .uint()?
            .ok_or(DecodeError::Missing("next-outgoing-id"))?,
        incoming_window: items
            .uint()?
            .ok_or(DecodeError::Missing("incoming-window"))?,
    })
}

fn read_attach(items: &mut Items<'_>) -> Result<Attach, DecodeError> {
    let name = items.text()?.ok_or(DecodeError::Missing("name"))?;
    let handle = items.uint()?.ok_or(DecodeError::Missing("handle"))?;
    let role = Role::read(items)?;
    let snd_settle_mode = items.ubyte()?.unwrap_or(2);
    items.pass(1)?;
    let source = Terminus::read(items.raw()?)?;
    let target = Terminus::read(items.raw()?)?;
    items.pass(2)?;
    let initial_delivery_count = items.uint()?;
    items.pass(3)?;
    Ok(Attach {
        name,
        handle,
        role,
        snd_settle_mode,
        source,
        target,
        initial_delivery_count,
        properties: items.value()?,
    })
}

fn read_flow(items: &mut Items<'_>) -> Result<Flow, DecodeError> {
    Ok(Flow {
        next_incoming_id: items.uint()?,
        incoming_window: items
            .uint()?
            .ok_or(DecodeError::Missing("incoming-window"))?,
        next_outgoing_id: items
            .uint()?
            .ok_or(DecodeError::Missing("next-outgoing-id"))?,
        outgoing_window: items
            .uint()?
            .ok_or(DecodeError::Missing("outgoing-window"))?,
        handle: items.uint()?,
        delivery_count: items.uint()?,
        link_credit: items.uint()?,
        available: items.uint()?,
        drain: items.boolean()?.unwrap_or(false),
        echo: items.boolean()?.unwrap_or(false),
    })
}

fn read_transfer(items: &mut Items<'_>, payload: Bytes) -> Result<Transfer, DecodeError> {
    let handle = items.uint()?.ok_or(DecodeError::Missing("handle"))?;
    let delivery_id = items.uint()?;
    items.pass(1)?;
    let message_format = items.uint()?;
    let settled = items.boolean()?;
    let more = items.boolean()?.unwrap_or(false);
    items.pass(3)?;
    let aborted = items.boolean()?.unwrap_or(false);
    Ok(Transfer {
        handle,
        delivery_id,
        message_format,
        settled,
        more,
        aborted,
        payload,
    })
}

fn read_disposition(items: &mut Items<'_>) -> Result<Disposition, DecodeError> {
    let role = Role::read(items)?;
    let first = items.uint()?.ok_or(DecodeError::Missing("first"))?;
    Ok(Disposition {
        role,
        first,
        last: items.uint()?.unwrap_or(first),
        settled: items.boolean()?.unwrap_or(false),
    })
}

/// `open` with ten fields.
pub fn put_open(out: &mut Vec<u8>, open: &Open) {
    put::descriptor(out, code::OPEN);
    put::list(out, 10, |out| {
        put::string(out, &open.container_id);
        put::null(out);
        put::uint(out, open.frame_max);
        put::ushort(out, open.channel_max);
        put::or_null(out, open.idle_timeout_ms, put::uint);
        nulls(out, 5);
    });
}

/// `begin` with eight fields. `handle_max` differs from the default on purpose: see the module.
pub fn put_begin(out: &mut Vec<u8>, remote_channel: u16, window: u32, handle_max: u32) {
    put::descriptor(out, code::BEGIN);
    put::list(out, 8, |out| {
        put::ushort(out, remote_channel);
        put::uint(out, 0);
        put::uint(out, window);
        put::uint(out, window);
        put::uint(out, handle_max);
        nulls(out, 3);
    });
}

/// The answer to `attach`, with fourteen fields: same name and handle, the other role, source and
/// target as they came.
pub fn put_attach(out: &mut Vec<u8>, asked: &Attach, message_bytes_max: u64) {
    put::descriptor(out, code::ATTACH);
    put::list(out, 14, |out| {
        put::string(out, &asked.name);
        put::uint(out, asked.handle);
        put::boolean(out, asked.role == Role::Sender);
        put::ubyte(out, asked.snd_settle_mode);
        // Always "first": Python asks for "second" and then never completes its handshake.
        put::ubyte(out, 0);
        for terminus in [&asked.source, &asked.target] {
            match terminus {
                Some(terminus) => out.extend_from_slice(&terminus.raw),
                None => put::null(out),
            }
        }
        put::null(out);
        put::boolean(out, false);
        match asked.role {
            Role::Receiver => put::uint(out, 0),
            Role::Sender => put::null(out),
        }
        put::ulong(out, message_bytes_max);
        nulls(out, 3);
    });
}

/// `flow` with eleven fields.
pub fn put_flow(out: &mut Vec<u8>, flow: &Flow) {
    put::descriptor(out, code::FLOW);
    put::list(out, 11, |out| {
        put::or_null(out, flow.next_incoming_id, put::uint);
        put::uint(out, flow.incoming_window);
        put::uint(out, flow.next_outgoing_id);
        put::uint(out, flow.outgoing_window);
        put::or_null(out, flow.handle, put::uint);
        put::or_null(out, flow.delivery_count, put::uint);
        put::or_null(out, flow.link_credit, put::uint);
        put::or_null(out, flow.available, put::uint);
        put::boolean(out, flow.drain);
        put::boolean(out, flow.echo);
        put::null(out);
    });
}

/// What became of deliveries.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Accepted,
    Rejected(AmqpError),
}

/// A settled `disposition` with six fields.
pub fn put_disposition(
    out: &mut Vec<u8>,
    role: Role,
    (first, last): (u32, u32),
    outcome: &Outcome,
) {
    put::descriptor(out, code::DISPOSITION);
    put::list(out, 6, |out| {
        put::boolean(out, role == Role::Receiver);
        put::uint(out, first);
        put::uint(out, last);
        put::boolean(out, true);
        match outcome {
            Outcome::Accepted => {
                put::descriptor(out, code::ACCEPTED);
                put::list(out, 0, |_| {});
            }
            Outcome::Rejected(error) => {
                put::descriptor(out, code::REJECTED);
                put::list(out, 1, |out| error.put(out));
            }
        }
        put::boolean(out, false);
    });
}

/// `detach` with three fields.
pub fn put_detach(out: &mut Vec<u8>, handle: u32, closed: bool, error: Option<&AmqpError>) {
    put::descriptor(out, code::DETACH);
    put::list(out, 3, |out| {
        put::uint(out, handle);
        put::boolean(out, closed);
        put::or_null(out, error, |out, error| error.put(out));
    });
}

/// `end` with its one field.
pub fn put_end(out: &mut Vec<u8>, error: Option<&AmqpError>) {
    put::descriptor(out, code::END);
    put::list(out, 1, |out| {
        put::or_null(out, error, |out, error| error.put(out))
    });
}

/// `close` with its one field.
pub fn put_close(out: &mut Vec<u8>, error: Option<&AmqpError>) {
    put::descriptor(out, code::CLOSE);
    put::list(out, 1, |out| {
        put::or_null(out, error, |out, error| error.put(out))
    });
}

/// The SASL mechanisms on offer.
pub fn put_sasl_mechanisms(out: &mut Vec<u8>, mechanisms: &[&str]) {
    put::descriptor(out, code::SASL_MECHANISMS);
    put::list(out, 1, |out| put::symbols(out, mechanisms));
}

/// The SASL outcome: 0 ok, 1 refused.
pub fn put_sasl_outcome(out: &mut Vec<u8>, outcome: u8) {
    put::descriptor(out, code::SASL_OUTCOME);
    put::list(out, 2, |out| {
        put::ubyte(out, outcome);
        put::null(out);
    });
}

fn nulls(out: &mut Vec<u8>, n: usize) {
    out.resize(out.len() + n, 0x40);
}
