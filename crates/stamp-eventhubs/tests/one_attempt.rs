//! Every call is one attempt, counted on the wire, and every failure says what the caller can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, OutgoingEvent, Refusal};
use stamp_eventhubs::{
    AmqpConfig, AmqpHub, AmqpSource, EventHub, HubError, PartitionSource, StartPosition,
};
use stamp_model::{BatchLimits, Event, PartitionId};
use stamp_resilience::{Classify, FailureKind};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

const HUB: &str = "telemetry";

const LIMITS: BatchLimits = BatchLimits {
    events_max: 1_000,
    bytes_max: 16 << 20,
    wait_max: Duration::from_secs(60),
};

struct Rig {
    emulator: EventHubsEmulator,
    hub: Hub,
    client: AmqpHub,
}

impl Rig {
    async fn start(credit: u32) -> Self {
        let emulator = EventHubsEmulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..EmulatorConfig::default()
        })
        .await
        .unwrap();
        let config = AmqpConfig {
            credit,
            ..AmqpConfig::default()
        };
        Self {
            hub: emulator.hub(HUB).unwrap(),
            client: AmqpHub::with_connection_string(&config, &emulator.connection_string(HUB))
                .unwrap(),
            emulator,
        }
    }

    fn publish(&self, count: usize) {
        for _ in 0..count {
            self.hub.publish(0, OutgoingEvent::default()).unwrap();
        }
    }

    async fn open(&self) -> Result<AmqpSource, HubError> {
        self.client.open(p(0), StartPosition::Earliest, None).await
    }

    /// Connections, receiver attaches of the hub, and tokens so far.
    fn seen(&self) -> [u64; 3] {
        let all = self.emulator.counters();
        [
            all.connections_opened,
            self.hub.counters().receiver_attaches,
            all.put_tokens,
        ]
    }
}

fn p(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

/// Pulls until the source fails; returns what came before.
async fn pull_to_the_error(source: &mut AmqpSource) -> (Vec<Event>, HubError) {
    let mut events = Vec::new();
    loop {
        match source.next_batch(LIMITS).await {
            Ok(batch) => {
                assert!(!batch.events.is_empty(), "nothing came and nothing failed");
                events.extend(batch.events);
            }
            Err(error) => return (events, error),
        }
    }
}

#[tokio::test]
async fn an_open_partition_is_one_connection_one_token_and_one_link() {
    let rig = Rig::start(1_000).await;
    rig.publish(10);
    let mut source = rig.open().await.unwrap();
    assert_eq!(
        source.next_batch(LIMITS).await.unwrap().events[0].sequence,
        0
    );
    assert_eq!(rig.seen(), [1, 1, 1]);
    source.close().await;
    rig.emulator.stop().await;
}

#[tokio::test]
async fn a_link_that_is_refused_was_asked_for_once() {
    let rig = Rig::start(1_000).await;
    let table = [
        (Refusal::server_busy(), "Throttled"),
        (Refusal::unauthorized(), "Unauthorized"),
        (Refusal::internal_error(), "ConnectionLost"),
        (Refusal::new("amqp:link:stolen", "taken"), "OwnershipLost"),
        (
            Refusal::new("com.microsoft:entity-disabled", "off"),
            "Refused",
        ),
    ];
    for (number, (refusal, expected)) in (1..).zip(table) {
        rig.hub.faults().refuse_attach(u32::MAX, refusal);
        let error = match rig.open().await {
            Err(error) => error,
            // The hub may answer the link before it refuses it.
            Ok(mut source) => source.next_batch(LIMITS).await.unwrap_err(),
        };
        let shown = format!("{error:?}");
        assert!(shown.starts_with(expected), "{expected}: {shown}");
        assert_eq!(rig.seen(), [number; 3]);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_was_put_once() {
    let rig = Rig::start(1_000).await;
    let table = [
        (401, "Unauthorized"),
        (404, "NotFound"),
        (408, "TimedOut"),
        (429, "Throttled"),
        (500, "ConnectionLost"),
    ];
    for (number, (status, expected)) in (1..).zip(table) {
        rig.hub.faults().refuse_put_token(u32::MAX, status);
        let Err(error) = rig.open().await else {
            panic!("status {status} was taken for success");
        };
        let shown = format!("{error:?}");
        assert!(shown.starts_with(expected), "{expected}: {shown}");
        assert_eq!(rig.seen(), [number, 0, number]);
    }
}

#[tokio::test]
async fn a_question_that_is_refused_was_asked_once() {
    let rig = Rig::start(1_000).await;
    rig.hub.faults().refuse_management(u32::MAX, 503);
    let error = rig.client.properties().await.unwrap_err();
    assert!(matches!(
        error.kind(),
        FailureKind::Throttled {
            retry_after: Some(_)
        }
    ));
    let error = rig.client.partition_properties(p(0)).await.unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Throttled { .. }));
    assert_eq!(rig.hub.counters().management_reads, 2);
}

#[tokio::test]
async fn questions_share_a_connection_as_long_as_it_lives() {
    let rig = Rig::start(1_000).await;
    for partition in 0..4 {
        rig.client.properties().await.unwrap();
        rig.client.partition_properties(p(partition)).await.unwrap();
    }
    assert_eq!(rig.seen(), [1, 0, 1]);
    assert_eq!(rig.hub.counters().management_reads, 8);
}

#[tokio::test]
async fn a_cut_connection_is_reported_and_not_mended() {
    let rig = Rig::start(1_000).await;
    rig.publish(20);
    rig.hub.faults().drop_connection_after(0, 10);
    let mut source = rig.open().await.unwrap();
    let (events, error) = pull_to_the_error(&mut source).await;
    assert_eq!(events.len(), 10);
    assert!(matches!(error, HubError::ConnectionLost { .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::Transient);
    for _ in 0..3 {
        let again = source.next_batch(LIMITS).await.unwrap_err();
        assert!(matches!(again, HubError::ConnectionLost { .. }), "{again}");
    }
    assert_eq!(rig.seen(), [1, 1, 1]);
    source.close().await;
}

#[tokio::test]
async fn a_link_that_ends_says_why_after_its_events() {
    let rig = Rig::start(1_000).await;
    rig.publish(20);
    let table = [
        ("amqp:link:detach-forced", "ConnectionLost"),
        ("com.microsoft:server-busy", "Throttled"),
        ("amqp:link:stolen", "OwnershipLost"),
        // What was granted before has run out: a new attempt has a new token.
        ("amqp:unauthorized-access", "ConnectionLost"),
        ("amqp:resource-deleted", "Refused"),
    ];
    for (condition, expected) in table {
        let refusal = Refusal::new(condition, "by the test");
        rig.hub.faults().drop_link_after(0, 7, &refusal);
        let mut source = rig.open().await.unwrap();
        let (events, error) = pull_to_the_error(&mut source).await;
        assert_eq!(events.len(), 7, "{condition}");
        let shown = format!("{error:?}");
        assert!(shown.starts_with(expected), "{expected}: {shown}");
        assert!(shown.contains("by the test"), "{shown}");
    }
}

/// Pulls a few at a time to the error; what came must be whole from the first event on.
async fn pull_the_beginning(source: &mut AmqpSource) -> (i64, HubError) {
    let limits = BatchLimits {
        events_max: 10,
        ..LIMITS
    };
    let mut next = 0;
    loop {
        match source.next_batch(limits).await {
            Err(error) => return (next, error),
            Ok(batch) => {
                for event in batch.events {
                    assert_eq!(event.sequence, next);
                    next += 1;
                }
            }
        }
    }
}

/// A partition whose events were all sent and wait on the client's side.
async fn sent_ahead(rig: &Rig, events: u64) -> AmqpSource {
    let source = rig.open().await.unwrap();
    while rig.hub.counters().events_sent < events {
        tokio::task::yield_now().await;
    }
    source
}

#[tokio::test]
async fn events_that_wait_when_their_link_ends_are_all_given_out() {
    let rig = Rig::start(1_000).await;
    rig.publish(900);
    let refusal = Refusal::new("amqp:link:stolen", "by the test");
    rig.hub.faults().drop_link_after(0, 600, &refusal);
    let mut source = sent_ahead(&rig, 600).await;
    let (events, error) = pull_the_beginning(&mut source).await;
    assert_eq!(events, 600);
    assert!(matches!(error, HubError::OwnershipLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_hub_that_stops_leaves_no_hole_and_says_so() {
    let rig = Rig::start(1_000).await;
    rig.publish(500);
    let mut source = sent_ahead(&rig, 500).await;
    rig.emulator.stop().await;
    // What the engine has not handed on yet when the connection closes is still in the hub.
    let (events, error) = pull_the_beginning(&mut source).await;
    assert!(events <= 500);
    assert!(
        matches!(error, HubError::ConnectionLost { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reader_that_is_displaced_while_it_waits_is_told() {
    let rig = Rig::start(1_000).await;
    let mut source = rig.open().await.unwrap();
    let waiting = tokio::spawn(async move { source.next_batch(LIMITS).await });
    tokio::task::yield_now().await;
    assert_eq!(rig.hub.faults().displace(0, "$Default"), 1);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, HubError::OwnershipLost { .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::Permanent);
}

#[tokio::test]
async fn settlement_goes_out_in_ranges_of_a_quarter_of_the_credit() {
    const EVENTS: u64 = 2_000;
    for credit in [1, 4, 100, 1_000] {
        let rig = Rig::start(credit).await;
        rig.publish(usize::try_from(EVENTS).unwrap());
        let mut source = rig.open().await.unwrap();
        let mut received = 0;
        while received < EVENTS {
            let batch = source.next_batch(LIMITS).await.unwrap();
            assert!(
                !batch.events.is_empty(),
                "stalled at {received} with credit {credit}"
            );
            received += batch.events.len() as u64;
        }
        source.close().await;
        rig.emulator.stop().await;
        let ranges = EVENTS / u64::from(credit / 4).max(1);
        let dispositions = rig.hub.counters().dispositions_received;
        assert!(
            (ranges - 1..=ranges).contains(&dispositions),
            "{dispositions} dispositions at credit {credit}, not {ranges}"
        );
    }
}

/// A client of a port where something else listens, or nothing.
fn client_of(port: u16) -> AmqpHub {
    let config = AmqpConfig {
        endpoint: Some(format!("amqp://127.0.0.1:{port}")),
        hub: Some(HUB.to_owned()),
        ..AmqpConfig::default()
    };
    AmqpHub::new(&config).unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable_by_name() {
    let (listener, port) = listen().await;
    drop(listener);
    let error = client_of(port).properties().await.unwrap_err();
    assert!(
        matches!(&error, HubError::Unreachable { peer, .. } if peer.ends_with(&port.to_string()))
    );
    assert_eq!(error.kind(), FailureKind::Transient);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_called_once() {
    let (listener, port) = listen().await;
    let accepting = tokio::spawn(async move {
        let mut calls = 0;
        loop {
            drop(listener.accept().await);
            calls += 1;
            if calls == 2 {
                return;
            }
        }
    });
    let error = client_of(port).properties().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Transient, "{error:?}");
    // Only the second call, made here, lets the peer end.
    assert!(!accepting.is_finished());
    drop(tokio::net::TcpStream::connect(("127.0.0.1", port)).await);
    accepting.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_is_not_event_hubs_is_called_so() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        // Held open: the answer alone must be enough.
        std::future::pending::<()>().await;
    });
    let error = client_of(port).properties().await.unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error:?}");
    assert_eq!(error.kind(), FailureKind::Permanent);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let (_listener, port) = listen().await;
    let error = client_of(port).properties().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Transient, "{error:?}");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let rig = Rig::start(1_000).await;
    let mut source = rig.open().await.unwrap();
    rig.hub.faults().freeze(true);
    // From here on time passes only for who waits for it, so the idle timeout is over at once.
    tokio::time::pause();
    let limits = BatchLimits {
        wait_max: Duration::from_secs(24 * 3_600),
        ..LIMITS
    };
    let error = source.next_batch(limits).await.unwrap_err();
    assert!(
        matches!(error, HubError::ConnectionLost { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_hub_that_does_not_exist_is_named() {
    let rig = Rig::start(10).await;
    let config = AmqpConfig::default();
    let connection_string = rig.emulator.connection_string("elsewhere");
    let client = AmqpHub::with_connection_string(&config, &connection_string).unwrap();
    for error in [
        client.properties().await.unwrap_err(),
        client.partition_properties(p(0)).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("elsewhere"), "{error}");
        assert!(matches!(error, HubError::NotFound { .. }), "{error:?}");
    }
}

#[test]
fn a_config_that_names_no_hub_or_no_place_is_refused_by_its_key() {
    let keyed = "Endpoint=sb://ns/;SharedAccessKeyName=n;SharedAccessKey=hunter2";
    let with_entity = format!("{keyed};EntityPath=telemetry");
    let named = |hub: &str| AmqpConfig {
        hub: Some(hub.to_owned()),
        ..AmqpConfig::default()
    };
    let in_the_clear = AmqpConfig {
        endpoint: Some("amqp://127.0.0.1".to_owned()),
        ..named("telemetry")
    };
    let table = [
        (
            "hub",
            AmqpHub::with_connection_string(&AmqpConfig::default(), keyed),
        ),
        (
            "hub",
            AmqpHub::with_connection_string(&named("other"), &with_entity),
        ),
        (
            "endpoint",
            AmqpHub::with_connection_string(&in_the_clear, keyed),
        ),
        ("connection-string-env", AmqpHub::new(&named("telemetry"))),
    ];
    for (expected, made) in table {
        let error = made.unwrap_err();
        assert!(
            matches!(&error, HubError::BadConfig { key, .. } if *key == expected),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn nothing_that_is_shown_holds_the_secret() {
    let keyed = "Endpoint=sb://ns/;SharedAccessKeyName=n;SharedAccessKey=hunter2;EntityPath=h";
    let client = AmqpHub::with_connection_string(&AmqpConfig::default(), keyed).unwrap();
    let shown = format!("{client:?}");
    assert!(shown.contains("ns:5671"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
