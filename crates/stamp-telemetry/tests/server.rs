//! The endpoints as a probe, a scraper and a rude client see them.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test file are not seen as test code"
)]

use std::net::SocketAddr;

use stamp_model::StampId;
use stamp_telemetry::{
    Condition, Health, Metrics, Registry, ScrapeError, Served, StatusPage, TelemetryError,
    addresses, scrape, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Endpoints {
    served: Served,
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
}

async fn endpoints() -> Endpoints {
    let (health, registry) = (Health::new(), Registry::new());
    let shutdown = CancellationToken::new();
    let page = StatusPage::consumer(&StampId::parse("eu-1").unwrap());
    let (state, metrics) = (health.clone(), registry.clone());
    let served = serve(LOOPBACK, state, metrics, page, shutdown.clone())
        .await
        .unwrap();
    Endpoints {
        served,
        health,
        registry,
        shutdown,
    }
}

impl Endpoints {
    /// Sends the bytes and returns all that comes back until the server closes.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.served.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Status and body of one GET.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self
            .send(format!("GET {path} HTTP/1.1\r\nhost: s\r\n\r\n").as_bytes())
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

#[tokio::test]
async fn a_service_that_starts_is_alive_and_says_what_it_waits_for() {
    let endpoints = endpoints().await;
    endpoints.health.met(Condition::ConfigLoaded);

    assert_eq!(endpoints.get("/livez").await, (200, "alive\n".into()));
    let waiting = "not ready:\nstore was not reached yet\nhub was not reached yet\n";
    assert_eq!(endpoints.get("/readyz").await, (503, waiting.into()));
    assert_eq!(endpoints.get("/startupz").await.0, 503);
}

#[tokio::test]
async fn a_draining_service_is_alive_started_and_not_ready() {
    let endpoints = endpoints().await;
    for condition in [
        Condition::ConfigLoaded,
        Condition::StoreReached,
        Condition::HubReached,
    ] {
        endpoints.health.met(condition);
    }
    assert_eq!(endpoints.get("/readyz").await, (200, "ready\n".into()));

    endpoints.health.draining();

    assert_eq!(endpoints.get("/livez").await.0, 200);
    assert_eq!(endpoints.get("/startupz").await, (200, "started\n".into()));
    assert_eq!(
        endpoints.get("/readyz").await,
        (503, "not ready:\nthe service is draining\n".into())
    );
}

#[tokio::test]
async fn a_scrape_is_the_registry_in_the_text_format() {
    let endpoints = endpoints().await;
    let _metrics = Metrics::new(&endpoints.registry, &StampId::parse("eu-1").unwrap()).unwrap();

    let answer = endpoints
        .send(b"GET /metrics HTTP/1.1\r\nhost: s\r\n\r\n")
        .await;

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert_eq!(body, endpoints.registry.text());
    assert!(body.contains("stamp_build_info{"), "{body}");
}

#[tokio::test]
async fn whoever_waits_for_a_scrape_hears_of_the_next_one_and_of_nothing_else() {
    let endpoints = endpoints().await;
    endpoints.get("/metrics").await;
    let scraped = endpoints.served.scraped();
    tokio::pin!(scraped);
    tokio::select! {
        biased;
        () = &mut scraped => panic!("a probe is no scrape, nor one before"),
        answer = endpoints.get("/livez") => assert_eq!(answer.0, 200),
    }
    let (answer, ()) = tokio::join!(endpoints.get("/metrics"), scraped);
    assert_eq!(answer.0, 200);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let endpoints = endpoints().await;

    assert_eq!(endpoints.get("/status").await.0, 404);
    assert_eq!(endpoints.get("/index.html").await.0, 404);
    let answer = endpoints
        .send(b"POST /metrics HTTP/1.1\r\nhost: s\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn the_page_and_its_files_may_load_nothing_from_elsewhere_and_are_not_kept() {
    let endpoints = endpoints().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/?tenant=contoso", "text/html"),
        ("/status.json", "application/json"),
        ("/status.css", "text/css"),
        ("/status.js", "text/javascript"),
        ("/status.svg", "image/svg+xml"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: s\r\n\r\n");
        let answer = endpoints.send(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(!body.is_empty());
        for header in [
            &format!("content-type: {kind}"),
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; ",
        ] {
            assert!(head.contains(header), "{path}: {header} is not in {head}");
        }
        assert!(!head.contains("unsafe"), "{path}: {head}");
    }
}

#[tokio::test]
async fn the_page_says_what_the_metrics_say_and_what_the_service_waits_for() {
    let endpoints = endpoints().await;
    let metrics = Metrics::new(&endpoints.registry, &StampId::parse("eu-1").unwrap()).unwrap();
    let contoso = stamp_model::TenantId::parse("contoso").unwrap();
    metrics.readings(&contoso, 1_234);
    metrics.written(Some(&contoso), "readings", 1_234, 5_678);
    endpoints.health.met(Condition::ConfigLoaded);

    let (_, text) = endpoints.get("/status.json").await;

    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["name"], "eu-1");
    assert_eq!(status["ready"], false);
    let waiting = ["store was not reached yet", "hub was not reached yet"];
    assert_eq!(status["waiting_for"], serde_json::json!(waiting));
    let sections = status["sections"].as_array().unwrap();
    let tenants = sections.iter().find(|section| section["id"] == "tenants");
    let row = &tenants.unwrap()["rows"][0];
    assert_eq!(row["cells"]["tenant"]["value"], "contoso");
    assert_eq!(row["cells"]["readings"]["value"], 1_234);
    assert_eq!(row["cells"]["bytes"]["value"], 5_678);
    let (_, page) = endpoints.get("/").await;
    assert!(page.contains("1,234") && page.contains("Not ready: store was not reached yet"));
}

#[tokio::test]
async fn a_filter_of_the_address_is_decoded_cut_and_escaped() {
    let endpoints = endpoints().await;
    let (_, text) = endpoints
        .get("/status.json?x=1&tenant=%22%3E%3Cscript%3E+%C3%A4%FF&tenant=second")
        .await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["filter"]["tenant"], "\"><script> ä\u{fffd}");

    let (_, page) = endpoints.get("/?tenant=%22%3E%3Cscript%3Ex").await;
    assert!(
        page.contains("value=\"&quot;&gt;&lt;script&gt;x\""),
        "{page}"
    );
    assert!(!page.contains("<script>"), "{page}");

    let (_, text) = endpoints
        .get(&format!("/status.json?tenant={}", "a".repeat(5_000)))
        .await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["filter"]["tenant"], "a".repeat(128));
}

#[tokio::test(start_paused = true)]
async fn a_line_is_drawn_of_what_was_sampled_every_two_seconds() {
    let endpoints = endpoints().await;
    let metrics = Metrics::new(&endpoints.registry, &StampId::parse("eu-1").unwrap()).unwrap();
    let zero = stamp_model::PartitionId::new(0).unwrap();
    for _ in 0..3 {
        // Right after a sample, so that each interval has the same.
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        metrics.received(zero, 100, 1);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::advance(std::time::Duration::from_secs(2)).await;

    let (_, text) = endpoints.get("/status.json").await;

    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = &status["figures"][0];
    assert_eq!(events["id"], "events_in");
    let series = events["series"].as_array().unwrap();
    assert!(series.iter().any(|rate| rate == 50.0), "{events}");
}

#[tokio::test]
async fn a_request_over_the_header_limit_is_refused() {
    let endpoints = endpoints().await;
    // The limit exactly: the server has read all that was sent when it refuses, so that its
    // answer is not lost to a reset.
    let mut request = b"GET /livez HTTP/1.1\r\nx: ".to_vec();
    request.resize(16 * 1024, b'a');

    let answer = endpoints.send(&request).await;

    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    let endpoints = endpoints().await;
    let started = tokio::time::Instant::now();

    let answer = endpoints.send(b"GET /livez HTTP/1.1\r\nhost: ").await;

    assert_eq!(answer, "");
    assert!(started.elapsed() >= std::time::Duration::from_secs(10));
}

#[tokio::test]
async fn a_cancelled_token_closes_the_port() {
    let mut endpoints = endpoints().await;
    assert_eq!(endpoints.get("/livez").await.0, 200);

    endpoints.shutdown.cancel();
    endpoints.served.stopped().await;

    assert!(TcpStream::connect(endpoints.served.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_does_not_hold_up_a_stop() {
    let mut endpoints = endpoints().await;
    let _idle = TcpStream::connect(endpoints.served.address).await.unwrap();
    // Gives the server its turns, without the idle runtime that would move the paused clock.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let asked = tokio::time::Instant::now();

    endpoints.shutdown.cancel();
    endpoints.served.stopped().await;

    assert!(asked.elapsed() <= std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let endpoints = endpoints().await;
    let taken = endpoints.served.address;

    let second = serve(
        taken,
        Health::new(),
        Registry::new(),
        StatusPage::consumer(&StampId::parse("eu-1").unwrap()),
        CancellationToken::new(),
    )
    .await;

    let error = second.err().unwrap();
    assert!(matches!(error, TelemetryError::Listen { .. }));
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn what_is_served_can_be_scraped() {
    let endpoints = endpoints().await;
    let stamp = StampId::parse("eu-1").unwrap();
    let _metrics = Metrics::new(&endpoints.registry, &stamp).unwrap();
    let url = format!("http://{}/metrics", endpoints.served.address);
    let found = addresses(&url).await.unwrap();
    assert_eq!(found, [endpoints.served.address]);
    let within = std::time::Duration::from_secs(5);

    let said = scrape(&url, found[0], within).await.unwrap();

    let build = said.of("stamp_build_info").next().unwrap();
    assert_eq!(build.labels["stamp"], "eu-1");
    assert_eq!(build.labels["version"], env!("CARGO_PKG_VERSION"));
    let lost = format!("http://{}/nothing", endpoints.served.address);
    let lost = scrape(&lost, found[0], within).await;
    assert!(matches!(lost, Err(ScrapeError::Status(404))), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_answers_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/metrics");
    let mute = scrape(&url, address, std::time::Duration::from_secs(5)).await;
    assert!(matches!(mute, Err(ScrapeError::TimedOut(_))), "{mute:?}");
}

#[tokio::test]
async fn a_process_that_is_gone_is_told() {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/metrics");
    let gone = scrape(&url, address, std::time::Duration::from_secs(60)).await;
    assert!(matches!(gone, Err(ScrapeError::Connect(_))), "{gone:?}");
}
