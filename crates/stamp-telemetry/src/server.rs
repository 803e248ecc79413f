//! The endpoints: `/livez`, `/readyz`, `/startupz`, `/metrics` and the status page at `/`, over plain
//! HTTP/1.1.
//!
//! Meant for the machine's own probes and scraper, and for people who may reach them. Every connection carries one request, has a
//! time limit and a header limit, and there is a most number of them, so that nobody who reaches
//! the port can hold the service up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Health, Registry, StatusPage, TelemetryError, status};

/// Most connections at a time: a probe, a scraper and a person need three.
const CONNECTIONS_MAX: usize = 64;
/// From the connection to the last byte of the answer. A scrape takes milliseconds.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// From the shutdown until open connections are cut.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Request line and headers together; what a scraper sends is below 1 KiB.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Of the text format the registry writes (Prometheus exposition formats).
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The running endpoints.
#[derive(Debug)]
pub struct Served {
    /// Where they are, with the port that was given for port 0.
    pub address: SocketAddr,
    finished: JoinHandle<()>,
    scraped: Arc<Notify>,
}

impl Served {
    /// Returns once `/metrics` was asked for after this call. A process that ends by itself waits for that, so that
    /// its last word is heard. Cancel safe.
    pub async fn scraped(&self) {
        self.scraped.notified().await;
    }

    /// Returns once the endpoints are closed, after the shutdown token given to [`serve`] was
    /// cancelled. Cancel safe.
    pub async fn stopped(&mut self) {
        // A panic of the task was printed by the runtime; the endpoints are gone either way.
        let _ended = (&mut self.finished).await;
    }
}

/// Starts the endpoints and returns once they accept connections.
///
/// - `/livez`: 200 while the runtime answers at all; looks at nothing outside.
/// - `/startupz`: 200 once every [`Condition`](crate::Condition) was met, for good.
/// - `/readyz`: 200 while started and not draining; else 503, a line for each thing missing.
/// - `/metrics`: the registry.
/// - `/`, `/status.json` and three files beside them: the status page.
///
/// They go on answering while the service drains, until `shutdown` is cancelled.
///
/// # Errors
/// [`TelemetryError::Listen`] when the address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    health: Health,
    registry: Registry,
    page: StatusPage,
    shutdown: CancellationToken,
) -> Result<Served, TelemetryError> {
    let refused = |source| TelemetryError::Listen {
        address: listen,
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let sampling = status::sample(page.clone(), registry.clone(), shutdown.clone());
    tokio::spawn(sampling);
    let scraped = Arc::new(Notify::new());
    let router = router(health, registry, page, Arc::clone(&scraped));
    let finished = tokio::spawn(accept(listener, router, shutdown));
    Ok(Served {
        address,
        finished,
        scraped,
    })
}

fn router(health: Health, registry: Registry, page: StatusPage, scraped: Arc<Notify>) -> Router {
    let page = status::router(page, health.clone(), registry.clone());
    let probes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/startupz", get(startup))
        .route("/readyz", get(readiness))
        .with_state(health);
    let metrics = Router::new()
        .route("/metrics", get(metrics))
        .with_state((registry, scraped));
    probes.merge(metrics).merge(page)
}

async fn startup(State(health): State<Health>) -> impl IntoResponse {
    answer("started", &health.unmet())
}

async fn readiness(State(health): State<Health>) -> impl IntoResponse {
    answer("ready", &health.missing())
}

fn answer(reached: &str, missing: &[&str]) -> (StatusCode, String) {
    if missing.is_empty() {
        return (StatusCode::OK, format!("{reached}\n"));
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not {reached}:\n{}\n", missing.join("\n")),
    )
}

async fn metrics(State((registry, scraped)): State<(Registry, Arc<Notify>)>) -> impl IntoResponse {
    scraped.notify_waiters();
    ([(header::CONTENT_TYPE, METRICS_TYPE)], registry.text())
}

async fn accept(mut listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // A place first: when all are taken, the system's own queue holds the rest.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (Listener::accept(&mut listener).await.0, place)
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            (stream, place) = next => {
                // The semaphore is never closed.
                let Ok(place) = place else { break };
                connections.spawn(connection(stream, router.clone(), place));
            }
        }
    }
    drop(listener);
    // What is being answered is answered; who has asked nothing yet does not hold up the stop.
    let answered = async { while connections.join_next().await.is_some() {} };
    let _in_time = tokio::time::timeout(DRAIN_MAX, answered).await;
}

async fn connection(stream: TcpStream, router: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "health connection ended"),
        Err(_elapsed) => tracing::debug!("health connection passed its time limit"),
    }
}
