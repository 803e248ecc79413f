//! The partitions of a process flush a tenant together.
//!
//! A flush costs a file and a commit for each table, however few rows there are. When one partition
//! writes a tenant's rows because of their age, or to free memory, the others write what they have
//! of it too, and whoever leads the commit waits for them: one file, one commit. Nothing depends on
//! it: who does not come in time has a commit of its own. Nothing here does I/O.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Tables that a flush comes to.
pub(crate) const TABLES: usize = 3;
/// `rejected`, or the stamp's `quarantine`.
pub(crate) const RAW: usize = 0;
/// A tenant's `readings`.
pub(crate) const READINGS: usize = 1;
/// The stamp's `gaps`.
pub(crate) const GAPS: usize = 1;
/// A tenant's `rollups`.
pub(crate) const ROLLUPS: usize = 2;

/// Longest wait of a leader, whatever is configured: a stop drains within `drain-max`, 25 s by default, and a
/// flush comes to three tables one after the other.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// One tenant's open buffers in all partitions, and its flushes under way.
#[derive(Debug)]
pub(crate) struct Muster {
    /// Changes under the lock only.
    round: AtomicU64,
    /// Bytes in open buffers.
    held: AtomicUsize,
    /// How long a leader waits for the others.
    patience: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Buffers that were opened in this round.
    fresh: usize,
    /// Buffers of earlier rounds: called, and not sealed yet.
    behind: usize,
    /// Flushes that have not come to each of the tables yet.
    coming: [usize; TABLES],
}

impl Muster {
    /// Nobody yet; a leader waits at most `patience` for the others, and never over five seconds.
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            round: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            patience: patience.min(PATIENCE_MAX),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// The seat of a buffer that is opened now.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut state = self.state();
        state.fresh += 1;
        Seat {
            round: self.round.load(Ordering::Relaxed),
            bytes: 0,
            muster: self.clone(),
        }
    }

    async fn gathered(&self, table: usize, cancel: &CancellationToken) {
        let complete = async {
            loop {
                let changed = self.changed.notified();
                {
                    let state = self.state();
                    if state.behind == 0 && state.coming[table] == 0 {
                        return;
                    }
                }
                changed.await;
            }
        };
        // Whoever comes too late leads a commit of its own.
        let _ = cancel
            .run_until_cancelled(timeout(self.patience, complete))
            .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self, table: usize) {
        let mut state = self.state();
        state.coming[table] -= 1;
        if state.coming[table] == 0 {
            self.changed.notify_waiters();
        }
    }
}

/// The place of one open buffer. Given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    muster: Arc<Muster>,
    round: u64,
    bytes: usize,
}

impl Seat {
    /// Whether the buffer is to be flushed with the others.
    pub(crate) fn is_called(&self) -> bool {
        self.muster.round.load(Ordering::Relaxed) != self.round
    }

    /// Calls everybody who sits with this one. Nothing when they were called already.
    pub(crate) fn call(&self) {
        let mut state = self.muster.state();
        if !self.is_called() {
            self.muster.round.fetch_add(1, Ordering::Relaxed);
            state.behind += std::mem::take(&mut state.fresh);
        }
    }

    /// Notes what the buffer holds.
    pub(crate) fn set_bytes(&mut self, bytes: usize) {
        let held = &self.muster.held;
        if bytes >= self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Bytes in the open buffers of all partitions.
    pub(crate) fn bytes_together(&self) -> usize {
        self.muster.held.load(Ordering::Relaxed)
    }

    /// The flush of this buffer, which goes to `tables`.
    pub(crate) fn depart(self, tables: [bool; TABLES]) -> Coming {
        let mut state = self.muster.state();
        for (coming, goes) in state.coming.iter_mut().zip(tables) {
            *coming += usize::from(goes);
        }
        drop(state);
        Coming {
            muster: self.muster.clone(),
            tables,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.set_bytes(0);
        let mut state = self.muster.state();
        if self.is_called() {
            state.behind -= 1;
            if state.behind == 0 {
                self.muster.changed.notify_waiters();
            }
        } else {
            state.fresh -= 1;
        }
    }
}

/// A flush on its way to its tables. Nobody waits for one that was dropped.
#[derive(Debug)]
pub(crate) struct Coming {
    muster: Arc<Muster>,
    /// Where it has not come yet.
    tables: [bool; TABLES],
}

impl Coming {
    /// It has come to a table, or passes it by.
    pub(crate) fn came_to(&mut self, table: usize) {
        if std::mem::take(&mut self.tables[table]) {
            self.muster.came(table);
        }
    }

    /// Waits until every buffer that was called is sealed and every flush that goes to a table has
    /// come there, until patience is over, or until `cancel`. Cancel-safe.
    pub(crate) async fn gathered(&self, table: usize, cancel: &CancellationToken) {
        self.muster.gathered(table, cancel).await;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        (0..TABLES).for_each(|table| self.came_to(table));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);
    const ALL: [bool; TABLES] = [true; TABLES];

    /// How long a leader waits at table 0.
    async fn waited(muster: &Arc<Muster>) -> Duration {
        waited_until(muster, &CancellationToken::new()).await
    }

    async fn waited_until(muster: &Arc<Muster>, cancel: &CancellationToken) -> Duration {
        let since = Instant::now();
        muster.gathered(0, cancel).await;
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_flushes_alone_waits_for_nobody() {
        let muster = Muster::new(PATIENCE);
        let seat = muster.seat();
        seat.call();
        let mut coming = seat.depart(ALL);
        coming.came_to(0);
        assert_eq!(waited(&muster).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_waits_for_those_who_were_called_and_for_those_on_their_way() {
        let muster = Muster::new(PATIENCE);
        let (first, second) = (muster.seat(), muster.seat());
        first.call();
        assert!(first.is_called() && second.is_called());
        let mut leads = first.depart(ALL);
        leads.came_to(0);
        let leader = tokio::spawn({
            let muster = muster.clone();
            async move { waited(&muster).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(300)).await;
        let mut rides = second.depart(ALL);
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(!leader.is_finished());
        rides.came_to(0);
        assert_eq!(leader.await.unwrap(), Duration::from_millis(600));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_the_wait_for_one_that_never_comes() {
        let muster = Muster::new(PATIENCE);
        let (first, _second) = (muster.seat(), muster.seat());
        first.call();
        drop(first.depart(ALL));
        assert_eq!(waited(&muster).await, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_a_stop_can_spare_or_after_it_is_cut_short() {
        let muster = Muster::new(Duration::from_secs(3_600));
        let (first, _second) = (muster.seat(), muster.seat());
        first.call();
        drop(first.depart(ALL));
        assert_eq!(waited(&muster).await, PATIENCE_MAX);

        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(waited_until(&muster, &cancel).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_opened_after_the_call_is_not_waited_for() {
        let muster = Muster::new(PATIENCE);
        let first = muster.seat();
        first.call();
        first.call();
        let second = muster.seat();
        assert!(!second.is_called());
        drop(first);
        assert_eq!(waited(&muster).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn flushes_and_buffers_that_are_dropped_leave_nobody_waiting() {
        let muster = Muster::new(PATIENCE);
        let (mut first, second) = (muster.seat(), muster.seat());
        first.set_bytes(70);
        first.set_bytes(30);
        assert_eq!(second.bytes_together(), 30);
        second.call();
        drop(first);
        assert_eq!(second.bytes_together(), 0);
        drop(second.depart(ALL));
        assert_eq!(waited(&muster).await, Duration::ZERO);
        let state = muster.state();
        assert_eq!(
            (state.fresh, state.behind, state.coming),
            (0, 0, [0; TABLES])
        );
    }
}
