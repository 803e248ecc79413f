//! Where metrics are registered, and their exposition.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    TextEncoder,
};
use stamp_model::StampId;

use crate::TelemetryError;
use crate::catalogue::{Definition, Kind};

/// A set of metrics that is scraped as one. Cloning it gives the same set.
#[derive(Debug, Clone, Default)]
pub struct Registry(prometheus::Registry);

impl Registry {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every metric in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Fails only for families without a metric, which gathering leaves out.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0.gather(), &mut text) {
            tracing::error!(%error, "encode metrics");
        }
        text
    }

    /// The registration of one stamp's metrics.
    pub(crate) fn of<'a>(&'a self, stamp: &'a StampId) -> Registration<'a> {
        Registration {
            registry: &self.0,
            stamp,
        }
    }
}

/// Registers definitions of the catalogue with the stamp as constant label.
pub(crate) struct Registration<'a> {
    registry: &'a prometheus::Registry,
    stamp: &'a StampId,
}

impl Registration<'_> {
    pub(crate) fn counters(
        &self,
        definition: &'static Definition,
    ) -> Result<IntCounterVec, TelemetryError> {
        let labels = label_names(definition);
        self.register(definition, |opts| IntCounterVec::new(opts, &labels))
    }

    pub(crate) fn counter(
        &self,
        definition: &'static Definition,
    ) -> Result<IntCounter, TelemetryError> {
        self.register(definition, IntCounter::with_opts)
    }

    pub(crate) fn gauges(
        &self,
        definition: &'static Definition,
    ) -> Result<GaugeVec, TelemetryError> {
        let labels = label_names(definition);
        self.register(definition, |opts| GaugeVec::new(opts, &labels))
    }

    pub(crate) fn gauge(&self, definition: &'static Definition) -> Result<Gauge, TelemetryError> {
        self.register(definition, Gauge::with_opts)
    }

    pub(crate) fn histogram(
        &self,
        definition: &'static Definition,
    ) -> Result<Histogram, TelemetryError> {
        self.register(definition, |opts| {
            Histogram::with_opts(with_buckets(definition, opts))
        })
    }

    pub(crate) fn histograms(
        &self,
        definition: &'static Definition,
    ) -> Result<HistogramVec, TelemetryError> {
        let labels = label_names(definition);
        self.register(definition, |opts| {
            HistogramVec::new(with_buckets(definition, opts), &labels)
        })
    }

    fn register<C: Collector + Clone + 'static>(
        &self,
        definition: &'static Definition,
        make: impl FnOnce(Opts) -> prometheus::Result<C>,
    ) -> Result<C, TelemetryError> {
        let opts =
            Opts::new(definition.name, definition.help).const_label("stamp", self.stamp.as_str());
        make(opts)
            .and_then(|metric| {
                self.registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            })
            .map_err(|source| TelemetryError::Registered {
                name: definition.name,
                stamp: self.stamp.to_string(),
                source,
            })
    }
}

fn label_names(definition: &Definition) -> Vec<&'static str> {
    definition.labels.iter().map(|label| label.name).collect()
}

fn with_buckets(definition: &Definition, opts: Opts) -> HistogramOpts {
    let opts = HistogramOpts::from(opts);
    match definition.kind {
        Kind::Histogram { buckets, .. } => opts.buckets(buckets.to_vec()),
        Kind::Counter | Kind::Gauge => opts,
    }
}
