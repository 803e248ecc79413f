//! The Event Hubs emulator as the published clients see it: PyPI `azure-eventhub` with its blob
//! checkpoint store, and npm `@azure/event-hubs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use stamp_emulator::{
    Authority, EmulatorConfig, EventHubsEmulator, Hub, HubConfig, OutgoingEvent, Refusal, TlsListen,
};
use stamp_interop::{Azurite, Language, run_script, run_script_with};
use stamp_model::{HubStamp, MessageSource};
use tokio::runtime::Runtime;

/// Far more than a script takes: they share the machine with builds.
const SCRIPT_MAX: Duration = Duration::from_secs(300);

/// An emulator with the hub `telemetry` of four partitions, on a runtime of its own: scripts block
/// the test's thread.
struct Namespace {
    emulator: EventHubsEmulator,
    hub: Hub,
    runtime: Runtime,
}

impl Namespace {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(tls: Option<TlsListen>) -> Self {
        let runtime = Runtime::new().unwrap();
        let config = EmulatorConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls,
            hubs: vec![HubConfig {
                partitions: 4,
                ..HubConfig::default()
            }],
            ..EmulatorConfig::default()
        };
        let emulator = runtime.block_on(EventHubsEmulator::start(config)).unwrap();
        let hub = emulator.hub("telemetry").unwrap();
        Self {
            emulator,
            hub,
            runtime,
        }
    }

    fn run(&self, language: Language, script: &str, more: &[&str]) -> Value {
        let connection_string = self.emulator.connection_string("telemetry");
        let mut arguments = vec![connection_string.as_str()];
        arguments.extend_from_slice(more);
        run_script(language, script, &arguments, SCRIPT_MAX)
    }

    fn python(&self, script: &str, more: &[&str]) -> Value {
        self.run(Language::Python, &format!("python/{script}"), more)
    }

    fn node(&self, script: &str, more: &[&str]) -> Value {
        self.run(Language::Node, &format!("node/{script}"), more)
    }

    /// Publishes events in IoT Hub's place.
    fn publish(&self, partition: u32, events: i64) {
        for n in 0..events {
            self.hub.publish(partition, telemetry(n)).unwrap();
        }
    }

    fn stop(self) {
        self.runtime.block_on(self.emulator.stop());
    }
}

fn telemetry(n: i64) -> OutgoingEvent {
    OutgoingEvent {
        body: Bytes::from(format!("{{\"n\":{n}}}")),
        hub: HubStamp {
            device_id: Some("dev-7".into()),
            module_id: None,
            generation_id: Some("638000000000000000".into()),
            auth_method: Some(
                "{\"scope\":\"device\",\"type\":\"sas\",\"issuer\":\"iothub\"}".into(),
            ),
            enqueued_at_us: Some(1_700_000_000_123_000),
            source: MessageSource::Telemetry,
        },
        properties: vec![("site".into(), "north".into())],
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        message_id: Some(format!("m-{n}").into()),
        partition_key: Some("dev-7".into()),
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

fn sequences(events: &Value) -> Vec<i64> {
    events
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["sequence"].as_i64().unwrap())
        .collect()
}

/// How many events all partitions have.
fn stored(hub: &Hub) -> i64 {
    (0..4)
        .map(|partition| hub.last_sequence(partition) + 1)
        .sum()
}

#[test]
fn python_sends_in_every_way_and_node_reads_it() {
    let namespace = Namespace::start();
    let said = namespace.python("eventhubs_send.py", &[]);

    assert_eq!(said["name"], "telemetry");
    assert_eq!(said["created_ms"], namespace.hub.created_at_ms());
    assert_eq!(texts(&said["partitions"]), ["0", "1", "2", "3"]);
    assert_eq!(
        (&said["empty"], &said["last_before"]),
        (&json!(true), &json!(-1))
    );
    assert_eq!(said["begin_after"], 0);
    assert_eq!(said["last_after"], namespace.hub.last_sequence(1));
    assert_eq!(said["unknown_partition"]["type"], "ConnectError");
    assert!(
        said["no_hub"]["text"].as_str().unwrap().contains("404"),
        "{said}"
    );
    // Sixty in one batch, a single one, a large one, and three keys with two each.
    assert_eq!(stored(&namespace.hub), 62 + 6);
    let counters = namespace.hub.counters();
    assert_eq!(
        (counters.deliveries_received, counters.events_stored),
        (1 + 1 + 1 + 3, 68)
    );

    let read = namespace.node("eventhubs_receive.cjs", &["1", "62", "0"]);
    assert_eq!(read["errors"], json!([]));
    let events = read["events"].as_array().unwrap();
    assert_eq!(events[5]["body"], json!({"n": 5}));
    assert_eq!(events[5]["properties"], json!({"kind": "batched", "n": 5}));
    assert_eq!(events[5]["system"]["messageId"], "m-5");
    assert_eq!(
        sequences(&read["events"])[..60],
        (0..60).collect::<Vec<i64>>()
    );
    namespace.stop();
}

#[test]
fn node_sends_in_every_way_and_python_reads_it() {
    let namespace = Namespace::start();
    let said = namespace.node("eventhubs_send.cjs", &[]);

    assert_eq!(said["name"], "telemetry");
    assert_eq!(said["createdMs"], namespace.hub.created_at_ms());
    assert_eq!(texts(&said["partitions"]), ["0", "1", "2", "3"]);
    assert_eq!(
        (&said["empty"], &said["lastBefore"]),
        (&json!(true), &json!(-1))
    );
    assert_eq!(said["lastAfter"], namespace.hub.last_sequence(2));
    assert_eq!(said["unknownPartition"]["code"], "ArgumentOutOfRangeError");
    assert_eq!(said["noHub"]["code"], "MessagingEntityNotFoundError");
    assert_eq!(stored(&namespace.hub), 61 + 6);

    let read = namespace.python("eventhubs_receive.py", &["2", "61", "-1", "exclusive"]);
    assert_eq!(read["errors"], json!([]));
    let events = read["events"].as_array().unwrap();
    assert_eq!(events[5]["body"], "{\"n\":5}");
    assert_eq!(events[5]["properties"], json!({"kind": "batched", "n": 5}));
    let large = events
        .iter()
        .find(|e| e["body_bytes"].as_i64() > Some(700_000))
        .unwrap();
    assert!(large["body"].as_str().unwrap().contains("xxx"));
    namespace.stop();
}

#[test]
fn keyed_events_land_where_the_hub_says_from_either_client() {
    let namespace = Namespace::start();
    namespace.python("eventhubs_send.py", &[]);
    let before: Vec<i64> = (0..4).map(|p| namespace.hub.last_sequence(p)).collect();
    namespace.node("eventhubs_send.cjs", &[]);

    let keys = ["device-a", "device-b", "device-c"];
    for partition in 0..4 {
        let keyed = keys
            .iter()
            .filter(|key| namespace.hub.partition_of(key) == partition)
            .count();
        let keyed = i64::try_from(keyed * 2).unwrap();
        // Each script also wrote to one partition by name.
        let (python_own, node_own) = (
            i64::from(partition == 1) * 62,
            i64::from(partition == 2) * 61,
        );
        let after = namespace.hub.last_sequence(partition);
        let python = before[usize::try_from(partition).unwrap()] + 1;
        assert_eq!(python, keyed + python_own, "partition {partition}");
        assert_eq!(
            after + 1 - python,
            keyed + node_own,
            "partition {partition}"
        );
    }
    namespace.stop();
}

#[test]
fn both_clients_see_what_iot_hub_stamped() {
    let namespace = Namespace::start();
    namespace.publish(0, 3);

    let read = namespace.python("eventhubs_receive.py", &["0", "3", "-1", "exclusive"]);
    let event = &read["events"][1];
    assert_eq!(event["partition_key"], "dev-7");
    assert_eq!(
        (&event["message_id"], &event["content_type"]),
        (&json!("m-1"), &json!("application/json"))
    );
    let system = &event["system"];
    assert_eq!(system["iothub-connection-device-id"], "dev-7");
    assert_eq!(
        system["iothub-connection-auth-generation-id"],
        "638000000000000000"
    );
    assert_eq!(system["iothub-message-source"], "Telemetry");
    assert_eq!(system["iothub-enqueuedtime"], 1_700_000_000_123_i64);

    let read = namespace.node("eventhubs_receive.cjs", &["0", "3", "0"]);
    let event = &read["events"][1];
    assert_eq!(
        (&event["partitionKey"], &event["body"]),
        (&json!("dev-7"), &json!({"n": 1}))
    );
    assert_eq!(event["properties"], json!({"site": "north"}));
    let system = &event["system"];
    assert_eq!(system["iothub-connection-device-id"], "dev-7");
    assert_eq!(system["iothub-enqueuedtime"], 1_700_000_000_123_i64);
    namespace.stop();
}

#[test]
fn both_clients_start_at_a_position_and_below_retention_at_the_earliest() {
    let namespace = Namespace::start();
    namespace.publish(0, 10);

    let python = |position: &str, inclusive: &str, count: &str| {
        let arguments = ["0", count, position, inclusive];
        sequences(&namespace.python("eventhubs_receive.py", &arguments)["events"])
    };
    assert_eq!(python("6", "exclusive", "3"), [7, 8, 9]);
    assert_eq!(python("6", "inclusive", "4"), [6, 7, 8, 9]);
    namespace.hub.expire_before(0, 8);
    assert_eq!(python("2", "exclusive", "2"), [8, 9]);
    let node = namespace.node("eventhubs_receive.cjs", &["0", "2", "1"]);
    assert_eq!(sequences(&node["events"]), [8, 9]);
    // A hub made anew has no such position: the client is told, as by the service.
    namespace.hub.recreate();
    let refused = namespace.node("eventhubs_receive.cjs", &["0", "1", "5"]);
    let text = refused["errors"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("The supplied sequence number '5' is invalid"),
        "{text}"
    );
    namespace.stop();
}

#[test]
fn both_clients_read_over_tls_once_they_trust_the_authority() {
    let authority = Arc::new(Authority::generate().unwrap());
    let namespace = Namespace::start_with(Some(TlsListen {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        authority: Arc::clone(&authority),
    }));
    namespace.publish(0, 3);
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    authority.write_pem(ca_file.path()).unwrap();
    let ca_file = ca_file.path().to_str().unwrap();
    let secured = namespace.emulator.tls_connection_string("telemetry");
    let secured = secured.as_deref().unwrap();
    for (language, script, variable, more) in [
        (
            Language::Python,
            "python/eventhubs_receive.py",
            "EVENT_HUBS_CA",
            ["0", "3", "-1", "exclusive"].as_slice(),
        ),
        (
            Language::Node,
            "node/eventhubs_receive.cjs",
            "NODE_EXTRA_CA_CERTS",
            ["0", "3", "0"].as_slice(),
        ),
    ] {
        let arguments = [&[secured], more].concat();
        let variables = [(variable, ca_file)];
        let read = run_script_with(language, script, &arguments, &variables, SCRIPT_MAX);
        assert_eq!(read["events"].as_array().map(Vec::len), Some(3), "{read}");
    }
    namespace.stop();
}

#[test]
fn an_owner_level_displaces_and_refuses_python() {
    let namespace = Namespace::start();
    namespace.publish(0, 20);
    let said = namespace.python("eventhubs_owner.py", &[]);

    assert_eq!(
        (&said["was_reading"], &said["was_displaced"]),
        (&json!(true), &json!(true))
    );
    let first = said["first_errors"][0]["text"].as_str().unwrap();
    assert!(
        first.contains("amqp:link:stolen") && first.contains("New receiver"),
        "{first}"
    );
    assert_eq!(said["lower"]["events"], 0);
    let lower = said["lower"]["errors"][0]["text"].as_str().unwrap();
    assert!(lower.contains("amqp:link:stolen"), "{lower}");
    assert_eq!(said["higher"]["errors"], json!([]));
    assert!(said["higher"]["events"].as_i64() >= Some(5));
    namespace.stop();
}

#[test]
fn an_owner_level_displaces_and_refuses_node() {
    let namespace = Namespace::start();
    namespace.publish(0, 20);
    let said = namespace.node("eventhubs_owner.cjs", &[]);

    assert_eq!(said["firstErrors"][0]["code"], "ReceiverDisconnectedError");
    assert_eq!(said["lower"]["events"], 0);
    assert_eq!(
        said["lower"]["errors"][0]["code"],
        "ReceiverDisconnectedError"
    );
    assert_eq!(said["higher"]["errors"], json!([]));
    assert!(said["higher"]["events"].as_i64() >= Some(5));
    namespace.stop();
}

#[test]
fn python_consumers_share_partitions_through_a_blob_checkpoint_store() {
    let azurite = Azurite::start();
    azurite.create_container("checkpoints");
    let namespace = Namespace::start();
    for partition in 0..4 {
        namespace.publish(partition, 25);
    }
    let arguments = [&azurite.connection_string(), "checkpoints", "100"];
    let said = namespace.python("eventhubs_load_balance.py", &arguments);

    assert_eq!(
        said["alone"], true,
        "one consumer takes every partition: {said}"
    );
    assert_eq!(
        (&said["seen_all"], &said["seen_first"]),
        (&json!(true), &json!(100))
    );
    assert_eq!(said["shared"], true, "two consumers share them: {said}");
    let mut split: Vec<&str> = texts(&said["split"][0]);
    split.extend(texts(&said["split"][1]));
    split.sort_unstable();
    assert_eq!(split, ["0", "1", "2", "3"]);
    assert_eq!(
        said["seen_again"], 0,
        "reading goes on at the checkpoint: {said}"
    );
    assert_eq!(
        said["checkpoints"],
        json!({"0": 24, "1": 24, "2": 24, "3": 24})
    );
    assert!(namespace.hub.counters().receivers_displaced > 0);
    namespace.stop();
}

#[test]
fn a_fault_reaches_the_client_under_its_own_name_and_costs_one_request() {
    let namespace = Namespace::start();
    namespace.publish(0, 5);
    namespace
        .hub
        .faults()
        .refuse_attach(1, Refusal::server_busy());
    let refused = namespace.node("eventhubs_receive.cjs", &["0", "5", "0"]);
    assert_eq!(refused["errors"][0]["code"], "ServerBusyError");
    assert_eq!(namespace.hub.counters().receiver_attaches, 1);

    namespace
        .hub
        .faults()
        .drop_link_after(0, 2, &Refusal::internal_error());
    let cut = namespace.node("eventhubs_receive.cjs", &["0", "5", "0"]);
    assert_eq!(cut["errors"][0]["code"], "InternalServerError");
    assert!(cut["events"].as_array().unwrap().len() <= 2);
    assert_eq!(namespace.hub.counters().receiver_attaches, 2);

    namespace.hub.faults().refuse_put_token(1, 401);
    let refused = namespace.node("eventhubs_receive.cjs", &["0", "5", "0"]);
    assert_eq!(refused["errors"][0]["code"], "UnauthorizedError");
    assert_eq!(
        namespace.hub.counters().receiver_attaches,
        2,
        "no attach without a token"
    );
    namespace.stop();
}
