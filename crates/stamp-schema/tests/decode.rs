//! What a body means: every shape of body, every rule, every code.

use std::sync::Arc;

use stamp_model::{Event, PartitionId, Readings, Text, Values};
use stamp_schema::{Decoder, Rejection, RejectionCode as Code, Schema};

const SCHEMA: &str = r#"
version = 1
[event-time]
path = "ts"
[limits]
depth-max = 5
body-max = "4KiB"
decompressed-max = "8KiB"
batch-max = 4
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
max = 1000
[[fields]]
name = "mode"
type = "string"
max-length = 8
allowed = ["auto", "hand", "grün"]
[[fields]]
name = "note"
type = "string"
max-length = 8
[[fields]]
name = "on"
type = "bool"
[[fields]]
name = "started"
type = "timestamp"
format = "unix-ms"
[[fields]]
name = "level"
type = "i64"
allowed = [1, 2, 3]
"#;

/// 2026-03-01T12:00:00Z
const NOON_US: i64 = 1_772_366_400_000_000;

fn event(body: impl AsRef<[u8]>) -> Event {
    let mut event = Event {
        sequence: 7,
        enqueued_at_us: NOON_US,
        body: body.as_ref().to_vec().into(),
        ..Event::default()
    };
    event.hub.device_id = Some("press-7".into());
    event
}

fn decoder(schema: &str) -> (Decoder, Readings) {
    let schema = Arc::new(Schema::parse(schema).expect("the test schema is valid"));
    let readings = Readings::new(
        schema.shape(),
        PartitionId::new(3).expect("3 is a partition"),
    );
    (Decoder::new(schema), readings)
}

fn decode(event: &Event) -> Result<Readings, Rejection> {
    let (mut decoder, mut readings) = decoder(SCHEMA);
    let result = decoder.decode(event, &mut readings);
    assert!(readings.is_rectangular());
    assert_eq!(readings.len(), *result.as_ref().unwrap_or(&0));
    result.map(|_| readings)
}

fn refuse(body: impl AsRef<[u8]>) -> Rejection {
    let body = body.as_ref();
    match decode(&event(body)) {
        Ok(_) => panic!("{:?} was accepted", String::from_utf8_lossy(body)),
        Err(rejection) => rejection,
    }
}

fn with(members: &str) -> String {
    format!(r#"{{"ts":"2026-03-01T12:00:00Z","count":1,{members}}}"#)
}

#[test]
fn a_reading_fills_every_column() {
    let body = r#" {"ts":"2026-03-01T12:00:01.25+00:00", "data":{"temp":21.5,"other":[1,{"a":null}]},
        "count":5.0, "mode":"gr\u00fcn", "note":"ab", "on":true, "started":1772366400123.5, "level":2, "new":{}} "#;
    let readings = decode(&event(body)).unwrap();

    assert_eq!(readings.devices.get(readings.device[0]), "press-7");
    assert_eq!(readings.ts_us, [NOON_US + 1_250_000]);
    assert_eq!(readings.enqueued_at_us, [NOON_US]);
    assert_eq!(readings.sequence, [7]);
    assert_eq!(
        (readings.late[0], readings.clock_suspect[0]),
        (false, false)
    );
    assert!(matches!(&readings.columns[0].values, Values::F64(v) if v == &[21.5]));
    assert!(matches!(&readings.columns[1].values, Values::I64(v) if v == &[5]));
    assert!(
        matches!(&readings.columns[2].values, Values::String { texts, keys } if texts.get(keys[0]) == "grün")
    );
    assert!(
        matches!(&readings.columns[3].values, Values::String { texts, keys } if texts.get(keys[0]) == "ab")
    );
    assert!(matches!(&readings.columns[4].values, Values::Bool(v) if v == &[true]));
    assert!(
        matches!(&readings.columns[5].values, Values::Timestamp(v) if v == &[NOON_US + 123_500])
    );
    assert!(matches!(&readings.columns[6].values, Values::I64(v) if v == &[2]));
}

#[test]
fn absent_and_null_are_the_same() {
    for body in [
        with(r#""data":{"temp":null},"mode":null"#),
        with(r#""data":null"#),
        with(r#""data":{}"#),
        r#"{"count":1,"ts":"2026-03-01T12:00:00Z"}"#.to_owned(),
    ] {
        let readings = decode(&event(&body)).unwrap();
        assert!(!readings.columns[0].is_valid(0), "{body}");
        assert!(readings.columns[1].is_valid(0), "{body}");
    }
}

/// Fault scenario 29.
#[test]
fn every_rule_has_its_code_and_its_name() {
    let long = format!(r#""note":"{}""#, "é".repeat(5));
    for (members, code, rule) in [
        (
            r#""data":{"temp":125.01}"#,
            Code::OutOfRange,
            "fields.temp.max",
        ),
        (
            r#""data":{"temp":-41}"#,
            Code::OutOfRange,
            "fields.temp.min",
        ),
        (
            r#""data":{"temp":"21"}"#,
            Code::WrongType,
            "fields.temp.type",
        ),
        (r#""data":{"temp":{}}"#, Code::WrongType, "fields.temp.type"),
        (
            r#""data":{"temp":[1]}"#,
            Code::WrongType,
            "fields.temp.type",
        ),
        (
            r#""data":{"temp":true}"#,
            Code::WrongType,
            "fields.temp.type",
        ),
        (
            r#""data":{"temp":1e999}"#,
            Code::NotFinite,
            "fields.temp.type",
        ),
        (r#""data":[]"#, Code::WrongType, ""),
        (r#""data":7"#, Code::WrongType, ""),
        (r#""mode":"off""#, Code::NotAllowed, "fields.mode.allowed"),
        (r#""level":4"#, Code::NotAllowed, "fields.level.allowed"),
        (r#""level":1.5"#, Code::WrongType, "fields.level.type"),
        (
            r#""level":9223372036854775808"#,
            Code::OutOfRange,
            "fields.level.type",
        ),
        (&long, Code::TooLong, "fields.note.max-length"),
        (r#""on":1"#, Code::WrongType, "fields.on.type"),
        (
            r#""started":"2026-03-01T12:00:00Z""#,
            Code::WrongType,
            "fields.started.type",
        ),
        (
            r#""started":1e12"#,
            Code::BadTimestamp,
            "fields.started.format",
        ),
        (
            r#""started":99999999999999999"#,
            Code::BadTimestamp,
            "fields.started.format",
        ),
        (r#""a":1,"b":2,"a":3"#, Code::DuplicateKey, ""),
        (r#""count":1"#, Code::DuplicateKey, ""),
        (r#""data":{"temp":1,"te\u006dp":1}"#, Code::DuplicateKey, ""),
        (r#""x":[{"y":{"k":1,"k":1}}]"#, Code::DuplicateKey, ""),
        (r#""x":[[[[[1]]]]]"#, Code::TooDeep, "limits.depth-max"),
    ] {
        let rejection = refuse(with(members));
        assert_eq!(
            (rejection.code, rejection.rule.as_str()),
            (code, rule),
            "{members}: {}",
            rejection.detail
        );
    }
    assert_eq!(
        refuse(r#"{"ts":"2026-03-01T12:00:00Z"}"#).rule,
        "fields.count.required"
    );
    assert_eq!(refuse(r#"{"count":1}"#).rule, "event-time.path");
    assert_eq!(refuse(r#"{"count":1,"ts":null}"#).code, Code::MissingField);
    assert_eq!(refuse(r#"{"count":1,"ts":5}"#).rule, "event-time.format");
    assert_eq!(
        refuse(r#"{"count":1,"ts":"yesterday"}"#).code,
        Code::BadTimestamp
    );
    assert_eq!(
        refuse(r#"{"count":1001,"ts":"2026-03-01T12:00:00Z"}"#).rule,
        "fields.count.max"
    );
}

#[test]
fn a_detail_says_what_and_where() {
    let rejection = refuse(with(r#""data":{"temp":1500}"#));
    assert_eq!(
        rejection.detail,
        "`data.temp`: 1500 is above the maximum 125 (byte 54)"
    );
    let rejection = refuse(with(r#""x":[0,{"y":tru}]"#));
    assert_eq!(
        rejection.detail,
        "`x[1].y`: expected `true`, found 't' (byte 51)"
    );
    let rejection = refuse(with(&format!(r#""note":"{}""#, "x".repeat(3_000))));
    assert!(rejection.detail.len() < 200, "{}", rejection.detail);
}

/// Fault scenario 29.
#[test]
fn broken_json_is_malformed() {
    for body in [
        "{",
        "}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":01}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-}",
        "{\"a\":nul}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "x",
        "[{]",
        "{\"a\":\"",
        "\u{a0}{}",
    ] {
        assert_eq!(refuse(body).code, Code::MalformedJson, "{body:?}");
    }
    assert_eq!(
        refuse(format!("[{},]", with(r#""a":1"#))).code,
        Code::MalformedJson
    );
    for tail in ["x", "{}", " {}", ",", "]", "\n,{}", "\u{feff}"] {
        assert_eq!(
            refuse(with(r#""a":1"#) + tail).code,
            Code::MalformedJson,
            "{tail:?}"
        );
    }
}

#[test]
fn a_body_that_is_no_object_has_its_own_code() {
    for body in ["1", "\"text\"", "null", "true", "[1]", "[[]]", "[null]"] {
        assert_eq!(refuse(body).code, Code::NotAnObject, "{body:?}");
    }
    for body in ["", " \r\n\t", "\u{feff}", "[]", " [ ] "] {
        assert_eq!(refuse(body).code, Code::EmptyBody, "{body:?}");
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    let one = with(r#""note":"a""#);
    let array = format!("[{one} , {one}\n,{one}]");
    let lines = format!("\u{feff}{one}\r\n\n{one}\n");
    let pretty = "{\n\"count\":1,\n\"ts\":\"2026-03-01T12:00:00Z\"\n}\n".repeat(2);
    for (body, rows) in [(&array, 3), (&lines, 2), (&pretty, 2)] {
        let readings = decode(&event(body)).unwrap();
        assert_eq!(readings.len(), rows, "{body}");
        assert_eq!(readings.sequence, vec![7; rows]);
    }
    let bad = one.replace("\"count\":1", "\"count\":1.5");
    for (body, place) in [
        (format!("[{one},{bad}]"), "element 1: `count`"),
        (format!("[{bad},{one}]"), "element 0: `count`"),
        (format!("{one}\n{bad}\n"), "element 1: `count`"),
        (format!("{bad}\n{one}\n"), "element 0: `count`"),
    ] {
        let rejection = refuse(&body);
        assert_eq!(rejection.code, Code::WrongType);
        assert!(rejection.detail.starts_with(place), "{}", rejection.detail);
    }
    for body in [
        format!("[{}]", [one.as_str(); 5].join(",")),
        [one.as_str(); 5].join("\n"),
    ] {
        let rejection = refuse(body);
        assert_eq!(
            (rejection.code, rejection.rule.as_str()),
            (Code::TooManyElements, "limits.batch-max")
        );
    }
}

#[test]
fn a_rejected_event_leaves_earlier_rows_alone() {
    let (mut decoder, mut readings) = decoder(SCHEMA);
    let good = with(r#""note":"a""#);
    assert_eq!(decoder.decode(&event(&good), &mut readings), Ok(1));
    assert!(
        decoder
            .decode(&event(format!("[{good},{{}}]")), &mut readings)
            .is_err()
    );
    assert_eq!(decoder.decode(&event(&good), &mut readings), Ok(1));
    assert!(readings.len() == 2 && readings.is_rectangular());
}

/// Fault scenario 36.
#[test]
fn a_clock_outside_the_bound_is_kept_and_marked() {
    for (ts, suspect) in [
        ("2026-03-01T12:05:00Z", false),
        ("2026-03-01T12:05:00.000001Z", true),
        ("2026-02-22T12:00:00Z", false),
        ("2026-02-22T11:59:59.999999Z", true),
        ("1970-01-01T00:00:00Z", true),
        ("9999-12-31T23:59:59Z", true),
    ] {
        let readings = decode(&event(format!(r#"{{"count":1,"ts":"{ts}"}}"#))).unwrap();
        assert_eq!(readings.clock_suspect, [suspect], "{ts}");
        let expected = if suspect { NOON_US } else { readings.ts_us[0] };
        assert_eq!(readings.window_time_us(0), expected);
    }
}

#[test]
fn the_hubs_time_can_be_the_event_time() {
    let schema =
        "version = 1\nevent-time.source = \"enqueued\"\n[[fields]]\nname = \"a\"\ntype = \"i64\"";
    let (mut decoder, mut readings) = decoder(schema);
    assert_eq!(decoder.decode(&event(r#"{"a":1}"#), &mut readings), Ok(1));
    assert_eq!(
        (readings.ts_us[0], readings.clock_suspect[0]),
        (NOON_US, false)
    );
}

#[test]
fn unknown_fields_can_be_refused() {
    let (mut decoder, mut readings) = decoder(&format!("unknown-fields = \"reject\"\n{SCHEMA}"));
    assert_eq!(
        decoder.decode(&event(with(r#""note":"a""#)), &mut readings),
        Ok(1)
    );
    for (members, path) in [(r#""nope":1"#, "`nope`"), (r#""data":{"x":1}"#, "`data.x`")] {
        let rejection = decoder
            .decode(&event(with(members)), &mut readings)
            .unwrap_err();
        assert_eq!(
            (rejection.code, rejection.rule.as_str()),
            (Code::UnknownField, "unknown-fields")
        );
        assert!(rejection.detail.starts_with(path), "{}", rejection.detail);
    }
}

/// Fault scenario 29.
#[test]
fn content_encodings_are_undone() {
    use flate2::{Compression, write};
    use std::io::Write;
    let body = with(r#""note":"a""#);
    let mut gzip = write::GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let wide: Vec<u8> = body.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let encoded = |bytes: &[u8], encoding: Option<&str>, content_type: Option<&str>| {
        let mut event = event(bytes);
        event.content_encoding = encoding.map(Text::from);
        event.content_type = content_type.map(Text::from);
        decode(&event).map(|readings| readings.len())
    };
    let json = Some("application/json");
    assert_eq!(encoded(body.as_bytes(), Some("UTF-8"), json), Ok(1));
    assert_eq!(
        encoded(body.as_bytes(), Some(""), Some("application/x-ndjson")),
        Ok(1)
    );
    assert_eq!(encoded(&gzip, Some("gzip"), json), Ok(1));
    assert_eq!(encoded(&gzip, Some("utf-8, X-GZIP"), json), Ok(1));
    assert_eq!(encoded(&wide, Some("utf-16"), json), Ok(1));
    assert_eq!(
        encoded(&wide, None, Some("application/json; charset=\"UTF-16BE\"")),
        Ok(1)
    );

    let code = |result: Result<usize, Rejection>| result.unwrap_err().code;
    assert_eq!(code(encoded(&gzip, None, None)), Code::NotUtf8);
    assert_eq!(
        code(encoded(body.as_bytes(), Some("gzip"), None)),
        Code::BadCompression
    );
    assert_eq!(
        code(encoded(body.as_bytes(), Some("br"), None)),
        Code::UnsupportedEncoding
    );
    assert_eq!(
        code(encoded(&gzip, Some("gzip,gzip"), None)),
        Code::UnsupportedEncoding
    );
    assert_eq!(
        code(encoded(b"{}", None, Some("a/b;charset=latin1"))),
        Code::UnsupportedEncoding
    );
    assert_eq!(code(encoded(b"{\"\xff\":1}", None, None)), Code::NotUtf8);
}

/// Fault scenario 27.
#[test]
fn size_limits_hold_before_and_after_decompression() {
    let rejection = refuse(" ".repeat(4_097));
    assert_eq!(
        (rejection.code, rejection.rule.as_str()),
        (Code::TooLarge, "limits.body-max")
    );
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&[b' '; 8_193]).unwrap();
    let mut event = event(zlib.finish().unwrap());
    event.content_encoding = Some("deflate".into());
    let rejection = decode(&event).unwrap_err();
    assert_eq!(
        (rejection.code, rejection.rule.as_str()),
        (Code::TooLarge, "limits.decompressed-max")
    );
}

/// Fault scenario 28.
#[test]
fn an_event_without_a_device_or_from_the_hub_itself_is_no_reading() {
    let mut anonymous = event(with(r#""note":"a""#));
    anonymous.hub.device_id = None;
    assert_eq!(decode(&anonymous).unwrap_err().code, Code::NoDevice);
    let mut twin = event(with(r#""note":"a""#));
    twin.hub.source = stamp_model::MessageSource::TwinChange;
    assert_eq!(decode(&twin).unwrap_err().code, Code::NotTelemetry);
}

#[test]
fn an_object_with_very_many_keys_stays_cheap_and_exact() {
    let keys: Vec<String> = (0..300).map(|i| format!("\"k{i}\":0")).collect();
    let body = with(&keys.join(","));
    assert!(decode(&event(&body)).is_ok());
    let twice = with(&format!("{},\"k\\u0037\":0", keys.join(",")));
    let rejection = refuse(twice);
    assert_eq!(rejection.code, Code::DuplicateKey);
    assert!(rejection.detail.starts_with("`k7`"), "{}", rejection.detail);
}
