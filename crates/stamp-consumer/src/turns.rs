//! Permits that go round: whoever waits gets one in turn, by tenant and not by who came first.
//!
//! Encoding takes a core. With a queue in the order of arrival a tenant with many flushes would be
//! served many times before the next one; here each tenant with something to encode is served once
//! a round, however much it has waiting.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Who waits: the number of a tenant.
pub(crate) type Party = usize;
/// The stamp's own tables.
pub(crate) const STAMP: Party = usize::MAX;

/// A number of permits and those who wait for one.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Only above 0 while nobody waits.
    free: usize,
    /// No queue is empty. A committer waits for one permit at a time, so there are at most as many
    /// entries as tables.
    waiting: BTreeMap<Party, VecDeque<oneshot::Sender<Permit>>>,
    /// Who was served last.
    last: Party,
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    turns: Option<Arc<Turns>>,
}

impl Turns {
    /// `permits` may be held at a time, at least 1.
    pub(crate) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: permits.max(1),
                waiting: BTreeMap::new(),
                last: STAMP,
            }),
        })
    }

    /// A permit, once it is this party's turn. Cancel-safe: who stops waiting is passed over.
    ///
    /// # Errors
    /// Never while `self` exists.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        party: Party,
    ) -> Result<Permit, oneshot::error::RecvError> {
        let turn = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Ok(self.permit());
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.entry(party).or_default().push_back(sender);
            turn
        };
        turn.await
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit {
            turns: Some(self.clone()),
        }
    }

    /// Hands a permit on to the next party, or keeps it when nobody waits.
    fn hand_on(self: &Arc<Self>) {
        let mut state = self.state();
        while let Some(sender) = state.next() {
            match sender.send(self.permit()) {
                Ok(()) => return,
                // Its future was dropped. The permit must not be given back from in here.
                Err(mut unwanted) => unwanted.turns = None,
            }
        }
        state.free += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first in the queue of the party after the one that was served last.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let after = self.waiting.range((Excluded(self.last), Unbounded)).next();
        let (&party, _) = after.or_else(|| self.waiting.first_key_value())?;
        self.last = party;
        let queue = self.waiting.get_mut(&party)?;
        let sender = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&party);
        }
        sender
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::task::yield_now;

    use super::*;

    /// Queues parties in this order behind a permit that is taken, and gives the order in which
    /// they are served.
    async fn served(queued: &[Party]) -> Vec<Party> {
        let turns = Turns::new(1);
        let first = turns.acquire(STAMP).await.unwrap();
        let (done, mut order) = mpsc::channel(16);
        for &party in queued {
            let (turns, done) = (turns.clone(), done.clone());
            tokio::spawn(async move {
                let _permit = turns.acquire(party).await.unwrap();
                done.send(party).await.unwrap();
                yield_now().await;
            });
            yield_now().await;
        }
        drop((first, done));
        let mut parties = Vec::new();
        while let Some(party) = order.recv().await {
            parties.push(party);
        }
        assert_eq!(turns.state().free, 1);
        assert!(turns.state().waiting.is_empty());
        parties
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_flushes_is_served_once_a_round() {
        assert_eq!(served(&[0, 0, 0, 0, 1, 2, 1]).await, [0, 1, 2, 0, 1, 0, 0]);
        assert_eq!(served(&[STAMP, STAMP, 3]).await, [3, STAMP, STAMP]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_is_passed_over_and_no_permit_is_lost() {
        let turns = Turns::new(1);
        let first = turns.acquire(0).await.unwrap();
        let gives_up = tokio::spawn({
            let turns = turns.clone();
            async move { turns.acquire(1).await.map(drop) }
        });
        yield_now().await;
        let waits = tokio::spawn({
            let turns = turns.clone();
            async move { turns.acquire(2).await.map(drop) }
        });
        yield_now().await;
        gives_up.abort();
        assert!(gives_up.await.unwrap_err().is_cancelled());

        drop(first);
        waits.await.unwrap().unwrap();

        assert_eq!(turns.state().free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_hold_a_permit_as_there_are() {
        let turns = Turns::new(2);
        let (a, b) = (
            turns.acquire(0).await.unwrap(),
            turns.acquire(0).await.unwrap(),
        );
        assert_eq!(turns.state().free, 0);
        drop(a);
        drop(b);
        assert_eq!(turns.state().free, 2);
    }
}
