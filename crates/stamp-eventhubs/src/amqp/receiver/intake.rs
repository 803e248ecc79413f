//! Events that were taken from the link and not given out.

use std::mem;
use std::ops::Range;

use bytes::Bytes;
use stamp_model::{BatchLimits, Event, EventBatch};

use super::super::event::{Missing, read_event};
use super::super::quick;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    events: Vec<Event>,
    bytes: usize,
    last_sequence: Option<i64>,
}

impl Intake {
    /// Takes the message at `place` in `chunk`. The event shares that buffer.
    ///
    /// # Errors
    /// What a message has not, with the sequence number of the one before it.
    #[inline]
    pub(super) fn take(&mut self, chunk: &Bytes, place: Range<usize>) -> Result<(), String> {
        let event = match quick::read_event(chunk, place.clone()) {
            Some(event) => event,
            None => read_event(&chunk.slice(place)).map_err(|missing| self.after(missing))?,
        };
        self.last_sequence = Some(event.sequence);
        self.bytes += event.size();
        self.events.push(event);
        Ok(())
    }

    fn after(&self, missing: Missing) -> String {
        let last = self.last_sequence;
        format!(
            "the message after sequence number {} has no {}",
            last.map_or("(none yet)".to_owned(), |last| last.to_string()),
            missing.annotation,
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether a pull with these limits takes nothing more.
    #[inline]
    pub(super) fn is_full(&self, limits: BatchLimits) -> bool {
        self.events.len() >= limits.events_max.max(1) || self.bytes >= limits.bytes_max
    }

    /// Gives out events: all, up to the limits or to where the order breaks.
    pub(crate) fn give_out(&mut self, limits: BatchLimits) -> EventBatch {
        let mut bytes = 0;
        let mut end = 0;
        while end < self.events.len().min(limits.events_max.max(1)) {
            let event = &self.events[end];
            let in_order = end == 0 || self.events[end - 1].sequence < event.sequence;
            if !in_order || (end > 0 && bytes >= limits.bytes_max) {
                break;
            }
            bytes += event.size();
            end += 1;
        }
        self.bytes -= bytes;
        let mut rest = self.events.split_off(end);
        // The next batch is likely to be as long as this one.
        rest.reserve(end);
        EventBatch {
            events: mem::replace(&mut self.events, rest),
        }
    }
}
