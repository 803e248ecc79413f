//! `$cbs` and `$management` as a client sees them.

use super::client::{Client, World};
use super::world;
use crate::amqp::code;
use crate::amqp::decode::{Reader, Value};
use crate::amqp::encode as put;
use crate::amqp::performative::Role;

fn request(id: &[u8], reply_to: Option<&str>, properties: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put::descriptor(&mut out, code::PROPERTIES);
    put::list(&mut out, 5, |out| {
        out.extend_from_slice(id);
        out.extend_from_slice(&[0x40; 3]);
        put::or_null(out, reply_to, put::string);
    });
    put::descriptor(&mut out, code::APPLICATION_PROPERTIES);
    let pairs = u32::try_from(properties.len()).unwrap();
    put::map(&mut out, pairs, |out| {
        for (key, value) in properties {
            put::string(out, key);
            put::string(out, value);
        }
    });
    put::descriptor(&mut out, code::VALUE);
    put::string(&mut out, "SharedAccessSignature sr=x");
    out
}

/// Properties, application properties and body of a reply.
fn parts(reply: &[u8]) -> (Value, Value, Value) {
    let mut reader = Reader::new(reply);
    let mut next = |section| {
        assert_eq!(reader.descriptor().unwrap(), u64::from(section));
        reader.value().unwrap()
    };
    (
        next(code::PROPERTIES),
        next(code::APPLICATION_PROPERTIES),
        next(code::VALUE),
    )
}

fn correlation(properties: &Value) -> Value {
    let Value::List(fields) = properties else {
        panic!("{properties:?}")
    };
    fields[5].clone()
}

/// A client with a sender on handle 0 and a receiver on handle 1 to a node.
fn asking(world: &World, node: &str) -> Client {
    let mut client = world.connect();
    client.attach(0, Role::Sender, node, None, None);
    client.attach(1, Role::Receiver, node, None, None);
    client.credit(1, 100);
    client.said();
    client
}

fn ask(client: &mut Client, request: &[u8]) -> (Value, Value, Value) {
    client.transfer(0, 0, 0, false, request);
    let replies = client.deliveries();
    assert_eq!(replies.len(), 1);
    parts(&replies[0])
}

const TOKEN: [(&str, &str); 3] = [
    ("operation", "put-token"),
    ("type", "servicebus.windows.net:sastoken"),
    ("name", "sb://localhost/telemetry/Partitions/1"),
];

#[test]
fn any_token_is_accepted_and_counted_for_its_hub() {
    let world = world();
    let mut client = asking(&world, "$cbs");
    // The id comes back in the type it came in: a ulong here.
    let (properties, status, body) = ask(&mut client, &request(&[0x53, 7], None, &TOKEN));
    assert_eq!(correlation(&properties), Value::Ulong(7));
    assert_eq!(status.get("status-code"), Some(&Value::Int(202)));
    assert_eq!(body, Value::Null);
    let counters = world.hub.counters();
    assert_eq!((counters.put_tokens, counters.connections_opened), (1, 1));
}

#[test]
fn a_refused_token_says_so_as_often_as_asked() {
    let world = world();
    world.hub.faults().refuse_put_token(1, 401);
    let mut client = asking(&world, "$cbs");
    for status in [401, 202] {
        let (_, answer, _) = ask(&mut client, &request(&[0x44], None, &TOKEN));
        assert_eq!(answer.get("status-code"), Some(&Value::Int(status)));
    }
}

#[test]
fn a_reply_goes_where_the_request_says() {
    let world = world();
    let mut client = asking(&world, "$cbs");
    client.attach(2, Role::Receiver, "$cbs", None, None);
    client.credit(2, 10);
    client.said();
    for (reply_to, handle) in [
        (Some("link-1"), 1),
        (Some("link-2"), 2),
        (Some("unknown"), 2),
        (None, 2),
    ] {
        client.transfer(0, 0, 0, false, &request(&[0x44], reply_to, &TOKEN));
        let handles: Vec<u32> = client
            .said()
            .into_iter()
            .filter_map(|said| match said {
                super::Said::Frame(super::Performative::Transfer(t)) => Some(t.handle),
                _ => None,
            })
            .collect();
        assert_eq!(handles, [handle], "{reply_to:?}");
    }
}

#[test]
fn management_reads_hub_and_partition() {
    let world = world();
    world.publish(1, 5, 10);
    world.hub.expire_before(1, 2);
    let mut client = asking(&world, "$management");
    let hub = [
        ("operation", "READ"),
        ("name", "Telemetry"),
        ("type", "com.microsoft:eventhub"),
    ];
    let (_, status, body) = ask(&mut client, &request(&[0xa1, 1, b'i'], None, &hub));
    assert_eq!(status.get("status-code"), Some(&Value::Int(200)));
    assert_eq!(body.get("partition_count"), Some(&Value::Int(4)));
    assert_eq!(
        body.get("created_at"),
        Some(&Value::Timestamp(world.hub.created_at_ms()))
    );
    let ids = ["0", "1", "2", "3"].map(|id| Value::String(id.into()));
    assert_eq!(body.get("partition_ids"), Some(&Value::Array(ids.to_vec())));
    let partition = |id| {
        let kind = ("type", "com.microsoft:partition");
        [
            ("operation", "READ"),
            ("name", "telemetry"),
            kind,
            ("partition", id),
        ]
    };
    let (_, _, body) = ask(&mut client, &request(&[0x44], None, &partition("1")));
    assert_eq!(body.get("begin_sequence_number"), Some(&Value::Long(2)));
    assert_eq!(
        body.get("last_enqueued_sequence_number"),
        Some(&Value::Long(4))
    );
    assert_eq!(body.get("is_partition_empty"), Some(&Value::Bool(false)));
    let (_, _, body) = ask(&mut client, &request(&[0x44], None, &partition("0")));
    assert_eq!(body.get("begin_sequence_number"), Some(&Value::Long(0)));
    assert_eq!(
        body.get("last_enqueued_sequence_number"),
        Some(&Value::Long(-1))
    );
    assert_eq!(
        body.get("last_enqueued_offset"),
        Some(&Value::String("-1".into()))
    );
    assert_eq!(body.get("is_partition_empty"), Some(&Value::Bool(true)));
    let (_, status, _) = ask(&mut client, &request(&[0x44], None, &partition("9")));
    assert_eq!(status.get("status-code"), Some(&Value::Int(404)));
    assert_eq!(world.hub.counters().management_reads, 4);
}

#[test]
fn an_unknown_hub_and_a_refusing_one_answer_with_a_status() {
    let world = world();
    world.hub.faults().refuse_management(1, 503);
    let mut client = asking(&world, "$management");
    for (name, code) in [("telemetry", 503), ("telemetry", 200), ("other", 404)] {
        let read = [
            ("operation", "READ"),
            ("name", name),
            ("type", "com.microsoft:eventhub"),
        ];
        let (_, status, _) = ask(&mut client, &request(&[0x44], None, &read));
        assert_eq!(status.get("status-code"), Some(&Value::Int(code)), "{name}");
    }
}
