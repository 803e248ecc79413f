mod client;
mod faults;
mod fuzz;
mod nodes;
mod socket;

use std::sync::atomic::Ordering;

use self::client::{Client, Said, World};
use super::super::config::{EmulatorConfig, HubConfig, Limits, Retention};
use super::super::message::BATCH_FORMAT;
use crate::amqp::performative::{Flow, Performative, Role};
use crate::amqp::{code, encode as put, frame};

/// A message whose body is `body`.
fn message(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put::descriptor(&mut out, code::DATA);
    put::binary(&mut out, body);
    out
}

fn detached(condition: &str) -> Said {
    Said::Over(code::DETACH, Some(condition.to_owned()))
}

fn world() -> World {
    World::new(HubConfig::default())
}

#[test]
fn sasl_comes_first_and_its_mechanisms_are_offered() {
    let mut client = Client::raw(&world());
    client.bytes(&frame::SASL_HEADER);
    assert!(client.output.starts_with(&frame::SASL_HEADER));
    for name in ["MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"] {
        let offered = client
            .output
            .windows(name.len())
            .any(|w| w == name.as_bytes());
        assert!(offered, "{name}");
    }
    client.output.clear();
    let mut init = Vec::new();
    frame::put(&mut init, frame::FrameKind::Sasl, 0, |out| {
        put::descriptor(out, code::SASL_INIT);
        put::list(out, 1, |out| put::symbol(out, "PLAIN"));
    });
    client.bytes(&init);
    client.output.clear();
    client.bytes(&frame::AMQP_HEADER);
    assert_eq!(client.output, frame::AMQP_HEADER);
    client.output.clear();
    client.begin(100);
    assert!(!client.engine.is_done());
}

#[test]
fn an_unknown_protocol_is_told_a_known_one_and_closed() {
    let mut client = Client::raw(&world());
    client.bytes(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.output, frame::SASL_HEADER);
    assert!(client.engine.is_done());
}

#[test]
fn a_receiver_gets_what_its_credit_allows_in_order() {
    let world = world();
    world.publish(0, 10, 20);
    let mut client = world.connect();
    client.receive(0, None);
    assert_eq!(client.sequences(), [0_i64; 0]);
    client.credit(0, 4);
    assert_eq!(client.sequences(), [0, 1, 2, 3]);
    client.credit(0, 5);
    assert_eq!(client.sequences(), [4]);
    client.credit(0, 100);
    assert_eq!(client.sequences(), [5, 6, 7, 8, 9]);
    world.publish(0, 1, 20);
    client.pump();
    assert_eq!(client.sequences(), [10]);
    assert_eq!(world.hub.counters().events_sent, 11);
}

#[test]
fn a_receiver_that_read_everything_is_woken_by_the_next_event() {
    let world = world();
    let mut client = world.connect();
    client.receive(0, None);
    client.credit(0, 10);
    let woken = |client: &Client| {
        let signal = std::sync::Arc::clone(&client.signal);
        futures_poll(&signal)
    };
    while woken(&client) {}
    world.publish(1, 1, 1);
    assert!(!woken(&client), "another partition's event");
    world.publish(0, 1, 1);
    assert!(woken(&client));
}

/// Whether somebody woke the connection; takes the wake.
fn futures_poll(signal: &super::super::signal::Signal) -> bool {
    let mut woken = std::pin::pin!(signal.woken());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::future::Future::poll(woken.as_mut(), &mut context).is_ready()
}

#[test]
fn a_session_window_holds_transfers_back_until_it_opens() {
    let world = world();
    world.publish(0, 5, 20);
    let mut client = Client::raw(&world);
    client.bytes(&frame::AMQP_HEADER);
    client.output.clear();
    client.begin(2);
    client.receive(0, None);
    let mut flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 2,
        handle: Some(0),
        delivery_count: Some(0),
        link_credit: Some(100),
        ..Flow::default()
    };
    client.flow(&flow);
    assert_eq!(client.sequences(), [0, 1]);
    flow.next_incoming_id = Some(2);
    client.flow(&flow);
    assert_eq!(client.sequences(), [2, 3]);
}

#[test]
fn a_large_event_crosses_in_many_frames_and_small_ones_follow() {
    let world = world();
    world.publish(0, 1, 700_000);
    world.publish(0, 1, 3);
    let mut client = world.connect();
    client.receive(0, None);
    client.credit(0, 10);
    let deliveries = client.deliveries();
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries[0].ends_with(&[7; 1_000]) && deliveries[0].len() > 700_000);
    assert!(deliveries[1].len() < 200);
}

#[test]
fn a_drained_link_gives_its_credit_back() {
    let world = world();
    world.publish(0, 3, 1);
    let mut client = world.connect();
    client.receive(0, None);
    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        handle: Some(0),
        delivery_count: Some(0),
        link_credit: Some(10),
        drain: true,
        ..Flow::default()
    };
    client.flow(&flow);
    let said = client.said();
    let Some(Said::Frame(Performative::Flow(answer))) = said.last() else {
        panic!("{said:?}")
    };
    assert_eq!(
        (answer.delivery_count, answer.link_credit),
        (Some(10), Some(0))
    );
    assert!(answer.drain);
    assert_eq!(said.len(), 4);
    world.publish(0, 1, 1);
    client.pump();
    assert_eq!(client.said(), []);
}

#[test]
fn positions_start_where_the_selector_says() {
    let world = world();
    world.publish(0, 10, 1);
    let mut client = world.connect();
    let address = "telemetry/ConsumerGroups/$Default/Partitions/0";
    for (handle, filter, first) in [
        (0, "amqp.annotation.x-opt-sequence-number > '6'", Some(7)),
        (1, "amqp.annotation.x-opt-sequence-number >= '6'", Some(6)),
        (2, "amqp.annotation.x-opt-offset > '-1'", Some(0)),
        (3, "amqp.annotation.x-opt-offset > '@latest'", None),
        (4, "amqp.annotation.x-opt-enqueued-time > '0'", Some(0)),
    ] {
        client.attach(handle, Role::Receiver, address, Some(filter), None);
        client.credit(handle, 1);
        assert_eq!(client.sequences().first().copied(), first, "{filter}");
    }
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_services_condition() {
    let world = world();
    world.publish(0, 3, 1);
    let mut client = world.connect();
    let group = "telemetry/ConsumerGroups";
    let receiver = |group: &str, partition: &str| format!("{group}/Partitions/{partition}");
    let known = receiver(&format!("{group}/$Default"), "0");
    for (handle, role, address, filter, condition) in [
        (
            0,
            Role::Receiver,
            receiver("other/ConsumerGroups/$Default", "0"),
            None,
            "amqp:not-found",
        ),
        (
            1,
            Role::Receiver,
            receiver(&format!("{group}/none"), "0"),
            None,
            "amqp:not-found",
        ),
        (
            2,
            Role::Receiver,
            receiver(&format!("{group}/$Default"), "9"),
            None,
            "com.microsoft:argument-out-of-range",
        ),
        (
            3,
            Role::Receiver,
            known.clone(),
            Some("nonsense"),
            "com.microsoft:argument-error",
        ),
        (
            4,
            Role::Receiver,
            known,
            Some("amqp.annotation.x-opt-sequence-number > '3'"),
            "com.microsoft:argument-error",
        ),
        (5, Role::Sender, "other".to_owned(), None, "amqp:not-found"),
        (
            6,
            Role::Sender,
            "telemetry/Partitions/x".to_owned(),
            None,
            "com.microsoft:argument-out-of-range",
        ),
        (
            7,
            Role::Receiver,
            "telemetry".to_owned(),
            None,
            "amqp:not-found",
        ),
    ] {
        let said = client.attach(handle, role, &address, filter, None);
        assert!(
            matches!(&said[0], Said::Frame(Performative::Attach(_))),
            "{address}"
        );
        assert_eq!(said[1..], [detached(condition)], "{address}");
    }
    assert_eq!(world.hub.counters().attaches_refused, 5);
}

#[test]
fn a_higher_owner_takes_the_partition_and_the_lower_is_refused() {
    let world = world();
    world.publish(0, 2, 1);
    let (mut first, mut second) = (world.connect(), world.connect());
    first.receive(0, Some(1));
    first.credit(0, 10);
    assert_eq!(first.sequences(), [0, 1]);
    second.receive(0, Some(2));
    first.pump();
    assert_eq!(first.said(), [detached("amqp:link:stolen")]);
    // The displaced client answers the detach, and comes back with its old level, or with none.
    first.frame(|out| crate::amqp::performative::put_detach(out, 0, true, None));
    assert_eq!(first.said(), []);
    for level in [Some(1), None] {
        let said = first.receive(0, level);
        assert_eq!(said[1..], [detached("amqp:link:stolen")]);
        first.frame(|out| crate::amqp::performative::put_detach(out, 0, true, None));
    }
    second.credit(0, 10);
    assert_eq!(second.sequences(), [0, 1]);
    assert_eq!(world.hub.counters().receivers_displaced, 1);
    // When the owner leaves, anyone may read.
    drop(second);
    assert_eq!(first.receive(0, None).len(), 1);
}

#[test]
fn a_position_that_retention_took_begins_at_what_is_left() {
    let retention = Retention {
        events_max: 4,
        ..Retention::default()
    };
    let world = World::new(HubConfig {
        retention,
        ..HubConfig::default()
    });
    world.publish(0, 2, 1);
    let mut client = world.connect();
    client.receive(0, None);
    client.credit(0, 1);
    assert_eq!(client.sequences(), [0]);
    world.publish(0, 8, 1);
    client.credit(0, 100);
    assert_eq!(client.sequences(), [6, 7, 8, 9]);
    assert_eq!(world.hub.counters().events_missed, 5);
    world.hub.expire_before(0, 9);
    assert_eq!(
        (world.hub.first_sequence(0), world.hub.last_sequence(0)),
        (9, 9)
    );
    client.receive(1, None);
    client.credit(1, 10);
    assert_eq!(client.sequences(), [9]);
    world
        .clock_us
        .fetch_add(48 * 3_600 * 1_000_000, Ordering::Relaxed);
    client.receive(2, None);
    client.credit(2, 10);
    assert_eq!(client.sequences(), [0_i64; 0]);
}

#[test]
fn a_hub_that_was_made_anew_ends_its_links_and_restarts_its_sequences() {
    let world = world();
    world.publish(0, 5, 1);
    let created = world.hub.created_at_ms();
    let mut client = world.connect();
    client.receive(0, None);
    client.attach(1, Role::Sender, "telemetry", None, None);
    world.hub.recreate();
    client.pump();
    let deleted = detached("amqp:resource-deleted");
    assert_eq!(client.said(), [deleted.clone(), deleted]);
    assert!(world.hub.created_at_ms() > created);
    assert_eq!(world.hub.last_sequence(0), -1);
    world.publish(0, 1, 1);
    client.receive(2, None);
    client.credit(2, 10);
    assert_eq!(client.sequences(), [0]);
}

#[test]
fn a_sender_is_told_of_every_delivery_and_batches_are_opened() {
    let world = world();
    let mut client = world.connect();
    let said = client.attach(0, Role::Sender, "telemetry/Partitions/2", None, None);
    let Some(Said::Frame(Performative::Flow(flow))) = said.last() else {
        panic!("{said:?}")
    };
    assert_eq!((flow.handle, flow.link_credit), (Some(0), Some(1_000)));
    client.transfer(0, 0, 0, false, &message(b"single"));
    assert_eq!(client.said(), [Said::Outcome(0, 0, "accepted")]);
    let batch: Vec<u8> = (0..3_u8).flat_map(|n| message(&message(&[n]))).collect();
    client.transfer(0, 1, BATCH_FORMAT, false, &batch);
    assert_eq!(client.said(), [Said::Outcome(1, 1, "accepted")]);
    assert_eq!(world.hub.last_sequence(2), 3);
    client.transfer(0, 2, BATCH_FORMAT, false, &message(b"not a message"));
    assert_eq!(client.said(), [Said::Outcome(2, 2, "rejected")]);
    assert_eq!(world.hub.last_sequence(2), 3);
    let counters = world.hub.counters();
    assert_eq!(
        (counters.deliveries_received, counters.events_stored),
        (3, 4)
    );
}

#[test]
fn consecutive_deliveries_share_one_answer_and_credit_is_topped_up() {
    let world = world();
    let mut client = world.connect();
    client.attach(0, Role::Sender, "telemetry", None, None);
    let mut bytes = Vec::new();
    for id in 0..600_u32 {
        frame::put(&mut bytes, frame::FrameKind::Amqp, 0, |out| {
            put::descriptor(out, code::TRANSFER);
            put::list(out, 4, |out| {
                put::uint(out, 0);
                put::uint(out, id);
                put::binary(out, b"tag");
                put::uint(out, 0);
            });
            out.extend_from_slice(&message(b"x"));
        });
    }
    client.bytes(&bytes);
    let said = client.said();
    assert!(
        said.contains(&Said::Outcome(0, 599, "accepted")),
        "{said:?}"
    );
    let granted = said.iter().any(|said| {
        matches!(said, Said::Frame(Performative::Flow(flow)) if flow.link_credit == Some(1_000))
    });
    assert!(granted, "{said:?}");
    // Without key or partition the hub goes round.
    let sequences: Vec<i64> = (0..4).map(|id| world.hub.last_sequence(id)).collect();
    assert_eq!(sequences, [149; 4]);
}

#[test]
fn a_message_above_the_limit_detaches_its_link_only() {
    let limits = Limits {
        message_bytes_max: 10_000,
        ..Limits::default()
    };
    let hubs = vec![HubConfig::default()];
    let world = World::with(EmulatorConfig {
        limits,
        hubs,
        ..EmulatorConfig::default()
    });
    let mut client = world.connect();
    client.attach(0, Role::Sender, "telemetry", None, None);
    client.attach(1, Role::Sender, "telemetry", None, None);
    client.transfer(0, 0, 0, true, &[0; 6_000]);
    client.transfer(0, 0, 0, true, &[0; 6_000]);
    assert_eq!(client.said(), [detached("amqp:link:message-size-exceeded")]);
    client.transfer(0, 0, 0, false, &[0; 6_000]);
    client.transfer(1, 1, 0, false, &message(b"small"));
    assert_eq!(client.said(), [Said::Outcome(1, 1, "accepted")]);
}

#[test]
fn ends_are_answered_in_every_order() {
    let world = world();
    let mut client = world.connect();
    client.receive(0, None);
    client.frame(|out| crate::amqp::performative::put_end(out, None));
    assert_eq!(client.said(), [Said::Over(code::END, None)]);
    client.session(10);
    client.receive(0, Some(1));
    // A session's error ends the session, and its links with it; the connection goes on.
    client.flow(&Flow {
        handle: Some(7),
        ..Flow::default()
    });
    let unattached = Some("amqp:session:unattached-handle".to_owned());
    assert_eq!(client.said(), [Said::Over(code::END, unattached)]);
    client.transfer(0, 0, 0, false, b"late");
    assert_eq!(client.said(), []);
    client.frame(|out| crate::amqp::performative::put_end(out, None));
    assert_eq!(client.said(), []);
    client.frame(|out| crate::amqp::performative::put_close(out, None));
    assert_eq!(client.said(), [Said::Over(code::CLOSE, None)]);
    assert!(client.engine.is_done());
}

#[test]
fn a_connections_error_is_named_and_then_only_its_close_is_waited_for() {
    let world = world();
    let mut client = world.connect();
    client.frame(|out| out.extend_from_slice(&[0x00, 0x53, 0x99, 0x45]));
    let decode = Some("amqp:decode-error".to_owned());
    assert_eq!(client.said(), [Said::Over(code::CLOSE, decode)]);
    client.receive(0, None);
    assert_eq!(client.said(), []);
    assert!(client.engine.is_closing() && !client.engine.is_done());
    client.frame(|out| crate::amqp::performative::put_close(out, None));
    assert!(client.engine.is_done());
}

#[test]
fn links_and_sessions_have_limits() {
    let limits = Limits {
        links_max: 2,
        sessions_max: 1,
        ..Limits::default()
    };
    let hubs = vec![HubConfig::default()];
    let world = World::with(EmulatorConfig {
        limits,
        hubs,
        ..EmulatorConfig::default()
    });
    let mut client = world.connect();
    assert_eq!(client.receive(1, None).len(), 1);
    let said = client.receive(2, None);
    let framing = Some("amqp:connection:framing-error".to_owned());
    assert_eq!(said, [Said::Over(code::CLOSE, framing)]);
    let mut client = world.connect();
    assert_eq!(client.receive(1, None).len(), 1);
    let in_use = Some("amqp:session:handle-in-use".to_owned());
    assert_eq!(client.receive(1, None), [Said::Over(code::END, in_use)]);
}
