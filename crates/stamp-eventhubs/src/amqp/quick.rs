//! The usual shape of a message of Event Hubs, read in one pass.
//!
//! IoT Hub's messages look alike: known annotations with values of known types, a few properties of
//! text, one data section. This reader takes such a message apart where it lies and gives up at the
//! first thing it does not know, so that [`super::event`] reads it; that one decides what a message
//! means, and a test compares the two. It never reports an error.

use std::ops::Range;

use bytes::Bytes;
use stamp_model::{Event, MessageSource, Text};

/// Content types that need no buffer, because nearly every event has one of them.
const CONTENT_TYPES: [&str; 2] = ["application/json", "application/json; charset=utf-8"];

/// As [`CONTENT_TYPES`].
const CONTENT_ENCODINGS: [&str; 2] = ["utf-8", "UTF-8"];

/// Reads the message at `place` in `chunk`, when it has the usual shape. The event shares the
/// buffer of `chunk`.
#[inline]
pub(crate) fn read_event(chunk: &Bytes, place: Range<usize>) -> Option<Event> {
    let mut walk = Walk {
        chunk,
        bytes: chunk.get(..place.end)?,
        at: place.start,
    };
    let mut event = Event::default();
    let (mut sequence, mut enqueued_at_us) = (None, None);
    let mut seen = 0_u8;
    while walk.at < walk.bytes.len() {
        let [0x00, 0x53, section, ..] = *walk.rest() else {
            return None;
        };
        walk.at += 3;
        // A section that comes twice is a matter of judgement.
        let bit = 1_u8.checked_shl(u32::from(section.wrapping_sub(0x70)))?;
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        match section {
            0x70 | 0x71 => walk.skip()?,
            0x72 => {
                let end = walk.map()?;
                while walk.at < end {
                    walk.annotation(end, &mut event, &mut sequence, &mut enqueued_at_us)?;
                }
            }
            0x73 => walk.properties(&mut event)?,
            0x74 => {
                let end = walk.map()?;
                while walk.at < end {
                    let key = walk.text(end)?;
                    event.properties.push((key, walk.text(end)?));
                }
            }
            0x75 => {
                let place = walk.binary()?;
                event.body = chunk.slice(place);
            }
            _ => return None,
        }
    }
    event.sequence = sequence?;
    event.enqueued_at_us = enqueued_at_us?;
    Some(event)
}

/// A place in a message.
struct Walk<'a> {
    chunk: &'a Bytes,
    /// The buffer up to the end of the message.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Enters a map; gives where it ends. Its count is not looked at, as elsewhere.
    #[inline]
    fn map(&mut self) -> Option<usize> {
        let (length, count_bytes) = match *self.rest() {
            [0xc1, size, ..] => {
                self.at += 2;
                (usize::from(size), 1)
            }
            [0xd1, s0, s1, s2, s3, ..] => {
                self.at += 5;
                (u32::from_be_bytes([s0, s1, s2, s3]) as usize, 4)
            }
            _ => return None,
        };
        self.enter(length, count_bytes)
    }

    #[inline]
    fn enter(&mut self, length: usize, count_bytes: usize) -> Option<usize> {
        let end = self.at.checked_add(length)?;
        self.at += count_bytes;
        (self.at <= end && end <= self.bytes.len()).then_some(end)
    }

    #[inline]
    fn annotation(
        &mut self,
        end: usize,
        event: &mut Event,
        sequence: &mut Option<i64>,
        enqueued_at_us: &mut Option<i64>,
    ) -> Option<()> {
        let key = self.text_place(end)?;
        match &self.bytes[key] {
            b"x-opt-sequence-number" => *sequence = Some(self.long(end)?),
            b"x-opt-offset" => event.offset = self.text(end)?,
            b"x-opt-enqueued-time" => *enqueued_at_us = Some(self.time_us(end)?),
            b"iothub-connection-device-id" => event.hub.device_id = Some(self.text(end)?),
            b"iothub-connection-module-id" => event.hub.module_id = Some(self.text(end)?),
            b"iothub-connection-auth-generation-id" => {
                event.hub.generation_id = Some(self.text(end)?);
            }
            b"iothub-connection-auth-method" => event.hub.auth_method = Some(self.text(end)?),
            b"iothub-enqueuedtime" => event.hub.enqueued_at_us = Some(self.time_us(end)?),
            b"iothub-message-source" => {
                let place = self.text_place(end)?;
                let source = std::str::from_utf8(&self.bytes[place]).ok()?;
                event.hub.source = MessageSource::known(source)?;
            }
            _ => self.skip_to(end)?,
        }
        Some(())
    }

    /// The fields that are of use in the properties section (AMQP 1.0 part 3.2.4).
    #[inline]
    fn properties(&mut self, event: &mut Event) -> Option<()> {
        let end = match *self.rest() {
            [0x45, ..] => {
                self.at += 1;
                return Some(());
            }
            [0xc0, size, ..] => {
                self.at += 2;
                self.enter(usize::from(size), 1)?
            }
            [0xd0, s0, s1, s2, s3, ..] => {
                self.at += 5;
                self.enter(u32::from_be_bytes([s0, s1, s2, s3]) as usize, 4)?
            }
            _ => return None,
        };
        for field in 0..8 {
            if self.at >= end {
                break;
            }
            match field {
                _ if self.bytes[self.at] == 0x40 => self.at += 1,
                0 => event.message_id = Some(self.text(end)?),
                6 => event.content_type = Some(self.text_among(end, &CONTENT_TYPES)?),
                7 => event.content_encoding = Some(self.text_among(end, &CONTENT_ENCODINGS)?),
                _ => self.skip_to(end)?,
            }
        }
        self.at = end;
        Some(())
    }

    /// The place of a string or symbol that ends before `end`.
    #[inline]
    fn text_place(&mut self, end: usize) -> Option<Range<usize>> {
        match *self.rest() {
            [0xa1 | 0xa3, length, ..] => self.span(2, usize::from(length), end),
            [0xb1 | 0xb3, l0, l1, l2, l3, ..] => {
                self.span(5, u32::from_be_bytes([l0, l1, l2, l3]) as usize, end)
            }
            _ => None,
        }
    }

    /// The content after a constructor of `head` bytes.
    #[inline]
    fn span(&mut self, head: usize, length: usize, end: usize) -> Option<Range<usize>> {
        let start = self.at + head;
        let stop = start.checked_add(length)?;
        if stop > end {
            return None;
        }
        self.at = stop;
        Some(start..stop)
    }

    #[inline]
    fn text(&mut self, end: usize) -> Option<Text> {
        let place = self.text_place(end)?;
        Text::try_from(self.chunk.slice(place)).ok()
    }

    #[inline]
    fn text_among(&mut self, end: usize, usual: &[&'static str]) -> Option<Text> {
        let place = self.text_place(end)?;
        let found = &self.bytes[place.clone()];
        match usual.iter().find(|text| text.as_bytes() == found) {
            Some(text) => Some(Text::from_static(text)),
            None => Text::try_from(self.chunk.slice(place)).ok(),
        }
    }

    #[inline]
    fn binary(&mut self) -> Option<Range<usize>> {
        let end = self.bytes.len();
        match *self.rest() {
            [0xa0, length, ..] => self.span(2, usize::from(length), end),
            [0xb0, l0, l1, l2, l3, ..] => {
                self.span(5, u32::from_be_bytes([l0, l1, l2, l3]) as usize, end)
            }
            _ => None,
        }
    }

    #[inline]
    fn long(&mut self, end: usize) -> Option<i64> {
        match *self.rest() {
            [0x81, ..] => self.fixed(end),
            [0x55, number, ..] => {
                self.span(1, 1, end)?;
                Some(i64::from(number as i8))
            }
            _ => None,
        }
    }

    #[inline]
    fn time_us(&mut self, end: usize) -> Option<i64> {
        match *self.rest() {
            [0x83, ..] => Some(self.fixed(end)?.saturating_mul(1_000)),
            _ => None,
        }
    }

    /// The eight bytes after a constructor of one.
    #[inline]
    fn fixed(&mut self, end: usize) -> Option<i64> {
        let place = self.span(1, 8, end)?;
        Some(i64::from_be_bytes(*self.bytes[place].first_chunk()?))
    }

    fn skip(&mut self) -> Option<()> {
        self.skip_to(self.bytes.len())
    }

    /// Passes over a value that is not described and ends before `end`. The upper half of a
    /// constructor says how long its content is (part 1, figure 1.2).
    #[inline]
    fn skip_to(&mut self, end: usize) -> Option<()> {
        let rest = self.rest();
        let code = *rest.first()?;
        let (head, length) = match code >> 4 {
            0x4 => (1, 0),
            0x5 => (1, 1),
            0x6 => (1, 2),
            0x7 => (1, 4),
            0x8 => (1, 8),
            0x9 => (1, 16),
            0xa => (2, usize::from(*rest.get(1)?)),
            0xb => {
                let &[l0, l1, l2, l3] = rest.get(1..)?.first_chunk()?;
                (5, u32::from_be_bytes([l0, l1, l2, l3]) as usize)
            }
            // Lists and maps, which are not looked into; what they count must be there.
            _ => match *rest {
                [0xc0 | 0xc1, length, ..] if length >= 1 => (2, usize::from(length)),
                [0xd0 | 0xd1, l0, l1, l2, l3, ..] => {
                    match u32::from_be_bytes([l0, l1, l2, l3]) as usize {
                        length @ 4.. => (5, length),
                        _ => return None,
                    }
                }
                _ => return None,
            },
        };
        self.span(head, length, end).map(drop)
    }
}

#[cfg(test)]
mod tests;
