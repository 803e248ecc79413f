//! The request-and-reply nodes `$cbs` and `$management`.

use super::super::address;
use super::super::hub::HubShared;
use super::super::server::Namespace;
use crate::amqp::code;
use crate::amqp::decode::{DecodeError, Reader, Value};
use crate::amqp::encode as put;

/// Which node a link talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    Management,
}

/// Largest request that is read: a token is a few hundred bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A client's request.
#[derive(Debug)]
struct Request {
    /// As it was encoded: the reply's correlation id has to have its type.
    message_id: Option<Vec<u8>>,
    reply_to: Option<String>,
    properties: Value,
}

/// A reply that waits for its way back.
#[derive(Debug)]
pub(super) struct ReplyMessage {
    /// Link name or target address of the receiver it is for, when the client said so.
    pub(super) reply_to: Option<String>,
    pub(super) message: Vec<u8>,
    /// The hub that was named, so that the connection can be counted for it.
    pub(super) hub: Option<String>,
}

/// Answers one request.
///
/// # Errors
/// When the request is no AMQP message.
pub(super) fn answer(
    node: Node,
    namespace: &Namespace,
    payload: &[u8],
) -> Result<ReplyMessage, DecodeError> {
    if payload.len() > REQUEST_BYTES_MAX {
        return Err(DecodeError::Elements);
    }
    let request = Request::read(payload)?;
    let answer = match node {
        Node::Cbs => put_token(namespace, &request.properties),
        Node::Management => read_entity(namespace, &request.properties),
    };
    Ok(ReplyMessage {
        message: reply(&request, &answer),
        reply_to: request.reply_to,
        hub: answer.hub,
    })
}

impl Request {
    fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut request = Self {
            message_id: None,
            reply_to: None,
            properties: Value::Map(Vec::new()),
        };
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            match u8::try_from(reader.descriptor()?).unwrap_or(0) {
                code::PROPERTIES => {
                    let mut items = reader.list()?;
                    request.message_id = items.raw()?.map(<[u8]>::to_vec);
                    items.pass(3)?;
                    request.reply_to = items.text()?;
                }
                code::APPLICATION_PROPERTIES => request.properties = reader.value()?,
                _ => {
                    reader.skip()?;
                }
            }
        }
        Ok(request)
    }
}

struct Answer {
    status: u16,
    text: String,
    body: Body,
    hub: Option<String>,
}

enum Body {
    Null,
    Map(u32, Vec<u8>),
}

impl Answer {
    fn refused(status: u16, text: impl Into<String>, hub: Option<String>) -> Self {
        Self {
            status,
            text: text.into(),
            body: Body::Null,
            hub,
        }
    }
}

fn reply(request: &Request, answer: &Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put::descriptor(&mut out, code::PROPERTIES);
    // message-id, user-id, to, subject, reply-to, correlation-id
    put::list(&mut out, 6, |out| {
        out.extend_from_slice(&[0x40; 2]);
        put::or_null(out, request.reply_to.as_deref(), put::string);
        out.extend_from_slice(&[0x40; 2]);
        out.extend_from_slice(request.message_id.as_deref().unwrap_or(&[0x40]));
    });
    put::descriptor(&mut out, code::APPLICATION_PROPERTIES);
    put::map(&mut out, 2, |out| {
        put::string(out, "status-code");
        put::int(out, answer.status.into());
        put::string(out, "status-description");
        put::string(out, &answer.text);
    });
    put::descriptor(&mut out, code::VALUE);
    match &answer.body {
        Body::Null => put::null(&mut out),
        Body::Map(pairs, bytes) => put::map(&mut out, *pairs, |out| out.extend_from_slice(bytes)),
    }
    out
}

fn text<'a>(properties: &'a Value, key: &str) -> Option<&'a str> {
    properties.get(key).and_then(Value::as_text)
}

/// Any token will do; only the fault hook refuses.
fn put_token(namespace: &Namespace, properties: &Value) -> Answer {
    if text(properties, "operation") != Some("put-token") {
        return Answer::refused(400, "the only operation of $cbs is put-token", None);
    }
    let hub = text(properties, "name").and_then(address::audience_hub);
    let shared = hub.as_deref().and_then(|name| namespace.hub(name));
    namespace.counters.put_tokens.add(1);
    if let Some(shared) = shared {
        shared.counters.put_tokens.add(1);
        if let Some(status) = shared.faults.put_token_status() {
            return Answer::refused(
                status,
                "InvalidSignature: The token has an invalid signature.",
                hub,
            );
        }
    }
    Answer {
        status: 202,
        text: "Accepted".to_owned(),
        body: Body::Null,
        hub,
    }
}

fn read_entity(namespace: &Namespace, properties: &Value) -> Answer {
    if text(properties, "operation") != Some("READ") {
        return Answer::refused(400, "the only operation of $management is READ", None);
    }
    namespace.counters.management_reads.add(1);
    let name = text(properties, "name").unwrap_or_default().to_lowercase();
    let Some(hub) = namespace.hub(&name) else {
        let text = format!("The messaging entity '{name}' could not be found.");
        return Answer::refused(404, text, None);
    };
    hub.counters.management_reads.add(1);
    let named = Some(name);
    if let Some(status) = hub.faults.management_status() {
        return Answer::refused(status, "The request was refused.", named);
    }
    let body = match text(properties, "type") {
        Some("com.microsoft:eventhub") => hub_body(hub),
        Some("com.microsoft:partition") => match partition_body(hub, properties) {
            Some(body) => body,
            None => return Answer::refused(404, "The partition could not be found.", named),
        },
        _ => return Answer::refused(400, "unknown entity type", named),
    };
    Answer {
        status: 200,
        text: "OK".to_owned(),
        body,
        hub: named,
    }
}

fn hub_body(hub: &HubShared) -> Body {
    let mut out = Vec::new();
    put::string(&mut out, "name");
    put::string(&mut out, hub.name());
    put::string(&mut out, "type");
    put::string(&mut out, "com.microsoft:eventhub");
    put::string(&mut out, "created_at");
    put::timestamp(&mut out, hub.created_at_ms());
    put::string(&mut out, "partition_count");
    put::int(
        &mut out,
        i32::try_from(hub.partition_count()).unwrap_or(i32::MAX),
    );
    put::string(&mut out, "partition_ids");
    let ids: Vec<String> = (0..hub.partition_count())
        .map(|id| id.to_string())
        .collect();
    put::strings(&mut out, &ids);
    put::string(&mut out, "georeplication_factor");
    put::int(&mut out, 1);
    Body::Map(6, out)
}

fn partition_body(hub: &HubShared, properties: &Value) -> Option<Body> {
    let id = match properties.get("partition")? {
        Value::String(id) | Value::Symbol(id) => hub.parse_partition(id)?,
        number => u32::try_from(number.as_i64()?).ok()?,
    };
    let state = hub.partition(id)?;
    let last = state.log.last();
    let mut out = Vec::new();
    put::string(&mut out, "name");
    put::string(&mut out, hub.name());
    put::string(&mut out, "type");
    put::string(&mut out, "com.microsoft:partition");
    put::string(&mut out, "partition");
    put::string(&mut out, &id.to_string());
    put::string(&mut out, "begin_sequence_number");
    put::long(&mut out, state.log.begin());
    put::string(&mut out, "last_enqueued_sequence_number");
    put::long(&mut out, state.log.next() - 1);
    put::string(&mut out, "last_enqueued_offset");
    put::string(
        &mut out,
        &last.map_or("-1".to_owned(), |last| last.offset.to_string()),
    );
    put::string(&mut out, "last_enqueued_time_utc");
    put::timestamp(&mut out, last.map_or(0, |last| last.enqueued_ms));
    put::string(&mut out, "is_partition_empty");
    put::boolean(&mut out, state.log.is_empty());
    put::string(&mut out, "begin_sequence_number_epoch");
    put::int(&mut out, 0);
    put::string(&mut out, "last_enqueued_sequence_number_epoch");
    put::int(&mut out, 0);
    Some(Body::Map(10, out))
}
