//! Loads of one table that many ask for at once are made once.
//!
//! Every partition of a process asks the tables of every tenant when it starts. Whoever waits is
//! served by a load that began after it asked, so it sees all that was there then. When that load
//! fails, everybody makes one of his own: an error is nobody else's. No I/O of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

/// Who asked for one table's loads, and how far they are answered.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    state: Mutex<State>,
    /// Held while a load is under way that others may wait for.
    lead: AsyncMutex<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    asked: u64,
    /// Everybody up to this number was answered by a load that succeeded.
    served: u64,
    /// Everybody up to this number may have waited for a load that failed.
    failed: u64,
}

impl Flight {
    /// The answer of `load`, or `shared` once a load of somebody else, begun after this call, has
    /// succeeded. Cancel-safe: another one who waits makes the load.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) async fn join<T, E>(
        &self,
        load: impl Future<Output = Result<T, E>>,
        shared: impl FnOnce() -> Option<T>,
    ) -> Result<T, E> {
        let ticket = {
            let mut state = self.state();
            state.asked += 1;
            state.asked
        };
        let lead = self.lead.lock().await;
        let now = *self.state();
        if now.served >= ticket
            && let Some(answer) = shared()
        {
            return Ok(answer);
        }
        if now.failed >= ticket {
            drop(lead);
            return load.await;
        }
        let answer = load.await;
        let mut state = self.state();
        match answer {
            Ok(_) => state.served = now.asked,
            Err(_) => state.failed = now.asked,
        }
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    /// Eight ask at once, and each load takes a second; how many were made, and the answers.
    async fn eight(fails: bool) -> (u32, Vec<Result<u32, ()>>) {
        let (flight, loads) = (Arc::new(Flight::default()), Arc::new(AtomicU32::new(0)));
        let mut asking = JoinSet::new();
        for _ in 0..8 {
            let (flight, loads) = (flight.clone(), loads.clone());
            asking.spawn(async move {
                let load = async {
                    let number = loads.fetch_add(1, Ordering::Relaxed) + 1;
                    tokio::time::advance(Duration::from_secs(1)).await;
                    tokio::task::yield_now().await;
                    if fails { Err(()) } else { Ok(number) }
                };
                let latest = || Some(loads.load(Ordering::Relaxed));
                flight.join(load, latest).await
            });
        }
        let answers = asking.join_all().await;
        (loads.load(Ordering::Relaxed), answers)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_during_a_load_is_answered_by_the_next_one() {
        let (loads, answers) = eight(false).await;
        assert_eq!(loads, 2);
        let second = answers.iter().filter(|answer| **answer == Ok(2)).count();
        assert_eq!((answers.len(), second), (8, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_found_by_everybody_with_a_load_of_his_own() {
        let (loads, answers) = eight(true).await;
        assert_eq!((loads, answers), (8, vec![Err(()); 8]));
    }
}
