//! Fault hooks as a client sees them.

use std::time::Duration;

use super::client::{Client, Said, World};
use super::{detached, message, world};
use crate::amqp::code;
use crate::amqp::frame;
use crate::amqp::performative::{Flow, Performative, Role};
use crate::eventhubs::faults::Refusal;

fn receiving(world: &World) -> super::client::Client {
    let mut client = world.connect();
    client.receive(0, Some(1));
    client.credit(0, 1_000);
    client
}

#[test]
fn a_link_is_dropped_after_exactly_so_many_events() {
    let world = world();
    let mut client = receiving(&world);
    world
        .hub
        .faults()
        .drop_link_after(0, 3, &Refusal::server_busy());
    world.publish(0, 10, 1);
    client.pump();
    let said = client.said();
    assert_eq!(said.len(), 4);
    assert_eq!(said[3], detached("com.microsoft:server-busy"));
    client.frame(|out| crate::amqp::performative::put_detach(out, 0, true, None));
    client.receive(0, Some(1));
    client.credit(0, 1_000);
    assert_eq!(client.sequences().len(), 10, "once only");
}

#[test]
fn a_connection_is_cut_after_exactly_so_many_events_and_they_arrive() {
    let world = world();
    let mut client = receiving(&world);
    world.hub.faults().drop_connection_after(0, 3);
    world.publish(0, 10, 1);
    client.pump();
    assert_eq!(client.sequences(), [0, 1, 2]);
    assert!(client.engine.is_done());
    let mut client = receiving(&world);
    assert_eq!(client.sequences().len(), 10);
}

#[test]
fn the_last_event_before_a_cut_arrives_whole() {
    let world = world();
    let mut client = Client::raw(&world);
    client.bytes(&frame::AMQP_HEADER);
    client.output.clear();
    client.begin(4);
    client.receive(0, None);
    world.publish(0, 3, 200_000);
    world.hub.faults().drop_connection_after(0, 2);
    // Two events of four frames each, through a window of four frames.
    let mut flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 4,
        handle: Some(0),
        delivery_count: Some(0),
        link_credit: Some(10),
        ..Flow::default()
    };
    client.flow(&flow);
    assert_eq!(client.sequences(), [0]);
    flow.next_incoming_id = Some(4);
    flow.incoming_window = 3;
    client.flow(&flow);
    assert!(
        !client.engine.is_done(),
        "the second event is not whole yet"
    );
    flow.next_incoming_id = Some(7);
    client.flow(&flow);
    assert_eq!(client.sequences(), [1]);
    assert!(client.engine.is_done());
    assert_eq!(world.hub.counters().events_sent, 2);
}

#[test]
fn attaches_are_refused_as_often_as_asked() {
    let world = world();
    world.hub.faults().refuse_attach(2, Refusal::unauthorized());
    let mut client = world.connect();
    let refused = detached("amqp:unauthorized-access");
    assert_eq!(
        client.receive(0, None)[1..],
        std::slice::from_ref(&refused)[..]
    );
    assert_eq!(
        client.attach(1, Role::Sender, "telemetry", None, None)[1..],
        [refused]
    );
    assert_eq!(client.receive(2, None).len(), 1);
    let counters = world.hub.counters();
    assert_eq!(
        (counters.receiver_attaches, counters.sender_attaches),
        (2, 1)
    );
    assert_eq!(counters.attaches_refused, 2);
}

#[test]
fn a_displaced_receiver_is_told_as_by_a_new_owner() {
    let world = world();
    let mut client = receiving(&world);
    assert_eq!(world.hub.faults().displace(0, "$Default"), 1);
    client.pump();
    assert_eq!(client.said(), [detached("amqp:link:stolen")]);
    assert_eq!(world.hub.faults().displace(0, "$Default"), 0);
}

#[test]
fn delayed_bursts_wait_for_their_time() {
    let world = world();
    let mut client = receiving(&world);
    world
        .hub
        .faults()
        .delay_transfers(Duration::from_millis(50));
    world.publish(0, 2, 1);
    client.pump();
    assert_eq!(client.sequences(), [0_i64; 0]);
    let due = client.engine.deadline().unwrap();
    assert_eq!(due, client.now + Duration::from_millis(50));
    client.now += Duration::from_millis(49);
    client.pump();
    assert_eq!(client.sequences(), [0_i64; 0]);
    client.now = due;
    client.pump();
    assert_eq!(client.sequences(), [0, 1]);
    assert_eq!(client.engine.deadline(), None);
    world.hub.faults().clear();
    world.publish(0, 1, 1);
    client.pump();
    assert_eq!(client.sequences(), [2]);
}

#[test]
fn a_hub_that_stopped_sending_goes_on_where_it_was() {
    let world = world();
    let mut client = receiving(&world);
    world.hub.faults().stop_sending(true);
    world.publish(0, 3, 1);
    client.pump();
    assert_eq!(client.said(), []);
    world.hub.faults().stop_sending(false);
    client.pump();
    assert_eq!(client.sequences(), [0, 1, 2]);
}

#[test]
fn a_lost_reply_leaves_the_event_stored() {
    let world = world();
    let mut client = world.connect();
    client.attach(0, Role::Sender, "telemetry/Partitions/0", None, None);
    world.hub.faults().lose_send_replies(1);
    client.transfer(0, 0, 0, false, &message(b"x"));
    assert_eq!(client.said(), []);
    assert!(client.engine.is_done());
    assert_eq!(world.hub.last_sequence(0), 0);
}

#[test]
fn a_refused_send_is_rejected_and_not_stored() {
    let world = world();
    let mut client = world.connect();
    client.attach(0, Role::Sender, "telemetry/Partitions/0", None, None);
    world.hub.faults().refuse_sends(1, Refusal::server_busy());
    client.transfer(0, 0, 0, false, &message(b"x"));
    client.transfer(0, 1, 0, false, &message(b"y"));
    let outcomes = [
        Said::Outcome(0, 0, "rejected"),
        Said::Outcome(1, 1, "accepted"),
    ];
    assert_eq!(client.said(), outcomes);
    assert_eq!(world.hub.last_sequence(0), 0);
}

#[test]
fn connections_that_use_the_hub_can_be_cut_or_frozen() {
    let world = world();
    let client = receiving(&world);
    let other = world.connect();
    world.hub.faults().freeze(true);
    assert!(client.engine.is_frozen() && !other.engine.is_frozen());
    world.hub.faults().clear();
    assert!(!client.engine.is_frozen());
    assert_eq!(world.hub.faults().drop_connections(), 1);
    assert!(client.signal.is_dropped() && !other.signal.is_dropped());
    assert_eq!(world.hub.counters().connections_opened, 1);
}

#[test]
fn a_stopped_emulator_says_so() {
    let world = world();
    let mut client = receiving(&world);
    let forced = crate::amqp::performative::AmqpError::new("amqp:connection:forced", "stop");
    client.engine.close(&forced);
    client.pump();
    let said = client.said();
    assert_eq!(
        said,
        [Said::Over(
            code::CLOSE,
            Some("amqp:connection:forced".to_owned())
        )]
    );
    assert!(
        !said
            .iter()
            .any(|said| matches!(said, Said::Frame(Performative::Close)))
    );
}
