//! How hubs reach the tasks of their connections.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// One connection as the rest of the emulator sees it.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    notify: Notify,
    dropped: AtomicBool,
}

impl Signal {
    /// Makes the connection look at its links again. Cheap, never blocks.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Cuts the connection, as a broken network would.
    pub(crate) fn drop_connection(&self) {
        self.dropped.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Waits for [`Signal::wake`]. Cancel safe: a wake that nobody waited for is kept.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}
