//! How a conversation ends: by a hub that breaks the protocol, or in its own words.

use super::*;

/// Something that a hub must not say.
type Change = fn(&mut Hub);

#[test]
fn a_hub_that_breaks_the_protocol_is_told_by_what_it_does_and_where() {
    let with = |change: Change| {
        let mut hub = Hub::opened(AT_ZERO);
        hub.transfer(0, &message(7, 1));
        let at = hub.0.len();
        change(&mut hub);
        (hub, at)
    };
    let table: [(&str, Change); 13] = [
        ("begins inside of delivery 1", |hub| {
            let part = Transfer {
                more: true,
                ..transfer(LINK, 1)
            };
            hub.say(&part);
            hub.transfer(2, &message(8, 1));
        }),
        ("no delivery-id", |hub| {
            let part = Transfer {
                delivery_id: None,
                ..transfer(LINK, 1)
            };
            hub.say(&part);
        }),
        ("link 99, which is not attached", |hub| {
            hub.say(&transfer(99, 1))
        }),
        ("channel 4, which has no session", |hub| {
            hub.frame(compose::AMQP, 4, &transfer(LINK, 1), &[]);
        }),
        ("channel 4, which has no session", |hub| {
            hub.frame(compose::AMQP, 4, &flow(None), &[]);
        }),
        ("attached twice", |hub| hub.say(&attach("other", LINK, 0))),
        ("nobody asked for", |hub| hub.say(&attach("other", 50, 0))),
        ("link 50, which is not attached", |hub| {
            hub.say(&flow(Some(50)))
        }),
        ("no place", |hub| hub.say(&open())),
        ("type 1 instead of 0", |hub| {
            let outcome = SaslOutcome {
                code: SaslCode::Ok,
                additional_data: None,
            };
            hub.frame(compose::SASL, 0, &outcome, &[]);
        }),
        ("names no link", |hub| {
            frames::put(
                &mut hub.0,
                compose::AMQP,
                CHANNEL,
                &[0x00, 0x53, 0x14, 0x45],
            );
        }),
        ("no place here", |hub| {
            frames::put(
                &mut hub.0,
                compose::AMQP,
                CHANNEL,
                &[0x00, 0x53, 0x77, 0x45],
            );
        }),
        (
            "the message after sequence number 7 has no x-opt-sequence-number",
            |hub| hub.transfer(1, &[0x00, 0x53, 0x75, 0xa0, 0]),
        ),
    ];
    for (expected, change) in table {
        let (hub, _) = with(change);
        let (mut listener, heard) = hub.hear(8);
        let error = heard.expect_err(expected);
        assert!(matches!(error, HubError::Protocol { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains(expected), "{expected}: {shown}");
        assert!(shown.contains("at byte "), "{shown}");
        assert_eq!(sequences(&mut listener)[0], 7, "events before it are kept");
    }
    let (hub, at) = with(|hub| hub.say(&transfer(99, 1)));
    let error = hub.hear(8).1.unwrap_err().to_string();
    assert!(error.contains(&format!("at byte {at} of")), "{error}");
}

#[test]
fn a_delivery_without_credit_is_refused() {
    let mut hub = Hub::opened(AT_ZERO);
    hub.transfer(0, &message(7, 1));
    let error = hub.hear(0).1.unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error:?}");
    assert!(
        error.to_string().contains("delivery 0 came without credit"),
        "{error}"
    );
}

#[test]
fn a_message_without_end_is_cut_off() {
    let mut listener = Listener::new(8, false);
    listener.hear(&Hub::opened(AT_ZERO).0).unwrap();
    let mut hub = Hub::default();
    let part = Transfer {
        more: true,
        ..transfer(LINK, 0)
    };
    hub.frame(compose::AMQP, CHANNEL, &part, &[7; 65_000]);
    let mut heard = 0;
    let error = loop {
        match listener.hear(&hub.0) {
            Ok(()) => heard += 65_000,
            Err(error) => break error.to_string(),
        }
        assert!(heard <= MESSAGE_BYTES_MAX);
    };
    assert!(error.contains("longer than 33554432 bytes"), "{error}");
}

#[test]
fn a_peer_that_is_no_hub_is_told_at_once() {
    let mut listener = Listener::new(8, false);
    let error = listener.hear(b"HTTP/1.1 400 Bad Request").unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error:?}");
    assert!(error.to_string().contains("HTTP/1.1"), "{error}");
}

#[test]
fn sasl_that_refuses_us_is_about_the_credential() {
    let mut hub = Hub(compose::SASL_HEADER.to_vec());
    let mechanisms = |names: &[&str]| SaslMechanisms {
        sasl_server_mechanisms: Array(names.iter().map(|&name| Symbol::from(name)).collect()),
    };
    let mut plain = hub.clone();
    plain.frame(compose::SASL, 0, &mechanisms(&["PLAIN"]), &[]);
    let error = plain.hear(8).1.unwrap_err();
    assert!(error.to_string().contains("ANONYMOUS"), "{error}");
    hub.frame(compose::SASL, 0, &mechanisms(&["ANONYMOUS"]), &[]);
    let outcome = SaslOutcome {
        code: SaslCode::Auth,
        additional_data: None,
    };
    hub.frame(compose::SASL, 0, &outcome, &[]);
    let error = hub.hear(8).1.unwrap_err();
    assert!(matches!(error, HubError::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains("SASL outcome Auth"), "{error}");
}

#[test]
fn how_a_link_session_or_connection_ends_is_judged_by_its_condition() {
    let table = [
        (Some("amqp:link:stolen"), "OwnershipLost"),
        (Some("com.microsoft:server-busy"), "Throttled"),
        (Some("com.microsoft:timeout"), "TimedOut"),
        (Some("amqp:link:detach-forced"), "ConnectionLost"),
        (Some("com.microsoft:entity-disabled"), "Refused"),
        (Some("com.microsoft:messaging-entity-not-found"), "NotFound"),
        // No event has come yet, so that the right to read was never shown.
        (Some("com.microsoft:auth-failed"), "Unauthorized"),
        (None, "ConnectionLost"),
    ];
    for (condition, expected) in table {
        let error = condition.and_then(fault);
        let mut ends = [
            Hub::opened(AT_ZERO),
            Hub::opened(AT_ZERO),
            Hub::opened(AT_ZERO),
        ];
        ends[0].say(&Detach {
            handle: Handle(LINK),
            closed: true,
            error: error.clone(),
        });
        ends[1].say(&End {
            error: error.clone(),
        });
        ends[2].frame(compose::AMQP, 0, &Close { error }, &[]);
        for hub in ends {
            let shown = format!("{:?}", hub.hear(8).1.unwrap_err());
            assert!(shown.starts_with(expected), "{expected}: {shown}");
            assert_eq!(
                shown.contains("by the test"),
                condition.is_some(),
                "{shown}"
            );
        }
    }
}

#[test]
fn a_right_that_was_shown_and_is_refused_has_run_out() {
    let mut hub = Hub::opened(AT_ZERO);
    hub.transfer(0, &message(1, 1));
    hub.say(&Detach {
        handle: Handle(LINK),
        closed: true,
        error: fault("com.microsoft:auth-failed"),
    });
    let (mut listener, heard) = hub.hear(8);
    assert!(matches!(heard, Err(HubError::ConnectionLost { .. })));
    assert_eq!(sequences(&mut listener), [1]);
    // The hub is answered.
    assert_eq!(said::<Detach>(&listener.said(), 0x16).len(), 1);
}

#[test]
fn a_link_that_is_refused_waits_for_the_reason() {
    let mut hub = Hub::begun(AT_ZERO);
    hub.say(&Attach {
        source: None,
        ..attach(Listener::LINK, LINK, 0)
    });
    let (listener, heard) = hub.hear(8);
    heard.unwrap();
    assert!(!listener.is_reading());
    hub.say(&Detach {
        handle: Handle(LINK),
        closed: true,
        error: fault("com.microsoft:server-busy"),
    });
    assert!(matches!(hub.hear(8).1, Err(HubError::Throttled { .. })));
}

#[test]
fn a_hub_that_does_not_take_the_start_position_is_not_read() {
    let mut hub = Hub::begun(AT_ZERO);
    hub.say(&Attach {
        source: Some(Box::new(Source::builder().address("hub").build())),
        ..attach(Listener::LINK, LINK, 0)
    });
    let error = hub.hear(8).1.unwrap_err().to_string();
    assert!(
        error.contains("does not take the start position"),
        "{error}"
    );
}

#[test]
fn a_hub_that_asks_for_ever_and_does_not_listen_is_not_answered_into_memory() {
    let asked = crate::amqp::asked("hub".to_owned(), None);
    let mut protocol = Protocol::new("client".to_owned(), "host".to_owned(), 1_000, asked);
    let mut intake = Intake::default();
    let limits = BatchLimits {
        events_max: 1,
        bytes_max: 1,
        wait_max: Duration::ZERO,
    };
    let mut hear = |protocol: &mut Protocol, said: &[u8]| {
        protocol.space().extend_from_slice(said);
        protocol.advance(&mut intake, limits).unwrap();
    };
    let opening = Hub::begun(AT_ZERO).0;
    let mut begin = Hub::default();
    begin.say(&self::begin(0));
    let (before, begun) = opening.split_at(opening.len() - begin.0.len());
    hear(&mut protocol, before);
    protocol.begin();
    hear(&mut protocol, begun);
    assert!(protocol.has_session());
    let mut echo = Hub::default();
    echo.say(&Flow {
        echo: true,
        ..flow(None)
    });
    for _ in 0..20 {
        hear(&mut protocol, &echo.0.repeat(200));
    }
    assert!(protocol.is_stuffed());
    let waiting = protocol.output().len();
    assert!(waiting < OUTPUT_BYTES_MAX + 256, "{waiting} bytes wait");
    // It goes on where it stopped.
    protocol.output().clear();
    hear(&mut protocol, &[]);
    assert!(!protocol.output().is_empty());
}
