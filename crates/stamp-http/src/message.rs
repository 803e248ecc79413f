//! What a handler gets and gives.

use async_trait::async_trait;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// One whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// In upper case, such as `POST`.
    pub method: String,
    /// As sent, without the query: nothing is decoded.
    pub path: String,
    /// What stood behind the `?`, as sent.
    pub query: Option<String>,
    /// Never longer than the limit.
    pub body: Bytes,
    /// Whether the caller showed a certificate that the client authority signed.
    pub is_certified: bool,
    headers: HeaderMap,
}

impl Request {
    /// A request without headers and body, for tests of handlers. `target` is a path and perhaps a
    /// query.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            body: Bytes::new(),
            is_certified: false,
            headers: HeaderMap::new(),
        }
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same with a header. One that is no header is left out, as no client could send it.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(HeaderName::from_static(name), value);
        }
        self
    }

    /// The values of a header that are text. `name` in lower case.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// The first value of a header that is text. `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn received(parts: hyper::http::request::Parts, is_certified: bool) -> Self {
        Self {
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            body: Bytes::new(),
            is_certified,
            headers: parts.headers,
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Whole.
    pub body: Bytes,
}

impl Reply {
    /// An answer without headers.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why a request did not reach the handler, or its answer came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The body is over the limit.
    BodyTooLarge,
    /// The body broke off.
    BodyBroken,
    /// Body and answer together took too long; what the handler had begun may have been done.
    TooSlow,
}

/// What answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped in the middle when it takes longer than the limit, or when the
    /// caller goes away.
    async fn answer(&self, request: Request) -> Reply;

    /// How a refusal of the server itself is written.
    fn refuse(&self, refusal: Refusal) -> Reply;
}
