//! Where metrics are registered, and their exposition.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    TextEncoder,
};
use stamp_model::StampId;
use stamp_status::{Sample, Samples};

use crate::TelemetryError;
use crate::catalogue::{Definition, Kind};

/// A set of metrics that is scraped as one. Cloning it gives the same set.
#[derive(Clone, Default)]
pub struct Registry {
    all: prometheus::Registry,
    /// The same metrics one by one, to read a few without gathering all.
    named: Arc<RwLock<Vec<Named>>>,
}

type Named = (&'static str, Box<dyn Collector>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.all).finish()
    }
}

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
        if let Err(error) = TextEncoder::new().encode_utf8(&self.all.gather(), &mut text) {
            tracing::error!(%error, "encode metrics");
        }
        text
    }

    /// Every counter and gauge, and of a histogram its sum (`_sum`) and count (`_count`).
    pub(crate) fn samples(&self) -> Samples {
        self.all.gather().iter().flat_map(samples).collect()
    }

    /// The same of a few metrics only: it costs what these have series.
    pub(crate) fn samples_of(&self, names: &[&str]) -> Samples {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = named.iter().filter(|(name, _)| names.contains(name));
        let families: Vec<MetricFamily> = wanted.flat_map(|(_, metric)| metric.collect()).collect();
        families.iter().flat_map(samples).collect()
    }

    /// The registration of one stamp's metrics.
    pub(crate) fn of<'a>(&'a self, stamp: &'a StampId) -> Registration<'a> {
        Registration {
            registry: self,
            stamp,
        }
    }
}

/// Registers definitions of the catalogue with the stamp as constant label.
pub(crate) struct Registration<'a> {
    registry: &'a Registry,
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
                self.registry.all.register(Box::new(metric.clone()))?;
                let named = self.registry.named.write();
                let mut named = named.unwrap_or_else(PoisonError::into_inner);
                named.push((definition.name, Box::new(metric.clone())));
                drop(named);
                Ok(metric)
            })
            .map_err(|source| TelemetryError::Registered {
                name: definition.name,
                stamp: self.stamp.to_string(),
                source,
            })
    }
}

fn samples(family: &MetricFamily) -> Vec<Sample> {
    let name = family.name();
    let sample = |metric: &Metric, suffix: &str, value: f64| {
        let labels = metric.get_label().iter();
        let labels = labels.map(|label| (label.name().to_owned(), label.value().to_owned()));
        Sample {
            name: format!("{name}{suffix}"),
            labels: labels.collect(),
            value,
        }
    };
    let of = |metric: &Metric| match family.get_field_type() {
        MetricType::COUNTER => vec![sample(metric, "", metric.get_counter().get_value())],
        MetricType::GAUGE => vec![sample(metric, "", metric.get_gauge().get_value())],
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let count = histogram.get_sample_count() as f64;
            vec![
                sample(metric, "_sum", histogram.get_sample_sum()),
                sample(metric, "_count", count),
            ]
        }
        // Nothing here is registered as one.
        MetricType::SUMMARY | MetricType::UNTYPED => Vec::new(),
    };
    family.get_metric().iter().flat_map(of).collect()
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
