//! The sections of one encoded AMQP message (AMQP 1.0 part 3.2), found in place.

use bytes::{Bytes, BytesMut};

use super::wire::{Malformed, Reader, Value};

/// The sections that are of use here. Header, delivery annotations and footer are passed over.
#[derive(Debug, Default)]
pub(crate) struct Message<'a> {
    pub(crate) annotations: Option<Reader<'a>>,
    pub(crate) properties: Option<Reader<'a>>,
    pub(crate) application_properties: Option<Reader<'a>>,
    pub(crate) body: Body<'a>,
    /// Why reading ended early. What was found before it is there.
    pub(crate) malformed: Option<Malformed>,
}

/// The body sections.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Body<'a> {
    /// No body section at all.
    #[default]
    Absent,
    /// One data section.
    Data(&'a [u8]),
    /// Several data sections, in order.
    DataSections(Vec<&'a [u8]>),
    /// An amqp-value section.
    Value(Value<'a>),
    /// One or more amqp-sequence sections.
    Sequence,
}

const SECTIONS: [(&str, u64); 9] = [
    ("amqp:header:list", 0x70),
    ("amqp:delivery-annotations:map", 0x71),
    ("amqp:message-annotations:map", 0x72),
    ("amqp:properties:list", 0x73),
    ("amqp:application-properties:map", 0x74),
    ("amqp:data:binary", 0x75),
    ("amqp:amqp-sequence:list", 0x76),
    ("amqp:amqp-value:*", 0x77),
    ("amqp:footer:map", 0x78),
];

impl<'a> Message<'a> {
    /// Finds the sections. Never fails: see [`Message::malformed`].
    pub(crate) fn parse(encoded: &'a [u8]) -> Self {
        let mut message = Self::default();
        let mut reader = Reader::new(encoded);
        while !reader.is_empty() {
            if let Err(malformed) = message.read_section(&mut reader) {
                message.malformed = Some(malformed);
                break;
            }
        }
        message
    }

    fn read_section(&mut self, reader: &mut Reader<'a>) -> Result<(), Malformed> {
        let code = reader.descriptor(&SECTIONS)?;
        let section = reader.value()?;
        match (code, section) {
            (0x72, Value::Map(map)) => once(&mut self.annotations, map),
            (0x73, Value::List(list)) => once(&mut self.properties, list),
            (0x74, Value::Map(map)) => once(&mut self.application_properties, map),
            (0x75, Value::Binary(data)) => self.body.push(data),
            (0x76, Value::List(_)) => self.body.push_sequence(),
            (0x77, value) => self.body.put(value),
            (0x70 | 0x71 | 0x78, _) => Ok(()),
            _ => Err(Malformed(
                "a section that AMQP does not have, or of another type",
            )),
        }
    }

    /// Walks through a map section: application properties or annotations.
    pub(crate) fn entries(
        map: Option<Reader<'a>>,
    ) -> impl Iterator<Item = Result<(Value<'a>, Value<'a>), Malformed>> {
        let mut rest = map.unwrap_or(Reader::new(&[]));
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let entry = rest.value().and_then(|key| Ok((key, rest.value()?)));
            if entry.is_err() {
                rest = Reader::new(&[]);
            }
            Some(entry)
        })
    }
}

/// A section that may be there once. The first one is the hub's: what follows the whole message of
/// a sender must not take its place.
fn once<T>(place: &mut Option<T>, section: T) -> Result<(), Malformed> {
    if place.is_some() {
        return Err(Malformed("a section is there twice"));
    }
    *place = Some(section);
    Ok(())
}

const TWO_BODIES: Malformed = Malformed("there are two bodies");

impl<'a> Body<'a> {
    fn push(&mut self, data: &'a [u8]) -> Result<(), Malformed> {
        match self {
            Self::Absent => *self = Self::Data(data),
            Self::Data(first) => *self = Self::DataSections(vec![first, data]),
            Self::DataSections(sections) => sections.push(data),
            Self::Value(_) | Self::Sequence => return Err(TWO_BODIES),
        }
        Ok(())
    }

    fn push_sequence(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Absent | Self::Sequence => *self = Self::Sequence,
            _ => return Err(TWO_BODIES),
        }
        Ok(())
    }

    fn put(&mut self, value: Value<'a>) -> Result<(), Malformed> {
        match self {
            Self::Absent => *self = Self::Value(value),
            _ => return Err(TWO_BODIES),
        }
        Ok(())
    }

    /// The body's bytes; `None` for a body that is not bytes or text. `encoded` is the whole
    /// message, whose buffer is shared where possible.
    pub(crate) fn bytes(&self, encoded: &Bytes) -> Option<Bytes> {
        match self {
            Self::Absent | Self::Value(Value::Null) => Some(Bytes::new()),
            Self::Data(data) | Self::Value(Value::Binary(data) | Value::Text(data)) => {
                Some(encoded.slice_ref(data))
            }
            Self::DataSections(sections) => {
                let length = sections.iter().map(|data| data.len()).sum();
                let mut joined = BytesMut::with_capacity(length);
                for data in sections {
                    joined.extend_from_slice(data);
                }
                Some(joined.freeze())
            }
            Self::Value(_) | Self::Sequence => None,
        }
    }
}
