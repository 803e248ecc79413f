//! The general decoder of one element: one pass over any JSON object, by RFC 8259.
//!
//! This is the reference for what a body means. It is written by hand rather than over a JSON
//! library because a rejection names the byte, numbers are needed as they are spelled, and every
//! key of every object is checked for duplicates. A test compares it with such a library.

use crate::field::{Breach, Cell, Slot};
use crate::rejection::{Decoded, Fault, RejectionCode, cut};
use crate::scan::{Quoted, Scan, unescape};
use crate::schema::{Child, Node, Schema};
use crate::source::UnknownFields;
use crate::time::DayCache;

/// Working space, kept from element to element.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Values of the element, one per slot of the schema.
    pub(crate) cells: Vec<Cell>,
    /// Strings that had escapes, one after the other.
    pub(crate) unescaped: String,
    pub(crate) day: DayCache,
    /// Keys of the objects that are open, innermost last.
    keys: Vec<Key>,
    /// Keys that had escapes, one after the other.
    key_texts: String,
}

impl Scratch {
    /// Forgets the last element.
    #[inline]
    pub(crate) fn reset(&mut self, slots: usize) {
        self.cells.clear();
        self.cells.resize(slots, Cell::Missing);
        self.unescaped.clear();
        self.keys.clear();
        self.key_texts.clear();
    }
}

/// Where the text of a key is.
#[derive(Debug, Clone, Copy)]
struct Key {
    start: usize,
    end: usize,
    unescaped: bool,
    /// Byte of the body at which it was found.
    at: usize,
}

/// Reads the object that starts at byte `at` of `text` into `scratch`; gives the byte after it.
pub(crate) fn read_element(
    schema: &Schema,
    text: &str,
    at: usize,
    scratch: &mut Scratch,
) -> Decoded<usize> {
    scratch.reset(schema.slots.len());
    let mut walk = Walk {
        schema,
        scan: Scan { text, at },
        scratch,
    };
    walk.object(Some(&schema.root), 1)?;
    Ok(walk.scan.at)
}

struct Walk<'a> {
    schema: &'a Schema,
    scan: Scan<'a>,
    scratch: &'a mut Scratch,
}

impl<'a> Walk<'a> {
    /// Reads the object whose brace is here. `node` holds the keys that the schema names in it.
    fn object(&mut self, node: Option<&'a Node>, depth: usize) -> Decoded<()> {
        self.check_depth(depth)?;
        let first_key = self.scratch.keys.len();
        self.scan.at += 1;
        self.scan.skip_space();
        if self.scan.peek() == Some(b'}') {
            self.scan.at += 1;
            return Ok(());
        }
        loop {
            self.member(node, depth)?;
            self.scan.skip_space();
            match self.scan.peek() {
                Some(b',') => self.scan.at += 1,
                Some(b'}') => break,
                _ => return Err(self.scan.malformed("`,` or `}`")),
            }
            self.scan.skip_space();
        }
        self.scan.at += 1;
        self.check_keys(first_key)
    }

    fn member(&mut self, node: Option<&'a Node>, depth: usize) -> Decoded<()> {
        let at = self.scan.at;
        if self.scan.peek() != Some(b'"') {
            return Err(self.scan.malformed("a quoted key"));
        }
        let quoted = self.scan.string()?;
        let key = self.push_key(quoted, at)?;
        self.scan.skip_space();
        if self.scan.peek() != Some(b':') {
            return Err(self.scan.malformed("`:`"));
        }
        self.scan.at += 1;
        self.scan.skip_space();
        let text = key_text(self.scan.text, &self.scratch.key_texts, key);
        let child = node.map(|node| node.children.get(text));
        let value = match child {
            Some(Some(Child::Slot(slot))) => self.slot(*slot),
            Some(Some(Child::Object(inner))) => self.known_object(inner, depth + 1),
            Some(None) if self.schema.unknown_fields == UnknownFields::Reject => Err(unknown(at)),
            _ => self.skip(depth + 1),
        };
        // The text is looked up again because the value may have moved the scratch space.
        value.map_err(|fault| fault.inside(key_text(self.scan.text, &self.scratch.key_texts, key)))
    }

    fn push_key(&mut self, quoted: Quoted, at: usize) -> Decoded<Key> {
        let mut key = Key {
            start: quoted.start,
            end: quoted.end,
            unescaped: quoted.escaped,
            at,
        };
        if quoted.escaped {
            let texts = &mut self.scratch.key_texts;
            key.start = texts.len();
            unescape(self.scan.slice(quoted.start, quoted.end), texts)?;
            key.end = texts.len();
        }
        self.scratch.keys.push(key);
        Ok(key)
    }

    /// Closes an object: no two of its keys may be equal.
    fn check_keys(&mut self, first_key: usize) -> Decoded<()> {
        /// Up to here comparing every pair is cheaper than sorting; sorting keeps the cost of a
        /// hostile object with tens of thousands of keys in bounds.
        const PAIRS_MAX: usize = 16;
        let body = self.scan.text;
        let Scratch {
            keys, key_texts, ..
        } = &mut *self.scratch;
        let of_object = &mut keys[first_key..];
        let text = |key: &Key| key_text(body, key_texts, *key);
        let twice = if of_object.len() <= PAIRS_MAX {
            let earlier = |i: usize| {
                of_object[..i]
                    .iter()
                    .any(|k| text(k) == text(&of_object[i]))
            };
            (1..of_object.len())
                .find(|&i| earlier(i))
                .map(|i| of_object[i])
        } else {
            of_object.sort_by(|a, b| text(a).cmp(text(b)));
            let pair = of_object
                .windows(2)
                .find(|pair| text(&pair[0]) == text(&pair[1]));
            pair.map(|pair| pair[1])
        };
        let fault = twice.map(|key| {
            let message = "this key occurs twice in its object";
            Fault::new(RejectionCode::DuplicateKey, message)
                .at(key.at)
                .inside(text(&key))
        });
        keys.truncate(first_key);
        fault.map_or(Ok(()), Err)
    }

    /// Reads an object that the schema expects here; null counts as absent.
    fn known_object(&mut self, node: &'a Node, depth: usize) -> Decoded<()> {
        let at = self.scan.at;
        match self.scan.peek() {
            Some(b'{') => self.object(Some(node), depth),
            Some(b'n') => self.scan.literal("null"),
            _ => {
                let found = self.describe(depth)?;
                let message = format!("expected an object, found {found}");
                Err(Fault::new(RejectionCode::WrongType, message).at(at))
            }
        }
    }

    /// Reads a value that the schema names. Null leaves the cell missing.
    fn slot(&mut self, index: usize) -> Decoded<()> {
        let at = self.scan.at;
        let slot = &self.schema.slots[index];
        let read = match self.scan.peek() {
            Some(b'"') => self.text_slot(slot, index),
            Some(b'-' | b'0'..=b'9') => {
                let (number, token) = self.scan.number()?;
                let cell = &mut self.scratch.cells[index];
                let read = slot.read_number(number, token, cell);
                read.map_err(|breach| slot.fault(breach, token))
            }
            Some(b't') => self.bool_slot(slot, index, "true"),
            Some(b'f') => self.bool_slot(slot, index, "false"),
            Some(b'n') => self.scan.literal("null"),
            Some(b'{') => Err(slot.fault(Breach::WrongType, "an object")),
            Some(b'[') => Err(slot.fault(Breach::WrongType, "an array")),
            _ => Err(self.scan.malformed("a value")),
        };
        read.map_err(|fault| fault.at(at))
    }

    fn bool_slot(&mut self, slot: &Slot, index: usize, word: &str) -> Decoded<()> {
        self.scan.literal(word)?;
        let read = slot.read_bool(word == "true", &mut self.scratch.cells[index]);
        read.map_err(|breach| slot.fault(breach, word))
    }

    fn text_slot(&mut self, slot: &Slot, index: usize) -> Decoded<()> {
        let quoted = self.scan.string()?;
        let content = self.scan.slice(quoted.start, quoted.end);
        let Scratch {
            cells,
            unescaped,
            day,
            ..
        } = &mut *self.scratch;
        let (text, place) = if quoted.escaped {
            let start = unescaped.len();
            unescape(content, unescaped)?;
            let place = Cell::Unescaped {
                start: position(start),
                end: position(unescaped.len()),
            };
            (&unescaped[start..], place)
        } else {
            let place = Cell::Text {
                start: position(quoted.start),
                end: position(quoted.end),
            };
            (content, place)
        };
        let read = slot.read_text(text, place, day, &mut cells[index]);
        read.map_err(|breach| slot.fault(breach, text))
    }

    /// Checks the syntax of a value that the schema does not name.
    fn skip(&mut self, depth: usize) -> Decoded<()> {
        match self.scan.peek() {
            Some(b'"') => self.scan.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.scan.number().map(drop),
            Some(b't') => self.scan.literal("true"),
            Some(b'f') => self.scan.literal("false"),
            Some(b'n') => self.scan.literal("null"),
            Some(b'{') => self.object(None, depth),
            Some(b'[') => self.array(depth),
            _ => Err(self.scan.malformed("a value")),
        }
    }

    fn array(&mut self, depth: usize) -> Decoded<()> {
        self.check_depth(depth)?;
        self.scan.at += 1;
        self.scan.skip_space();
        if self.scan.peek() == Some(b']') {
            self.scan.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.skip(depth + 1)
                .map_err(|fault| fault.inside_array(index))?;
            self.scan.skip_space();
            match self.scan.peek() {
                Some(b',') => self.scan.at += 1,
                Some(b']') => break,
                _ => return Err(self.scan.malformed("`,` or `]`")),
            }
            self.scan.skip_space();
        }
        self.scan.at += 1;
        Ok(())
    }

    /// Reads a value to say what it is.
    fn describe(&mut self, depth: usize) -> Decoded<String> {
        let start = self.scan.at;
        let first = self.scan.peek();
        self.skip(depth)?;
        Ok(match first {
            Some(b'[') => "an array".to_owned(),
            _ => cut(self.scan.slice(start, self.scan.at)),
        })
    }

    fn check_depth(&self, depth: usize) -> Decoded<()> {
        let max = self.schema.limits.depth_max;
        if depth <= max {
            return Ok(());
        }
        let message = format!("nested deeper than {max} levels");
        Err(Fault::new(RejectionCode::TooDeep, message)
            .at(self.scan.at)
            .rule("limits.depth-max"))
    }
}

fn key_text<'t>(body: &'t str, key_texts: &'t str, key: Key) -> &'t str {
    let source = if key.unescaped { key_texts } else { body };
    source.get(key.start..key.end).unwrap_or_default()
}

#[cold]
fn unknown(at: usize) -> Box<Fault> {
    Fault::new(
        RejectionCode::UnknownField,
        "the schema does not name this key",
    )
    .at(at)
    .rule("unknown-fields")
}

/// A byte position as cells hold it: bodies are at most 64 MiB.
#[inline]
pub(crate) fn position(at: usize) -> u32 {
    u32::try_from(at).expect("limits cap a body at 64 MiB")
}
