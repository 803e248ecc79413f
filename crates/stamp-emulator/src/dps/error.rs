//! The service's errors, as devices and service programs get them.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::faults::ServiceRefusal;
use crate::http::Reply;

/// Why a request is refused. The code is the status times 1,000 and a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DpsError {
    pub(crate) status: u16,
    pub(crate) code: u32,
    pub(crate) text: String,
    pub(crate) retry_after_s: Option<u64>,
}

impl DpsError {
    fn new(code: u32, text: impl Into<String>) -> Self {
        Self {
            status: u16::try_from(code / 1_000).unwrap_or(500),
            code,
            text: text.into(),
            retry_after_s: None,
        }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(400_004, text)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401_002, "Unauthorized")
    }

    pub(crate) fn no_registration(id: &str) -> Self {
        Self::new(404_201, format!("Registration {id} is not there"))
    }

    pub(crate) fn no_enrollment(id: &str) -> Self {
        Self::new(404_202, format!("Enrollment {id} is not there"))
    }

    pub(crate) fn no_operation(id: &str) -> Self {
        Self::new(404_203, format!("Operation {id} is not there"))
    }

    pub(crate) fn no_such_call() -> Self {
        Self::new(404_000, "There is nothing at this address")
    }

    pub(crate) fn exists(id: &str) -> Self {
        Self::new(409_201, format!("Enrollment {id} is there already"))
    }

    pub(crate) fn etag(id: &str) -> Self {
        Self::new(412_001, format!("The ETag of {id} is another"))
    }

    pub(crate) fn throttled(retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(429_001, "Too many requests")
        }
    }

    pub(crate) fn full(what: &str) -> Self {
        Self::new(400_005, format!("There are as many {what} as there may be"))
    }

    /// What a failed webhook comes to.
    pub(crate) fn webhook(text: impl Into<String>) -> Self {
        Self::new(400_207, text)
    }

    /// What a hub that refuses a device comes to.
    pub(crate) fn hub(text: impl Into<String>) -> Self {
        Self::new(400_208, text)
    }

    pub(crate) fn from_fault(refusal: ServiceRefusal) -> Self {
        Self {
            status: refusal.status,
            code: refusal.error_code,
            text: refusal.text,
            retry_after_s: refusal.retry_after_s,
        }
    }

    pub(crate) fn json(&self, tracking: &str, now: &str) -> Value {
        json!({
            "errorCode": self.code,
            "trackingId": tracking,
            "message": self.text,
            "timestampUtc": now,
        })
    }

    pub(crate) fn reply(&self, tracking: &str, now: &str) -> Reply {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let reply = Reply::json(status, &self.json(tracking, now))
            .with("x-ms-error-code", self.code.to_string());
        match self.retry_after_s {
            Some(seconds) => reply.with("retry-after", seconds.to_string()),
            None => reply,
        }
    }
}
