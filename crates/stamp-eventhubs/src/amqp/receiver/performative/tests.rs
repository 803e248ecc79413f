use fe2o3_amqp_types::definitions::{
    AmqpError, ConnectionError, Error, ErrorCondition, Handle, LinkError, Role, SessionError,
};
use fe2o3_amqp_types::messaging::{
    Accepted, DeliveryState, Rejected, Source, Target, TargetArchetype,
};
use fe2o3_amqp_types::performatives::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, MaxFrameSize, Open,
};
use fe2o3_amqp_types::primitives::{Array, Symbol, Value};
use fe2o3_amqp_types::sasl::{SaslCode, SaslMechanisms, SaslOutcome};
use proptest::prelude::*;
use serde::Serialize;

use super::{Performative, Said, read};

/// Writes with the other library, reads with ours, and looks.
fn check(said: &impl Serialize, expected: &Performative<'_>) {
    let body = serde_amqp::to_vec(said).unwrap();
    assert_eq!(read(&body).as_ref(), Ok(expected), "{body:x?}");
}

fn error(condition: ErrorCondition, description: Option<&str>) -> Error {
    Error::new(condition, description.map(str::to_owned), None)
}

#[test]
fn what_the_other_library_writes_of_a_connection_is_read_as_it_was() {
    let mut open = Open {
        container_id: "hub".to_owned(),
        hostname: None,
        max_frame_size: MaxFrameSize(65_536),
        channel_max: 4_999.into(),
        idle_time_out: Some(240_000),
        outgoing_locales: None,
        incoming_locales: None,
        offered_capabilities: Some(Array(vec![Symbol::from("x")])),
        desired_capabilities: None,
        properties: Some(
            [(Symbol::from("product"), Value::Int(7))]
                .into_iter()
                .collect(),
        ),
    };
    check(
        &open,
        &Performative::Open {
            frame_bytes_max: 65_536,
            idle_ms: 240_000,
        },
    );
    open.max_frame_size = MaxFrameSize::default();
    open.idle_time_out = None;
    check(
        &open,
        &Performative::Open {
            frame_bytes_max: u32::MAX,
            idle_ms: 0,
        },
    );
    let begin = Begin {
        remote_channel: Some(0),
        next_outgoing_id: u32::MAX,
        incoming_window: 2_048,
        outgoing_window: 2_048,
        handle_max: Handle(255),
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
    };
    check(
        &begin,
        &Performative::Begin {
            remote_channel: Some(0),
            next_outgoing_id: u32::MAX,
            incoming_window: 2_048,
        },
    );
    let offered = ["MSSBCBS", "ANONYMOUS"].map(Symbol::from).to_vec();
    for (offered, anonymous) in [(offered, true), (vec![Symbol::from("PLAIN")], false)] {
        let mechanisms = SaslMechanisms {
            sasl_server_mechanisms: Array(offered),
        };
        check(&mechanisms, &Performative::Mechanisms { anonymous });
    }
    let outcome = SaslOutcome {
        code: SaslCode::Auth,
        additional_data: None,
    };
    check(&outcome, &Performative::Outcome { code: 1 });
}

#[test]
fn a_link_is_refused_without_a_source_and_names_the_filters_in_force() {
    let filters = [
        (Symbol::from("taken"), Value::String("x".to_owned())),
        (Symbol::from("left out"), Value::Null),
    ];
    let source = Source::builder()
        .address("hub")
        .filter(filters.into_iter().collect())
        .build();
    let table = [
        (Some(source), Some(vec![b"taken".as_slice()])),
        (
            Some(Source::builder().address("hub").build()),
            Some(Vec::new()),
        ),
        (None, None),
    ];
    for (source, filters) in table {
        let attach = Attach {
            name: "link".to_owned(),
            handle: Handle(9),
            role: Role::Sender,
            snd_settle_mode: Default::default(),
            rcv_settle_mode: Default::default(),
            source: source.map(Box::new),
            target: Some(Box::new(TargetArchetype::Target(Target::default()))),
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: Some(u32::MAX),
            max_message_size: Some(1 << 20),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        };
        check(
            &attach,
            &Performative::Attach {
                name: b"link",
                handle: 9,
                filters,
                target: true,
                initial_delivery_count: u32::MAX,
            },
        );
    }
}

#[test]
fn every_condition_is_read_by_its_name() {
    let conditions: [(ErrorCondition, &str); 6] = [
        (LinkError::Stolen.into(), "amqp:link:stolen"),
        (LinkError::DetachForced.into(), "amqp:link:detach-forced"),
        (
            AmqpError::UnauthorizedAccess.into(),
            "amqp:unauthorized-access",
        ),
        (
            ConnectionError::ConnectionForced.into(),
            "amqp:connection:forced",
        ),
        (
            SessionError::WindowViolation.into(),
            "amqp:session:window-violation",
        ),
        (
            ErrorCondition::Custom(Symbol::from("com.microsoft:server-busy")),
            "com.microsoft:server-busy",
        ),
    ];
    for (condition, name) in conditions {
        for description in [Some("why"), None] {
            let said = Some(Said {
                condition: name.to_owned(),
                description: description.map(str::to_owned),
            });
            let error = Some(error(condition.clone(), description));
            let detach = Detach {
                handle: Handle(3),
                closed: true,
                error: error.clone(),
            };
            check(
                &detach,
                &Performative::Detach {
                    handle: 3,
                    error: said.clone(),
                },
            );
            check(
                &End {
                    error: error.clone(),
                },
                &Performative::End {
                    error: said.clone(),
                },
            );
            check(&Close { error }, &Performative::Close { error: said });
        }
    }
    check(&Close { error: None }, &Performative::Close { error: None });
}

#[test]
fn a_rejection_is_told_from_an_acceptance() {
    let accepted = DeliveryState::Accepted(Accepted {});
    let rejected = |error| DeliveryState::Rejected(Rejected { error });
    let said = |condition: &str| {
        Some(Said {
            condition: condition.to_owned(),
            description: None,
        })
    };
    let denied = error(AmqpError::NotAllowed.into(), None);
    let table = [
        (None, None),
        (Some(accepted), None),
        (Some(rejected(None)), said("amqp:rejected")),
        (Some(rejected(Some(denied))), said("amqp:not-allowed")),
    ];
    for (state, rejected) in table {
        let disposition = Disposition {
            role: Role::Receiver,
            first: 4,
            last: None,
            settled: true,
            state,
            batchable: false,
        };
        check(
            &disposition,
            &Performative::Disposition {
                by_receiver: true,
                first: 4,
                last: 4,
                rejected,
            },
        );
    }
}

proptest! {
    #[test]
    fn a_flow_that_the_other_library_writes_is_read_as_it_was(
        next_incoming_id in any::<Option<u32>>(),
        incoming_window in any::<u32>(),
        handle in any::<Option<u32>>(),
        delivery_count in any::<Option<u32>>(),
        link_credit in any::<Option<u32>>(),
        echo in any::<bool>(),
    ) {
        let flow = Flow {
            next_incoming_id,
            incoming_window,
            next_outgoing_id: 1,
            outgoing_window: 2,
            handle: handle.map(Handle),
            delivery_count,
            link_credit,
            available: Some(3),
            drain: true,
            echo,
            properties: None,
        };
        check(&flow, &Performative::Flow {
            next_incoming_id,
            incoming_window,
            handle,
            delivery_count,
            link_credit: link_credit.unwrap_or(0),
            echo,
        });
    }

    #[test]
    fn no_bytes_make_it_panic(code in 0x10_u8..0x50, body in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&body);
        let _ = read(&[&[0x00, 0x53, code, 0xc0, 60, 11], body.as_slice()].concat());
    }
}
