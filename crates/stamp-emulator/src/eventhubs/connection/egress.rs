//! A receiver link: events of one partition, from a position on, as the client's credit allows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::faults::CutWhat;
use super::super::hub::{HubShared, Partition};
use super::super::readers::ReaderControl;
use super::link::{Outbound, Wire};
use crate::amqp::performative::AmqpError;

/// See the module. Leaves the partition's readers when it is dropped.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) hub: Arc<HubShared>,
    pub(super) partition: u32,
    pub(super) control: Arc<ReaderControl>,
    pub(super) outbound: Outbound,
    /// Sequence number of the event to send next.
    pub(super) next: i64,
    /// When a delayed burst may go.
    pub(super) release_at: Option<Instant>,
    /// The latest event is not sent whole yet, and so not counted.
    pub(super) begun: bool,
}

/// What a turn of a link came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// There is more to send, but the buffer is full.
    pub(super) more: bool,
    /// What has to end.
    pub(super) end: Option<CutWhat>,
}

impl Turn {
    fn end(error: AmqpError) -> Self {
        Self {
            more: false,
            end: Some(CutWhat::Link(error)),
        }
    }
}

impl Egress {
    /// Writes as many events as credit, session window, buffer and faults allow.
    pub(super) fn pump(&mut self, wire: &mut Wire<'_>, now: Instant) -> Turn {
        if let Some(error) = self.control.ended() {
            return Turn::end(error.clone());
        }
        let hub = Arc::clone(&self.hub);
        if hub.faults.gate(self.partition).stopped {
            self.release_at = None;
            return Turn::default();
        }
        if !self.outbound.resume(wire) {
            return Turn {
                more: wire.is_full(),
                end: None,
            };
        }
        if std::mem::take(&mut self.begun)
            && let end @ Some(_) = self.count(1)
        {
            return Turn { more: false, end };
        }
        let gate = hub.faults.gate(self.partition);
        if gate.events_max == 0 {
            return Turn {
                more: false,
                end: hub.faults.sent(self.partition, 0),
            };
        }
        if gate.delay.is_zero() {
            self.release_at = None;
        } else if self.is_delayed(wire, now, gate.delay) {
            return Turn::default();
        }
        let sent = self.send_events(wire, gate.events_max);
        self.begun = self.outbound.is_unfinished();
        let whole = sent - u64::from(self.begun);
        Turn {
            more: wire.is_full() && self.release_at.is_none(),
            end: if whole > 0 { self.count(whole) } else { None },
        }
    }

    /// Counts events that were sent whole; gives what a fault ends now.
    fn count(&self, events: u64) -> Option<CutWhat> {
        self.hub.counters.events_sent.add(events);
        self.hub.faults.sent(self.partition, events)
    }

    /// Sends from the log; gives how many events were begun. The partition is not locked while a full
    /// segment is copied: who publishes need not wait for who reads a backlog.
    fn send_events(&mut self, wire: &mut Wire<'_>, most: u64) -> u64 {
        let hub = Arc::clone(&self.hub);
        let mut sent = 0;
        while let Some(mut state) = hub.partition(self.partition) {
            self.skip_expired(&state);
            let Some(segment) = state.log.sealed(self.next) else {
                sent += self.send_run(state.log.read(self.next), wire, most - sent);
                if self.next >= state.log.next() {
                    self.mark_idle(&mut state);
                }
                break;
            };
            drop(state);
            sent += self.send_run(segment.read(self.next), wire, most - sent);
            if self.next < segment.end() {
                break;
            }
        }
        sent
    }

    /// Sends consecutive events, as many as are allowed; gives how many were begun.
    fn send_run<'a>(
        &mut self,
        events: impl Iterator<Item = (i64, &'a [u8])>,
        wire: &mut Wire<'_>,
        most: u64,
    ) -> u64 {
        let mut sent = 0;
        let mut events = events;
        while sent < most
            && !wire.is_full()
            && self.outbound.may_send(wire)
            && let Some((sequence, payload)) = events.next()
        {
            self.outbound.send(wire, payload);
            self.next = sequence + 1;
            sent += 1;
        }
        sent
    }

    fn skip_expired(&mut self, state: &Partition) {
        let missed = state.log.begin().saturating_sub(self.next);
        if missed > 0 {
            self.hub.counters.events_missed.add(missed.unsigned_abs());
            self.next = state.log.begin();
        }
    }

    /// Asks to be woken by the next event.
    fn mark_idle(&self, state: &mut Partition) {
        let own = |control: &Arc<ReaderControl>| Arc::ptr_eq(control, &self.control);
        if let Some(reader) = state.readers.iter_mut().find(|reader| own(&reader.control)) {
            reader.idle = true;
        }
    }

    /// Whether the burst that is ready has to wait for its time. The wait begins when it could go.
    fn is_delayed(&mut self, wire: &Wire<'_>, now: Instant, delay: Duration) -> bool {
        let hub = Arc::clone(&self.hub);
        let Some(mut state) = hub.partition(self.partition) else {
            return true;
        };
        if self.next >= state.log.next() || !self.outbound.may_send(wire) {
            self.release_at = None;
            self.mark_idle(&mut state);
            return true;
        }
        let release_at = *self.release_at.get_or_insert(now + delay);
        let waits = now < release_at;
        if !waits {
            self.release_at = None;
        }
        waits
    }

    /// Whether every stored event was sent: what is left of a drained credit is then given back.
    pub(super) fn is_at_end(&self) -> bool {
        self.hub
            .partition(self.partition)
            .is_none_or(|state| self.next >= state.log.next())
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        if let Some(mut state) = self.hub.partition(self.partition) {
            state
                .readers
                .retain(|reader| !Arc::ptr_eq(&reader.control, &self.control));
        }
    }
}
