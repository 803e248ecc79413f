//! What the clients of both services share: a call with its token, api-version and error.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::Opened;
use crate::error::ServiceError;
use crate::failure::{Asked, failure};
use crate::http::{Call, HttpsClient, Reply};
use crate::page::{Page, PageRequest};
use crate::path::path;
use crate::token::{Tokens, seconds};
use crate::{ServiceConfig, error::bad};

/// One service with its credential.
pub(crate) struct Service {
    client: HttpsClient,
    tokens: Tokens,
    api_version: &'static str,
    name: String,
}

/// A request in the service's terms.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) segments: &'a [&'a str],
    /// The entity tag that the record must have.
    pub(crate) if_match: Option<&'a str>,
    pub(crate) body: Option<&'a Value>,
    pub(crate) page: Option<&'a PageRequest>,
    pub(crate) is_write: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn read(segments: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            segments,
            if_match: None,
            body: None,
            page: None,
            is_write: false,
        }
    }

    /// A `POST` that changes nothing, such as a query.
    pub(crate) fn look(segments: &'a [&'a str], body: Option<&'a Value>) -> Self {
        Self {
            method: Method::POST,
            body,
            ..Self::read(segments)
        }
    }

    pub(crate) fn write(
        method: Method,
        segments: &'a [&'a str],
        if_match: Option<&'a str>,
        body: Option<&'a Value>,
    ) -> Self {
        Self {
            method,
            segments,
            if_match,
            body,
            page: None,
            is_write: true,
        }
    }
}

impl Service {
    pub(crate) fn open(
        config: &ServiceConfig,
        api_version: &'static str,
        scope: &'static str,
    ) -> Result<Self, ServiceError> {
        let Opened { client, tokens } = config.open(scope)?;
        let name = client.host().name.clone();
        Ok(Self {
            client,
            tokens,
            api_version,
            name,
        })
    }

    /// The host's name without a port.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One attempt; an answer with another status than 2xx is its error.
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<(Call, Reply), ServiceError> {
        let call = self.call(ask)?;
        let (token, token_was_kept) = self.tokens.get().await?;
        let reply = self.client.send(&call, Some(&token)).await?;
        if (200..300).contains(&reply.status) || is_bulk_answer(&reply) {
            return Ok((call, reply));
        }
        if reply.status == 401 {
            self.tokens.refused(&token).await;
        }
        let asked = Asked {
            peer: &self.client.host().to_string(),
            request: &call.name(),
            is_write: call.is_write,
            token_was_kept,
        };
        let now_s = seconds(SystemTime::now());
        Err(failure(
            asked,
            reply.status,
            &reply.headers,
            &reply.body,
            now_s,
        ))
    }

    /// One attempt whose answer is JSON that `parse` understands.
    pub(crate) async fn ask<T>(
        &self,
        ask: &Ask<'_>,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Result<T, ServiceError> {
        let (call, reply) = self.send(ask).await?;
        let json = serde_json::from_slice(&reply.body);
        let json = json.map_err(|error| self.client.wrong(&call, format!("no JSON: {error}")))?;
        parse(json).map_err(|detail| self.client.wrong(&call, detail))
    }

    /// One page of a query.
    pub(crate) async fn page<T>(
        &self,
        ask: &Ask<'_>,
        parse: impl Fn(Value) -> Result<T, String>,
    ) -> Result<Page<T>, ServiceError> {
        let (call, reply) = self.send(ask).await?;
        let wrong = |detail: String| self.client.wrong(&call, detail);
        let json: Vec<Value> = serde_json::from_slice(&reply.body)
            .map_err(|error| wrong(format!("no JSON array: {error}")))?;
        let items: Result<Vec<T>, String> = json.into_iter().map(parse).collect();
        let continuation = reply.headers.get("x-ms-continuation");
        let continuation = continuation.and_then(|value| value.to_str().ok());
        Ok(Page {
            items: items.map_err(wrong)?,
            continuation: continuation
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ServiceError> {
        let mut headers = Vec::new();
        if let Some(etag) = ask.if_match {
            let quoted = format!("\"{}\"", etag.trim_matches('"'));
            headers.push((hyper::header::IF_MATCH, header("etag", &quoted)?));
        }
        if let Some(page) = ask.page {
            if !(1..=PageRequest::ITEMS_MAX).contains(&page.items_max) {
                return bad(
                    "items-max",
                    format!("must be 1 to {}", PageRequest::ITEMS_MAX),
                );
            }
            let most = HeaderValue::from(page.items_max);
            headers.push((HeaderName::from_static("x-ms-max-item-count"), most));
            if let Some(text) = &page.continuation {
                let name = HeaderName::from_static("x-ms-continuation");
                headers.push((name, header("continuation", text)?));
            }
        }
        Ok(Call {
            method: ask.method.clone(),
            path: path(ask.segments),
            query: format!("api-version={}", self.api_version),
            headers,
            content_type: "application/json; charset=utf-8",
            body: ask.body.map(|body| Bytes::from(body.to_string())),
            is_write: ask.is_write,
        })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A bulk of which not every entry was done is answered with 400 and the usual body.
fn is_bulk_answer(reply: &Reply) -> bool {
    let json = || serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
    reply.status == 400 && json()["isSuccessful"].is_boolean()
}

fn header(key: &'static str, text: &str) -> Result<HeaderValue, ServiceError> {
    HeaderValue::from_str(text).or_else(|_| bad(key, "is no header text"))
}
