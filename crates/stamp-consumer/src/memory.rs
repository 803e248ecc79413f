//! One number for all the memory between wire and store.
//!
//! Workers reserve the bytes of a pull before they make it and correct the figure to what their
//! buffers really hold afterwards. The account never refuses a correction: an overdraft of at most
//! one pull a partition is part of the stated constant, and reading waits until it is paid back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The process's byte account. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct MemoryAccount {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    max: usize,
    held: AtomicUsize,
    freed: Notify,
}

impl MemoryAccount {
    /// An account of `max` bytes.
    #[must_use]
    pub(crate) fn new(max: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                max,
                held: AtomicUsize::new(0),
                freed: Notify::new(),
            }),
        }
    }

    /// Bytes held now.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.inner.held.load(Ordering::Acquire)
    }

    /// Takes `bytes` if they fit, or at once when nothing is held: one pull always gets through.
    #[must_use]
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Charge> {
        let fits =
            |held: usize| (held == 0 || held + bytes <= self.inner.max).then_some(held + bytes);
        self.inner
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .ok()?;
        Some(Charge {
            account: self.clone(),
            bytes,
        })
    }

    /// A future that is done once bytes are given back after this call, even before it is polled:
    /// take it, try to reserve, then await it. Dropping it changes nothing.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.inner.freed.notified()
    }
}

/// Bytes taken from the account, given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: MemoryAccount,
    bytes: usize,
}

impl Charge {
    /// A charge of nothing, to be grown with [`Charge::set`].
    #[must_use]
    pub(crate) fn none(account: &MemoryAccount) -> Self {
        Self {
            account: account.clone(),
            bytes: 0,
        }
    }

    /// Corrects the charge to what is really held.
    pub(crate) fn set(&mut self, bytes: usize) {
        let held = &self.account.inner.held;
        if bytes >= self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::AcqRel);
        } else {
            held.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.account.inner.freed.notify_waiters();
        }
        self.bytes = bytes;
    }

    /// Bytes charged.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_that_does_not_fit_is_refused_until_bytes_come_back() {
        let account = MemoryAccount::new(100);
        let first = account.try_reserve(80).unwrap();

        assert!(account.try_reserve(30).is_none());
        drop(first);

        assert!(account.try_reserve(30).is_some());
    }

    #[test]
    fn one_pull_larger_than_the_account_still_gets_through_alone() {
        let account = MemoryAccount::new(100);
        let large = account.try_reserve(150).unwrap();
        assert!(account.try_reserve(1).is_none());
        drop(large);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_corrected_charge_gives_back_exactly_what_it_holds() {
        let account = MemoryAccount::new(100);
        let mut charge = account.try_reserve(50).unwrap();
        charge.set(70);
        charge.set(20);
        assert_eq!(account.held(), 20);
        drop(charge);
        assert_eq!(account.held(), 0);
    }
}
