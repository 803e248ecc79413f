//! Connections and their limits.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::message::{Handler, Refusal, Reply, Request};
use crate::taken::Taken;
use crate::{HttpError, Tls};

/// Request line and headers together; a webhook call has below 1 KiB.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest wait for a connection that ends, when this process has no file left for another one.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(100);

/// What callers may take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time; more wait in the system's own queue.
    pub connections_max: usize,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Longest time from the end of the headers to the answer.
    pub request_max: Duration,
    /// Longest TLS handshake, longest wait for the whole headers of the next request, and longest time
    /// that a caller may take to receive what it is sent.
    pub idle_max: Duration,
    /// Age of a connection from which on each answer is its last. A certificate is looked at when a
    /// connection is made, so this is also how long one that is let in no more is still served.
    pub age_max: Duration,
    /// Longest time that requests under way are still answered after the stop.
    pub drain_max: Duration,
}

/// A running server.
#[derive(Debug)]
pub struct Served {
    /// Where it is, with the port that was given for port 0.
    pub address: SocketAddr,
    finished: JoinHandle<()>,
}

impl Served {
    /// Returns once the server is closed, after the token given to [`serve`] was cancelled. Cancel
    /// safe.
    pub async fn stopped(&mut self) {
        // A panic of the task was printed by the runtime; the server is gone either way.
        let _ended = (&mut self.finished).await;
    }
}

/// Starts a server and returns once it accepts connections.
///
/// After `shutdown` no connection is accepted; requests under way are answered for at most
/// `limits.drain_max`, and their connections closed.
///
/// # Errors
/// [`HttpError::Listen`].
pub async fn serve<H: Handler>(
    listen: SocketAddr,
    tls: Option<Tls>,
    limits: Limits,
    handler: Arc<H>,
    shutdown: CancellationToken,
) -> Result<Served, HttpError> {
    let refused = |source| HttpError::Listen {
        address: listen,
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let service = Service {
        tls,
        limits,
        handler,
        shutdown,
    };
    let finished = tokio::spawn(accept(listener, service));
    Ok(Served { address, finished })
}

struct Service<H> {
    tls: Option<Tls>,
    limits: Limits,
    handler: Arc<H>,
    shutdown: CancellationToken,
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self {
            tls: self.tls.clone(),
            limits: self.limits,
            handler: Arc::clone(&self.handler),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// Where connections come from.
trait Listen: Send + 'static {
    fn next(&self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Listen for TcpListener {
    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn accept<H: Handler>(listener: impl Listen, service: Service<H>) {
    let places = Arc::new(Semaphore::new(service.limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        // A place first: when all are taken, the system's own queue holds the rest.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.next().await, place)
        };
        tokio::select! {
            biased;
            () = service.shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            (accepted, place) = next => match (accepted, place) {
                (Ok(stream), Ok(place)) => {
                    connections.spawn(connection(stream, service.clone(), place));
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    if is_of_the_caller(&error) {
                        continue;
                    }
                    // This process has no file left, most likely: a connection that ends gives one
                    // back. Others may hold files too, so not only that is waited for.
                    let pause = tokio::time::timeout(ACCEPT_PAUSE_MAX, std::future::pending::<()>());
                    tokio::select! {
                        () = service.shutdown.cancelled() => break,
                        Some(ended) = connections.join_next() => report(ended),
                        _elapsed = pause => {}
                    }
                }
                // The semaphore is never closed.
                (_, Err(_closed)) => break,
            },
        }
    }
    drop(listener);
    let answered = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let _in_time = tokio::time::timeout(service.limits.drain_max, answered).await;
}

/// The caller was gone before it was accepted. Says nothing about the next one.
fn is_of_the_caller(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    let kinds = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        Interrupted,
    ];
    kinds.contains(&error.kind())
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task ended");
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    service: Service<H>,
    _place: OwnedSemaphorePermit,
) {
    // Answers are one write each: waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let Some(tls) = &service.tls else {
        return requests(stream, false, &service).await;
    };
    let handshake = tls.acceptor().accept(stream);
    match tokio::time::timeout(service.limits.idle_max, handshake).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let is_certified = shown.is_some_and(|chain| !chain.is_empty());
            requests(stream, is_certified, &service).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn requests<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_certified: bool,
    service: &Service<H>,
) {
    let aged = Instant::now() + service.limits.age_max;
    let answer = service_fn(async |request| {
        let mut answer = answer(service, is_certified, request).await;
        if Instant::now() >= aged {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        Ok::<_, Infallible>(answer)
    });
    let stream = Taken::new(stream, service.limits.idle_max);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.limits.idle_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = service.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer<H: Handler>(
    service: &Service<H>,
    is_certified: bool,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let answer = async {
        match Limited::new(body, service.limits.body_bytes_max)
            .collect()
            .await
        {
            Ok(body) => {
                let mut request = Request::received(parts, is_certified);
                request.body = body.to_bytes();
                service.handler.answer(request).await
            }
            Err(error) if error.is::<LengthLimitError>() => {
                service.handler.refuse(Refusal::BodyTooLarge)
            }
            Err(_broken) => service.handler.refuse(Refusal::BodyBroken),
        }
    };
    let reply = tokio::time::timeout(service.limits.request_max, answer).await;
    let reply = reply.unwrap_or_else(|_elapsed| service.handler.refuse(Refusal::TooSlow));
    response(reply)
}

fn response(reply: Reply) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(reply.body));
    if let Ok(status) = hyper::StatusCode::from_u16(reply.status) {
        *response.status_mut() = status;
    }
    for (name, value) in reply.headers {
        // Every value is made by the handler; one that is no header text is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests;
