//! One request a batch of spans, counted.

use std::fmt;
use std::time::Duration;

use axum::http::{Request, Response};
use opentelemetry_http::{Bytes, HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{
    Protocol, RetryPolicy, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus::{IntCounter, IntCounterVec};
use tokio::runtime::Handle;

use super::{ANSWER_MAX, TraceConfig};
use crate::TelemetryError;

/// Longest answer of a collector that is read; it says at most how many spans it refused.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

pub(super) fn exporter(
    config: &TraceConfig,
    spans: &IntCounterVec,
) -> Result<Counted, TelemetryError> {
    let refused = |why: String| TelemetryError::Traces {
        endpoint: config.endpoint.clone(),
        why,
    };
    if !config.endpoint.starts_with("http://") && !config.endpoint.starts_with("https://") {
        return Err(refused(
            "expected an address such as http://127.0.0.1:4318/v1/traces".into(),
        ));
    }
    let client = reqwest::Client::builder()
        .timeout(ANSWER_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| refused(error.to_string()))?;
    let inner = OtlpExporter::builder()
        .with_http()
        .with_http_client(OnRuntime {
            client,
            runtime: Handle::current(),
        })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&config.endpoint)
        .with_timeout(ANSWER_MAX)
        .with_headers(config.headers.iter().cloned().collect())
        // stamp-resilience has the only retries, and a span is not worth one.
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(|error| refused(error.to_string()))?;
    Ok(Counted {
        inner,
        sent: spans.with_label_values(&["sent"]),
        failed: spans.with_label_values(&["failed"]),
    })
}

/// The exporter's thread has no runtime of its own; requests are made on the service's.
struct OnRuntime {
    client: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for OnRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRuntime")
    }
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { send(&client, request).await })
            .await?
    }
}

async fn send(
    client: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&part);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    Ok(response)
}

/// An exporter whose outcome is a metric.
#[derive(Debug)]
pub(super) struct Counted {
    inner: OtlpExporter,
    sent: IntCounter,
    failed: IntCounter,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.inner.export(batch).await;
        match &outcome {
            Ok(()) => self.sent.inc_by(spans),
            Err(_) => self.failed.inc_by(spans),
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
