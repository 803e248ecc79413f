//! What the probes answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Something that must have happened once before the service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The configuration was read and accepted.
    ConfigLoaded,
    /// Every store the service writes to answered once.
    StoreReached,
    /// The hub answered once.
    HubReached,
    /// The database of reservations answered once.
    DatabaseReached,
}

impl Condition {
    const ALL: [Self; 4] = [
        Self::ConfigLoaded,
        Self::StoreReached,
        Self::HubReached,
        Self::DatabaseReached,
    ];
    /// What a stamp's service waits for.
    const OF_A_STAMP: [Self; 3] = [Self::ConfigLoaded, Self::StoreReached, Self::HubReached];
    /// What a provisioner waits for.
    const OF_A_PROVISIONER: [Self; 2] = [Self::ConfigLoaded, Self::DatabaseReached];

    fn bit(self) -> u8 {
        match self {
            Self::ConfigLoaded => 1,
            Self::StoreReached => 2,
            Self::HubReached => 4,
            Self::DatabaseReached => 16,
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::ConfigLoaded => "configuration is not loaded",
            Self::StoreReached => "store was not reached yet",
            Self::HubReached => "hub was not reached yet",
            Self::DatabaseReached => "database was not reached yet",
        }
    }
}

const DRAINING: u8 = 8;

/// The state behind `/livez`, `/readyz` and `/startupz`. Cloning gives the same state.
///
/// Conditions never go back: an outage of the hub or of a store is seen in metrics and alerts, and
/// restarting the service, which is what a failed probe leads to, would not end it.
#[derive(Debug, Clone)]
pub struct Health(Arc<AtomicU8>);

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// A stamp's service to which nothing has happened yet: alive, not started, not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::waiting_for(&Condition::OF_A_STAMP)
    }

    /// The same of a provisioner, which has no hub and no store.
    #[must_use]
    pub fn of_a_provisioner() -> Self {
        Self::waiting_for(&Condition::OF_A_PROVISIONER)
    }

    /// The same of a service of moves, which asks nobody before somebody asks it.
    #[must_use]
    pub fn of_a_mover() -> Self {
        Self::waiting_for(&[Condition::ConfigLoaded])
    }

    /// The same of a move of devices, which does its work from the start.
    #[must_use]
    pub fn of_a_move() -> Self {
        Self::waiting_for(&[])
    }

    /// What is not waited for counts as met.
    fn waiting_for(conditions: &[Condition]) -> Self {
        let others = Condition::ALL
            .into_iter()
            .filter(|all| !conditions.contains(all));
        let state = others.fold(0, |state, condition| state | condition.bit());
        Self(Arc::new(AtomicU8::new(state)))
    }

    /// Says that a condition is met, once and for all.
    pub fn met(&self, condition: Condition) {
        self.0.fetch_or(condition.bit(), Ordering::Relaxed);
    }

    /// Says that the service is stopping: from now on it is not ready.
    pub fn draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::Relaxed);
    }

    /// Whether every condition was met, draining or not.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.unmet().is_empty()
    }

    /// Whether the service does its work: started and not draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.is_draining()
    }

    /// What readiness waits for, in words; empty when ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = self.unmet();
        if self.is_draining() {
            missing.push("the service is draining");
        }
        missing
    }

    pub(crate) fn unmet(&self) -> Vec<&'static str> {
        let state = self.0.load(Ordering::Relaxed);
        let unmet = Condition::ALL.into_iter().filter(|c| state & c.bit() == 0);
        unmet.map(Condition::missing).collect()
    }

    fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed) & DRAINING != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing_until_all_is_met() {
        let health = Health::new();
        health.met(Condition::ConfigLoaded);
        health.met(Condition::HubReached);
        assert_eq!(health.missing(), ["store was not reached yet"]);
        assert!(!health.is_ready());

        health.met(Condition::StoreReached);

        assert!(health.is_ready());
        assert!(health.missing().is_empty());
    }

    #[test]
    fn a_provisioner_waits_for_its_database_and_for_no_hub() {
        let health = Health::of_a_provisioner();
        health.met(Condition::ConfigLoaded);
        assert_eq!(health.missing(), ["database was not reached yet"]);

        health.met(Condition::DatabaseReached);

        assert!(health.is_ready());
    }

    #[test]
    fn a_move_is_ready_from_the_start() {
        assert!(Health::of_a_move().is_ready());
    }

    #[test]
    fn a_draining_service_is_started_and_not_ready() {
        let health = Health::new();
        Condition::ALL
            .into_iter()
            .for_each(|condition| health.met(condition));

        health.draining();

        assert!(health.is_started());
        assert_eq!(health.missing(), ["the service is draining"]);
    }
}
