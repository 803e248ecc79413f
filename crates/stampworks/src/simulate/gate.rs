//! What a service lets in: so many requests a window, the others are told when to come back.

/// The limit of a hub or of a DPS, and what was asked of it.
pub(super) struct Gate {
    limit: u64,
    window_s: u64,
    window: u64,
    asked: u64,
    peak: u64,
    throttled: u64,
}

impl Gate {
    /// Lets in `limit` requests in each window of `window_s`.
    pub(super) fn new(limit: u64, window_s: u64) -> Self {
        Self {
            limit,
            window_s,
            window: 0,
            asked: 0,
            peak: 0,
            throttled: 0,
        }
    }

    /// Whether a request is let in. One that is not counts as asked, as it does at the service.
    pub(super) fn ask(&mut self, now_s: u64) -> bool {
        let window = now_s / self.window_s;
        if window != self.window {
            self.window = window;
            self.asked = 0;
        }
        self.asked += 1;
        self.peak = self.peak.max(self.asked);
        let admitted = self.asked <= self.limit;
        self.throttled += u64::from(!admitted);
        admitted
    }

    /// Seconds until the next window begins.
    pub(super) fn next_window_s(&self, now_s: u64) -> u64 {
        self.window_s - now_s % self.window_s
    }

    /// Most requests in one window, refused ones included.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Requests that were refused.
    pub(super) fn throttled(&self) -> u64 {
        self.throttled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_refused_until_the_next_window() {
        let mut gate = Gate::new(2, 60);
        let let_in: Vec<bool> = [0, 1, 59, 60].map(|now_s| gate.ask(now_s)).to_vec();
        assert_eq!(let_in, [true, true, false, true]);
        assert_eq!((gate.peak(), gate.throttled()), (3, 1));
        assert_eq!(gate.next_window_s(61), 59);
    }
}
