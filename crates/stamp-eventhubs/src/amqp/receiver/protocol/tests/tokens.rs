//! Tokens, and the links they go over.

use super::*;

/// An answer of `$cbs` to a question.
fn answer(question: u64, status: i32) -> Vec<u8> {
    let message: Message<AmqpValue<Value>> = Message::builder()
        .properties(
            Properties::builder()
                .correlation_id(MessageId::Ulong(question))
                .build(),
        )
        .application_properties(
            ApplicationProperties::builder()
                .insert("status-code", status)
                .insert("status-description", "by the test")
                .build(),
        )
        .value(Value::Null)
        .build();
    serde_amqp::to_vec(&Serializable(message)).unwrap()
}

/// A hub that has attached the links to `$cbs`.
fn with_cbs() -> Hub {
    let mut hub = Hub::begun(AT_ZERO);
    hub.say(&attach("$cbs-sender-id", CBS_SENDER, 0));
    hub.say(&attach("$cbs-receiver-id", CBS_RECEIVER, 0));
    hub
}

fn hear_with_token(hub: &Hub) -> (Listener, Result<(), HubError>) {
    let mut listener = Listener::new(8, true);
    let heard = listener.hear(&hub.0);
    (listener, heard)
}

#[test]
fn a_token_goes_out_when_there_is_credit_for_it_and_opens_the_partition() {
    let mut hub = with_cbs();
    let (mut listener, heard) = hear_with_token(&hub);
    heard.unwrap();
    assert!(said::<Transfer>(&listener.said(), 0x14).is_empty());
    hub.say(&flow(Some(CBS_SENDER)));
    let (mut listener, heard) = hear_with_token(&hub);
    heard.unwrap();
    let before = listener.said();
    assert!(before.windows(3).any(|bytes| bytes == [0x00, 0x53, 0x14]));
    assert_eq!(said::<Attach>(&before, 0x12).len(), 2);
    hub.frame(
        compose::AMQP,
        CHANNEL,
        &transfer(CBS_RECEIVER, 0),
        &answer(0, 202),
    );
    hub.say(&attach(Listener::LINK, LINK, 0));
    hub.transfer(1, &message(1, 1));
    let (mut listener, heard) = hear_with_token(&hub);
    heard.unwrap();
    assert_eq!(sequences(&mut listener), [1]);
}

#[test]
fn a_token_that_is_refused_is_judged_by_its_status() {
    for (status, expected) in [(401, "Unauthorized"), (404, "NotFound"), (503, "Throttled")] {
        let mut hub = with_cbs();
        hub.say(&flow(Some(CBS_SENDER)));
        // In two frames, after an answer to a question of somebody else.
        let stale = transfer(CBS_RECEIVER, 0);
        hub.frame(compose::AMQP, CHANNEL, &stale, &answer(77, 500));
        let answer = answer(0, status);
        let first = Transfer {
            more: true,
            ..transfer(CBS_RECEIVER, 1)
        };
        hub.frame(compose::AMQP, CHANNEL, &first, &answer[..9]);
        hub.frame(
            compose::AMQP,
            CHANNEL,
            &transfer(CBS_RECEIVER, 1),
            &answer[9..],
        );
        let shown = format!("{:?}", hear_with_token(&hub).1.unwrap_err());
        assert!(shown.starts_with(expected), "{expected}: {shown}");
    }
}

#[test]
fn an_answer_that_says_nothing_is_told_with_its_place() {
    let mut hub = with_cbs();
    hub.say(&flow(Some(CBS_SENDER)));
    let at = hub.0.len();
    let message: Message<AmqpValue<Value>> = Message::builder()
        .properties(
            Properties::builder()
                .correlation_id(MessageId::Ulong(0))
                .build(),
        )
        .value(Value::Null)
        .build();
    let answer = serde_amqp::to_vec(&Serializable(message)).unwrap();
    hub.frame(compose::AMQP, CHANNEL, &transfer(CBS_RECEIVER, 0), &answer);
    let error = hear_with_token(&hub).1.unwrap_err();
    assert!(matches!(error, HubError::Protocol { .. }), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains("has no status code"), "{shown}");
    assert!(shown.contains(&format!("at byte {at} of")), "{shown}");
}

#[test]
fn a_token_that_is_rejected_or_whose_links_go_away_is_no_right_to_read() {
    let mut rejected = with_cbs();
    rejected.say(&flow(Some(CBS_SENDER)));
    let mut gone = rejected.clone();
    rejected.say(&Disposition {
        role: Role::Receiver,
        first: 0,
        last: None,
        settled: true,
        state: Some(fe2o3_amqp_types::messaging::DeliveryState::Rejected(
            fe2o3_amqp_types::messaging::Rejected {
                error: fault("com.microsoft:server-busy"),
            },
        )),
        batchable: false,
    });
    gone.say(&Detach {
        handle: Handle(CBS_SENDER),
        closed: true,
        error: fault("com.microsoft:server-busy"),
    });
    let mut refused = Hub::begun(AT_ZERO);
    refused.say(&Attach {
        target: None,
        ..attach("$cbs-sender-id", CBS_SENDER, 0)
    });
    refused.say(&Detach {
        handle: Handle(CBS_SENDER),
        closed: true,
        error: fault("com.microsoft:server-busy"),
    });
    for hub in [rejected, gone, refused] {
        let error = hear_with_token(&hub).1.unwrap_err();
        assert!(matches!(error, HubError::Throttled { .. }), "{error:?}");
    }
}

#[test]
fn links_to_cbs_that_the_hub_takes_away_between_tokens_are_let_go() {
    let mut hub = with_cbs();
    hub.say(&flow(Some(CBS_SENDER)));
    let answered = transfer(CBS_RECEIVER, 0);
    hub.frame(compose::AMQP, CHANNEL, &answered, &answer(0, 202));
    hub.say(&attach(Listener::LINK, LINK, 0));
    let detach = |handle| Detach {
        handle: Handle(handle),
        closed: true,
        error: None,
    };
    hub.say(&detach(CBS_RECEIVER));
    // On its way before the hub heard that we leave that link too.
    hub.say(&flow(Some(CBS_SENDER)));
    hub.say(&detach(CBS_SENDER));
    hub.transfer(1, &message(1, 1));
    let (mut listener, heard) = hear_with_token(&hub);
    heard.unwrap();
    assert_eq!(sequences(&mut listener), [1]);
    assert_eq!(said::<Detach>(&listener.said(), 0x16).len(), 2);
}
