//! Faults of the HTTP and MQTT services that a test can switch on while clients run, and what was
//! seen on the wire. Each counts requests, never time or chance.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a client asks of an IoT Hub or of DPS; faults and counters tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// Device identities: create, update, get, delete, list, bulk, statistics.
    Registry,
    /// Twins through the service API.
    Twin,
    /// `POST /devices/query`, and the queries of DPS.
    Query,
    /// A device's connection over MQTT.
    Connect,
    /// A telemetry message from a device, over HTTPS or MQTT.
    Telemetry,
    /// A device's own twin over MQTT.
    DeviceTwin,
    /// A device asks DPS for its hub.
    Register,
    /// A device asks DPS how its registration goes, or what it was.
    Poll,
    /// Enrolments, groups and registration records of DPS through the service API.
    Enrollment,
}

/// The error a request is refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRefusal {
    /// HTTP status, also the status in an MQTT answer.
    pub status: u16,
    /// The service's own code, such as 429001.
    pub error_code: u32,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u64>,
    /// A text for people.
    pub text: String,
}

impl ServiceRefusal {
    /// Throttled: 429, with a pause when given.
    #[must_use]
    pub fn throttled(retry_after_s: Option<u64>) -> Self {
        Self {
            status: 429,
            error_code: 429_001,
            retry_after_s,
            text: "Throttled. Wait 10 seconds and try again".to_owned(),
        }
    }

    /// The service failed: 500.
    #[must_use]
    pub fn internal() -> Self {
        Self {
            status: 500,
            error_code: 500_001,
            retry_after_s: None,
            text: "The service was unable to process the request".to_owned(),
        }
    }

    /// The service is busy: 503.
    #[must_use]
    pub fn busy() -> Self {
        Self {
            status: 503,
            error_code: 503_005,
            retry_after_s: None,
            text: "The service is busy".to_owned(),
        }
    }
}

/// The fault hooks of one IoT Hub or DPS. A count of `u32::MAX` means "until cleared".
#[derive(Debug, Default)]
pub struct ServiceFaults {
    state: Mutex<BTreeMap<Operation, Fault>>,
    seen: Mutex<BTreeMap<Operation, u64>>,
}

#[derive(Debug, Default)]
struct Fault {
    refuse: Option<(u32, ServiceRefusal)>,
    lose_replies: u32,
    delay: Duration,
}

/// What a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) delay: Duration,
    pub(crate) refusal: Option<ServiceRefusal>,
    /// The request is done, and the connection closes instead of an answer.
    pub(crate) lose_reply: bool,
}

impl ServiceFaults {
    fn state(&self) -> MutexGuard<'_, BTreeMap<Operation, Fault>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` requests are refused, and nothing happens. A connection over MQTT is refused
    /// with "server unavailable"; telemetry over MQTT ends its connection.
    pub fn refuse(&self, operation: Operation, times: u32, refusal: ServiceRefusal) {
        self.state().entry(operation).or_default().refuse = Some((times, refusal));
    }

    /// The next `times` requests **are** done, and the connection closes instead of an answer.
    pub fn lose_replies(&self, operation: Operation, times: u32) {
        self.state().entry(operation).or_default().lose_replies = times;
    }

    /// Every request waits this long before anything else happens. Zero switches it off.
    pub fn delay(&self, operation: Operation, delay: Duration) {
        self.state().entry(operation).or_default().delay = delay;
    }

    /// All of it is off.
    pub fn clear(&self) {
        self.state().clear();
    }

    /// How many requests of this kind came since the start, refused ones included.
    #[must_use]
    pub fn seen(&self, operation: Operation) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&operation).copied().unwrap_or_default()
    }

    /// Counts a request and says what it meets.
    pub(crate) fn meet(&self, operation: Operation) -> Met {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(operation).or_default() += 1;
        drop(seen);
        let mut state = self.state();
        let Some(fault) = state.get_mut(&operation) else {
            return Met {
                delay: Duration::ZERO,
                refusal: None,
                lose_reply: false,
            };
        };
        let refusal = fault.refuse.as_mut().and_then(|(times, refusal)| {
            // Only a count that is not used up refuses.
            count_down(times).then(|| refusal.clone())
        });
        Met {
            delay: fault.delay,
            lose_reply: refusal.is_none() && count_down(&mut fault.lose_replies),
            refusal,
        }
    }
}

fn count_down(times: &mut u32) -> bool {
    let left = *times;
    if left != 0 && left != u32::MAX {
        *times -= 1;
    }
    left != 0
}

/// Waits as a fault asks for.
pub(crate) async fn wait(delay: Duration) {
    if !delay.is_zero() {
        let forever = std::future::pending::<()>();
        let _elapsed = tokio::time::timeout(delay, forever).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_lost_replies_count_down_one_after_the_other() {
        let faults = ServiceFaults::default();
        faults.refuse(Operation::Registry, 1, ServiceRefusal::throttled(Some(7)));
        faults.lose_replies(Operation::Registry, 1);

        let met = [(); 3].map(|()| faults.meet(Operation::Registry));

        assert_eq!(met[0].refusal.as_ref().unwrap().retry_after_s, Some(7));
        assert_eq!(met.each_ref().map(|m| m.lose_reply), [false, true, false]);
        assert_eq!(met[2].refusal, None);
        assert_eq!(faults.seen(Operation::Registry), 3);
        assert_eq!(faults.meet(Operation::Twin).refusal, None);
    }

    #[test]
    fn the_largest_count_stays_until_cleared() {
        let faults = ServiceFaults::default();
        faults.refuse(Operation::Connect, u32::MAX, ServiceRefusal::busy());
        assert!((0..9).all(|_| faults.meet(Operation::Connect).refusal.is_some()));
        faults.clear();
        assert_eq!(faults.meet(Operation::Connect).refusal, None);
    }
}
