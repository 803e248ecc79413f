//! What an Azure answer says beyond its status: the store's error code and when to come back.
//!
//! The object store library keeps the status to itself and drops `Retry-After`. This service sits
//! below it and turns an answer that is an error into an [`Answer`] that travels up the chain.
//! It makes one request per call, never more.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderMap};

/// Longest part of an error body that is kept for the log.
const BODY_BYTES_MAX: usize = 1_024;

/// An answer of the store that is an error.
#[derive(Debug, thiserror::Error)]
#[error("status {status} {code} {body}")]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    code: String,
    body: String,
}

#[cfg(feature = "faults")]
impl Answer {
    /// As a store that is too busy says it.
    pub(crate) fn busy(retry_after: Duration) -> Self {
        Self {
            status: 503,
            retry_after: Some(retry_after),
            code: "ServerBusy".to_owned(),
            body: String::new(),
        }
    }
}

/// Connects as the library does by itself, and looks at each answer.
#[derive(Debug)]
pub(crate) struct AnswerConnector;

impl HttpConnector for AnswerConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(AnswerService { client }))
    }
}

#[derive(Debug)]
struct AnswerService {
    client: HttpClient,
}

#[async_trait]
impl HttpService for AnswerService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.execute(request).await?;
        let status = response.status().as_u16();
        if status < 400 || understood(status, response.headers()) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = if is_short(&parts.headers) {
            body.bytes().await.unwrap_or_default()
        } else {
            Vec::new().into()
        };
        let answer = Answer {
            status,
            retry_after: retry_after(&parts.headers, Timestamp::now()),
            code: header(&parts.headers, "x-ms-error-code").unwrap_or_default(),
            body: String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned(),
        };
        Err(HttpError::new(HttpErrorKind::Unknown, answer))
    }
}

/// Statuses the library turns into variants that mean what they say.
///
/// Azure answers 409 for many things. Only "the blob exists" is a lost race; a container that is
/// being deleted must not look like one, or the caller would load and try for ever.
fn understood(status: u16, headers: &HeaderMap) -> bool {
    match status {
        404 | 412 => true,
        409 => header(headers, "x-ms-error-code").is_some_and(|code| code == "BlobAlreadyExists"),
        _ => false,
    }
}

fn is_short(headers: &HeaderMap) -> bool {
    /// Azure's error documents are a few hundred bytes.
    const ERROR_DOCUMENT_BYTES_MAX: usize = 65_536;
    header(headers, "content-length")
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| length <= ERROR_DOCUMENT_BYTES_MAX)
}

/// The pause the store asks for: milliseconds, seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(ms) = header(headers, "x-ms-retry-after-ms") {
        return ms.trim().parse().ok().map(Duration::from_millis);
    }
    let text = header(headers, "retry-after")?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(&text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::HeaderValue;

    fn check(name: &'static str, value: &'static str, expected: Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after(&headers, now), expected, "{name}: {value}");
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        check("retry-after", "7", Some(Duration::from_secs(7)));
        check(
            "x-ms-retry-after-ms",
            "250",
            Some(Duration::from_millis(250)),
        );
        let date = "Tue, 24 Nov 2026 10:00:30 GMT";
        check("retry-after", date, Some(Duration::from_secs(30)));
        let past = "Tue, 24 Nov 2026 09:00:30 GMT";
        check("retry-after", past, Some(Duration::ZERO));
        check("retry-after", "soon", None);
    }

    #[test]
    fn only_an_existing_blob_is_a_lost_race() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-ms-error-code",
            HeaderValue::from_static("BlobAlreadyExists"),
        );
        assert!(understood(409, &headers));
        headers.insert(
            "x-ms-error-code",
            HeaderValue::from_static("ContainerBeingDeleted"),
        );
        assert!(!understood(409, &headers));
    }
}
