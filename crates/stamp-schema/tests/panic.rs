//! A panic while decoding costs the one event that caused it.

use std::sync::Arc;

use stamp_model::{Event, PartitionId, Readings};
use stamp_schema::{Decoder, RejectionCode, Schema};

const SCHEMA: &str = r#"
version = 1
[event-time]
source = "enqueued"
[[fields]]
name = "value"
type = "f64"
[[fields]]
name = "name"
type = "string"
"#;

fn event(sequence: i64, body: &str) -> Event {
    let mut event = Event {
        sequence,
        body: body.to_owned().into(),
        ..Event::default()
    };
    event.hub.device_id = Some("press-7".into());
    event
}

/// Fault scenario 26.
#[test]
fn an_event_that_panics_the_decoder_is_rejected_and_leaves_nothing_behind() {
    let schema = Arc::new(Schema::parse(SCHEMA).unwrap().panicking_at("poison"));
    let mut readings = Readings::new(schema.shape(), PartitionId::new(0).unwrap());
    let mut decoder = Decoder::new(schema.clone());
    let good = r#"{"value":1.5,"name":"a"}"#;
    let batch = r#"[{"value":1,"name":"b"},{"value":2,"name":"poison"},{"value":3}]"#;
    for sequence in 0..40 {
        decoder
            .decode(&event(sequence, good), &mut readings)
            .unwrap();
    }
    let learned = decoder.stats();

    let rejection = decoder
        .decode(&event(40, batch), &mut readings)
        .unwrap_err();

    assert_eq!(rejection.code, RejectionCode::DecoderPanic);
    assert_eq!(
        rejection.detail,
        "the decoder panicked: asked to panic at \"poison\""
    );
    assert_eq!((readings.len(), readings.is_rectangular()), (40, true));
    assert!(decoder.stats().hits >= learned.hits && learned.hits > 0);
    // The same answers as a decoder that never panicked.
    let mut other = Readings::new(schema.shape(), PartitionId::new(0).unwrap());
    let mut fresh = Decoder::new(schema);
    for (sequence, body) in (41..).zip([good, good, r#"{"value":7}"#, "{", good]) {
        let event = event(sequence, body);
        let found = decoder.decode(&event, &mut readings);
        assert_eq!(found, fresh.decode(&event, &mut other), "{body}");
    }
    let tail = |readings: &Readings| format!("{:?}", &readings.sequence[readings.len() - 4..]);
    assert_eq!(tail(&readings), tail(&other));
    assert!(readings.is_rectangular());
}
