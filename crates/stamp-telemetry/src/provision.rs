//! The provisioner's handles: methods named after what happened, labels from closed sets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec};
use stamp_model::StampId;

use crate::catalogue::consumer::BUILD_INFO;
use crate::catalogue::provisioner as catalogue;
use crate::{Registry, TelemetryError};

/// Values of the label `limit`.
const LIMITS: [&str; 3] = ["soft", "hard", "bookable"];

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerOrigin {
    /// Booked by this request.
    Booked,
    /// Booked before.
    Kept,
    /// Booked before, and moved to another stamp by this request.
    Moved,
    /// The database is away; known from before, or from DPS.
    Memory,
    /// The database is away; a place from the reserve.
    Reserve,
}

impl AnswerOrigin {
    /// Every origin.
    pub const ALL: [Self; 5] = [
        Self::Booked,
        Self::Kept,
        Self::Moved,
        Self::Memory,
        Self::Reserve,
    ];

    /// The word in labels and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Kept => "kept",
            Self::Moved => "moved",
            Self::Memory => "memory",
            Self::Reserve => "reserve",
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionRoute {
    /// The webhook.
    Allocate,
    /// Where a tenant is.
    Tenant,
    /// Where a device is.
    Device,
    /// The description of the interface.
    OpenApi,
    /// Nothing that is there.
    Other,
}

impl ProvisionRoute {
    fn label(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::Tenant => "tenant",
            Self::Device => "device",
            Self::OpenApi => "openapi",
            Self::Other => "other",
        }
    }
}

/// The metrics of one provisioner. Cloning is cheap and gives the same metrics.
#[derive(Debug, Clone)]
pub struct ProvisionMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: IntCounterVec,
    duration: HistogramVec,
    database: Gauge,
    pending: Gauge,
    used_ratio: Gauge,
    written: IntCounter,
    booked: GaugeVec,
    capacity: GaugeVec,
    /// Stamps and axes that were told: those that leave the catalogue are taken away.
    told: Mutex<BTreeSet<(StampId, &'static str)>>,
    reloads: IntCounterVec,
    current: Gauge,
}

/// How full a stamp is on one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampFill {
    /// The stamp that is booked.
    pub stamp: StampId,
    /// What it can be full of, of a closed set.
    pub axis: &'static str,
    /// What is booked.
    pub booked: u64,
    /// Above it the next stamp is due.
    pub soft: u64,
    /// Nothing is placed above it.
    pub hard: u64,
    /// Nothing is booked above it while the database is there.
    pub bookable: u64,
}

impl ProvisionMetrics {
    /// Registers the metrics of the provisioner of this name.
    ///
    /// # Errors
    /// [`TelemetryError::Registered`] when they are in the registry already.
    pub fn new(registry: &Registry, name: &StampId) -> Result<Self, TelemetryError> {
        let registration = registry.of(name);
        registration
            .gauges(&BUILD_INFO)?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let inner = Inner {
            requests: registration.counters(&catalogue::REQUESTS)?,
            duration: registration.histograms(&catalogue::REQUEST_DURATION)?,
            database: registration.gauge(&catalogue::DATABASE_REACHED)?,
            pending: registration.gauge(&catalogue::RESERVE_PENDING)?,
            used_ratio: registration.gauge(&catalogue::RESERVE_USED_RATIO)?,
            written: registration.counter(&catalogue::RESERVE_WRITTEN)?,
            booked: registration.gauges(&catalogue::BOOKED)?,
            capacity: registration.gauges(&catalogue::CAPACITY)?,
            told: Mutex::default(),
            reloads: registration.counters(&catalogue::CATALOGUE_RELOADS)?,
            current: registration.gauge(&catalogue::CATALOGUE_CURRENT)?,
        };
        for origin in AnswerOrigin::ALL {
            inner
                .requests
                .with_label_values(&["allocate", origin.as_str()])
                .inc_by(0);
        }
        for outcome in ["taken", "refused"] {
            inner.reloads.with_label_values(&[outcome]).inc_by(0);
        }
        inner.current.set(1.0);
        Ok(Self(Arc::new(inner)))
    }

    /// A request that was answered: with an origin, `unchanged`, `served` or the code of a refusal.
    pub fn answered(&self, route: ProvisionRoute, outcome: &'static str, took: Duration) {
        let route = route.label();
        self.0.requests.with_label_values(&[route, outcome]).inc();
        self.0
            .duration
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    /// Whether the database answered.
    pub fn database(&self, reached: bool) {
        self.0.database.set(f64::from(u8::from(reached)));
    }

    /// What is given away and not yet written down.
    pub fn reserve(&self, pending: u64, used_ratio: f64) {
        self.0.pending.set(pending as f64);
        self.0.used_ratio.set(used_ratio);
    }

    /// A device from the reserve is in the database.
    pub fn reserve_written(&self) {
        self.0.written.inc();
    }

    /// How full every stamp of the catalogue is on every axis.
    pub fn fill(&self, all: &[StampFill]) {
        let inner = &self.0;
        let mut told = inner.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<_> = all
            .iter()
            .map(|fill| (fill.stamp.clone(), fill.axis))
            .collect();
        for (stamp, axis) in told.difference(&now) {
            // An error only says that the series was never there.
            let _ = inner.booked.remove_label_values(&[stamp.as_str(), axis]);
            for limit in LIMITS {
                let _ = inner
                    .capacity
                    .remove_label_values(&[stamp.as_str(), axis, limit]);
            }
        }
        for fill in all {
            let labels = [fill.stamp.as_str(), fill.axis];
            inner
                .booked
                .with_label_values(&labels)
                .set(fill.booked as f64);
            for (limit, amount) in LIMITS.iter().zip([fill.soft, fill.hard, fill.bookable]) {
                inner
                    .capacity
                    .with_label_values(&[labels[0], labels[1], limit])
                    .set(amount as f64);
            }
        }
        *told = now;
    }

    /// The catalogue was read again; `taken`: it is in force now.
    pub fn catalogue_read(&self, taken: bool) {
        let outcome = if taken { "taken" } else { "refused" };
        self.0.reloads.with_label_values(&[outcome]).inc();
        self.0.current.set(f64::from(u8::from(taken)));
    }
}
