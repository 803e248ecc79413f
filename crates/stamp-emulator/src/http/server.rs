//! Answers the requests of each connection.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Call, Reply};
use crate::net;

/// Open connections of one server; further ones are closed at once.
const CONNECTIONS_MAX: usize = 1_000;
/// For a request's headers.
const HEADER_MAX: Duration = Duration::from_secs(30);

/// What answers the requests of a server.
pub(crate) trait Api: Send + Sync + 'static {
    /// Answers a request; `None` closes the connection instead, as if the answer had been lost.
    fn answer(self: &Arc<Self>, call: Call) -> impl Future<Output = Option<Reply>> + Send;
}

/// Serves until `stop`.
pub(crate) async fn serve<A: Api>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    api: Arc<A>,
    stop: CancellationToken,
) {
    net::accept(listener, "HTTP", CONNECTIONS_MAX, stop.clone(), |stream| {
        let (tls, api, stop) = (tls.clone(), Arc::clone(&api), stop.clone());
        async move {
            if let Some(stream) = net::secured(stream, tls).await {
                requests(stream, api, stop).await;
            }
        }
    })
    .await;
}

async fn requests<A: Api>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Arc<A>,
    stop: CancellationToken,
) {
    let answer = service_fn(move |request| answer(Arc::clone(&api), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        () = stop.cancelled() => {}
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP connection ended");
        },
    }
}

/// The reply that never comes: the connection's task ends with it.
#[derive(Debug, thiserror::Error)]
#[error("the reply is lost on purpose")]
struct Lost;

async fn answer<A: Api>(api: Arc<A>, request: Request<Incoming>) -> Result<Response<String>, Lost> {
    let Some(call) = Call::read(request).await else {
        return Ok(response(Reply {
            status: 413,
            headers: Vec::new(),
            body: "{\"Message\":\"ErrorCode:RequestEntityTooLarge;The request is too large\"}"
                .into(),
        }));
    };
    let reply = api.answer(call).await.ok_or(Lost)?;
    Ok(response(reply))
}

fn response(reply: Reply) -> Response<String> {
    let mut response = Response::new(reply.body);
    if let Ok(status) = hyper::StatusCode::from_u16(reply.status) {
        *response.status_mut() = status;
    }
    for (name, value) in reply.headers {
        // Every value is made here; one that is no header text is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}
