//! Enrolments and enrolment groups: records that service programs write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use super::config::Allocation;
use super::error::DpsError;
use crate::iothub::Change;
use crate::{derive_device_key, time};

/// Longest id, characters.
const ID_CHARS_MAX: usize = 128;
/// Bytes of a symmetric key: what the service accepts.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Which of the two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Individual,
    Group,
}

impl Kind {
    pub(crate) fn id_field(self) -> &'static str {
        match self {
            Self::Individual => "registrationId",
            Self::Group => "enrollmentGroupId",
        }
    }

    /// The record's name in a webhook's request.
    pub(crate) fn record_field(self) -> &'static str {
        match self {
            Self::Individual => "individualEnrollment",
            Self::Group => "enrollmentGroup",
        }
    }

    /// Entries of a bulk request.
    pub(crate) fn bulk_field(self) -> &'static str {
        match self {
            Self::Individual => "enrollments",
            Self::Group => "enrollmentGroups",
        }
    }
}

/// What happens to a device that registers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reprovision {
    /// It stays in its hub.
    Never,
    /// A hub is chosen anew; its twin goes with it.
    Migrate,
    /// A hub is chosen anew; its twin begins as the enrolment says.
    Reset,
}

/// One enrolment or group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Enrollment {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// As it was written, without keys and what the service itself sets.
    record: Map<String, Value>,
    pub(crate) keys: (String, String),
    pub(crate) disabled: bool,
    pub(crate) allocation: Option<Allocation>,
    pub(crate) hubs: Vec<String>,
    pub(crate) webhook: Option<String>,
    pub(crate) reprovision: Reprovision,
    pub(crate) twin: Change,
    version: u64,
    created_at_us: i64,
    updated_at_us: i64,
}

impl Enrollment {
    /// Reads a record that a client wrote; `before` is the one it takes the place of.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub(crate) fn parse(
        kind: Kind,
        id: &str,
        body: &Value,
        before: Option<&Self>,
        now_us: i64,
    ) -> Result<Self, DpsError> {
        let record = body.as_object();
        let record = record.ok_or_else(|| DpsError::argument("an object is expected"))?;
        check_id(id)?;
        let named = body[kind.id_field()].as_str().unwrap_or(id);
        if !named.eq_ignore_ascii_case(id) {
            return Err(DpsError::argument("the id is not the one of the address"));
        }
        let status = body["provisioningStatus"].as_str().unwrap_or("enabled");
        if !matches!(status, "enabled" | "disabled") {
            return Err(DpsError::argument(
                "provisioningStatus must be enabled or disabled",
            ));
        }
        let (allocation, hubs, webhook) = allocation(body)?;
        let own = [
            "etag",
            "createdDateTimeUtc",
            "lastUpdatedDateTimeUtc",
            "registrationState",
        ];
        let mut record = record.clone();
        record.retain(|name, _| !own.contains(&name.as_str()));
        record.insert(kind.id_field().to_owned(), id.into());
        record.insert("provisioningStatus".to_owned(), status.into());
        Ok(Self {
            kind,
            id: id.to_ascii_lowercase(),
            keys: keys(id, body, before)?,
            disabled: status == "disabled",
            allocation,
            hubs,
            webhook,
            reprovision: reprovision(&body["reprovisionPolicy"])?,
            twin: Change::parse(&body["initialTwin"])
                .map_err(|error| DpsError::argument(format!("initialTwin: {}", error.text)))?,
            record,
            version: before.map_or(1, |before| before.version + 1),
            created_at_us: before.map_or(now_us, |before| before.created_at_us),
            updated_at_us: now_us,
        })
    }

    pub(crate) fn etag(&self) -> String {
        STANDARD.encode(format!("{}-{}", self.created_at_us, self.version))
    }

    /// The record without keys, as queries and webhooks get it.
    pub(crate) fn json(&self) -> Value {
        let mut record = self.record.clone();
        record.insert("attestation".to_owned(), json!({ "type": "symmetricKey" }));
        record.insert("etag".to_owned(), self.etag().into());
        let (created, updated) = (time::utc(self.created_at_us), time::utc(self.updated_at_us));
        record.insert("createdDateTimeUtc".to_owned(), created.into());
        record.insert("lastUpdatedDateTimeUtc".to_owned(), updated.into());
        record.into()
    }

    /// The attestation with its keys.
    pub(crate) fn attestation(&self) -> Value {
        let (primary, secondary) = &self.keys;
        json!({
            "type": "symmetricKey",
            "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary },
        })
    }

    /// The keys of one device: its own, or those derived from the group's.
    pub(crate) fn device_keys(&self, registration_id: &str) -> Option<(String, String)> {
        match self.kind {
            Kind::Individual => Some(self.keys.clone()),
            Kind::Group => Some((
                derive_device_key(&self.keys.0, registration_id)?,
                derive_device_key(&self.keys.1, registration_id)?,
            )),
        }
    }

    /// The device id in the hub.
    pub(crate) fn device_id(&self, registration_id: &str) -> String {
        let named = self.record.get("deviceId").and_then(Value::as_str);
        let named = named.filter(|name| self.kind == Kind::Individual && !name.is_empty());
        named.unwrap_or(registration_id).to_owned()
    }

    pub(crate) fn is_edge(&self) -> bool {
        let capabilities = self.record.get("capabilities");
        capabilities.is_some_and(|c| c["iotEdge"].as_bool().unwrap_or(false))
    }
}

/// Letters, digits and `- . _ :`, the last a letter, digit or dash. Ids have no case.
pub(crate) fn check_id(id: &str) -> Result<(), DpsError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let ends_well = id.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    if id.len() > ID_CHARS_MAX || !ends_well || !id.chars().all(good) {
        return Err(DpsError::argument(format!(
            "{id:?} is not a registration id"
        )));
    }
    Ok(())
}

type Choice = (Option<Allocation>, Vec<String>, Option<String>);

fn allocation(body: &Value) -> Result<Choice, DpsError> {
    let named = &body["allocationPolicy"];
    let allocation = Allocation::parse(named);
    if allocation.is_none() && !named.is_null() {
        return Err(DpsError::argument(format!(
            "allocationPolicy {named} is not known"
        )));
    }
    let hubs = body["iotHubs"].as_array().into_iter().flatten();
    let mut hubs: Vec<String> = hubs
        .filter_map(|hub| Some(hub.as_str()?.to_owned()))
        .collect();
    // The older field for one hub.
    if let Some(hub) = body["iotHubHostName"].as_str().filter(|_| hubs.is_empty()) {
        hubs.push(hub.to_owned());
        return Ok((Some(Allocation::Static), hubs, None));
    }
    if !hubs.is_empty() && allocation.is_none() {
        return Err(DpsError::argument("iotHubs needs an allocationPolicy"));
    }
    if allocation == Some(Allocation::Static) && hubs.len() != 1 {
        return Err(DpsError::argument(
            "the static policy needs exactly one of iotHubs",
        ));
    }
    let webhook = body["customAllocationDefinition"]["webhookUrl"].as_str();
    if allocation == Some(Allocation::Custom) && webhook.is_none() {
        let text = "the custom policy needs customAllocationDefinition.webhookUrl";
        return Err(DpsError::argument(text));
    }
    Ok((allocation, hubs, webhook.map(str::to_owned)))
}

fn reprovision(policy: &Value) -> Result<Reprovision, DpsError> {
    if policy.is_null() {
        return Ok(Reprovision::Migrate);
    }
    match (
        policy["updateHubAssignment"].as_bool(),
        policy["migrateDeviceData"].as_bool(),
    ) {
        (Some(false), Some(_)) => Ok(Reprovision::Never),
        (Some(true), Some(true)) => Ok(Reprovision::Migrate),
        (Some(true), Some(false)) => Ok(Reprovision::Reset),
        _ => Err(DpsError::argument(
            "reprovisionPolicy needs updateHubAssignment and migrateDeviceData",
        )),
    }
}

/// The keys that are written, else the ones that were there, else new ones.
fn keys(id: &str, body: &Value, before: Option<&Enrollment>) -> Result<(String, String), DpsError> {
    let attestation = &body["attestation"];
    match attestation["type"].as_str() {
        Some("symmetricKey") => {}
        Some(kind @ ("x509" | "tpm")) => {
            let text = format!("attestation by {kind} is not emulated");
            return Err(DpsError::argument(text));
        }
        _ => return Err(DpsError::argument("attestation.type must be symmetricKey")),
    }
    let key = |name: &str| {
        attestation["symmetricKey"][name]
            .as_str()
            .filter(|k| !k.is_empty())
    };
    let (Some(primary), Some(secondary)) = (key("primaryKey"), key("secondaryKey")) else {
        let generate = |which: &str| STANDARD.encode(Sha512::digest(format!("{id}\n{which}")));
        let generated = || (generate("primary"), generate("secondary"));
        return Ok(before.map_or_else(generated, |before| before.keys.clone()));
    };
    for key in [primary, secondary] {
        let bytes = STANDARD.decode(key).unwrap_or_default();
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(DpsError::argument(
                "a symmetric key must be 16 to 64 bytes in base64",
            ));
        }
    }
    Ok((primary.to_owned(), secondary.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<Enrollment, DpsError> {
        Enrollment::parse(Kind::Individual, "d", body, None, 0)
    }

    #[test]
    fn a_record_that_makes_no_sense_names_the_field() {
        let symmetric = json!({"type": "symmetricKey"});
        let wrong = [
            (json!({}), "attestation.type"),
            (json!({"attestation": {"type": "x509"}}), "not emulated"),
            (
                json!({"attestation": symmetric, "iotHubs": ["h"]}),
                "allocationPolicy",
            ),
            (
                json!({"attestation": symmetric, "allocationPolicy": "static"}),
                "exactly one",
            ),
            (
                json!({"attestation": symmetric, "allocationPolicy": "custom"}),
                "webhookUrl",
            ),
            (
                json!({"attestation": symmetric, "reprovisionPolicy": {"updateHubAssignment": true}}),
                "migrateDeviceData",
            ),
            (
                json!({"attestation": symmetric, "registrationId": "other"}),
                "address",
            ),
        ];
        for (body, text) in wrong {
            let error = parse(&body).unwrap_err();
            assert!(
                error.code == 400_004 && error.text.contains(text),
                "{error:?}"
            );
        }
    }

    #[test]
    fn keys_are_kept_and_never_answered_with_the_record() {
        let key = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
        let body = json!({"attestation": {"type": "symmetricKey",
            "symmetricKey": {"primaryKey": key, "secondaryKey": key}}});
        let first = parse(&body).unwrap();
        assert!(!first.json().to_string().contains(key));
        let again = json!({"attestation": {"type": "symmetricKey"}});
        let second = Enrollment::parse(Kind::Individual, "d", &again, Some(&first), 9).unwrap();
        assert_eq!(second.keys, first.keys);
        assert_ne!(second.etag(), first.etag());
    }

    #[test]
    fn registration_ids_are_those_of_the_service() {
        assert!(
            ["a", "sn-007:x_y.z-", "A1"]
                .iter()
                .all(|id| check_id(id).is_ok())
        );
        let long = "x".repeat(129);
        assert!(
            ["", "a.", "a/b", "ä", &long]
                .iter()
                .all(|id| check_id(id).is_err())
        );
    }
}
