//! Enrolments, groups and registration records as DPS answers and takes them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::device::time_us;

/// Which of the two kinds of enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnrollmentKind {
    /// One device, by its registration id.
    Individual,
    /// Every device whose proof comes from the group's.
    Group,
}

impl EnrollmentKind {
    /// The segment of its address.
    pub(crate) fn segment(self) -> &'static str {
        match self {
            Self::Individual => "enrollments",
            Self::Group => "enrollmentGroups",
        }
    }

    /// What names a record.
    pub(crate) fn id_field(self) -> &'static str {
        match self {
            Self::Individual => "registrationId",
            Self::Group => "enrollmentGroupId",
        }
    }
}

/// One enrolment or group. Its whole record is kept, fields that are not known here included.
#[derive(Clone, PartialEq)]
pub struct Enrollment {
    /// Which kind.
    pub kind: EnrollmentKind,
    /// Registration id or group id.
    pub id: String,
    /// The entity tag of the record, without quotes; empty for one that was not read from DPS.
    pub etag: String,
    /// May hold keys.
    record: Map<String, Value>,
}

impl fmt::Debug for Enrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrollment")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

impl Enrollment {
    /// Reads a record.
    ///
    /// # Errors
    /// A text that names the field.
    pub fn parse(kind: EnrollmentKind, record: Value) -> Result<Self, String> {
        let Value::Object(record) = record else {
            return Err("an enrolment is no object".to_owned());
        };
        let field = kind.id_field();
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let id = text(field).ok_or_else(|| format!("an enrolment has no {field}"))?;
        Ok(Self {
            kind,
            id: id.to_owned(),
            etag: text("etag")
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
            record,
        })
    }

    /// A new individual enrolment with symmetric keys, which holds nothing else.
    #[must_use]
    pub fn individual(registration_id: &str, keys: Option<&Attestation>) -> Self {
        let mut attestation = json!({ "type": "symmetricKey" });
        if let Some(keys) = keys {
            attestation = keys.0.clone();
        }
        let record = json!({
            "registrationId": registration_id,
            "attestation": attestation,
        });
        Self {
            kind: EnrollmentKind::Individual,
            id: registration_id.to_owned(),
            etag: String::new(),
            record: record.as_object().cloned().unwrap_or_default(),
        }
    }

    /// The record as it is sent.
    #[must_use]
    pub fn json(&self) -> Value {
        self.record.clone().into()
    }

    /// The record without keys, to be kept or printed.
    #[must_use]
    pub fn without_keys(&self) -> Value {
        let mut record = self.record.clone();
        if let Some(Value::Object(attestation)) = record.get_mut("attestation") {
            attestation.remove("symmetricKey");
        }
        record.into()
    }

    /// The hubs it chooses from; none means all that are linked.
    #[must_use]
    pub fn hubs(&self) -> Vec<&str> {
        let hubs = self.record.get("iotHubs").and_then(Value::as_array);
        let hubs = hubs.into_iter().flatten().filter_map(Value::as_str);
        let older = self.record.get("iotHubHostName").and_then(Value::as_str);
        hubs.chain(older).collect()
    }

    /// How it chooses, as DPS writes it; `None` for the service's default.
    #[must_use]
    pub fn allocation_policy(&self) -> Option<&str> {
        self.record.get("allocationPolicy").and_then(Value::as_str)
    }

    /// Whether a webhook chooses.
    #[must_use]
    pub fn has_webhook(&self) -> bool {
        let policy = self.allocation_policy();
        policy.is_some_and(|policy| policy.eq_ignore_ascii_case("custom"))
            && self.record.contains_key("customAllocationDefinition")
    }

    /// The one hub that it sends its devices to, when it is only one.
    #[must_use]
    pub fn only_hub(&self) -> Option<&str> {
        match self.hubs()[..] {
            [hub] => Some(hub),
            _ => None,
        }
    }

    /// The device id in the hub: its own, else the registration id.
    #[must_use]
    pub fn device_id(&self) -> &str {
        let own = self.record.get("deviceId").and_then(Value::as_str);
        own.filter(|own| !own.is_empty()).unwrap_or(&self.id)
    }

    /// Whether devices may register.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        let status = self
            .record
            .get("provisioningStatus")
            .and_then(Value::as_str);
        status.is_none_or(|status| status.eq_ignore_ascii_case("enabled"))
    }

    /// Whether the proof is a symmetric key that the record does not hold.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        let attestation = self.record.get("attestation").unwrap_or(&Value::Null);
        attestation["type"] == "symmetricKey" && attestation["symmetricKey"]["primaryKey"].is_null()
    }

    /// The record with these keys: DPS does not answer them with a record, and takes a record
    /// without them for one whose keys it shall make.
    #[must_use]
    pub fn with_attestation(mut self, attestation: &Attestation) -> Self {
        self.record
            .insert("attestation".to_owned(), attestation.0.clone());
        self
    }

    /// The record so that devices which register (again) get this hub and no other. A webhook stays:
    /// it is asked about this hub only, and is how a provisioner learns where its devices are. The
    /// reprovision policy keeps its choice about the device's data; DPS's default is to take it along.
    #[must_use]
    pub fn pointed_to(mut self, hub: &str) -> Self {
        let policy = self.record.get("reprovisionPolicy");
        let migrates = policy.and_then(|policy| policy["migrateDeviceData"].as_bool());
        self.record.remove("iotHubHostName");
        if !self.has_webhook() {
            self.record.remove("customAllocationDefinition");
            self.record
                .insert("allocationPolicy".to_owned(), "static".into());
        }
        self.record.insert("iotHubs".to_owned(), json!([hub]));
        let policy = json!({
            "updateHubAssignment": true,
            "migrateDeviceData": migrates.unwrap_or(true),
        });
        self.record.insert("reprovisionPolicy".to_owned(), policy);
        self.without_read_only()
    }

    fn without_read_only(mut self) -> Self {
        for name in [
            "registrationState",
            "createdDateTimeUtc",
            "lastUpdatedDateTimeUtc",
        ] {
            self.record.remove(name);
        }
        self
    }
}

/// How devices prove who they are, with the keys. Never printed.
#[derive(Clone, PartialEq)]
pub struct Attestation(Value);

impl fmt::Debug for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attestation({})", self.0["type"])
    }
}

impl Attestation {
    pub(crate) fn parse(json: Value) -> Result<Self, String> {
        match json["type"].is_string() {
            true => Ok(Self(json)),
            false => Err("an attestation has no type".to_owned()),
        }
    }

    /// Symmetric keys, base64, 16 to 64 bytes each.
    #[must_use]
    pub fn symmetric(primary: &str, secondary: &str) -> Self {
        Self(json!({
            "type": "symmetricKey",
            "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary },
        }))
    }

    /// As it stands in a record.
    pub(crate) fn json(&self) -> Value {
        self.0.clone()
    }

    /// Of a group with symmetric keys: the keys of one of its devices. `None` for another proof.
    #[must_use]
    pub fn of_device(&self, registration_id: &str) -> Option<Self> {
        let key = |name: &str| {
            let key = self.0["symmetricKey"][name].as_str()?;
            derive_device_key(key, registration_id)
        };
        Some(Self::symmetric(&key("primaryKey")?, &key("secondaryKey")?))
    }
}

/// The key of one device of a group: HMAC-SHA256 of its registration id by the group's key, both
/// base64. `None` when the group's key is not base64.
#[must_use]
pub fn derive_device_key(group_key: &str, registration_id: &str) -> Option<String> {
    let key = STANDARD.decode(group_key).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(registration_id.as_bytes());
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

/// What became of a device that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its registration id.
    pub registration_id: String,
    /// `unassigned`, `assigning`, `assigned`, `failed` or `disabled`.
    pub status: String,
    /// The hub it was assigned to.
    pub assigned_hub: Option<String>,
    /// Its id there.
    pub device_id: Option<String>,
    /// The group it came by.
    pub group_id: Option<String>,
    /// When it last changed, microseconds since 1970 UTC.
    pub updated_us: Option<i64>,
    /// Why it failed, as DPS says.
    pub error: Option<String>,
}

impl Registration {
    /// Reads a registration record.
    pub(crate) fn parse(json: Value) -> Result<Self, String> {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let needed = |name: &str| text(name).ok_or_else(|| format!("a registration has no {name}"));
        let proofs = ["symmetricKey", "x509", "tpm"];
        let mut groups = proofs
            .iter()
            .map(|proof| &json[*proof]["enrollmentGroupId"]);
        let code = json["errorCode"].as_u64().filter(|code| *code > 0);
        Ok(Self {
            registration_id: needed("registrationId")?,
            status: needed("status")?,
            assigned_hub: text("assignedHub").filter(|hub| !hub.is_empty()),
            device_id: text("deviceId").filter(|id| !id.is_empty()),
            group_id: groups.find_map(|group| group.as_str().map(str::to_owned)),
            updated_us: text("lastUpdatedDateTimeUtc").as_deref().and_then(time_us),
            error: code.map(|code| format!("{code} {}", text("errorMessage").unwrap_or_default())),
        })
    }
}

/// What a bulk does with its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkMode {
    /// Enrols them; one that is there is a problem.
    Create,
    /// Writes over those that are there.
    Update,
    /// Writes over those that still have the entity tag of their entry.
    UpdateIfMatch,
    /// Deletes them.
    Delete,
}

impl BulkMode {
    /// Most entries of one request (REST API of the service).
    pub const ENTRIES_MAX: usize = 10;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::UpdateIfMatch => "updateIfMatchETag",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: Value) -> Enrollment {
        Enrollment::parse(EnrollmentKind::Individual, record).unwrap()
    }

    #[test]
    fn an_enrolment_that_is_pointed_keeps_everything_else() {
        let before = read(json!({
            "registrationId": "press-7", "etag": "\"e\"", "allocationPolicy": "custom",
            "customAllocationDefinition": { "webhookUrl": "https://w", "apiVersion": "x" },
            "reprovisionPolicy": { "updateHubAssignment": false, "migrateDeviceData": false },
            "initialTwin": { "tags": { "site": "a" } }, "registrationState": {}, "fromTomorrow": 1,
        }));
        let pointed = before.pointed_to("target");
        let json = pointed.json();
        assert_eq!(
            (pointed.only_hub(), pointed.allocation_policy()),
            (Some("target"), Some("custom"))
        );
        assert_eq!(
            json["reprovisionPolicy"],
            json!({"updateHubAssignment": true, "migrateDeviceData": false})
        );
        assert_eq!(
            (&json["fromTomorrow"], &json["initialTwin"]["tags"]["site"]),
            (&json!(1), &json!("a"))
        );
        assert_eq!(
            json["customAllocationDefinition"]["webhookUrl"],
            "https://w"
        );
        assert!(json.get("registrationState").is_none());
    }

    #[test]
    fn an_enrolment_without_a_webhook_is_static_once_it_is_pointed() {
        for policy in ["hashed", "geoLatency", "custom"] {
            let before = read(json!({
                "registrationId": "press-7", "etag": "\"e\"", "allocationPolicy": policy,
                "iotHubs": ["source", "other"],
            }));
            let pointed = before.pointed_to("target");
            assert_eq!(
                (pointed.only_hub(), pointed.allocation_policy()),
                (Some("target"), Some("static"))
            );
        }
    }

    #[test]
    fn keys_are_neither_kept_nor_printed() {
        let keys = Attestation::symmetric("c2VjcmV0", "c2VjcmV0");
        let enrollment = Enrollment::individual("d", Some(&keys));
        assert!(!enrollment.lacks_keys() && Enrollment::individual("d", None).lacks_keys());
        assert!(!enrollment.without_keys().to_string().contains("c2VjcmV0"));
        assert!(!format!("{enrollment:?}{keys:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn derived_keys_are_those_of_the_published_example() {
        let group = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
        let keys = Attestation::symmetric(group, group);
        let device = keys
            .of_device("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")
            .unwrap();
        assert_eq!(
            device.0["symmetricKey"]["primaryKey"],
            "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
        );
        assert_eq!(Attestation(json!({"type": "x509"})).of_device("d"), None);
    }

    #[test]
    fn a_registration_says_its_group_and_why_it_failed() {
        let read = Registration::parse(json!({
            "registrationId": "d", "status": "failed", "errorCode": 400_207,
            "errorMessage": "Custom allocation failed", "symmetricKey": { "enrollmentGroupId": "g" },
        }))
        .unwrap();
        assert_eq!(read.group_id.as_deref(), Some("g"));
        assert_eq!(
            read.error.as_deref(),
            Some("400207 Custom allocation failed")
        );
    }
}
