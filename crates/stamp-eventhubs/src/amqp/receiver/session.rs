//! The session: how many frames either side may send ahead.

use super::compose::{SessionState, WINDOW_FRAMES};

/// Both windows. Numbers wrap around at 2^32.
#[derive(Debug)]
pub(super) struct Session {
    /// Number that the peer gives its side of the session.
    pub(super) remote_channel: u16,
    next_incoming_id: u32,
    /// Transfer frames the peer may still send.
    window_left: u32,
    next_outgoing_id: u32,
    /// Transfer frames the peer still takes.
    remote_window: u32,
    next_delivery_id: u32,
}

impl Session {
    /// Our first outgoing id, as `begin` says it, is 0.
    pub(super) fn new(remote_channel: u16, next_incoming_id: u32, remote_window: u32) -> Self {
        Self {
            remote_channel,
            next_incoming_id,
            window_left: WINDOW_FRAMES,
            next_outgoing_id: 0,
            remote_window,
            next_delivery_id: 0,
        }
    }

    /// Counts a transfer frame of the peer; `None` when it has run over its window.
    #[inline]
    pub(super) fn received(&mut self) -> Option<()> {
        self.window_left = self.window_left.checked_sub(1)?;
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        Some(())
    }

    /// Whether half of the window is used, so that it is to be opened again.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.window_left <= WINDOW_FRAMES / 2
    }

    /// What a flow says about the session. It opens the window again.
    pub(super) fn state(&mut self) -> SessionState {
        self.window_left = WINDOW_FRAMES;
        SessionState {
            next_incoming_id: self.next_incoming_id,
            next_outgoing_id: self.next_outgoing_id,
        }
    }

    /// What a flow of the peer says about the session.
    pub(super) fn told(&mut self, next_incoming_id: Option<u32>, incoming_window: u32) {
        let limit = next_incoming_id.unwrap_or(0).wrapping_add(incoming_window);
        let left = limit.wrapping_sub(self.next_outgoing_id);
        // A window of 2^32 - 1 is a large one; what lies behind us cannot be told from it, and a
        // peer that takes back its window is one that the standard does not have.
        self.remote_window = left;
    }

    /// Whether the peer takes so many frames now.
    pub(super) fn takes(&self, frames: usize) -> bool {
        frames as u64 <= u64::from(self.remote_window)
    }

    pub(super) fn next_delivery(&mut self) -> u32 {
        let id = self.next_delivery_id;
        self.next_delivery_id = id.wrapping_add(1);
        id
    }

    /// Counts a transfer frame of ours.
    pub(super) fn sent(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.remote_window = self.remote_window.saturating_sub(1);
    }
}
