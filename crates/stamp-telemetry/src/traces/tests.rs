use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_http::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::*;
use crate::Scrape;

type Requests = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A collector that answers each request with `status`.
async fn collector(status: StatusCode) -> (String, Requests) {
    let requests = Requests::default();
    let kept = requests.clone();
    let answer = move |headers: HeaderMap, body: Bytes| {
        kept.lock().unwrap().push((headers, body));
        async move { status }
    };
    let routes = Router::new().route("/v1/traces", post(answer));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (format!("http://{address}/v1/traces"), requests)
}

fn traces(endpoint: &str, ratio: f64, registry: &Registry) -> Result<Traces, TelemetryError> {
    let config = TraceConfig {
        endpoint: endpoint.into(),
        headers: vec![("x-api-key".into(), "secret".into())],
        ratio,
    };
    let hub = TracedHub {
        hub: "telemetry".into(),
        group: "$Default".into(),
    };
    Traces::to_collector(&config, registry, &StampId::parse("s-1").unwrap(), hub)
}

fn about(tenant: &str) -> FlushAbout<'_> {
    FlushAbout {
        partition: PartitionId::new(3).unwrap(),
        tenant,
        rows: 7,
        through: 41,
        waited: Duration::from_millis(1_500),
    }
}

fn message(number: u64) -> TraceContext {
    TraceContext {
        trace_id: u128::from(number) + 1,
        span_id: number + 2,
        sampled: true,
    }
}

fn spans(requests: &Requests) -> Vec<Span> {
    let requests = requests.lock().unwrap();
    let decoded = requests
        .iter()
        .map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap());
    decoded
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect()
}

fn text(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    let value = found.and_then(|pair| pair.value.clone());
    format!(
        "{:?}",
        value
            .unwrap_or_else(|| panic!("no {key} in {span:?}"))
            .value
    )
}

fn count(registry: &Registry, outcome: &str) -> f64 {
    let said = Scrape::parse(&registry.text()).unwrap();
    let found = said
        .of("stamp_trace_spans_total")
        .find(|sample| sample.labels["outcome"] == outcome)
        .map(|sample| sample.value);
    found.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_one_span_that_is_linked_to_its_messages_and_says_what_was_written() {
    let (endpoint, requests) = collector(StatusCode::OK).await;
    let registry = Registry::new();
    let traces = traces(&endpoint, 1.0, &registry).unwrap();

    traces
        .flush(&about("contoso"), &[message(1), message(9)])
        .committed(&[("readings", 6), ("rejected", 1)]);
    traces
        .flush(&about("fabrikam"), &[])
        .failed("the store is away");
    traces.shut_down().await;

    let spans = spans(&requests);
    assert_eq!(spans.len(), 2, "{spans:?}");
    let contoso = &spans[0];
    assert_eq!(contoso.name, "flush telemetry");
    assert!(text(contoso, "stampworks.tenant").contains("contoso"));
    assert!(text(contoso, "stampworks.written.readings").contains('6'));
    assert!(text(contoso, "messaging.destination.partition.id").contains('3'));
    let linked: Vec<_> = contoso.links.iter().map(|link| link.span_id[7]).collect();
    assert_eq!(linked, [3, 11]);
    let failed = spans[1].status.as_ref().unwrap();
    assert_eq!(
        (failed.code, failed.message.as_str()),
        (2, "the store is away")
    );
    let headers = requests.lock().unwrap()[0].0.clone();
    assert_eq!(headers["x-api-key"], "secret");
    assert!((count(&registry, "begun") - 2.0).abs() < 0.5);
    assert!((count(&registry, "sent") - 2.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_asked_once_and_counted() {
    let (endpoint, requests) = collector(StatusCode::SERVICE_UNAVAILABLE).await;
    let registry = Registry::new();
    let traces = traces(&endpoint, 1.0, &registry).unwrap();

    traces.flush(&about("contoso"), &[]).committed(&[]);
    traces.shut_down().await;

    assert_eq!(requests.lock().unwrap().len(), 1);
    assert!((count(&registry, "failed") - 1.0).abs() < 0.5);
    assert!(count(&registry, "sent").abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_none_sends_nothing_and_off_makes_nothing() {
    let (endpoint, requests) = collector(StatusCode::OK).await;
    let registry = Registry::new();
    let none = traces(&endpoint, 0.0, &registry).unwrap();
    none.flush(&about("contoso"), &[]).committed(&[]);
    none.shut_down().await;
    assert!(requests.lock().unwrap().is_empty());

    let off = Traces::off();
    assert!(!off.is_on());
    off.flush(&about("contoso"), &[message(1)]).committed(&[]);
    off.shut_down().await;
}

#[tokio::test]
async fn an_endpoint_that_is_no_address_is_named() {
    let error = traces("127.0.0.1:4318", 1.0, &Registry::new()).unwrap_err();

    assert!(error.to_string().contains("127.0.0.1:4318"), "{error}");
}
