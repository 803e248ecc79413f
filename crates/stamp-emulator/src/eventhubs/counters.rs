//! What was seen on the wire, so that a test can prove "one operation, one request".

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Requests seen on the wire since the start. Every value only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct CounterCells {
            $(pub(crate) $name: Cell,)*
        }

        impl CounterCells {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// TCP connections. A hub counts a connection when it is first named on it; the emulator counts
    /// every connection it accepts.
    connections_opened,
    /// `attach` frames of receivers, also those that were refused.
    receiver_attaches,
    /// `attach` frames of senders, also those that were refused.
    sender_attaches,
    /// `attach` frames that were answered with an error.
    attaches_refused,
    /// Whole deliveries that clients sent (a batch is one).
    deliveries_received,
    /// Events that clients sent and that were stored.
    events_stored,
    /// Events published in process.
    events_published,
    /// Whole events that were sent to receivers.
    events_sent,
    /// `disposition` frames from receivers.
    dispositions_received,
    /// Receivers that a higher or equal owner level, or a fault hook, took the partition from.
    receivers_displaced,
    /// Events that retention took before a receiver that was attached had read them.
    events_missed,
    /// `put-token` requests, also those that were refused.
    put_tokens,
    /// `READ` requests to `$management`, also those that were refused.
    management_reads,
}

#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}
