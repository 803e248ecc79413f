//! Traces of the service by OTLP over HTTP: one span a flush, linked to the traces of its messages.
//!
//! Off unless an endpoint is given. It never holds up or fails the data path: a finished span waits in
//! a queue of 2,048, is left out when that is full, and is sent once, without retries
//! (a lost span is worth less than a request to a collector that is down). It never takes payloads,
//! device ids or secrets into a span.

mod context;
mod export;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan,
};
use prometheus::IntCounter;
use stamp_model::{PartitionId, StampId};

pub use context::TraceContext;

use crate::catalogue::consumer as catalogue;
use crate::{Registry, TelemetryError};

/// Finished spans that wait to be sent.
const QUEUE_MAX: usize = 2_048;
/// Spans in one request.
const BATCH_MAX: usize = 256;
/// How often what waits is sent.
const SEND_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for the collector's answer, and for the last spans at the end.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Traces of messages that one span is linked to; the OpenTelemetry specification's own default is 128,
/// and a person looks at a few.
pub const LINKS_MAX: usize = 32;

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The collector's URL for traces, such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// Headers of each request, such as an API key. Never logged.
    pub headers: Vec<(String, String)>,
    /// Which share of spans is kept, from 0 to 1.
    pub ratio: f64,
}

/// Makes spans, or does nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    begun: IntCounter,
    stamp: StampId,
    hub: String,
    group: String,
}

/// The hub that spans tell of.
#[derive(Debug, Clone)]
pub struct TracedHub {
    /// Its name.
    pub hub: String,
    /// The consumer group.
    pub group: String,
}

/// What a flush takes to the tables.
#[derive(Debug, Clone, Copy)]
pub struct FlushAbout<'a> {
    /// The partition that the rows are of.
    pub partition: PartitionId,
    /// The tenant, or `_stamp` for the stamp's own tables.
    pub tenant: &'a str,
    /// Rows of every kind.
    pub rows: usize,
    /// The mark that the rows commit under.
    pub through: i64,
    /// When the first row came, so that the span has the time in the buffer too.
    pub waited: Duration,
}

impl Traces {
    /// Makes no spans.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Sends spans to a collector. Makes no request yet. Inside a Tokio runtime only, which sends.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`] when the endpoint or a header cannot be used,
    /// [`TelemetryError::Registered`] when this stamp's are in the registry already.
    pub fn to_collector(
        config: &TraceConfig,
        registry: &Registry,
        stamp: &StampId,
        hub: TracedHub,
    ) -> Result<Self, TelemetryError> {
        let registration = registry.of(stamp);
        let spans = registration.counters(&catalogue::TRACE_SPANS)?;
        let exporter = export::exporter(config, &spans)?;
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(limits)
            .build();
        let resource = Resource::builder()
            .with_service_name("stampworks")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", stamp.to_string()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::TraceIdRatioBased(config.ratio))
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder("stampworks")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self(Some(Arc::new(On {
            tracer: provider.tracer_with_scope(scope),
            provider,
            begun: spans.with_label_values(&["begun"]),
            stamp: stamp.clone(),
            hub: hub.hub,
            group: hub.group,
        }))))
    }

    /// Whether spans are made; when not, contexts need not be kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of a flush. Its attributes follow OpenTelemetry's conventions for messaging.
    #[must_use]
    pub fn flush(&self, about: &FlushAbout<'_>, messages: &[TraceContext]) -> FlushSpan {
        FlushSpan(self.0.as_ref().map(|on| on.flush(about, messages)))
    }

    /// Sends what waits, for at most five seconds. Spans after it are not sent.
    pub async fn shut_down(self) {
        let Some(on) = self.0 else {
            return;
        };
        let provider = on.provider.clone();
        // It waits for the thread that sends, which needs this runtime to go on.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(ANSWER_MAX)).await;
        if let Ok(Err(error)) = ended {
            tracing::info!(%error, "the last spans were not sent");
        }
    }
}

impl On {
    fn flush(&self, about: &FlushAbout<'_>, messages: &[TraceContext]) -> SdkSpan {
        self.begun.inc();
        let waited = i64::try_from(about.waited.as_millis()).unwrap_or(i64::MAX);
        let rows = i64::try_from(about.rows).unwrap_or(i64::MAX);
        self.tracer
            .span_builder(format!("flush {}", self.hub))
            .with_kind(SpanKind::Consumer)
            .with_start_time(SystemTime::now())
            .with_attributes([
                KeyValue::new("messaging.system", "eventhubs"),
                KeyValue::new("messaging.operation.name", "flush"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", self.hub.clone()),
                KeyValue::new(
                    "messaging.destination.partition.id",
                    about.partition.number().to_string(),
                ),
                KeyValue::new("messaging.consumer.group.name", self.group.clone()),
                KeyValue::new("stampworks.stamp", self.stamp.to_string()),
                KeyValue::new("stampworks.tenant", about.tenant.to_owned()),
                KeyValue::new("stampworks.rows", rows),
                KeyValue::new("stampworks.through", about.through),
                KeyValue::new("stampworks.buffered_ms", waited),
            ])
            .with_links(messages.iter().map(link).collect())
            .start(&self.tracer)
    }
}

fn link(message: &TraceContext) -> Link {
    let flags = if message.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let context = SpanContext::new(
        TraceId::from_bytes(message.trace_id.to_be_bytes()),
        SpanId::from_bytes(message.span_id.to_be_bytes()),
        flags,
        true,
        TraceState::default(),
    );
    Link::new(context, Vec::new(), 0)
}

/// The span of one flush; ends when it is dropped.
#[derive(Debug)]
pub struct FlushSpan(Option<SdkSpan>);

impl FlushSpan {
    /// The tables have it: rows written by table.
    pub fn committed(mut self, rows: &[(&'static str, u64)]) {
        if let Some(span) = &mut self.0 {
            for &(table, rows) in rows {
                let rows = i64::try_from(rows).unwrap_or(i64::MAX);
                span.set_attribute(KeyValue::new(format!("stampworks.written.{table}"), rows));
            }
            span.set_status(Status::Ok);
        }
    }

    /// It was given up and is tried again in a flush of its own.
    pub fn failed(mut self, why: &str) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
