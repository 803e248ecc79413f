//! From an accepted element to its skeleton.

use crate::scan::Scan;
use crate::schema::{Child, Node, Schema};

use super::skeleton::{Skeleton, Take};

/// Largest skeleton: more values or bytes than this are no device's regular message.
const VALUES_MAX: usize = 1_024;
const BYTES_MAX: usize = 16 << 10;

/// The skeleton of the element at `at`; `None` when it has an escape in a key or is too large.
/// The general decoder accepted the element, so its syntax is not judged again: anything
/// unexpected just ends the learning.
pub(super) fn learn<'a>(schema: &'a Schema, text: &'a str, at: usize) -> Option<Skeleton> {
    let mut learner = Learner {
        scan: Scan { text, at },
        fixed_from: at,
        pieces: Vec::new(),
    };
    learner.object(Some(&schema.root))?;
    let Learner {
        scan,
        fixed_from,
        pieces,
        ..
    } = learner;
    let end = scan.slice(fixed_from, scan.at);
    let bytes: usize = pieces.iter().map(|(fixed, _)| fixed.len()).sum();
    let small = pieces.len() <= VALUES_MAX && bytes + end.len() <= BYTES_MAX;
    small.then(|| Skeleton::new(&pieces, end))
}

struct Learner<'a> {
    scan: Scan<'a>,
    /// Where the fixed bytes began that have not been given to a piece.
    fixed_from: usize,
    pieces: Vec<(&'a str, Take)>,
}

impl<'a> Learner<'a> {
    fn object(&mut self, node: Option<&'a Node>) -> Option<()> {
        self.scan.at += 1;
        self.scan.skip_space();
        while self.scan.peek()? != b'}' {
            let key = self.scan.string().ok().filter(|key| !key.escaped)?;
            let key = self.scan.slice(key.start, key.end);
            self.scan.skip_space();
            self.scan.at += 1;
            self.scan.skip_space();
            match node.and_then(|node| node.children.get(key)) {
                Some(Child::Slot(slot)) => self.value(Some(*slot), None)?,
                Some(Child::Object(inner)) => self.value(None, Some(inner))?,
                None => self.value(None, None)?,
            }
            self.next_member();
        }
        self.scan.at += 1;
        Some(())
    }

    fn array(&mut self) -> Option<()> {
        self.scan.at += 1;
        self.scan.skip_space();
        while self.scan.peek()? != b']' {
            self.value(None, None)?;
            self.next_member();
        }
        self.scan.at += 1;
        Some(())
    }

    fn next_member(&mut self) {
        self.scan.skip_space();
        if self.scan.peek() == Some(b',') {
            self.scan.at += 1;
            self.scan.skip_space();
        }
    }

    fn value(&mut self, slot: Option<usize>, node: Option<&'a Node>) -> Option<()> {
        let start = self.scan.at;
        match self.scan.peek()? {
            b'{' => self.object(node),
            b'[' => self.array(),
            b'n' => self.scan.literal("null").ok(),
            b'"' => {
                let quoted = self.scan.string().ok()?;
                self.cut(
                    quoted.start,
                    quoted.end,
                    slot.map_or(Take::PassText, Take::Text),
                );
                Some(())
            }
            first @ (b't' | b'f') => {
                self.scan
                    .literal(if first == b't' { "true" } else { "false" })
                    .ok()?;
                self.cut(start, self.scan.at, slot.map_or(Take::PassBool, Take::Bool));
                Some(())
            }
            _ => {
                self.scan.number().ok()?;
                self.cut(
                    start,
                    self.scan.at,
                    slot.map_or(Take::PassNumber, Take::Number),
                );
                Some(())
            }
        }
    }

    /// The value lies from `start` to `end`; the bytes before it are fixed.
    fn cut(&mut self, start: usize, end: usize, take: Take) {
        let fixed = self.scan.slice(self.fixed_from, start);
        self.pieces.push((fixed, take));
        self.fixed_from = end;
    }
}
