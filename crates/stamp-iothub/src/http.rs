//! HTTP/1.1 over TLS to one host: one request, one attempt, a bounded answer.
//!
//! Connections are kept for the next request, a few of them and not for long. A request never
//! moves to a second connection by itself.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{ServiceError, bad};

/// Largest answer that is read: 1,000 twins with 16 KiB each.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Connections that are kept open.
const IDLE_MAX: usize = 16;
/// How long one is kept. Azure's load balancers forget an idle one after four minutes.
const IDLE_AGE_MAX: Duration = Duration::from_secs(60);

/// A host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Host {
    /// Parses `host` or `host:port`; 443 when no port is given.
    pub(crate) fn parse(key: &'static str, text: &str) -> Result<Self, ServiceError> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (text, Some(443)),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        match port {
            Some(port) if !name.is_empty() && name.len() <= 253 && name.chars().all(good) => {
                Ok(Self {
                    name: name.to_ascii_lowercase(),
                    port,
                })
            }
            _ => bad(key, "is not a host name, or host:port"),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            443 => f.write_str(&self.name),
            port => write!(f, "{}:{port}", self.name),
        }
    }
}

/// A request before its token is added.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Without the query: what errors call it by.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Option<Bytes>,
    /// Whether it changes something, so that a lost answer leaves it unknown.
    pub(crate) is_write: bool,
}

impl Call {
    /// Method and path.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Sender = SendRequest<Full<Bytes>>;

/// Makes requests to one host.
pub(crate) struct HttpsClient {
    host: Host,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    idle: Arc<Mutex<Vec<(Sender, Instant)>>>,
}

impl HttpsClient {
    pub(crate) fn new(
        key: &'static str,
        host: Host,
        tls: TlsConnector,
    ) -> Result<Self, ServiceError> {
        let Ok(server_name) = ServerName::try_from(host.name.clone()) else {
            return bad(key, "is not a name that a certificate can have");
        };
        Ok(Self {
            host,
            server_name,
            tls,
            idle: Arc::default(),
        })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn send(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, ServiceError> {
        let request = self.request(call, authorization)?;
        let mut sender = match self.kept() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = match sender.send_request(request).await {
            Ok(answer) => answer,
            // A kept connection that ended before the request was written.
            Err(error) if error.is_canceled() => {
                return Err(ServiceError::Unreachable {
                    peer: self.host.to_string(),
                    source: io::Error::new(io::ErrorKind::ConnectionReset, error),
                });
            }
            Err(error) => return Err(self.lost(call, error.into())),
        };
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(self.wrong(call, format!("over {ANSWER_BYTES_MAX} bytes")));
            }
            Err(error) => return Err(self.lost(call, error)),
        };
        self.keep(sender);
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    fn request(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, ServiceError> {
        let target = match call.query.as_str() {
            "" => call.path.clone(),
            query => format!("{}?{query}", call.path),
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(target)
            .header(header::HOST, self.host.to_string())
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let body = Full::new(call.body.clone().unwrap_or_default());
        let built = request.body(body);
        built.map_err(|error| ServiceError::BadConfig {
            key: "request",
            problem: error.to_string(),
        })
    }

    /// A connection of an earlier request that is still open, the latest first.
    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_AGE_MAX);
        let at = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.swap_remove(at).0)
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<Sender, ServiceError> {
        let peer = || self.host.to_string();
        let unreachable = |source| match is_certificate_error(&source) {
            true => ServiceError::Certificate {
                peer: peer(),
                source,
            },
            false => ServiceError::Unreachable {
                peer: peer(),
                source,
            },
        };
        let address = (self.host.name.as_str(), self.host.port);
        let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let tls = self.tls.connect(self.server_name.clone(), tcp).await;
        let stream = TokioIo::new(tls.map_err(unreachable)?);
        let opened = http1::handshake(stream).await;
        let (sender, connection) = opened.map_err(|error| unreachable(io::Error::other(error)))?;
        let name = peer();
        // Ends with the last sender, which is held by a request or by the list of idle ones.
        let _driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer = name, %error, "a connection ended");
            }
        });
        Ok(sender)
    }

    fn lost(&self, call: &Call, source: Box<dyn std::error::Error + Send + Sync>) -> ServiceError {
        ServiceError::Lost {
            peer: self.host.to_string(),
            request: call.name(),
            may_have_happened: call.is_write,
            source,
        }
    }

    /// The answer is not what was expected.
    pub(crate) fn wrong(&self, call: &Call, detail: impl Into<String>) -> ServiceError {
        ServiceError::Answer {
            peer: self.host.to_string(),
            request: call.name(),
            detail: detail.into(),
            may_have_happened: call.is_write,
        }
    }
}

fn is_certificate_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}
