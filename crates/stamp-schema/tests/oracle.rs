//! The general decoder against an independent JSON parser.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use stamp_model::{Event, PartitionId, Readings, Values};
use stamp_schema::{Decoder, RejectionCode, Schema};

const SCHEMA: &str = r#"
version = 1
event-time.source = "enqueued"
limits.depth-max = 64
[[fields]]
name = "f"
path = "a.f"
type = "f64"
[[fields]]
name = "s"
path = "a.s"
type = "string"
"#;

fn decode(body: &[u8]) -> Result<Readings, stamp_schema::Rejection> {
    let schema = Arc::new(Schema::parse(SCHEMA).expect("the test schema is valid"));
    let partition = PartitionId::new(0).expect("0 is a partition");
    let mut readings = Readings::new(schema.shape(), partition);
    let mut event = Event {
        body: body.to_vec().into(),
        ..Event::default()
    };
    event.hub.device_id = Some("d".into());
    Decoder::general(schema).decode(&event, &mut readings)?;
    Ok(readings)
}

/// JSON values with an object outside.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\x00-\\x7f]{0,6}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,6}", inner, 0..5)
                .prop_map(|m| m.into_iter().collect()),
        ]
    });
    prop::collection::hash_map("[b-z\\\\\"é]{1,4}", value, 0..6)
        .prop_map(|m| m.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_the_other_parser_writes_is_read(value in json(), float in any::<f64>().prop_filter("finite", |f| f.is_finite()), text in "\\PC{0,20}|[\\x00-\\x7f]{0,10}", pretty: bool) {
        let mut value = value;
        value["a"] = serde_json::json!({"f": float, "s": text});
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let readings = decode(body.unwrap().as_bytes()).unwrap();
        let Values::F64(floats) = &readings.columns[0].values else { panic!("a float column") };
        prop_assert_eq!(floats[0].to_bits(), float.to_bits());
        let Values::String { texts, keys } = &readings.columns[1].values else { panic!("a text column") };
        prop_assert_eq!(texts.get(keys[0]), text);
    }

    #[test]
    fn both_parsers_call_the_same_bodies_malformed(value in json(), at: prop::sample::Index, byte in prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ 0123456789eE.-+tfn".to_vec())], insert: bool) {
        let mut body = serde_json::to_vec(&value).unwrap();
        let at = at.index(body.len());
        if insert { body.insert(at, byte) } else { body[at] = byte }
        let expected = serde_json::from_slice::<Value>(&body);
        match (decode(&body), expected) {
            (Ok(_), Ok(_)) => {}
            // The other parser keeps the last of two equal keys and knows no schema.
            (Err(rejection), Ok(_)) => prop_assert!(
                matches!(rejection.code, RejectionCode::DuplicateKey | RejectionCode::WrongType | RejectionCode::NotFinite),
                "{:?} on {:?}", rejection, String::from_utf8_lossy(&body)
            ),
            // It also refuses numbers that no float can hold where no field wants them.
            (Ok(_), Err(error)) => prop_assert!(
                error.to_string().contains("out of range"),
                "{} on {:?}", error, String::from_utf8_lossy(&body)
            ),
            (Err(_), Err(_)) => {}
        }
    }
}
