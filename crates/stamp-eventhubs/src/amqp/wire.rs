//! Reads encoded AMQP 1.0 values in place (AMQP 1.0 part 1, types).
//!
//! Nothing is copied and nothing is trusted: every length is checked against the bytes that are
//! there, and nesting is followed no deeper than [`DEPTH_MAX`].

/// Deepest nesting of described values that is followed.
const DEPTH_MAX: u8 = 8;

/// Why bytes are not AMQP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// One value. Texts may hold anything: they are checked where they are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Char(u32),
    /// Milliseconds since 1970 UTC.
    TimestampMs(i64),
    Uuid(&'a [u8]),
    Binary(&'a [u8]),
    /// A string or a symbol.
    Text(&'a [u8]),
    List(Reader<'a>),
    Map(Reader<'a>),
    Array(Array<'a>),
    /// A decimal, a described value or a type that AMQP does not have: its whole encoding.
    Other(&'a [u8]),
}

/// Elements of one type that share a constructor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Array<'a> {
    code: u8,
    count: usize,
    elements: Reader<'a>,
}

/// A place in encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next value.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.rest;
        let code = self.byte()?;
        if code == 0 {
            self.skip_described(DEPTH_MAX)?;
            let length = start.len() - self.rest.len();
            return Ok(Value::Other(&start[..length]));
        }
        let content = self.content(code)?;
        let length = start.len() - self.rest.len();
        self.interpret(code, content, &start[..length])
    }

    /// Reads the descriptor of a described value, and leaves the value itself for the next call:
    /// the descriptor's code, or 0 for a symbol that is not in `names`.
    pub(crate) fn descriptor(&mut self, names: &[(&str, u64)]) -> Result<u64, Malformed> {
        if self.byte()? != 0 {
            return Err(Malformed("there is no descriptor where one must be"));
        }
        match self.value()? {
            Value::Uint(code) => Ok(code),
            Value::Text(text) => Ok(names
                .iter()
                .find(|(name, _)| name.as_bytes() == text)
                .map_or(0, |(_, code)| *code)),
            _ => Err(Malformed("a descriptor is neither a number nor a symbol")),
        }
    }

    fn skip_described(&mut self, depth: u8) -> Result<(), Malformed> {
        if depth == 0 {
            return Err(Malformed("descriptors are nested too deep"));
        }
        for _ in ["descriptor", "value"] {
            match self.byte()? {
                0 => self.skip_described(depth - 1)?,
                code => {
                    self.content(code)?;
                }
            }
        }
        Ok(())
    }

    /// The bytes that belong to a constructor, without its own lengths. The upper half of a
    /// constructor says how long its content is (part 1, figure 1.2).
    fn content(&mut self, code: u8) -> Result<&'a [u8], Malformed> {
        let length = match code >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xa | 0xc | 0xe => usize::from(self.byte()?),
            0xb | 0xd | 0xf => self.uint(4)? as usize,
            _ => return Err(Malformed("no AMQP type has this constructor")),
        };
        self.take(length)
    }

    fn interpret(
        &self,
        code: u8,
        content: &'a [u8],
        whole: &'a [u8],
    ) -> Result<Value<'a>, Malformed> {
        Ok(match code {
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x56 => Value::Bool(content != [0]),
            0x43 | 0x44 => Value::Uint(0),
            0x50 | 0x52 | 0x53 | 0x60 | 0x70 | 0x80 => Value::Uint(unsigned(content)),
            0x51 | 0x54 | 0x55 | 0x61 | 0x71 | 0x81 => Value::Int(signed(content)),
            0x72 => Value::Float(f64::from(f32::from_bits(unsigned(content) as u32))),
            0x82 => Value::Float(f64::from_bits(unsigned(content))),
            0x73 => Value::Char(unsigned(content) as u32),
            0x83 => Value::TimestampMs(signed(content)),
            0x98 => Value::Uuid(content),
            0xa0 | 0xb0 => Value::Binary(content),
            0xa1 | 0xa3 | 0xb1 | 0xb3 => Value::Text(content),
            0x45 => Value::List(Reader::new(&[])),
            0xc0 | 0xd0 => Value::List(counted(code, content)?.1),
            0xc1 | 0xd1 => Value::Map(counted(code, content)?.1),
            0xe0 | 0xf0 => {
                let (count, mut elements) = counted(code, content)?;
                let code = elements.byte()?;
                Value::Array(Array {
                    code,
                    count,
                    elements,
                })
            }
            _ => Value::Other(whole),
        })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn uint(&mut self, length: usize) -> Result<u64, Malformed> {
        self.take(length).map(unsigned)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Malformed("a value is longer than the bytes that are left")),
        }
    }
}

impl<'a> Array<'a> {
    /// The encoded elements.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.elements.rest
    }

    /// Reads the elements, at most as many as the array says it has.
    pub(crate) fn values(mut self) -> impl Iterator<Item = Result<Value<'a>, Malformed>> {
        (0..self.count).map(move |_| {
            let start = self.elements.rest;
            let content = self.elements.content(self.code)?;
            let length = start.len() - self.elements.rest.len();
            // Elements without content would make the count a free loop.
            if length == 0 {
                return Err(Malformed("an array of empty elements"));
            }
            self.elements
                .interpret(self.code, content, &start[..length])
        })
    }
}

/// Count and elements of a compound or array. The count has the width of the size before it.
fn counted(code: u8, content: &[u8]) -> Result<(usize, Reader<'_>), Malformed> {
    let mut elements = Reader::new(content);
    let count = match code >> 4 {
        0xc | 0xe => u64::from(elements.byte()?),
        _ => elements.uint(4)?,
    };
    Ok((count as usize, elements))
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    // Shifting up and down again spreads the sign over the unused bits.
    ((unsigned(bytes) << unused) as i64) >> unused
}

#[cfg(test)]
mod tests;
