//! The decoder that learns shapes and the general one give the same answer to every event.

#[path = "../benches/input/mod.rs"]
mod input;
mod mutate;

use std::sync::Arc;

use proptest::prelude::*;
use stamp_model::{Column, Dictionary, Event, PartitionId, Readings, Values};
use stamp_schema::{Decoder, Schema};

/// Every type, nested paths, every kind of rule.
const RULES: &str = r#"
version = 1
[event-time]
path = "ts"
[limits]
depth-max = 6
batch-max = 8
[[fields]]
name = "temp"
path = "data.temp"
type = "f64"
min = -40
max = 125
[[fields]]
name = "count"
type = "i64"
required = true
max = 1000000
[[fields]]
name = "mode"
type = "string"
allowed = ["auto", "hand", "grün"]
[[fields]]
name = "note"
path = "data.note"
type = "string"
max-length = 12
[[fields]]
name = "on"
type = "bool"
[[fields]]
name = "started"
type = "timestamp"
format = "unix-ms"
[[fields]]
name = "level"
type = "f64"
allowed = [0, 0.5, 1]
"#;

/// Both decoders with a buffer each, fed the same events.
struct Pair {
    learned: (Decoder, Readings),
    general: (Decoder, Readings),
}

impl Pair {
    fn new(schema: &str) -> Self {
        let schema = Arc::new(Schema::parse(schema).expect("the test schema is valid"));
        let partition = PartitionId::new(0).expect("0 is a partition");
        let readings = Readings::new(schema.shape(), partition);
        Self {
            learned: (Decoder::new(schema.clone()), readings.clone()),
            general: (Decoder::general(schema), readings),
        }
    }

    fn decode(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let learned = self.learned.0.decode(event, &mut self.learned.1);
        let general = self.general.0.decode(event, &mut self.general.1);
        let body = String::from_utf8_lossy(&event.body);
        prop_assert_eq!(&learned, &general, "{}", body);
        prop_assert!(self.learned.1.is_rectangular(), "{}", body);
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let (a, b) = (&self.learned.1, &self.general.1);
        prop_assert_eq!(texts(&a.devices), texts(&b.devices));
        prop_assert_eq!(&a.device, &b.device);
        prop_assert_eq!(&a.ts_us, &b.ts_us);
        prop_assert_eq!(&a.enqueued_at_us, &b.enqueued_at_us);
        prop_assert_eq!(&a.late, &b.late);
        prop_assert_eq!(&a.clock_suspect, &b.clock_suspect);
        prop_assert_eq!(&a.sequence, &b.sequence);
        for (a, b) in a.columns.iter().zip(&b.columns) {
            prop_assert_eq!(&a.valid, &b.valid);
            prop_assert_eq!(bits(a), bits(b));
        }
        Ok(())
    }
}

fn texts(dictionary: &Dictionary) -> Vec<&str> {
    dictionary.iter().collect()
}

/// Values in a form in which equal means equal bit for bit.
fn bits(column: &Column) -> Vec<(u64, &str)> {
    let number = |bits: u64| (bits, "");
    match &column.values {
        Values::Bool(values) => values.iter().map(|v| number(u64::from(*v))).collect(),
        Values::I64(values) | Values::Timestamp(values) => {
            values.iter().map(|v| number(v.cast_unsigned())).collect()
        }
        Values::F64(values) => values.iter().map(|v| number(v.to_bits())).collect(),
        Values::String { texts, keys } => keys.iter().map(|key| (0, texts.get(*key))).collect(),
    }
}

/// Bodies as four firmwares of the schema `RULES` write them.
fn firmware_body() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,2})(\\.[0-9]{1,3})?",
        "-?[1-9][0-9]{0,18}(\\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?",
        Just("0.5".to_owned()),
        Just("-0.0".to_owned()),
    ];
    let mode = prop::sample::select(vec!["auto", "hand", "grün", "off"]);
    let second = 0_u32..60;
    let other = prop_oneof!["[a-zäß😀 ]{0,20}", "[0-9]{1,5}"];
    (0_u8..4, number, 0_i64..2_000, mode, second, other, any::<bool>()).prop_map(
        |(firmware, number, count, mode, second, other, on)| {
            let ts = format!("2026-03-01T12:00:{second:02}Z");
            match firmware {
                0 => format!(
                    r#"{{"ts":"{ts}","count":{count},"mode":"{mode}","data":{{"temp":{number},"note":"{other}"}},"on":{on}}}"#
                ),
                1 => format!(
                    r#"{{ "count": {count}, "x": [1, {{"y": {number}}}, "{other}", {on}], "ts": "{ts}" }}"#
                ),
                2 => format!(
                    r#"{{"level":{number},"started":17723664{second:02}000,"ts":"{ts}","mode":null,"count":{count}}}"#
                ),
                _ => format!(
                    r#"[{{"count":{count},"ts":"{ts}","data":{{"temp":{number}}}}},{{"count":{second},"ts":"{ts}","data":{{"temp":1.25}}}}]"#
                ),
            }
        },
    )
}

fn event(body: Vec<u8>, device: u8) -> Event {
    let mut event = Event {
        enqueued_at_us: 1_772_366_400_000_000,
        body: body.into(),
        ..Event::default()
    };
    event.hub.device_id = Some(format!("d{device}").into());
    event
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn mutated_messages_mean_the_same_to_both_decoders(
        messages in prop::collection::vec((firmware_body(), mutate::mutations(), 0_u8..6), 1..80)
    ) {
        let mut pair = Pair::new(RULES);
        for (body, mutations, device) in messages {
            let body = mutate::apply(body.into_bytes(), &mutations);
            pair.decode(&event(body, device))?;
        }
        pair.compare()?;
    }

    #[test]
    fn unknown_fields_are_refused_by_both_decoders(
        messages in prop::collection::vec((firmware_body(), mutate::mutations(), 0_u8..6), 1..40)
    ) {
        let mut pair = Pair::new(&format!("unknown-fields = \"reject\"\n{RULES}"));
        for (body, mutations, device) in messages {
            let body = mutate::apply(body.into_bytes(), &mutations);
            pair.decode(&event(body, device))?;
        }
        pair.compare()?;
    }

    #[test]
    fn mutated_telemetry_means_the_same_to_both_decoders(seed: u64, mutations in prop::collection::vec(mutate::mutations(), 100)) {
        let mut pair = Pair::new(input::SCHEMA);
        let mut random = input::Random(seed);
        for (index, mutations) in (0..).zip(&mutations) {
            let mut event = input::event(&mut random, index);
            event.body = mutate::apply(event.body.to_vec(), mutations).into();
            pair.decode(&event)?;
        }
        pair.compare()?;
    }

    #[test]
    fn any_bytes_are_survived(bodies in prop::collection::vec(prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[\\[\\]{}\",:0-9a-f\\\\ eE.\\-+\n]{0,60}".prop_map(String::into_bytes),
        "\\PC{0,60}".prop_map(String::into_bytes),
    ], 1..30), encoding in prop::sample::select(vec!["", "gzip", "deflate", "utf-16", "utf-32"])) {
        let mut pair = Pair::new(RULES);
        for body in bodies {
            let mut event = event(body, 0);
            event.content_encoding = Some(encoding.into());
            pair.decode(&event)?;
        }
        pair.compare()?;
    }
}

#[test]
fn regular_messages_fit_learned_shapes() {
    let mut pair = Pair::new(input::SCHEMA);
    let mut random = input::Random(7);
    for index in 0..4_000 {
        pair.decode(&input::event(&mut random, index)).unwrap();
    }
    pair.compare().unwrap();
    let stats = pair.learned.0.stats();
    assert_eq!((stats.hits, stats.fallbacks), (3_992, 8), "{stats:?}");
    assert_eq!((stats.learned, stats.evicted), (8, 0));
    assert_eq!(pair.general.0.stats(), Default::default());
}

#[test]
fn the_number_of_shapes_is_bounded_and_idle_ones_give_way() {
    let schema =
        "version = 1\nevent-time.source = \"enqueued\"\n[[fields]]\nname = \"a\"\ntype = \"i64\"";
    let mut pair = Pair::new(schema);
    let mut decode = |body: String| {
        pair.decode(&event(body.into_bytes(), 0)).unwrap();
        pair.learned.0.stats()
    };
    let mut stats = decode(r#"{"a":1}"#.to_owned());
    for shape in 0..2_000 {
        stats = decode(format!(r#"{{"k{shape}":0,"a":1}}"#));
    }
    assert!(stats.learned - stats.evicted <= 16, "{stats:?}");
    // Learning is rationed, so two thousand new shapes are not two thousand acts of learning.
    assert!(stats.learned < 200, "{stats:?}");
    for _ in 0..2_000 {
        stats = decode(r#"{"a":2}"#.to_owned());
    }
    assert!(stats.hits > 1_900, "{stats:?}");
}
