//! HTTP/1.1 for the service and device APIs: one handler a server, with limits, over TLS or plain.

mod server;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;

pub(crate) use server::{Api, serve};

/// Most bytes of a request's body. The largest that clients send is a bulk of devices.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A whole request, taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path's parts, percent-decoded.
    pub(crate) path: Vec<String>,
    /// The query's pairs, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// Reads a request to its end. `None` when its body is larger than allowed or broke off.
    pub(crate) async fn read(request: Request<Incoming>) -> Option<Self> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?;
        let path = head.uri.path().split('/').filter(|part| !part.is_empty());
        Some(Self {
            path: path.map(decode).collect(),
            query: pairs(head.uri.query().unwrap_or_default()),
            method: head.method,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// A header as text; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// A value of the query, its name without regard to case.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let mut named = self
            .query
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// The ETag of `If-Match` without its quotes; `None` without the header.
    pub(crate) fn if_match(&self) -> Option<&str> {
        let text = self.header("if-match").trim();
        (!text.is_empty()).then(|| text.trim_matches('"'))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The page size that a query asks for, at most `most`.
    pub(crate) fn page_size(&self, most: usize) -> usize {
        let asked = self.header("x-ms-max-item-count").parse().unwrap_or(most);
        asked.clamp(1, most)
    }

    /// Where a query goes on: the number that an earlier page answered.
    pub(crate) fn continuation(&self) -> Option<usize> {
        match self.header("x-ms-continuation") {
            "" => Some(0),
            text => text.parse().ok(),
        }
    }
}

/// Splits `a=1&b=2` and decodes both sides.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    };
    text.split('&')
        .filter(|p| !p.is_empty())
        .map(pair)
        .collect()
}

pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status: status.as_u16(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self {
            status: status.as_u16(),
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.to_string(),
        }
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// One page of a query's items, and where the next begins.
    pub(crate) fn page(items: &[Value], from: usize, size: usize, item_type: &str) -> Self {
        let from = from.min(items.len());
        let until = (from + size).min(items.len());
        let page = Value::from(items[from..until].to_vec());
        let reply = Self::ok(&page).with("x-ms-item-type", item_type);
        match until < items.len() {
            true => reply.with("x-ms-continuation", until.to_string()),
            false => reply,
        }
    }
}
