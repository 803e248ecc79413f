//! The rare performatives of a peer, read in place.
//!
//! They are read with our own reader and not with `serde_amqp`, which panics on some maps that a
//! peer can send; what we say ourselves is written with its types ([`super::compose`]). A test
//! compares the two on what both can read.

use super::super::wire::{Malformed, Reader, Value};

/// What a peer says, as far as a receiver needs it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Performative<'a> {
    Mechanisms {
        anonymous: bool,
    },
    Outcome {
        code: u64,
    },
    Open {
        frame_bytes_max: u32,
        idle_ms: u32,
    },
    Begin {
        /// Ours, when this answers our `begin`.
        remote_channel: Option<u32>,
        next_outgoing_id: u32,
        incoming_window: u32,
    },
    Attach {
        name: &'a [u8],
        handle: u32,
        /// Keys of the source's filter that are in force; `None` without a source: the link is
        /// refused, and a detach says why.
        filters: Option<Vec<&'a [u8]>>,
        /// Whether there is a target.
        target: bool,
        initial_delivery_count: u32,
    },
    Flow {
        next_incoming_id: Option<u32>,
        incoming_window: u32,
        handle: Option<u32>,
        delivery_count: Option<u32>,
        link_credit: u32,
        echo: bool,
    },
    Disposition {
        /// Whether it is about what we sent.
        by_receiver: bool,
        first: u32,
        last: u32,
        rejected: Option<Said>,
    },
    Detach {
        handle: u32,
        error: Option<Said>,
    },
    End {
        error: Option<Said>,
    },
    Close {
        error: Option<Said>,
    },
}

/// The peer's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) condition: String,
    pub(crate) description: Option<String>,
}

const NAMES: [(&str, u64); 11] = [
    ("amqp:open:list", 0x10),
    ("amqp:begin:list", 0x11),
    ("amqp:attach:list", 0x12),
    ("amqp:flow:list", 0x13),
    ("amqp:transfer:list", 0x14),
    ("amqp:disposition:list", 0x15),
    ("amqp:detach:list", 0x16),
    ("amqp:end:list", 0x17),
    ("amqp:close:list", 0x18),
    ("amqp:sasl-mechanisms:list", 0x40),
    ("amqp:sasl-outcome:list", 0x44),
];

const ERROR: [(&str, u64); 1] = [("amqp:error:list", 0x1d)];
const REJECTED: [(&str, u64); 1] = [("amqp:rejected:list", 0x25)];
const SOURCE: [(&str, u64); 1] = [("amqp:source:list", 0x28)];

const UNKNOWN: Malformed = Malformed("a performative that has no place here");
const WRONG_TYPE: Malformed = Malformed("a field of a performative has a wrong type");

/// Reads the performative that a frame's body begins with.
///
/// # Errors
/// [`Malformed`] says what is wrong, also for a performative that a receiver is never sent.
pub(crate) fn read(body: &[u8]) -> Result<Performative<'_>, Malformed> {
    let (code, mut fields) = described(body, &NAMES)?;
    Ok(match code {
        0x10 => read_open(fields)?,
        0x11 => Performative::Begin {
            remote_channel: fields.uint()?,
            next_outgoing_id: fields.needed()?,
            incoming_window: fields.needed()?,
        },
        0x12 => read_attach(fields)?,
        0x13 => read_flow(fields)?,
        0x15 => read_disposition(fields)?,
        0x16 => {
            let handle = fields.needed()?;
            fields.skip(1)?; // closed: a link that is detached is of no more use to us either way
            Performative::Detach {
                handle,
                error: fields.error()?,
            }
        }
        0x17 => Performative::End {
            error: fields.error()?,
        },
        0x18 => Performative::Close {
            error: fields.error()?,
        },
        0x40 => read_mechanisms(fields)?,
        0x44 => Performative::Outcome {
            code: match fields.value()? {
                Value::Uint(code) => code,
                _ => return Err(WRONG_TYPE),
            },
        },
        _ => return Err(UNKNOWN),
    })
}

fn read_open(mut fields: Fields<'_>) -> Result<Performative<'_>, Malformed> {
    fields.skip(2)?; // container-id, hostname
    let frame_bytes_max = fields.uint()?.unwrap_or(u32::MAX);
    fields.skip(1)?; // channel-max: we use one channel
    Ok(Performative::Open {
        frame_bytes_max,
        idle_ms: fields.uint()?.unwrap_or(0),
    })
}

fn read_attach(mut fields: Fields<'_>) -> Result<Performative<'_>, Malformed> {
    let Value::Text(name) = fields.value()? else {
        return Err(WRONG_TYPE);
    };
    let handle = fields.needed()?;
    fields.skip(3)?; // role, snd-settle-mode, rcv-settle-mode
    let filters = match fields.value()? {
        Value::Other(source) => Some(read_filters(source)?),
        Value::Null => None,
        _ => return Err(WRONG_TYPE),
    };
    let target = fields.value()? != Value::Null;
    fields.skip(2)?; // unsettled, incomplete-unsettled
    Ok(Performative::Attach {
        name,
        handle,
        filters,
        target,
        initial_delivery_count: fields.uint()?.unwrap_or(0),
    })
}

/// The keys of a source's filter whose value is not null.
fn read_filters(source: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    const FILTER: usize = 7;
    let (code, mut fields) = described(source, &SOURCE)?;
    if code != 0x28 {
        return Err(Malformed("a source is of an unknown kind"));
    }
    fields.skip(FILTER)?;
    let mut filters = match fields.value()? {
        Value::Map(map) => map,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(WRONG_TYPE),
    };
    let mut keys = Vec::new();
    while !filters.is_empty() {
        let key = filters.value()?;
        let value = filters.value()?;
        if let Value::Text(key) = key
            && value != Value::Null
        {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn read_flow(mut fields: Fields<'_>) -> Result<Performative<'_>, Malformed> {
    let next_incoming_id = fields.uint()?;
    let incoming_window = fields.needed()?;
    fields.skip(2)?; // next-outgoing-id, outgoing-window
    let handle = fields.uint()?;
    let delivery_count = fields.uint()?;
    let link_credit = fields.uint()?.unwrap_or(0);
    fields.skip(2)?; // available, drain
    Ok(Performative::Flow {
        next_incoming_id,
        incoming_window,
        handle,
        delivery_count,
        link_credit,
        echo: fields.flag()?,
    })
}

fn read_disposition(mut fields: Fields<'_>) -> Result<Performative<'_>, Malformed> {
    let by_receiver = fields.flag()?;
    let first = fields.needed()?;
    let last = fields.uint()?.unwrap_or(first);
    fields.skip(1)?; // settled
    let rejected = match fields.value()? {
        Value::Other(state) => match described(state, &REJECTED)? {
            (0x25, mut state) => Some(state.error()?.unwrap_or(Said {
                condition: "amqp:rejected".to_owned(),
                description: None,
            })),
            _ => None,
        },
        _ => None,
    };
    Ok(Performative::Disposition {
        by_receiver,
        first,
        last,
        rejected,
    })
}

fn read_mechanisms(mut fields: Fields<'_>) -> Result<Performative<'_>, Malformed> {
    let anonymous = match fields.value()? {
        Value::Array(array) => {
            let mut found = false;
            for mechanism in array.values() {
                found |= mechanism? == Value::Text(b"ANONYMOUS");
            }
            found
        }
        value => value == Value::Text(b"ANONYMOUS"),
    };
    Ok(Performative::Mechanisms { anonymous })
}

/// The code and the fields of a described list.
fn described<'a>(bytes: &'a [u8], names: &[(&str, u64)]) -> Result<(u64, Fields<'a>), Malformed> {
    let mut reader = Reader::new(bytes);
    let code = reader.descriptor(names)?;
    match reader.value()? {
        Value::List(list) => Ok((code, Fields(list))),
        _ => Err(Malformed("a described list is not a list")),
    }
}

/// Fields in their order; what is left out at the end is null.
struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        if self.0.is_empty() {
            return Ok(Value::Null);
        }
        self.0.value()
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        for _ in 0..count {
            self.value()?;
        }
        Ok(())
    }

    fn uint(&mut self) -> Result<Option<u32>, Malformed> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Uint(number) => u32::try_from(number).map(Some).map_err(|_| WRONG_TYPE),
            _ => Err(WRONG_TYPE),
        }
    }

    fn needed(&mut self) -> Result<u32, Malformed> {
        self.uint()?
            .ok_or(Malformed("a field that must be there is not"))
    }

    /// A boolean whose default is false.
    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.value()? {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(flag),
            _ => Err(WRONG_TYPE),
        }
    }

    fn error(&mut self) -> Result<Option<Said>, Malformed> {
        let error = match self.value()? {
            Value::Null => return Ok(None),
            Value::Other(error) => error,
            _ => return Err(WRONG_TYPE),
        };
        let (0x1d, mut error) = described(error, &ERROR)? else {
            return Err(Malformed("an error is of an unknown kind"));
        };
        let Value::Text(condition) = error.value()? else {
            return Err(WRONG_TYPE);
        };
        let description = match error.value()? {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Value::Null => None,
            _ => return Err(WRONG_TYPE),
        };
        Ok(Some(Said {
            condition: String::from_utf8_lossy(condition).into_owned(),
            description,
        }))
    }
}

#[cfg(test)]
mod tests;
