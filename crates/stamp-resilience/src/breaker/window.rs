//! Counts of the attempts of the last while, in ten slots.

use std::time::Duration;

use tokio::time::Instant;

const SLOTS: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which tenth of a window since the start this slot counts.
    tenth: u64,
    failures: u32,
    answers: u32,
}

/// A count is forgotten between nine tenths of a window and a whole one after it was made.
#[derive(Debug)]
pub(super) struct Window {
    started_at: Instant,
    slot_ns: u128,
    slots: [Slot; SLOTS],
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let slot_ns = (length.as_nanos() / SLOTS as u128).max(1);
        Self {
            started_at: now,
            slot_ns,
            slots: [Slot::default(); SLOTS],
        }
    }

    pub(super) fn count_answer(&mut self, now: Instant) {
        let slot = self.slot(now);
        slot.answers = slot.answers.saturating_add(1);
    }

    pub(super) fn count_failure(&mut self, now: Instant) {
        let slot = self.slot(now);
        slot.failures = slot.failures.saturating_add(1);
    }

    /// At least `failures_min` attempts failed, and at least half of all.
    pub(super) fn is_failing(&self, now: Instant, failures_min: u32) -> bool {
        let tenth = self.tenth(now);
        let live = self
            .slots
            .iter()
            .filter(|slot| slot.tenth + SLOTS as u64 > tenth);
        let (failures, answers) = live.fold((0_u64, 0_u64), |(failures, answers), slot| {
            (
                failures + u64::from(slot.failures),
                answers + u64::from(slot.answers),
            )
        });
        failures >= u64::from(failures_min) && failures >= answers
    }

    fn slot(&mut self, now: Instant) -> &mut Slot {
        let tenth = self.tenth(now);
        #[expect(clippy::cast_possible_truncation, reason = "below SLOTS")]
        let slot = &mut self.slots[(tenth % SLOTS as u64) as usize];
        if slot.tenth != tenth {
            *slot = Slot {
                tenth,
                ..Slot::default()
            };
        }
        slot
    }

    fn tenth(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started_at).as_nanos();
        u64::try_from(elapsed / self.slot_ns).unwrap_or(u64::MAX)
    }
}
