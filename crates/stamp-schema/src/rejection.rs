//! The closed set of reasons for which an event is not a reading.

use std::fmt;

/// Longest part of a value that a `detail` repeats, in characters.
const VALUE_CHARS_MAX: usize = 100;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why an event was rejected. Each code has a page in docs/errors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RejectionCode {
            $($(#[$doc])* $name,)*
        }

        impl RejectionCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text in the `reason` column and in metrics.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

codes! {
    /// The message is a notification of the hub, not a device's reading.
    NotTelemetry = "not_telemetry",
    /// The hub stamped no device id.
    NoDevice = "no_device",
    /// The body, or an array in it, is empty.
    EmptyBody = "empty_body",
    /// The body or its decompressed form is above the schema's limit.
    TooLarge = "too_large",
    /// A content encoding or charset that is not supported.
    UnsupportedEncoding = "unsupported_encoding",
    /// Compressed data that cannot be decompressed.
    BadCompression = "bad_compression",
    /// Bytes that are not text in the charset they claim.
    NotUtf8 = "not_utf8",
    /// Not JSON by RFC 8259.
    MalformedJson = "malformed_json",
    /// JSON, but not an object, an array of objects or lines of objects.
    NotAnObject = "not_an_object",
    /// Nested deeper than the schema's limit.
    TooDeep = "too_deep",
    /// A device batch with more elements than the schema's limit.
    TooManyElements = "too_many_elements",
    /// The same key twice in one object.
    DuplicateKey = "duplicate_key",
    /// A key that the schema does not name, when the schema refuses these.
    UnknownField = "unknown_field",
    /// A required field is absent or null.
    MissingField = "missing_field",
    /// A value of another JSON type than the field's.
    WrongType = "wrong_type",
    /// A number outside the field's range, or outside what its type can hold.
    OutOfRange = "out_of_range",
    /// A number too large for a 64-bit float.
    NotFinite = "not_finite",
    /// A value that is not in the field's list.
    NotAllowed = "not_allowed",
    /// A string longer than the field allows.
    TooLong = "too_long",
    /// A timestamp that is not in the declared format, or not a real date.
    BadTimestamp = "bad_timestamp",
    /// Decoding the event panicked: a fault of this program, not of the event.
    DecoderPanic = "decoder_panic",
}

impl fmt::Display for RejectionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An event that is not valid: data for the `rejected` table, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Stable reason.
    pub code: RejectionCode,
    /// For a person: element, path, byte position and value, as far as they apply. Byte positions
    /// count from 0 in the body after decompression and conversion to UTF-8.
    pub detail: String,
    /// The schema rule that was broken, such as `fields.temp.max`; empty when none applies.
    pub rule: String,
}

/// A rejection while its place is still being found out: each level that it passes adds its part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: RejectionCode,
    message: String,
    rule: String,
    path: String,
    at: Option<usize>,
    element: Option<usize>,
}

/// What a step of the decoder gives: boxed, because faults are rare and results are hot.
pub(crate) type Decoded<T> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(crate) fn new(code: RejectionCode, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            message: message.into(),
            rule: String::new(),
            path: String::new(),
            at: None,
            element: None,
        })
    }

    /// Names the schema rule.
    pub(crate) fn rule(mut self: Box<Self>, rule: impl Into<String>) -> Box<Self> {
        self.rule = rule.into();
        self
    }

    /// Names the byte, unless a deeper level already did.
    pub(crate) fn at(mut self: Box<Self>, at: usize) -> Box<Self> {
        self.at.get_or_insert(at);
        self
    }

    /// Names the element of a device batch.
    pub(crate) fn element(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.element.get_or_insert(index);
        self
    }

    /// Prefixes the path with the key it passed through.
    pub(crate) fn inside(mut self: Box<Self>, key: &str) -> Box<Self> {
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{}{separator}{}", cut(key), self.path);
        self
    }

    /// Prefixes the path with the place in the array it passed through.
    pub(crate) fn inside_array(mut self: Box<Self>, index: usize) -> Box<Self> {
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("[{index}]{separator}{}", self.path);
        self
    }
}

impl From<Box<Fault>> for Rejection {
    fn from(fault: Box<Fault>) -> Self {
        let mut detail = String::new();
        if let Some(element) = fault.element {
            detail.push_str(&format!("element {element}: "));
        }
        if !fault.path.is_empty() {
            detail.push_str(&format!("`{}`: ", fault.path));
        }
        detail.push_str(&fault.message);
        if let Some(at) = fault.at {
            detail.push_str(&format!(" (byte {at})"));
        }
        Self {
            code: fault.code,
            detail,
            rule: fault.rule,
        }
    }
}

/// A value short enough for a detail text.
pub(crate) fn cut(value: &str) -> String {
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
