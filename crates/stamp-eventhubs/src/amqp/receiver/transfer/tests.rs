use fe2o3_amqp_types::definitions::{Handle, ReceiverSettleMode};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Received};
use fe2o3_amqp_types::performatives::Transfer as Other;
use fe2o3_amqp_types::primitives::Binary;
use proptest::prelude::*;

use super::{Transfer, descriptor, read};

fn read_whole(body: &[u8]) -> Result<Transfer, &'static str> {
    let at = descriptor(body).expect("it is a transfer");
    read(body, at).map_err(|malformed| malformed.0)
}

fn other() -> impl Strategy<Value = Other> {
    let first = (
        any::<u32>(),
        any::<Option<u32>>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..32)),
        any::<Option<u32>>(),
        any::<Option<bool>>(),
        any::<bool>(),
    );
    let second = (any::<Option<bool>>(), 0_u8..3, any::<[bool; 3]>());
    (first, second).prop_map(
        |(first, (mode, state, [resume, aborted, batchable]))| Other {
            handle: Handle(first.0),
            delivery_id: first.1,
            delivery_tag: first.2.map(Binary::from),
            message_format: first.3,
            settled: first.4,
            more: first.5,
            rcv_settle_mode: mode.map(|second| match second {
                true => ReceiverSettleMode::Second,
                false => ReceiverSettleMode::First,
            }),
            state: match state {
                0 => None,
                1 => Some(DeliveryState::Accepted(Accepted {})),
                _ => Some(DeliveryState::Received(Received {
                    section_number: 1,
                    section_offset: u64::MAX,
                })),
            },
            resume,
            aborted,
            batchable,
        },
    )
}

proptest! {
    #[test]
    fn a_transfer_that_the_other_library_writes_is_read_as_it_was(
        other in other(),
        payload in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut body = serde_amqp::to_vec(&other).unwrap();
        let payload_at = body.len();
        body.extend(payload);
        let expected = Transfer {
            handle: other.handle.0,
            delivery_id: other.delivery_id,
            settled: other.settled.unwrap_or(false),
            more: other.more,
            aborted: other.aborted,
            payload_at,
        };
        prop_assert_eq!(read_whole(&body), Ok(expected));
    }

    #[test]
    fn no_bytes_make_it_panic_or_look_behind_the_end(
        rest in prop::collection::vec(any::<u8>(), 0..60),
        small in any::<bool>(),
    ) {
        let head: &[u8] = if small { &[0x00, 0x53, 0x14, 0xc0, 20, 11] } else { &[0x00, 0x53, 0x14] };
        let body = [head, &rest].concat();
        if let Ok(transfer) = read_whole(&body) {
            prop_assert!(transfer.payload_at <= body.len());
        }
    }
}

#[test]
fn every_form_of_the_descriptor_is_known_and_no_other() {
    let fields = [0xc0, 3, 1, 0x52, 7];
    let forms: [&[u8]; 3] = [
        &[0x00, 0x53, 0x14],
        &[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x14],
        b"\x00\xa3\x12amqp:transfer:list",
    ];
    for form in forms {
        let body = [form, &fields].concat();
        assert_eq!(descriptor(&body), Some(form.len()));
        assert_eq!(read_whole(&body).unwrap().handle, 7);
    }
    assert_eq!(descriptor(&[0x00, 0x53, 0x13, 0x45]), None);
    assert_eq!(descriptor(&[]), None);
}

#[test]
fn a_transfer_that_is_not_one_says_why() {
    let table: [(&[u8], &str); 7] = [
        (&[], "not a list"),
        (&[0x45], "names no link"),
        (&[0xc0, 0, 0], "not a list"),
        (&[0xc0, 9, 1, 0x43], "longer than its frame"),
        (&[0xc0, 2, 1, 0x41], "wrong type"),
        (&[0xc0, 2, 1, 0x70], "longer than the transfer"),
        (
            &[0xc0, 5, 3, 0x43, 0x43, 0xa0, 9],
            "longer than the transfer",
        ),
    ];
    for (fields, expected) in table {
        let body = [&[0x00, 0x53, 0x14], fields].concat();
        let why = read_whole(&body).unwrap_err();
        assert!(why.contains(expected), "{fields:x?}: {why}");
    }
}
