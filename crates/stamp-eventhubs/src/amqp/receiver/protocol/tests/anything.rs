//! What holds whatever a hub does.

use proptest::prelude::*;

use super::*;

/// What a hub may do with a delivery.
#[derive(Debug, Clone)]
enum Act {
    Send {
        length: usize,
        frames: usize,
        settled: bool,
    },
    GiveUp,
    Beat,
    Echo,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..2_000, 1_usize..5, any::<bool>())
            .prop_map(|(length, frames, settled)| Act::Send { length, frames, settled }),
        1 => Just(Act::GiveUp),
        1 => Just(Act::Beat),
        1 => Just(Act::Echo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_a_hub_sends_within_its_credit_comes_once_and_the_credit_never_runs_dry(
        acts in prop::collection::vec(act(), 1..200),
        credit in 1_u32..40,
        start in prop_oneof![Just(0_u32), (u32::MAX - 100)..u32::MAX],
        piece in 1_usize..5_000,
    ) {
        let begins = Begins { outgoing_id: start, delivery_count: start };
        let mut listener = Listener::new(credit, false);
        listener.hear(&Hub::opened(begins).0).unwrap();
        let granted = flows(&listener.said());
        let mut limit = granted[0].delivery_count.unwrap().wrapping_add(credit);
        let (mut id, mut count) = (start, start);
        let (mut expected, mut number) = (Vec::new(), 0_u8);
        let mut settled_by_us = 0;
        let mut unsettled = 0;
        for act in acts {
            let mut hub = Hub::default();
            match act {
                Act::Send { length, frames, settled } => {
                    prop_assert!(limit.wrapping_sub(count) > 0, "no credit is left");
                    if settled {
                        let transfer = Transfer { settled: Some(true), ..transfer(LINK, id) };
                        hub.frame(compose::AMQP, CHANNEL, &transfer, &message(number, length));
                    } else {
                        hub.parts(id, &message(number, length), frames);
                        unsettled += 1;
                    }
                    expected.push(i64::from(number));
                    number = number.wrapping_add(1);
                    (id, count) = (id.wrapping_add(1), count.wrapping_add(1));
                }
                Act::GiveUp => {
                    prop_assert!(limit.wrapping_sub(count) > 0, "no credit is left");
                    hub.say(&Transfer { more: true, ..transfer(LINK, id) });
                    hub.say(&Transfer { aborted: true, ..transfer(LINK, id) });
                    (id, count) = (id.wrapping_add(1), count.wrapping_add(1));
                }
                Act::Beat => frames::put(&mut hub.0, compose::AMQP, 0, &[]),
                Act::Echo => hub.say(&Flow { echo: true, ..flow(Some(LINK)) }),
            }
            for piece in hub.0.chunks(piece) {
                listener.hear(piece).unwrap();
            }
            let said = listener.said();
            for flow in flows(&said).iter().filter(|flow| flow.link_credit.is_some()) {
                limit = flow.delivery_count.unwrap().wrapping_add(flow.link_credit.unwrap());
                prop_assert_eq!(flow.delivery_count, Some(count));
            }
            for (first, last) in accepted(&said) {
                settled_by_us += last.wrapping_sub(first).wrapping_add(1);
            }
        }
        prop_assert_eq!(sequences(&mut listener), expected);
        let waiting = unsettled - settled_by_us;
        prop_assert!(waiting < (credit / 4).max(1), "{waiting} wait for their settlement");
    }

    #[test]
    fn whatever_bytes_come_it_is_an_end_with_a_name(
        rest in prop::collection::vec(any::<u8>(), 0..200),
        opened in any::<bool>(),
        code in 0x10_u8..0x19,
    ) {
        let mut hub = if opened { Hub::opened(AT_ZERO) } else { Hub::default() };
        let framed = [&[0x00, 0x53, code, 0xc0, 40, 8], rest.as_slice()].concat();
        frames::put(&mut hub.0, compose::AMQP, CHANNEL, &framed);
        hub.0.extend(rest);
        if let Err(error) = hub.hear(8).1 {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
