//! Faults a test can switch on while clients run. Each is exact: it counts events or requests, never
//! time or chance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::hub::HubShared;
use crate::amqp::performative::AmqpError;

/// The error a client is refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// An AMQP condition, such as `com.microsoft:server-busy`.
    pub condition: String,
    /// A text for people.
    pub description: String,
}

impl Refusal {
    /// Any condition.
    #[must_use]
    pub fn new(condition: &str, description: &str) -> Self {
        Self {
            condition: condition.to_owned(),
            description: description.to_owned(),
        }
    }

    /// The service is throttling: `com.microsoft:server-busy`.
    #[must_use]
    pub fn server_busy() -> Self {
        Self::new(
            "com.microsoft:server-busy",
            "The request was terminated because the namespace is being throttled. Please wait 4 \
             seconds and try again.",
        )
    }

    /// The token does not allow it: `amqp:unauthorized-access`.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            "amqp:unauthorized-access",
            "Unauthorized access. 'Listen' claim(s) are required",
        )
    }

    /// The service gave up on something of its own: `amqp:internal-error`.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::new(
            "amqp:internal-error",
            "The service was unable to process the request",
        )
    }

    fn error(&self) -> AmqpError {
        AmqpError::new(&self.condition, self.description.clone())
    }
}

/// The fault hooks of one hub. A count of `u32::MAX` means "until cleared". Faults that were set
/// before a client connects hold for it too.
#[derive(Debug)]
pub struct Faults {
    hub: Weak<HubShared>,
    /// Whether anything in `state` concerns transfers: they look here first, without the lock.
    transfers: AtomicBool,
    frozen: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    stopped: bool,
    cuts: Vec<Cut>,
    attach: Option<(u32, Refusal)>,
    sends: Option<(u32, Refusal)>,
    lost_replies: u32,
    put_token: (u32, u16),
    management: (u32, u16),
}

#[derive(Debug)]
struct Cut {
    partition: u32,
    left: u64,
    what: CutWhat,
}

/// What ends after a counted number of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CutWhat {
    Link(AmqpError),
    Connection,
}

/// What a receiver link may do right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) events_max: u64,
    pub(crate) delay: Duration,
    pub(crate) stopped: bool,
}

const OPEN_GATE: Gate = Gate {
    events_max: u64::MAX,
    delay: Duration::ZERO,
    stopped: false,
};

impl Faults {
    pub(crate) fn new(hub: Weak<HubShared>) -> Self {
        Self {
            hub,
            transfers: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let concerned = state.stopped || !state.delay.is_zero() || !state.cuts.is_empty();
        self.transfers.store(concerned, Ordering::Release);
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.each_connection(|signal| signal.wake());
        }
    }

    /// Every burst of events to a receiver waits this long first. Zero switches it off.
    pub fn delay_transfers(&self, delay: Duration) {
        self.set(|state| state.delay = delay);
    }

    /// No events go to receivers while this is on; links, heartbeats and replies go on.
    pub fn stop_sending(&self, stopped: bool) {
        self.set(|state| state.stopped = stopped);
    }

    /// Connections that use this hub are neither read nor written while this is on, heartbeats
    /// included: a peer behind a broken network.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Release);
        self.wake();
    }

    /// After `events` more events of this partition were sent, the receiver that got the last one is
    /// detached with `refusal`. Once.
    pub fn drop_link_after(&self, partition: u32, events: u64, refusal: &Refusal) {
        let what = CutWhat::Link(refusal.error());
        self.set(|state| {
            state.cuts.push(Cut {
                partition,
                left: events,
                what,
            })
        });
    }

    /// After `events` more events of this partition were sent, the connection that got the last one
    /// is cut without a word. Once.
    pub fn drop_connection_after(&self, partition: u32, events: u64) {
        let what = CutWhat::Connection;
        self.set(|state| {
            state.cuts.push(Cut {
                partition,
                left: events,
                what,
            })
        });
    }

    /// The next `times` senders and receivers are refused with `refusal`.
    pub fn refuse_attach(&self, times: u32, refusal: Refusal) {
        self.set(|state| state.attach = Some((times, refusal)));
    }

    /// The next `times` deliveries of senders are rejected with `refusal` and not stored.
    pub fn refuse_sends(&self, times: u32, refusal: Refusal) {
        self.set(|state| state.sends = Some((times, refusal)));
    }

    /// The next `times` deliveries of senders are stored, and the connection is cut instead of an
    /// answer: the sender cannot know.
    pub fn lose_send_replies(&self, times: u32) {
        self.set(|state| state.lost_replies = times);
    }

    /// The next `times` tokens are refused with this status, such as 401.
    pub fn refuse_put_token(&self, times: u32, status: u16) {
        self.set(|state| state.put_token = (times, status));
    }

    /// The next `times` management reads are refused with this status, such as 503.
    pub fn refuse_management(&self, times: u32, status: u16) {
        self.set(|state| state.management = (times, status));
    }

    /// Detaches the group's receivers of a partition as a new owner would, and gives how many there
    /// were.
    pub fn displace(&self, partition: u32, consumer_group: &str) -> usize {
        let error = AmqpError::new(
            "amqp:link:stolen",
            "New receiver with higher epoch is created",
        );
        self.hub.upgrade().map_or(0, |hub| {
            hub.end_readers(partition, &consumer_group.to_lowercase(), &error)
        })
    }

    /// Cuts every connection that uses this hub without a word, and gives how many there were.
    pub fn drop_connections(&self) -> usize {
        let mut dropped = 0;
        if let Some(hub) = self.hub.upgrade() {
            hub.each_connection(|signal| {
                signal.drop_connection();
                dropped += 1;
            });
        }
        dropped
    }

    /// Switches every fault off.
    pub fn clear(&self) {
        self.frozen.store(false, Ordering::Release);
        self.set(|state| *state = State::default());
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(crate) fn gate(&self, partition: u32) -> Gate {
        if !self.transfers.load(Ordering::Acquire) {
            return OPEN_GATE;
        }
        let state = self.state();
        let cuts = state.cuts.iter().filter(|cut| cut.partition == partition);
        Gate {
            events_max: cuts.map(|cut| cut.left).min().unwrap_or(u64::MAX),
            delay: state.delay,
            stopped: state.stopped,
        }
    }

    /// Counts events that were sent; gives what has to end now.
    pub(crate) fn sent(&self, partition: u32, events: u64) -> Option<CutWhat> {
        if !self.transfers.load(Ordering::Acquire) {
            return None;
        }
        let mut due = None;
        let mut state = self.state();
        for cut in state
            .cuts
            .iter_mut()
            .filter(|cut| cut.partition == partition)
        {
            cut.left = cut.left.saturating_sub(events);
        }
        let at = state
            .cuts
            .iter()
            .position(|cut| cut.partition == partition && cut.left == 0);
        if let Some(at) = at {
            due = Some(state.cuts.remove(at).what);
        }
        let concerned = state.stopped || !state.delay.is_zero() || !state.cuts.is_empty();
        self.transfers.store(concerned, Ordering::Release);
        due
    }

    pub(crate) fn attach_refusal(&self) -> Option<AmqpError> {
        take(&mut self.state().attach)
    }

    pub(crate) fn send_refusal(&self) -> Option<AmqpError> {
        take(&mut self.state().sends)
    }

    pub(crate) fn loses_reply(&self) -> bool {
        count_down(&mut self.state().lost_replies)
    }

    pub(crate) fn put_token_status(&self) -> Option<u16> {
        let mut state = self.state();
        let status = state.put_token.1;
        count_down(&mut state.put_token.0).then_some(status)
    }

    pub(crate) fn management_status(&self) -> Option<u16> {
        let mut state = self.state();
        let status = state.management.1;
        count_down(&mut state.management.0).then_some(status)
    }
}

fn take(slot: &mut Option<(u32, Refusal)>) -> Option<AmqpError> {
    let (times, refusal) = slot.as_mut()?;
    let error = refusal.error();
    count_down(times).then_some(error)
}

/// Whether one of the remaining times is used now.
fn count_down(times: &mut u32) -> bool {
    let fires = *times > 0;
    if fires && *times != u32::MAX {
        *times -= 1;
    }
    fires
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_fires_once_and_exactly_at_its_count() {
        let faults = Faults::new(Weak::new());
        faults.drop_connection_after(1, 10);
        assert_eq!(faults.gate(0), OPEN_GATE);
        assert_eq!(faults.gate(1).events_max, 10);
        assert_eq!(faults.sent(1, 4), None);
        assert_eq!(faults.sent(0, 100), None);
        assert_eq!(faults.gate(1).events_max, 6);
        assert_eq!(faults.sent(1, 6), Some(CutWhat::Connection));
        assert_eq!(faults.gate(1), OPEN_GATE);
        assert_eq!(faults.sent(1, 100), None);
    }

    #[test]
    fn refusals_count_down_and_the_largest_count_stays() {
        let faults = Faults::new(Weak::new());
        faults.refuse_attach(2, Refusal::server_busy());
        let refused = (0..3).filter(|_| faults.attach_refusal().is_some()).count();
        assert_eq!(refused, 2);
        faults.refuse_put_token(u32::MAX, 401);
        assert!((0..5).all(|_| faults.put_token_status() == Some(401)));
        faults.clear();
        assert_eq!(faults.put_token_status(), None);
    }
}
