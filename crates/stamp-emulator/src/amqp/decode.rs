//! Reads AMQP 1.0 values from bytes a peer sent, believing nothing.
//!
//! Sizes and counts are checked against what is there, nesting and element counts are bounded, and
//! nothing is allocated before its bytes were seen.

/// Deepest nesting of lists, maps, arrays and described values. The clients need five.
const DEPTH_MAX: u32 = 16;

/// Most elements one [`Reader::value`] call may build, so that a small frame of one-byte elements
/// cannot become a large tree.
const ELEMENTS_MAX: u32 = 8_192;

/// Why bytes are not the AMQP value that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the data ends inside a value")]
    Truncated,
    #[error("unknown type code 0x{0:02x}")]
    UnknownCode(u8),
    #[error("expected {expected}, found type code 0x{found:02x}")]
    Type { expected: &'static str, found: u8 },
    #[error("a text value is not UTF-8")]
    Text,
    #[error("values are nested deeper than 16 levels")]
    Depth,
    #[error("a value has more than 8192 elements")]
    Elements,
    #[error("size and count of a compound value disagree")]
    Compound,
    #[error("mandatory field {0} is missing")]
    Missing(&'static str),
}

/// One AMQP value. Wide numbers the emulator never looks at keep only their bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Timestamp(i64),
    /// float, double, char, uuid and the decimals: type code and bytes.
    Other(u8, Vec<u8>),
    Binary(Vec<u8>),
    String(String),
    Symbol(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Array(Vec<Value>),
    Described(Box<Value>, Box<Value>),
}

impl Value {
    /// The text of a string or symbol.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Any integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(v) => Some(v.into()),
            Self::Ushort(v) => Some(v.into()),
            Self::Uint(v) => Some(v.into()),
            Self::Ulong(v) => i64::try_from(v).ok(),
            Self::Byte(v) => Some(v.into()),
            Self::Short(v) => Some(v.into()),
            Self::Int(v) => Some(v.into()),
            Self::Long(v) | Self::Timestamp(v) => Some(v),
            _ => None,
        }
    }

    /// Looks a text key up in a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(k, _)| k.as_text() == Some(key))
                .map(|(_, v)| v),
            _ => None,
        }
    }
}

/// A cursor over bytes that were received.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

/// The fields of a list or the keys and values of a map, one after the other.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .bytes
            .split_at_checked(n)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A length that is one byte for the short form of a type and four for the long one.
    fn length(&mut self, short: bool) -> Result<usize, DecodeError> {
        if short {
            self.u8().map(usize::from)
        } else {
            self.u32().map(|n| n as usize)
        }
    }

    /// Size, count and content of a compound value after its code.
    fn compound(&mut self, short: bool) -> Result<Items<'a>, DecodeError> {
        let size = self.length(short)?;
        let mut reader = Reader::new(self.take(size)?);
        let left = u32::try_from(reader.length(short)?).map_err(|_| DecodeError::Compound)?;
        Ok(Items { reader, left })
    }

    /// Reads a list's head.
    pub fn list(&mut self) -> Result<Items<'a>, DecodeError> {
        match self.u8()? {
            0x45 => Ok(Items {
                reader: Reader::new(&[]),
                left: 0,
            }),
            0xc0 => self.compound(true),
            0xd0 => self.compound(false),
            found => Err(DecodeError::Type {
                expected: "a list",
                found,
            }),
        }
    }

    /// Reads a map's head; the items are key, value, key, value and so on.
    pub fn map(&mut self) -> Result<Items<'a>, DecodeError> {
        let items = match self.u8()? {
            0xc1 => self.compound(true)?,
            0xd1 => self.compound(false)?,
            found => {
                return Err(DecodeError::Type {
                    expected: "a map",
                    found,
                });
            }
        };
        if items.left.is_multiple_of(2) {
            Ok(items)
        } else {
            Err(DecodeError::Compound)
        }
    }

    /// Reads a data section's binary, whole.
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        match self.u8()? {
            code @ (0xa0 | 0xb0) => {
                let n = self.length(code == 0xa0)?;
                self.take(n)
            }
            found => Err(DecodeError::Type {
                expected: "binary",
                found,
            }),
        }
    }

    /// Reads the descriptor of a described value as its numeric code; known symbols are folded.
    pub fn descriptor(&mut self) -> Result<u64, DecodeError> {
        match self.u8()? {
            0x00 => {}
            found => {
                return Err(DecodeError::Type {
                    expected: "a described value",
                    found,
                });
            }
        }
        match self.value()? {
            Value::Ulong(code) => Ok(code),
            Value::Symbol(name) => Ok(super::code_of(&name)),
            _ => Err(DecodeError::Type {
                expected: "a descriptor",
                found: 0,
            }),
        }
    }

    /// Steps over one value, checking its whole structure, and gives its bytes.
    pub fn skip(&mut self) -> Result<&'a [u8], DecodeError> {
        let before = self.bytes;
        self.walk(0)?;
        Ok(&before[..before.len() - self.bytes.len()])
    }

    fn walk(&mut self, depth: u32) -> Result<(), DecodeError> {
        let code = self.u8()?;
        self.walk_body(code, depth)
    }

    fn walk_body(&mut self, code: u8, depth: u32) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::Depth);
        }
        match code {
            0x00 => {
                self.walk(depth + 1)?;
                self.walk(depth + 1)
            }
            0xa1 | 0xa3 | 0xb1 | 0xb3 => {
                let n = self.length(code < 0xb0)?;
                utf8(self.take(n)?).map(|_| ())
            }
            0xa0 | 0xb0 => {
                let n = self.length(code < 0xb0)?;
                self.take(n).map(|_| ())
            }
            0xc0 | 0xc1 | 0xd0 | 0xd1 => {
                let mut items = self.compound(code < 0xd0)?;
                let is_map = code & 1 == 1;
                if is_map && !items.left.is_multiple_of(2) {
                    return Err(DecodeError::Compound);
                }
                items.walk_all(depth + 1)
            }
            0xe0 | 0xf0 => self.compound(code < 0xf0)?.walk_array(depth + 1),
            _ => {
                let n = fixed_width(code).ok_or(DecodeError::UnknownCode(code))?;
                self.take(n).map(|_| ())
            }
        }
    }

    /// Reads one value into a tree.
    pub fn value(&mut self) -> Result<Value, DecodeError> {
        let mut budget = ELEMENTS_MAX;
        let code = self.u8()?;
        self.build(code, 0, &mut budget)
    }

    fn build(&mut self, code: u8, depth: u32, budget: &mut u32) -> Result<Value, DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError::Depth);
        }
        *budget = budget.checked_sub(1).ok_or(DecodeError::Elements)?;
        match code {
            0x00 => {
                let code = self.u8()?;
                let descriptor = self.build(code, depth + 1, budget)?;
                let code = self.u8()?;
                let value = self.build(code, depth + 1, budget)?;
                Ok(Value::Described(Box::new(descriptor), Box::new(value)))
            }
            0xa0..=0xbf => self.build_variable(code),
            0x45 => Ok(Value::List(Vec::new())),
            0xc0 | 0xd0 => {
                let mut items = self.compound(code < 0xd0)?;
                items.build_all(depth + 1, budget).map(Value::List)
            }
            0xc1 | 0xd1 => {
                let mut items = self.compound(code < 0xd0)?;
                pairs(items.build_all(depth + 1, budget)?).map(Value::Map)
            }
            0xe0 | 0xf0 => {
                let mut items = self.compound(code < 0xf0)?;
                items.build_array(depth + 1, budget).map(Value::Array)
            }
            _ => self.build_fixed(code),
        }
    }

    fn build_variable(&mut self, code: u8) -> Result<Value, DecodeError> {
        let n = self.length(code < 0xb0)?;
        let bytes = self.take(n)?;
        match code & 0x0f {
            0x0 => Ok(Value::Binary(bytes.to_vec())),
            0x1 => Ok(Value::String(utf8(bytes)?.to_owned())),
            0x3 => Ok(Value::Symbol(utf8(bytes)?.to_owned())),
            _ => Err(DecodeError::UnknownCode(code)),
        }
    }

    fn build_fixed(&mut self, code: u8) -> Result<Value, DecodeError> {
        Ok(match code {
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x43 => Value::Uint(0),
            0x44 => Value::Ulong(0),
            0x50 => Value::Ubyte(self.u8()?),
            0x51 => Value::Byte(i8::from_be_bytes(self.array()?)),
            0x52 => Value::Uint(self.u8()?.into()),
            0x53 => Value::Ulong(self.u8()?.into()),
            0x54 => Value::Int(i8::from_be_bytes(self.array()?).into()),
            0x55 => Value::Long(i8::from_be_bytes(self.array()?).into()),
            0x56 => Value::Bool(self.u8()? != 0),
            0x60 => Value::Ushort(u16::from_be_bytes(self.array()?)),
            0x61 => Value::Short(i16::from_be_bytes(self.array()?)),
            0x70 => Value::Uint(self.u32()?),
            0x71 => Value::Int(i32::from_be_bytes(self.array()?)),
            0x80 => Value::Ulong(u64::from_be_bytes(self.array()?)),
            0x81 => Value::Long(i64::from_be_bytes(self.array()?)),
            0x83 => Value::Timestamp(i64::from_be_bytes(self.array()?)),
            _ => {
                let n = fixed_width(code).ok_or(DecodeError::UnknownCode(code))?;
                Value::Other(code, self.take(n)?.to_vec())
            }
        })
    }
}

impl<'a> Items<'a> {
    fn walk_all(&mut self, depth: u32) -> Result<(), DecodeError> {
        while self.left > 0 {
            self.left -= 1;
            self.reader.walk(depth)?;
        }
        self.end()
    }

    fn walk_array(&mut self, depth: u32) -> Result<(), DecodeError> {
        if self.left == 0 {
            return Ok(());
        }
        let code = self.array_code(depth)?;
        // Elements without bytes need no steps, whatever the count claims.
        if fixed_width(code) != Some(0) {
            for _ in 0..self.left {
                self.reader.walk_body(code, depth)?;
            }
        }
        self.end()
    }

    /// The code of an array's elements; a descriptor before it is stepped over.
    fn array_code(&mut self, depth: u32) -> Result<u8, DecodeError> {
        let code = self.reader.u8()?;
        if code != 0 {
            return Ok(code);
        }
        self.reader.walk(depth + 1)?;
        match self.reader.u8()? {
            0 => Err(DecodeError::Depth),
            code => Ok(code),
        }
    }

    fn build_all(&mut self, depth: u32, budget: &mut u32) -> Result<Vec<Value>, DecodeError> {
        let mut values = Vec::new();
        while self.left > 0 {
            self.left -= 1;
            let code = self.reader.u8()?;
            values.push(self.reader.build(code, depth, budget)?);
        }
        self.end().map(|()| values)
    }

    fn build_array(&mut self, depth: u32, budget: &mut u32) -> Result<Vec<Value>, DecodeError> {
        let mut values = Vec::new();
        if self.left == 0 {
            return Ok(values);
        }
        let code = self.array_code(depth)?;
        for _ in 0..self.left {
            values.push(self.reader.build(code, depth, budget)?);
        }
        self.end().map(|()| values)
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.reader.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Compound)
        }
    }

    /// How many items follow.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The next item's bytes; `None` when it is null or the list is over (trailing nulls may be cut).
    pub fn raw(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let raw = self.reader.skip()?;
        Ok((raw != [0x40]).then_some(raw))
    }

    /// The next item; `None` when it is null or the list is over.
    pub fn value(&mut self) -> Result<Option<Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let value = self.reader.value()?;
        Ok((value != Value::Null).then_some(value))
    }

    /// Steps over `n` items.
    pub fn pass(&mut self, n: u32) -> Result<(), DecodeError> {
        for _ in 0..n {
            self.raw()?;
        }
        Ok(())
    }

    pub fn uint(&mut self) -> Result<Option<u32>, DecodeError> {
        match self.value()? {
            None => Ok(None),
            Some(Value::Uint(v)) => Ok(Some(v)),
            Some(_) => Err(DecodeError::Type {
                expected: "uint",
                found: 0,
            }),
        }
    }

    pub fn ushort(&mut self) -> Result<Option<u16>, DecodeError> {
        match self.value()? {
            None => Ok(None),
            Some(Value::Ushort(v)) => Ok(Some(v)),
            Some(_) => Err(DecodeError::Type {
                expected: "ushort",
                found: 0,
            }),
        }
    }

    pub fn ubyte(&mut self) -> Result<Option<u8>, DecodeError> {
        match self.value()? {
            None => Ok(None),
            Some(Value::Ubyte(v)) => Ok(Some(v)),
            Some(_) => Err(DecodeError::Type {
                expected: "ubyte",
                found: 0,
            }),
        }
    }

    pub fn boolean(&mut self) -> Result<Option<bool>, DecodeError> {
        match self.value()? {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(v)),
            Some(_) => Err(DecodeError::Type {
                expected: "boolean",
                found: 0,
            }),
        }
    }

    pub fn text(&mut self) -> Result<Option<String>, DecodeError> {
        match self.value()? {
            None => Ok(None),
            Some(Value::String(v) | Value::Symbol(v)) => Ok(Some(v)),
            Some(_) => Err(DecodeError::Type {
                expected: "string or symbol",
                found: 0,
            }),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)
}

fn pairs(values: Vec<Value>) -> Result<Vec<(Value, Value)>, DecodeError> {
    if !values.len().is_multiple_of(2) {
        return Err(DecodeError::Compound);
    }
    let mut pairs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Bytes of a fixed-width type after its code.
fn fixed_width(code: u8) -> Option<usize> {
    match code {
        0x40..=0x45 => Some(0),
        0x50..=0x56 => Some(1),
        0x60 | 0x61 => Some(2),
        0x70..=0x74 => Some(4),
        0x80..=0x84 => Some(8),
        0x94 | 0x98 => Some(16),
        _ => None,
    }
}
