//! Who watches a move.

use stamp_placement::device_move::{Act, Outcome};

use crate::mover::Progress;

/// Is told how a move goes: metrics, a progress bar.
pub trait Observed: Send + Sync {
    /// An act ended.
    fn acted(&self, act: Act, outcome: Outcome);

    /// How far the move is: twice a second while it runs, and at the end.
    fn progress(&self, progress: &Progress);
}

/// Nobody watches.
impl Observed for () {
    fn acted(&self, _act: Act, _outcome: Outcome) {}

    fn progress(&self, _progress: &Progress) {}
}
