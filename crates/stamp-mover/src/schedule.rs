//! Which device is to be acted on next. No I/O: times are given.

use std::collections::{BTreeSet, VecDeque};

use stamp_placement::device_move::{DeviceMove, Due, MovePolicy, Stage};

/// How far a run goes ahead of what is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Devices that were begun and are not verified yet.
    pub(crate) under_way_max: usize,
    /// With this many stragglers no further device is begun.
    pub(crate) stragglers_max: usize,
    /// Whether verified devices are left at the source.
    pub(crate) stop_at_verified: bool,
}

/// Every device of a move by what it waits for.
#[derive(Debug)]
pub(crate) struct Schedule {
    policy: MovePolicy,
    bounds: Bounds,
    /// Nothing was done with these.
    fresh: VecDeque<usize>,
    /// An act of these is due.
    ready: VecDeque<usize>,
    /// These have to be seen at their target.
    waiting: BTreeSet<usize>,
    /// These wait for a time.
    timers: BTreeSet<(i64, usize)>,
    under_way: BTreeSet<usize>,
}

impl Schedule {
    pub(crate) fn new(policy: MovePolicy, bounds: Bounds) -> Self {
        Self {
            policy,
            bounds,
            fresh: VecDeque::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            under_way: BTreeSet::new(),
        }
    }

    /// Takes a device in whose state has changed and that no act is running for. It must be in no
    /// queue: [`Schedule::next`] takes one out, and so does [`Schedule::found`].
    pub(crate) fn put(&mut self, device: usize, state: &DeviceMove, now_us: i64) {
        self.note(device, state);
        match state.next(now_us, &self.policy) {
            Due::Begin(_) | Due::Do(_) if state.stage() == Stage::Planned => {
                self.fresh.push_back(device);
            }
            Due::Begin(_) if self.stays(state) => {}
            Due::Begin(_) | Due::Do(_) => self.ready.push_back(device),
            Due::Telemetry { .. } => {
                self.waiting.insert(device);
            }
            Due::Until(at_us) if !self.stays(state) => {
                self.timers.insert((at_us, device));
            }
            Due::Until(_) | Due::Paused | Due::Person(_) | Due::Nothing => {}
        }
    }

    /// A device that may have been waited for is not any more.
    pub(crate) fn found(&mut self, device: usize) {
        self.waiting.remove(&device);
    }

    /// Empties the queues, to be filled again.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.policy, self.bounds);
    }

    /// Keeps count of a device while an act runs for it.
    pub(crate) fn note(&mut self, device: usize, state: &DeviceMove) {
        let unproved = !state.stage().is_end()
            && !matches!(
                state.stage(),
                Stage::Planned | Stage::Verified | Stage::Erasing
            );
        match unproved {
            true => self.under_way.insert(device),
            false => self.under_way.remove(&device),
        };
    }

    fn stays(&self, state: &DeviceMove) -> bool {
        self.bounds.stop_at_verified && state.stage() == Stage::Verified
    }

    /// The next device to act on: those that were begun come first. `stragglers` is how many there
    /// are now.
    pub(crate) fn next(&mut self, stragglers: usize, now_us: i64) -> Option<usize> {
        while let Some(&(at_us, device)) = self.timers.first()
            && at_us <= now_us
        {
            self.timers.pop_first();
            self.ready.push_back(device);
        }
        if let Some(device) = self.ready.pop_front() {
            return Some(device);
        }
        match self.may_begin(stragglers) {
            true => self.fresh.pop_front(),
            false => None,
        }
    }

    fn may_begin(&self, stragglers: usize) -> bool {
        self.under_way.len() < self.bounds.under_way_max && stragglers < self.bounds.stragglers_max
    }

    /// Devices that have to be seen at their target.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        self.waiting.iter().copied()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing will be due by itself: no act, no time, no device to begin. Devices may still be seen.
    pub(crate) fn is_still(&self, stragglers: usize) -> bool {
        self.ready.is_empty()
            && self.timers.is_empty()
            && (self.fresh.is_empty() || !self.may_begin(stragglers))
    }
}

#[cfg(test)]
mod tests {
    use stamp_placement::device_move::{Event, Outcome};

    use super::*;

    const POLICY: MovePolicy = MovePolicy {
        keep_source_us: 100,
        straggler_after_us: 50,
    };

    fn schedule(under_way_max: usize, stragglers_max: usize) -> Schedule {
        Schedule::new(
            POLICY,
            Bounds {
                under_way_max,
                stragglers_max,
                stop_at_verified: false,
            },
        )
    }

    fn recorded() -> DeviceMove {
        let begun = DeviceMove::planned(0).begin(0, &POLICY).unwrap();
        begun.on(Event::Acted(Outcome::Done), 0).unwrap()
    }

    #[test]
    fn a_device_that_was_begun_goes_before_a_fresh_one() {
        let mut schedule = schedule(10, 1);
        schedule.put(0, &DeviceMove::planned(0), 0);
        schedule.put(1, &recorded(), 0);
        assert_eq!(
            (schedule.next(0, 0), schedule.next(0, 0)),
            (Some(1), Some(0))
        );
        assert_eq!(schedule.next(0, 0), None);
    }

    #[test]
    fn no_more_are_begun_than_may_be_under_way_or_after_too_many_stragglers() {
        let mut schedule = schedule(1, 2);
        schedule.put(0, &DeviceMove::planned(0), 0);
        schedule.put(1, &DeviceMove::planned(0), 0);
        assert_eq!(schedule.next(2, 0), None, "two stragglers");
        assert_eq!(schedule.next(1, 0), Some(0));
        schedule.note(0, &recorded());
        assert_eq!(schedule.next(0, 0), None, "one is under way");
        assert!(schedule.is_still(0));
    }

    #[test]
    fn a_time_comes_when_it_comes() {
        let mut state = recorded();
        for _ in 0..2 {
            state = state.begin(0, &POLICY).unwrap();
            state = state.on(Event::Acted(Outcome::Done), 0).unwrap();
        }
        let evidence = stamp_placement::device_move::Evidence {
            enqueued_at_us: 1,
            partition: 0,
            sequence: 0,
        };
        let verified = state.on(Event::Telemetry(evidence), 10).unwrap();
        let mut schedule = schedule(1, 1);
        schedule.put(0, &state, 0);
        assert_eq!((schedule.waiting_count(), schedule.is_still(0)), (1, true));
        schedule.found(0);
        schedule.put(0, &verified, 10);
        assert!(!schedule.is_still(0));
        assert_eq!(schedule.next(0, 109), None);
        assert_eq!(schedule.next(0, 110), Some(0));
        schedule.bounds.stop_at_verified = true;
        schedule.put(0, &verified, 110);
        assert!(schedule.is_still(0), "it is left at the source");
    }
}
