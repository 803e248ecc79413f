//! The hub's errors, with the names and codes that published clients read.

use hyper::StatusCode;
use serde_json::json;

use crate::faults::ServiceRefusal;
use crate::http::Reply;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubError {
    pub(crate) status: u16,
    pub(crate) code: u32,
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) retry_after_s: Option<u64>,
}

impl HubError {
    fn new(status: u16, code: u32, name: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            name,
            text: text.into(),
            retry_after_s: None,
        }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(400, 400_004, "ArgumentInvalid", text)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, 401_003, "IotHubUnauthorized", "Unauthorized")
    }

    pub(crate) fn quota() -> Self {
        let text = "The daily message quota of this hub is used up until 00:00 UTC";
        Self::new(403, 403_002, "IotHubQuotaExceeded", text)
    }

    pub(crate) fn disabled(id: &str) -> Self {
        let text = format!("Device {id} is disabled");
        Self::new(403, 403_012, "DeviceDisabled", text)
    }

    pub(crate) fn not_found(id: &str) -> Self {
        let text = format!("Device {id} not registered");
        Self::new(404, 404_001, "DeviceNotFound", text)
    }

    pub(crate) fn not_online(id: &str) -> Self {
        let text = format!("Timed out waiting for device {id} to connect");
        Self::new(404, 404_103, "DeviceNotOnline", text)
    }

    pub(crate) fn no_such_call() -> Self {
        Self::new(404, 404_002, "NotFound", "There is nothing at this address")
    }

    pub(crate) fn exists(id: &str) -> Self {
        let text = format!("A device with ID '{id}' is already registered");
        Self::new(409, 409_001, "DeviceAlreadyExists", text)
    }

    pub(crate) fn etag(id: &str) -> Self {
        let text = format!("Precondition failed: the ETag of device {id} is another");
        Self::new(412, 412_001, "PreconditionFailed", text)
    }

    pub(crate) fn too_large(what: &str) -> Self {
        let text = format!("{what} is too large");
        Self::new(413, 413_001, "MessageTooLarge", text)
    }

    pub(crate) fn too_many_devices(devices_max: usize) -> Self {
        let text = format!("The hub has {devices_max} devices, as many as it may have");
        Self::new(403, 413_002, "TooManyDevices", text)
    }

    pub(crate) fn unsupported(text: &str) -> Self {
        Self::new(415, 415_001, "UnsupportedMediaType", text)
    }

    pub(crate) fn throttled(retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(
                429,
                429_001,
                "ThrottlingException",
                "Wait 10 seconds and try again",
            )
        }
    }

    pub(crate) fn method_timeout(id: &str) -> Self {
        let text = format!("Timed out waiting for the response of device {id}");
        Self::new(504, 504_101, "GatewayTimeout", text)
    }

    pub(crate) fn from_fault(refusal: ServiceRefusal) -> Self {
        let name = match refusal.status {
            429 => "ThrottlingException",
            503 => "ServiceUnavailable",
            _ => "ServerError",
        };
        Self {
            retry_after_s: refusal.retry_after_s,
            ..Self::new(refusal.status, refusal.error_code, name, refusal.text)
        }
    }

    /// The form that clients take apart at `;` and `:`.
    pub(crate) fn reply(&self, tracking: &str, now: &str) -> Reply {
        let body = json!({
            "Message": format!("ErrorCode:{};{} {}", self.name, self.code, self.text),
            "ExceptionMessage": format!("Tracking ID:{tracking}-TimeStamp:{now}"),
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let reply = Reply::json(status, &body).with("iothub-errorcode", self.name);
        match self.retry_after_s {
            Some(seconds) => reply.with("retry-after", seconds.to_string()),
            None => reply,
        }
    }
}
