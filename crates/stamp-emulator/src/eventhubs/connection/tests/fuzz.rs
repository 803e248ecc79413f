//! Bytes of an unknown peer never panic an engine and never grow it without bound.

use proptest::prelude::*;

use super::client::Client;
use super::{message, world};
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::performative::{self, Flow, Role};
use crate::amqp::{code, encode as put};

fn put_attach(out: &mut Vec<u8>, handle: u32, role: Role, address: &str) {
    put::descriptor(out, code::ATTACH);
    put::list(out, 7, |out| {
        put::string(out, address);
        put::uint(out, handle);
        put::boolean(out, role == Role::Receiver);
        put::ubyte(out, 2);
        put::ubyte(out, 0);
        for kind in [code::SOURCE, code::TARGET] {
            put::descriptor(out, kind);
            put::list(out, 1, |out| put::string(out, address));
        }
    });
}

/// Bytes of a client that does everything once.
fn a_whole_conversation() -> Vec<u8> {
    let mut bytes = frame::AMQP_HEADER.to_vec();
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
        frame::put(&mut bytes, FrameKind::Amqp, 0, fill);
    };
    add(&|out| {
        put::descriptor(out, code::OPEN);
        put::list(out, 1, |out| put::string(out, "c"));
    });
    add(&|out| {
        put::descriptor(out, code::BEGIN);
        put::list(out, 4, |out| {
            put::null(out);
            put::uint(out, 0);
            put::uint(out, 100);
            put::uint(out, 100);
        });
    });
    let links = [
        (0, Role::Sender, "telemetry/Partitions/0"),
        (
            1,
            Role::Receiver,
            "telemetry/ConsumerGroups/$Default/Partitions/0",
        ),
        (2, Role::Sender, "$management"),
        (3, Role::Receiver, "$cbs"),
    ];
    for (handle, role, address) in links {
        add(&|out| put_attach(out, handle, role, address));
    }
    let flow = |handle| Flow {
        incoming_window: 100,
        handle: Some(handle),
        link_credit: Some(10),
        drain: true,
        echo: true,
        ..Flow::default()
    };
    for handle in [1, 3] {
        add(&|out| performative::put_flow(out, &flow(handle)));
    }
    for (id, handle, format) in [(0, 0, 0), (1, 0, 0x8001_3700), (2, 2, 0)] {
        add(&|out| {
            put::descriptor(out, code::TRANSFER);
            put::list(out, 4, |out| {
                put::uint(out, handle);
                put::uint(out, id);
                put::binary(out, b"t");
                put::uint(out, format);
            });
            out.extend_from_slice(&message(&message(b"body")));
        });
    }
    add(&|out| {
        performative::put_disposition(
            out,
            Role::Receiver,
            (0, 5),
            &performative::Outcome::Accepted,
        );
    });
    add(&|out| performative::put_detach(out, 1, true, None));
    add(&|out| performative::put_end(out, None));
    add(&|out| performative::put_close(out, None));
    bytes
}

#[test]
fn the_conversation_itself_is_understood() {
    let world = world();
    let mut client = Client::raw(&world);
    client.bytes(&a_whole_conversation());
    assert!(client.engine.is_done());
    assert_eq!(world.hub.counters().events_stored, 2);
    assert_eq!(world.hub.counters().receiver_attaches, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut client = Client::raw(&world());
        client.bytes(&bytes);
    }

    #[test]
    fn random_bytes_after_the_header_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        sasl in any::<bool>(),
    ) {
        let mut client = Client::raw(&world());
        client.bytes(if sasl { &frame::SASL_HEADER } else { &frame::AMQP_HEADER });
        client.bytes(&bytes);
    }

    #[test]
    fn a_conversation_with_broken_bytes_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let world = world();
        let mut bytes = a_whole_conversation();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        let cut = cut.index(bytes.len());
        let mut client = Client::raw(&world);
        client.bytes(&bytes[..cut]);
        client.bytes(&bytes[cut..]);
        prop_assert!(client.output.len() < 1 << 20);
        // Whatever happened to that connection, the namespace serves the next one.
        let mut next = world.connect();
        prop_assert_eq!(next.receive(0, Some(1)).len(), 1);
    }
}
