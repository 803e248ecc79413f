//! `body`: the decoder of message bodies, with its compressions, charsets and learned shapes.

use std::borrow::Cow;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use flate2::bufread::{DeflateDecoder, GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use serde_json::Value;
use stamp_model::{Event, PartitionId, Readings, Values};
use stamp_schema::{Decoder, Rejection, RejectionCode, Schema};

use crate::input::Input;
use crate::same::assert_same;

/// A schema with every type, nested paths and every kind of rule.
pub const RULES: &str = r#"
version = 1
[event-time]
path = "ts"
[limits]
depth-max = 6
body-max = "4KiB"
decompressed-max = "8KiB"
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

/// A schema as a tenant of sensors has it.
pub const TELEMETRY: &str = r#"
version = 1
event-time.source = "enqueued"
limits.depth-max = 64
limits.decompressed-max = "8KiB"
[[fields]]
name = "at"
path = "timestamp"
type = "timestamp"
[[fields]]
name = "value"
type = "f64"
unit = "[degF]"
[[fields]]
name = "seq"
path = 'meta.n\.o'
type = "i64"
[[fields]]
name = "site"
path = "meta.site"
type = "string"
[[fields]]
name = "at_us"
type = "timestamp"
format = "unix-us"
"#;

const DECOMPRESSED_MAX: u64 = 8 << 10;
const BATCH_MAX: usize = 8;
const MESSAGES_MAX: usize = 24;
/// 2026-03-01T12:00:00Z
const ENQUEUED_AT_US: i64 = 1_772_366_400_000_000;

static SCHEMAS: LazyLock<[Arc<Schema>; 3]> = LazyLock::new(|| {
    let strict = format!("unknown-fields = \"reject\"\n{RULES}");
    [RULES, &strict, TELEMETRY]
        .map(|text| Arc::new(Schema::parse(text).expect("the target's own schemas are valid")))
});

/// How the bodies of one try are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coding {
    /// As they are, under this content encoding.
    Raw(&'static str),
    /// The target encodes them itself: the answer must be that of the plain text.
    Packed(&'static str),
}

const CODINGS: [Coding; 11] = [
    Coding::Raw(""),
    Coding::Raw("utf-8"),
    Coding::Raw("gzip"),
    Coding::Raw("deflate"),
    Coding::Raw("utf-16"),
    Coding::Raw("utf-32"),
    Coding::Packed("gzip"),
    Coding::Packed("deflate"),
    Coding::Packed("utf-16le"),
    Coding::Packed("utf-32be"),
    Coding::Packed("gzip,utf-16be"),
];

/// One try: which schema, which coding, then up to 24 bodies separated by 0x1e. A first byte of a
/// body below 4 names its device; each body is read twice by each decoder, so that shapes are
/// learned and used.
///
/// # Panics
/// When a promise is broken.
pub fn body(data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte()) % SCHEMAS.len();
    let schema = &SCHEMAS[which];
    let coding = CODINGS[usize::from(input.byte()) % CODINGS.len()];
    let events: Vec<Event> = (0..)
        .zip(input.pieces(MESSAGES_MAX))
        .map(|(sequence, piece)| event(sequence, piece, coding))
        .collect();
    let mut tries = Tries::new(schema);
    for round in 0..2 {
        for event in &events {
            let outcome = tries.decode(event);
            if round == 0 {
                check_limits(event, &outcome);
                check_json(event, &outcome, coding);
            }
        }
    }
    if let Coding::Packed(_) = coding {
        check_packing(schema, input, &events);
    }
    tries.check(schema);
    if which != SCHEMAS.len() - 1 {
        check_rules(&tries.general.1);
    }
}

fn event(sequence: i64, piece: &[u8], coding: Coding) -> Event {
    let (device, body) = match piece {
        [device @ 0..4, rest @ ..] => (*device, rest),
        _ => (0, piece),
    };
    let (encoding, body) = match coding {
        Coding::Raw(encoding) => (encoding, body.to_vec()),
        Coding::Packed(encoding) => (encoding, pack(body, encoding)),
    };
    let mut event = Event {
        sequence,
        enqueued_at_us: ENQUEUED_AT_US,
        content_encoding: (!encoding.is_empty()).then(|| encoding.into()),
        body: body.into(),
        ..Event::default()
    };
    event.hub.device_id = Some(format!("d{device}").into());
    event
}

/// The text in another coding; bytes that are no text are replaced first.
fn pack(body: &[u8], encoding: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let level = flate2::Compression::fast();
    let unpacked = |mut from: Box<dyn Read + '_>| {
        let mut out = Vec::new();
        from.read_to_end(&mut out)
            .expect("reading from memory cannot fail");
        out
    };
    match encoding {
        "gzip" => unpacked(Box::new(GzEncoder::new(text.as_bytes(), level))),
        "deflate" => unpacked(Box::new(ZlibEncoder::new(text.as_bytes(), level))),
        "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf-32be" => text
            .chars()
            .flat_map(|c| u32::from(c).to_be_bytes())
            .collect(),
        _ => {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            unpacked(Box::new(GzEncoder::new(&wide[..], level)))
        }
    }
}

/// The learned and the general decoder on the same events, and the events both accepted.
struct Tries {
    learned: (Decoder, Readings),
    general: (Decoder, Readings),
    accepted: Vec<Event>,
}

fn buffer(schema: &Schema) -> Readings {
    let partition = PartitionId::new(0).expect("0 is a partition");
    Readings::new(schema.shape(), partition)
}

impl Tries {
    fn new(schema: &Arc<Schema>) -> Self {
        Self {
            learned: (Decoder::new(Arc::clone(schema)), buffer(schema)),
            general: (Decoder::general(Arc::clone(schema)), buffer(schema)),
            accepted: Vec::new(),
        }
    }

    fn decode(&mut self, event: &Event) -> Result<usize, Rejection> {
        let rows = self.general.1.len();
        let learned = self.learned.0.decode(event, &mut self.learned.1);
        let general = self.general.0.decode(event, &mut self.general.1);
        assert_eq!(learned, general, "the decoders are of two opinions");
        let code = general.as_ref().err().map(|rejection| rejection.code);
        // The service survives it; here it is a finding.
        assert_ne!(code, Some(RejectionCode::DecoderPanic), "{general:?}");
        for (_, readings) in [&self.learned, &self.general] {
            assert!(readings.is_rectangular(), "columns of unequal length");
            let added = readings.len() - rows;
            assert_eq!(
                added,
                *general.as_ref().unwrap_or(&0),
                "rows were left behind"
            );
        }
        if let Ok(added) = general {
            assert!(added >= 1, "an accepted event has a reading");
            self.accepted.push(event.clone());
        }
        general
    }

    /// Both hold what a new decoder makes of the accepted events alone: the rejected ones left
    /// nothing behind, and reading again gives the same.
    fn check(&self, schema: &Arc<Schema>) {
        let (mut decoder, mut alone) = (Decoder::general(Arc::clone(schema)), buffer(schema));
        for event in &self.accepted {
            let again = decoder.decode(event, &mut alone);
            assert!(again.is_ok(), "an accepted event was rejected: {again:?}");
        }
        assert_same(&self.learned.1, &alone);
        assert_same(&self.general.1, &alone);
    }
}

/// Every value that was accepted is one that the schema `RULES` allows.
fn check_rules(readings: &Readings) {
    for row in 0..readings.len() {
        assert!(readings.columns[1].is_valid(row), "`count` is required");
        for column in &readings.columns {
            if let Values::F64(values) = &column.values {
                assert!(values[row].is_finite());
            }
        }
        if let Values::F64(temp) = &readings.columns[0].values {
            assert!(!readings.columns[0].is_valid(row) || (-40.0..=125.0).contains(&temp[row]));
        }
        if let Values::I64(count) = &readings.columns[1].values {
            assert!(count[row] <= 1_000_000);
        }
        if let (Values::String { texts, keys }, true) = (
            &readings.columns[2].values,
            readings.columns[2].is_valid(row),
        ) {
            assert!(["auto", "hand", "grün"].contains(&texts.get(keys[row])));
        }
        if let Values::String { texts, keys } = &readings.columns[3].values {
            assert!(texts.get(keys[row]).len() <= 12);
        }
        if let Values::F64(level) = &readings.columns[6].values {
            assert!(!readings.columns[6].is_valid(row) || [0.0, 0.5, 1.0].contains(&level[row]));
        }
    }
}

/// Size limits hold whatever a compressed body claims.
fn check_limits(event: &Event, outcome: &Result<usize, Rejection>) {
    let Ok(rows) = outcome else { return };
    assert!(*rows <= BATCH_MAX.max(4_096));
    let body: &[u8] = &event.body;
    let unpacked = |from: &mut dyn Read| {
        let mut out = Vec::new();
        let read = from.take(DECOMPRESSED_MAX + 1).read_to_end(&mut out);
        read.map(|bytes| bytes as u64)
    };
    let size = match event.content_encoding.as_deref() {
        Some("gzip") => unpacked(&mut MultiGzDecoder::new(body)),
        // A zlib stream, or a raw one.
        Some("deflate") => unpacked(&mut ZlibDecoder::new(body))
            .or_else(|_| unpacked(&mut DeflateDecoder::new(body))),
        _ => return,
    };
    let size = size.expect("what was accepted can be decompressed");
    assert!(size <= DECOMPRESSED_MAX, "a bomb of {size} bytes was read");
}

/// An independent parser agrees on what is JSON.
fn check_json(event: &Event, outcome: &Result<usize, Rejection>, coding: Coding) {
    let Coding::Raw("" | "utf-8") = coding else {
        return;
    };
    let Ok(text) = std::str::from_utf8(&event.body) else {
        let code = outcome.as_ref().map_err(|rejection| rejection.code);
        assert!(
            matches!(code, Err(RejectionCode::NotUtf8 | RejectionCode::TooLarge)),
            "{code:?} for bytes that are not UTF-8"
        );
        return;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    match (outcome, values) {
        (Ok(_), Err(error)) => assert!(
            // The other parser also refuses numbers that no float holds where no field wants them.
            error.to_string().contains("out of range"),
            "{error} in an accepted body"
        ),
        (Err(rejection), Ok(values)) if values.len() == 1 => assert_ne!(
            rejection.code,
            RejectionCode::MalformedJson,
            "{rejection:?} for one JSON value"
        ),
        _ => {}
    }
}

/// A body that was packed means what it means unpacked, as long as no size limit is met.
fn check_packing(schema: &Arc<Schema>, input: Input<'_>, packed: &[Event]) {
    let decode = |event: &Event| {
        let mut readings = buffer(schema);
        let outcome = Decoder::general(Arc::clone(schema)).decode(event, &mut readings);
        (outcome, readings)
    };
    for (piece, packed) in input.pieces(MESSAGES_MAX).zip(packed) {
        let text: Cow<'_, str> = String::from_utf8_lossy(piece);
        let plain = event(packed.sequence, text.as_bytes(), Coding::Raw(""));
        let ((plain, plain_rows), (packed, packed_rows)) = (decode(&plain), decode(packed));
        let too_large = |outcome: &Result<usize, Rejection>| matches!(outcome, Err(rejection) if rejection.code == RejectionCode::TooLarge);
        if too_large(&plain) || too_large(&packed) {
            continue;
        }
        if text.is_empty() || piece.len() == 1 {
            // The two tell an empty body in different words.
            assert_eq!(plain.is_ok(), packed.is_ok());
            continue;
        }
        assert_eq!(plain, packed, "packing changed the answer");
        assert_same(&plain_rows, &packed_rows);
    }
}
