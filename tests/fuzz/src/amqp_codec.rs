//! `amqp_codec`: the emulator's reader and writer of AMQP values, frames and performatives.

use bytes::{Bytes, BytesMut};
use fe2o3_amqp_types::primitives::Value as Other;
use stamp_emulator::amqp::decode::{Reader, Value};
use stamp_emulator::amqp::frame::{self, FrameKind};
use stamp_emulator::amqp::performative::{self, Attach, Outcome, Performative, Role};

use crate::other::{opinion, reads_well};

/// Longest input that is tried: a frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// One try: a value, the body of a frame, and a stream of frames, all the same bytes.
///
/// # Panics
/// When a promise is broken.
pub fn amqp_codec(data: &[u8]) {
    let data = &data[..data.len().min(FRAME_BYTES_MAX)];
    check_value(data);
    check_frames(data);
    let body = Bytes::copy_from_slice(data);
    if let Ok(read) = performative::read(&body)
        && let Some(written) = write(&read)
    {
        let again = performative::read(&written).expect("what was written can be read");
        assert_eq!(comparable(read), comparable(again));
    }
}

/// Reading and skipping agree, and so does another crate where both can read.
fn check_value(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(value) = reader.value() else {
        return;
    };
    let length = data.len() - reader.rest().len();
    let encoded = &data[..length];
    assert_eq!(Reader::new(data).skip(), Ok(encoded), "skipped otherwise");
    assert_eq!(Reader::new(encoded).value().as_ref(), Ok(&value));
    if reads_well(encoded)
        && let Some(Ok(other)) = opinion(|| serde_amqp::from_slice::<Other>(encoded))
    {
        assert!(is_same(&value, &other), "{value:?} is not {other:?}");
    }
}

fn is_same(ours: &Value, other: &Other) -> bool {
    match (ours, other) {
        (Value::Null, Other::Null) => true,
        (Value::Bool(a), Other::Bool(b)) => a == b,
        (Value::Ubyte(a), Other::Ubyte(b)) => a == b,
        (Value::Ushort(a), Other::Ushort(b)) => a == b,
        (Value::Uint(a), Other::Uint(b)) => a == b,
        (Value::Ulong(a), Other::Ulong(b)) => a == b,
        (Value::Byte(a), Other::Byte(b)) => a == b,
        (Value::Short(a), Other::Short(b)) => a == b,
        (Value::Int(a), Other::Int(b)) => a == b,
        (Value::Long(a), Other::Long(b)) => a == b,
        (Value::Timestamp(a), Other::Timestamp(b)) => *a == b.milliseconds(),
        (Value::Binary(a), Other::Binary(b)) => a[..] == b[..],
        (Value::String(a), Other::String(b)) => a == b,
        (Value::Symbol(a), Other::Symbol(b)) => *a == b.0,
        (Value::List(a), Other::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Array(a), Other::Array(b)) => {
            a.len() == b.0.len() && a.iter().zip(&b.0).all(|(a, b)| is_same(a, b))
        }
        // The other keeps one of two equal keys.
        (Value::Map(a), Other::Map(b)) => {
            a.len() > b.len()
                || a.iter()
                    .zip(b.iter())
                    .all(|((key, value), (k, v))| is_same(key, k) && is_same(value, v))
        }
        // Wide numbers keep only their bytes here, and a described value's descriptor has types
        // of its own there.
        (Value::Described(_, a), Other::Described(b)) => is_same(a, &b.value),
        (Value::Other(..), _) => true,
        _ => false,
    }
}

/// Whole frames come out of a stream as they went in.
fn check_frames(data: &[u8]) {
    let mut stream = Vec::new();
    let bodies: Vec<&[u8]> = data.chunks(300).take(4).collect();
    for (channel, body) in (0..).zip(&bodies) {
        frame::put(&mut stream, FrameKind::Amqp, channel, |out| {
            out.extend_from_slice(body);
        });
    }
    let mut input = BytesMut::from(&stream[..]);
    for (channel, body) in (0..).zip(bodies) {
        let cut = frame::cut(&mut input, 512).expect("a frame that was just written");
        let cut = cut.expect("the frame is whole");
        assert_eq!((cut.channel, &cut.body[..]), (channel, body));
    }
    assert!(input.is_empty());
    // The bytes themselves as a stream: each frame takes at least its own header from it.
    let mut input = BytesMut::from(data);
    loop {
        let before = input.len();
        match frame::cut(&mut input, 512) {
            Ok(Some(_)) => assert!(before - input.len() >= 8, "a frame without a header"),
            Ok(None) | Err(_) => return,
        }
    }
}

/// The performative as the emulator writes it; `None` for those that it never sends in this form.
fn write(read: &Performative) -> Option<Bytes> {
    let mut out = Vec::new();
    match read {
        Performative::Open(open) => performative::put_open(&mut out, open),
        Performative::Attach(attach) => {
            // The answer to `attach` has the other role.
            let role = match attach.role {
                Role::Sender => Role::Receiver,
                Role::Receiver => Role::Sender,
            };
            let asked = Attach {
                role,
                ..(**attach).clone()
            };
            performative::put_attach(&mut out, &asked, 1 << 20);
        }
        Performative::Flow(flow) => performative::put_flow(&mut out, flow),
        Performative::Disposition(it) => {
            let ids = (it.first, it.last);
            performative::put_disposition(&mut out, it.role, ids, &Outcome::Accepted);
        }
        Performative::Detach { handle, closed } => {
            performative::put_detach(&mut out, *handle, *closed, None);
        }
        Performative::End => performative::put_end(&mut out, None),
        Performative::Close => performative::put_close(&mut out, None),
        Performative::Begin(_) | Performative::Transfer(_) | Performative::SaslInit(_) => {
            return None;
        }
    }
    Some(out.into())
}

/// Without what the emulator's answers never carry.
fn comparable(read: Performative) -> Performative {
    match read {
        Performative::Attach(attach) => Performative::Attach(Box::new(Attach {
            initial_delivery_count: None,
            properties: None,
            ..*attach
        })),
        Performative::Disposition(disposition) => {
            Performative::Disposition(performative::Disposition {
                settled: true,
                ..disposition
            })
        }
        other => other,
    }
}
