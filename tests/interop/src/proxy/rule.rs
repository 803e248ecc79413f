//! Which requests are broken, how, and for how long.

use std::time::Duration;

use tokio::time::Instant;

/// What happens to a request that a rule fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut; the service never sees the request.
    Cut,
    /// The connection stays open and silent until the client leaves; the service never sees the
    /// request.
    Hang,
    /// The service does the request; the connection is cut instead of its reply.
    LoseReply,
    /// The service does the request; the connection is cut in the middle of its reply.
    TearReply,
    /// Request and reply pass at this speed each, at least 20 bytes a second.
    Slow {
        /// Bytes in a second.
        bytes_per_s: u32,
    },
    /// The proxy answers by itself; the service never sees the request.
    Answer(Answer),
    /// The service does the request; the client gets this answer instead of the service's.
    AnswerAfter(Answer),
}

/// An answer in Azure Storage's form: a status, its error code and perhaps when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    code: &'static str,
    retry_after: Option<Duration>,
}

impl Answer {
    /// Any status with its error code.
    #[must_use]
    pub fn new(status: u16, code: &'static str) -> Self {
        Self {
            status,
            code,
            retry_after: None,
        }
    }

    /// 503, the service is busy.
    #[must_use]
    pub fn busy() -> Self {
        Self::new(503, "ServerBusy")
    }

    /// 500, the service has a fault of its own.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::new(500, "InternalError")
    }

    /// 403, as for a key that was replaced.
    #[must_use]
    pub fn authentication_failed() -> Self {
        Self::new(403, "AuthenticationFailed")
    }

    /// With a `Retry-After` of whole seconds.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// What goes over the wire; a reply to `HEAD` has no body.
    pub(super) fn to_bytes(&self, to_head: bool) -> Vec<u8> {
        let Self { status, code, .. } = self;
        let body = if to_head {
            String::new()
        } else {
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
                 <Message>answered by the fault proxy</Message></Error>"
            )
        };
        let retry_after = self.retry_after.map_or(String::new(), |pause| {
            format!("Retry-After: {}\r\n", pause.as_secs())
        });
        format!(
            "HTTP/1.1 {status} {code}\r\nx-ms-error-code: {code}\r\n{retry_after}\
             Content-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A fault, the requests it is for, and how many of them or how long. Without a filter it is for
/// every request, without a limit until the proxy is cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    fault: Fault,
    method: Option<&'static str>,
    path: Option<String>,
    left: Option<u64>,
    until: Option<Instant>,
}

impl Rule {
    /// For every request, until cleared.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            path: None,
            left: None,
            until: None,
        }
    }

    /// Only for this method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Only for paths (with their query) that hold this text, as it is on the wire.
    #[must_use]
    pub fn path(mut self, holds: &str) -> Self {
        self.path = Some(holds.to_owned());
        self
    }

    /// Only for the next so many requests that it fits.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.left = Some(requests);
        self
    }

    /// Only for so long from now.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.until = Some(Instant::now() + time);
        self
    }

    pub(super) fn is_live(&self) -> bool {
        self.left != Some(0) && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// The fault, when the rule fits; that uses up one of its requests.
    pub(super) fn hit(&mut self, method: &str, path: &str) -> Option<Fault> {
        let fits = self.method.is_none_or(|only| only == method)
            && self
                .path
                .as_ref()
                .is_none_or(|holds| path.contains(holds.as_str()));
        if !fits || !self.is_live() {
            return None;
        }
        self.left = self.left.map(|left| left - 1);
        Some(self.fault.clone())
    }
}
