//! Device identities as a hub's registry answers and takes them.

use std::fmt;

use serde_json::{Map, Value, json};
use stamp_model::DeviceId;

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceStatus {
    /// It may.
    Enabled,
    /// The hub refuses it.
    Disabled,
}

impl DeviceStatus {
    /// As the registry writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }

    /// The status of this name, without regard to case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Enabled, Self::Disabled];
        all.into_iter()
            .find(|status| text.eq_ignore_ascii_case(status.as_str()))
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One device of a hub. Its whole record is kept, fields that are not known here included, so that
/// writing it back loses nothing.
#[derive(Clone, PartialEq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The entity tag of the record, without quotes.
    pub etag: String,
    /// Another one each time the id is registered.
    pub generation_id: String,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Whether it is connected. The hub's own guess, minutes late at times.
    pub is_connected: bool,
    /// When it was last active, microseconds since 1970 UTC; `None` for never.
    pub last_activity_us: Option<i64>,
    /// May hold keys.
    record: Map<String, Value>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .field("generation_id", &self.generation_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Reads a record of the registry.
    pub(crate) fn parse(record: Value) -> Result<Self, String> {
        let Value::Object(record) = record else {
            return Err("a device is no object".to_owned());
        };
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let needed = |name: &str| text(name).ok_or_else(|| format!("a device has no {name}"));
        let id = DeviceId::parse(needed("deviceId")?.into()).map_err(|error| error.to_string())?;
        let status = needed("status")?;
        let unknown = || format!("device {}: status {status:?} is not known", id.as_str());
        let connected = text("connectionState").unwrap_or_default();
        Ok(Self {
            etag: needed("etag")?.trim_matches('"').to_owned(),
            generation_id: needed("generationId")?.to_owned(),
            status: DeviceStatus::parse(status).ok_or_else(unknown)?,
            is_connected: connected.eq_ignore_ascii_case("connected"),
            last_activity_us: text("lastActivityTime").and_then(time_us),
            id,
            record,
        })
    }

    /// The record of a device that is to be registered, with keys that the hub makes.
    #[must_use]
    pub fn record_of(id: &DeviceId, status: DeviceStatus) -> Value {
        json!({
            "deviceId": id.as_str(),
            "status": status.as_str(),
            "authentication": { "type": "sas" },
        })
    }

    /// The record with another status, to be written back. Everything else is as it was.
    #[must_use]
    pub fn with_status(&self, status: DeviceStatus, reason: &str) -> Value {
        let mut record = self.record.clone();
        record.insert("status".to_owned(), status.as_str().into());
        record.insert("statusReason".to_owned(), reason.into());
        record.into()
    }

    /// Why it has its status, as whoever set it wrote.
    #[must_use]
    pub fn status_reason(&self) -> Option<&str> {
        self.record.get("statusReason").and_then(Value::as_str)
    }

    /// The record without keys, to be kept or printed.
    #[must_use]
    pub fn without_keys(&self) -> Value {
        let mut record = self.record.clone();
        if let Some(Value::Object(authentication)) = record.get_mut("authentication") {
            authentication.remove("symmetricKey");
        }
        record.into()
    }
}

/// The times of both services; year 1 is "never".
pub(crate) fn time_us(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_microsecond()).filter(|us| *us > 0)
}

/// How many devices a hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// All.
    pub devices: u64,
    /// Of these, devices that may connect.
    pub enabled: u64,
    /// Of these, devices that may not.
    pub disabled: u64,
}

impl Statistics {
    pub(crate) fn parse(json: &Value) -> Result<Self, String> {
        let count = |name: &str| json[name].as_u64().ok_or_else(|| format!("no {name}"));
        Ok(Self {
            devices: count("totalDeviceCount")?,
            enabled: count("enabledDeviceCount")?,
            disabled: count("disabledDeviceCount")?,
        })
    }
}

/// What a bulk does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// Registers it; one that is there is a problem.
    Create,
    /// Registers it or changes it.
    CreateOrUpdate,
    /// Changes it if it has the entity tag of the entry.
    UpdateIfMatch,
    /// Deletes it if it has the entity tag of the entry.
    DeleteIfMatch,
}

impl ImportMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateOrUpdate => "createOrUpdate",
            Self::UpdateIfMatch => "updateIfMatchETag",
            Self::DeleteIfMatch => "deleteIfMatchETag",
        }
    }
}

/// One entry of a bulk request.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportEntry {
    /// The device.
    pub id: DeviceId,
    /// What is done with it.
    pub mode: ImportMode,
    /// Its entity tag, for the modes that look at it.
    pub etag: Option<String>,
    /// Its status.
    pub status: DeviceStatus,
    /// Tags of its twin, when it is registered.
    pub tags: Option<Map<String, Value>>,
}

impl ImportEntry {
    /// Most entries of one request (REST API of the identity registry).
    pub const BULK_MAX: usize = 100;

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "id": self.id.as_str(),
            "importMode": self.mode.as_str(),
            "status": self.status.as_str(),
        });
        if let Some(etag) = &self.etag {
            json["eTag"] = etag.clone().into();
        }
        if let Some(tags) = &self.tags {
            json["tags"] = tags.clone().into();
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        json!({
            "deviceId": "press-7", "etag": "\"abc\"", "generationId": "7", "status": "Enabled",
            "connectionState": "Connected", "lastActivityTime": "2026-11-24T12:00:00.0000000Z",
            "authentication": { "type": "sas", "symmetricKey": { "primaryKey": "c2VjcmV0" } },
            "aFieldOfTomorrow": [1],
        })
    }

    #[test]
    fn a_record_is_written_back_whole_but_for_its_status() {
        let device = Device::parse(record()).unwrap();
        assert_eq!((device.etag.as_str(), device.is_connected), ("abc", true));
        assert_eq!(device.last_activity_us, Some(1_795_521_600_000_000));
        let written = device.with_status(DeviceStatus::Disabled, "moved");
        assert_eq!(written["status"], "disabled");
        assert_eq!(written["aFieldOfTomorrow"], json!([1]));
        assert_eq!(written["authentication"], record()["authentication"]);
    }

    #[test]
    fn keys_are_neither_kept_nor_printed() {
        let device = Device::parse(record()).unwrap();
        assert!(!device.without_keys().to_string().contains("c2VjcmV0"));
        assert!(!format!("{device:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_record_that_is_none_names_the_field() {
        for (field, value) in [
            ("deviceId", json!(7)),
            ("status", json!("off")),
            ("etag", Value::Null),
        ] {
            let mut record = record();
            record[field] = value;
            let problem = Device::parse(record).unwrap_err();
            assert!(problem.contains(field), "{problem}");
        }
        let mut never = record();
        never["lastActivityTime"] = "0001-01-01T00:00:00Z".into();
        assert_eq!(Device::parse(never).unwrap().last_activity_us, None);
    }
}
