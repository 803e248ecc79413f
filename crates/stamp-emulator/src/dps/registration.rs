//! Registrations: what became of each device that asked for a hub.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::error::DpsError;
use crate::time;

/// How far a registration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Assigning,
    Assigned,
    Failed,
    Disabled,
}

impl Status {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Assigning => "assigning",
            Self::Assigned => "assigned",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

/// One device's registration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Registration {
    pub(crate) id: String,
    pub(crate) group: Option<String>,
    /// The hub it was assigned to last, whatever the status is now.
    pub(crate) hub: Option<String>,
    pub(crate) device_id: String,
    pub(crate) status: Status,
    pub(crate) substatus: &'static str,
    pub(crate) operation: String,
    pub(crate) payload: Option<Value>,
    pub(crate) error: Option<DpsError>,
    pub(crate) version: u64,
    pub(crate) created_at_us: i64,
    pub(crate) updated_at_us: i64,
}

impl Registration {
    /// The record as devices and service programs get it.
    pub(crate) fn json(&self) -> Value {
        let assigned = self.status == Status::Assigned;
        let mut json = json!({
            "registrationId": self.id,
            "createdDateTimeUtc": time::utc(self.created_at_us),
            "status": self.status.text(),
            "lastUpdatedDateTimeUtc": time::utc(self.updated_at_us),
            "etag": STANDARD.encode(format!("\"{}-{}\"", self.created_at_us, self.version)),
        });
        if assigned {
            json["assignedHub"] = self.hub.clone().into();
            json["deviceId"] = self.device_id.clone().into();
            json["substatus"] = self.substatus.into();
        }
        json["symmetricKey"] = match &self.group {
            Some(group) => json!({ "enrollmentGroupId": group }),
            None => json!({}),
        };
        if let Some(payload) = self.payload.as_ref().filter(|_| assigned) {
            json["payload"] = payload.clone();
        }
        if let Some(error) = &self.error {
            json["errorCode"] = error.code.into();
            json["errorMessage"] = error.text.clone().into();
        }
        json
    }

    /// The answer to a poll.
    pub(crate) fn operation_json(&self) -> Value {
        let mut json = json!({ "operationId": self.operation, "status": self.status.text() });
        if self.status != Status::Assigning {
            json["registrationState"] = self.json();
        }
        json
    }
}
