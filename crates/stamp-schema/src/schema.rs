//! A tenant's schema, compiled: what the decoder asks while it reads a body.

use std::collections::HashMap;
use std::fmt;

use foldhash::fast::FixedState;
use stamp_model::Shape;

use crate::compile;
use crate::error::SchemaError;
use crate::field::{Check, Slot};
use crate::source::UnknownFields;

/// Largest schema file that is read, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// A tenant's schema. Immutable; share it in an `Arc`.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(crate) shape: Shape,
    /// One per field in column order, then the event time when the body carries it.
    pub(crate) slots: Vec<Slot>,
    /// Numbers of the slots that must have a value.
    pub(crate) required: Vec<usize>,
    pub(crate) event_time: EventTime,
    pub(crate) unknown_fields: UnknownFields,
    pub(crate) limits: Limits,
    pub(crate) root: Node,
    /// A text in a body at which tests want the decoder to panic.
    #[cfg(feature = "faults")]
    pub(crate) panic_at: Option<Box<str>>,
}

/// Where a reading's `ts` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTime {
    /// The hub's enqueued time.
    Enqueued,
    /// A timestamp of the body, believed within a bound around the hub's enqueued time.
    Field {
        /// Farthest ahead of the enqueued time, microseconds.
        ahead_max_us: i64,
        /// Farthest behind the enqueued time, microseconds.
        behind_max_us: i64,
    },
}

impl EventTime {
    /// Whether a claimed time is outside the bound.
    #[inline]
    pub(crate) fn is_suspect(self, ts_us: i64, enqueued_at_us: i64) -> bool {
        match self {
            Self::Enqueued => false,
            Self::Field {
                ahead_max_us,
                behind_max_us,
            } => {
                ts_us > enqueued_at_us.saturating_add(ahead_max_us)
                    || ts_us < enqueued_at_us.saturating_sub(behind_max_us)
            }
        }
    }
}

/// How large and how deep a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of objects and arrays; an element's own object is level 1.
    pub depth_max: usize,
    /// Bytes of a body as received.
    pub body_bytes_max: usize,
    /// Bytes after decompression or conversion to UTF-8.
    pub decompressed_bytes_max: usize,
    /// Elements of a device batch.
    pub batch_max: usize,
}

/// Keys of one JSON object that the schema names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) children: HashMap<Box<str>, Child, FixedState>,
}

#[derive(Debug, Clone)]
pub(crate) enum Child {
    Slot(usize),
    Object(Node),
}

/// Identifies what a schema means: equal for two files that decode every body alike, so a change
/// of comments, order of keys or spelling of a default does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Schema {
    /// Reads a schema file. The language is described in docs/schema.md.
    ///
    /// # Errors
    /// [`SchemaError::TooLarge`] above [`SCHEMA_BYTES_MAX`]; [`SchemaError::Toml`] when it is not
    /// TOML, has an unknown key or a value of the wrong type; [`SchemaError::Invalid`] when it
    /// breaks a rule of the language. Each names line and column.
    pub fn parse(toml: &str) -> Result<Self, SchemaError> {
        compile::compile(toml)
    }

    /// The same schema, whose decoder panics when it has pushed the row of an element whose
    /// text contains `text`: a fault on purpose.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn panicking_at(mut self, text: &str) -> Self {
        self.panic_at = Some(text.into());
        self
    }

    /// Panics when tests asked for it.
    #[cfg(feature = "faults")]
    pub(crate) fn panic_if_asked(&self, element: &str) {
        if let Some(text) = &self.panic_at {
            assert!(!element.contains(&**text), "asked to panic at {text:?}");
        }
    }

    /// The fields, in column order.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where event time comes from.
    #[must_use]
    pub fn event_time(&self) -> EventTime {
        self.event_time
    }

    /// Limits on a body.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A stable 64-bit hash of everything that decides what a body means.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Fnv::new();
        for (field, slot) in self.shape.fields.iter().zip(&self.slots) {
            hash.text(&field.name);
            hash.text(field.unit.as_deref().unwrap_or(""));
            hash.text(if field.rollup { "rollup" } else { "" });
            hash.slot(slot);
        }
        for slot in &self.slots[self.shape.fields.len()..] {
            hash.slot(slot);
        }
        hash.text(&match self.event_time {
            EventTime::Enqueued => "enqueued".to_owned(),
            EventTime::Field {
                ahead_max_us,
                behind_max_us,
            } => format!("field {ahead_max_us} {behind_max_us}"),
        });
        hash.text(match self.unknown_fields {
            UnknownFields::Ignore => "ignore",
            UnknownFields::Reject => "reject",
        });
        let Limits {
            depth_max,
            body_bytes_max,
            decompressed_bytes_max,
            batch_max,
        } = self.limits;
        hash.text(&format!(
            "{depth_max} {body_bytes_max} {decompressed_bytes_max} {batch_max}"
        ));
        Fingerprint(hash.0)
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): fixed for all time, unlike the standard library's hasher.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn text(&mut self, text: &str) {
        // 0xff never occurs in UTF-8, so it parts two texts without doubt.
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn slot(&mut self, slot: &Slot) {
        self.text(&slot.path);
        self.text(if slot.required { "required" } else { "" });
        match &slot.check {
            Check::Bool => self.text("bool"),
            Check::I64 { min, max, allowed } => {
                self.text(&format!("i64 {min} {max} {allowed:?}"));
            }
            Check::F64 { min, max, allowed } => {
                self.text(&format!("f64 {min:?} {max:?} {allowed:?}"));
            }
            Check::String { bytes_max, allowed } => {
                self.text(&format!("string {bytes_max} {allowed:?}"));
            }
            Check::Timestamp { format } => self.text(format.name()),
        }
    }
}
