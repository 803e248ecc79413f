//! One device: its identity as the registry answers it, and what a client may write of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::error::HubError;
use super::twin::Twin;
use crate::time;

/// IoT Hub's limit on a device id, bytes.
const ID_BYTES_MAX: usize = 128;
/// Bytes of a symmetric key: what the service accepts.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// How a device proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// Either key, base64.
    Sas { primary: String, secondary: String },
    /// A certificate of its own, by thumbprints. Stored, but no device can connect with it.
    SelfSigned { primary: String, secondary: String },
    /// A certificate of a known authority. Stored, but no device can connect with it.
    CertificateAuthority,
}

impl Authentication {
    /// Keys that are the same at each start, since nothing is secret here.
    pub(crate) fn generate(host: &str, id: &str, generation: &str) -> Self {
        let key = |which: &str| {
            let seed = format!("{host}\n{id}\n{generation}\n{which}");
            STANDARD.encode(Sha256::digest(seed.as_bytes()))
        };
        Self::Sas {
            primary: key("primary"),
            secondary: key("secondary"),
        }
    }

    /// Reads `authentication` of a device; `None` when keys shall be made.
    ///
    /// # Errors
    /// A 400 for a key that is none, or an unknown type.
    pub(crate) fn parse(value: &Value) -> Result<Option<Self>, HubError> {
        let text = |part: &str, name: &str| {
            let text = value[part][name].as_str().unwrap_or_default();
            text.to_owned()
        };
        match value["type"].as_str().unwrap_or("sas") {
            "sas" => {
                let primary = text("symmetricKey", "primaryKey");
                let secondary = text("symmetricKey", "secondaryKey");
                if primary.is_empty() && secondary.is_empty() {
                    return Ok(None);
                }
                check_key(&primary)?;
                check_key(&secondary)?;
                Ok(Some(Self::Sas { primary, secondary }))
            }
            "selfSigned" => Ok(Some(Self::SelfSigned {
                primary: text("x509Thumbprint", "primaryThumbprint"),
                secondary: text("x509Thumbprint", "secondaryThumbprint"),
            })),
            "certificateAuthority" => Ok(Some(Self::CertificateAuthority)),
            other => Err(HubError::argument(format!(
                "authentication.type: {other:?} is not known"
            ))),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let (keys, thumbprints) = match self {
            Self::Sas { primary, secondary } => (Some((primary, secondary)), None),
            Self::SelfSigned { primary, secondary } => (None, Some((primary, secondary))),
            Self::CertificateAuthority => (None, None),
        };
        json!({
            "type": self.type_text(),
            "symmetricKey": {
                "primaryKey": keys.map(|(primary, _)| primary),
                "secondaryKey": keys.map(|(_, secondary)| secondary),
            },
            "x509Thumbprint": {
                "primaryThumbprint": thumbprints.map(|(primary, _)| primary),
                "secondaryThumbprint": thumbprints.map(|(_, secondary)| secondary),
            },
        })
    }

    pub(crate) fn type_text(&self) -> &'static str {
        match self {
            Self::Sas { .. } => "sas",
            Self::SelfSigned { .. } => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
        }
    }
}

fn check_key(key: &str) -> Result<(), HubError> {
    let bytes = STANDARD
        .decode(key)
        .map_err(|_| HubError::argument("authentication.symmetricKey: a key is not base64"))?;
    match KEY_BYTES.contains(&bytes.len()) {
        true => Ok(()),
        false => Err(HubError::argument(
            "authentication.symmetricKey: a key must be 16 to 64 bytes",
        )),
    }
}

/// Letters, digits and the signs that IoT Hub allows.
pub(crate) fn check_id(id: &str) -> Result<(), HubError> {
    const SIGNS: &str = "-.+%_#*?!(),:=@$'";
    let good = |c: char| c.is_ascii_alphanumeric() || SIGNS.contains(c);
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.chars().all(good) {
        return Err(HubError::argument(format!("{id:?} is not a device id")));
    }
    Ok(())
}

/// What a client writes of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) authentication: Option<Authentication>,
    pub(crate) disabled: bool,
    pub(crate) status_reason: Option<String>,
    pub(crate) edge: bool,
}

impl Wish {
    /// Reads the body of a `PUT`, or an entry of a bulk request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub(crate) fn parse(body: &Value) -> Result<Self, HubError> {
        let status = body["status"].as_str().unwrap_or("enabled");
        if !matches!(status, "enabled" | "disabled") {
            return Err(HubError::argument(format!(
                "status: {status:?} is not known"
            )));
        }
        Ok(Self {
            authentication: Authentication::parse(&body["authentication"])?,
            disabled: status == "disabled",
            status_reason: body["statusReason"].as_str().map(str::to_owned),
            edge: body["capabilities"]["iotEdge"].as_bool().unwrap_or(false),
        })
    }
}

/// A device of the registry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device {
    pub(crate) id: String,
    /// Another one each time the id is registered.
    pub(crate) generation: String,
    pub(crate) etag: u64,
    pub(crate) authentication: Authentication,
    pub(crate) disabled: bool,
    pub(crate) status_reason: Option<String>,
    pub(crate) status_at_us: Option<i64>,
    pub(crate) edge: bool,
    pub(crate) connected: bool,
    pub(crate) connection_at_us: Option<i64>,
    pub(crate) active_at_us: Option<i64>,
    /// Counts connection-state events.
    pub(crate) connection_events: u64,
    pub(crate) twin: Twin,
}

impl Device {
    pub(crate) fn status(&self) -> &'static str {
        if self.disabled { "disabled" } else { "enabled" }
    }

    fn connection_state(&self) -> &'static str {
        if self.connected {
            "Connected"
        } else {
            "Disconnected"
        }
    }

    pub(crate) fn etag_text(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    pub(crate) fn twin_etag_text(&self) -> String {
        STANDARD.encode(format!("twin-{}", self.twin.version))
    }

    /// The identity as the registry answers it.
    pub(crate) fn json(&self, host: &str) -> Value {
        json!({
            "deviceId": self.id,
            "generationId": self.generation,
            "etag": self.etag_text(),
            "connectionState": self.connection_state(),
            "status": self.status(),
            "statusReason": self.status_reason,
            "connectionStateUpdatedTime": at(self.connection_at_us),
            "statusUpdatedTime": at(self.status_at_us),
            "lastActivityTime": at(self.active_at_us),
            "cloudToDeviceMessageCount": 0,
            "authentication": self.authentication.json(),
            "capabilities": { "iotEdge": self.edge },
            "deviceScope": if self.edge { format!("ms-azure-iot-edge://{}-{host}", self.id) } else { String::new() },
        })
    }

    /// The twin as the service API answers it.
    pub(crate) fn twin_json(&self) -> Value {
        json!({
            "deviceId": self.id,
            "etag": self.twin_etag_text(),
            "deviceEtag": self.etag_text(),
            "status": self.status(),
            "statusReason": self.status_reason,
            "statusUpdateTime": at(self.status_at_us),
            "connectionState": self.connection_state(),
            "lastActivityTime": at(self.active_at_us),
            "cloudToDeviceMessageCount": 0,
            "authenticationType": self.authentication.type_text(),
            "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
            "modelId": "",
            "version": self.twin.version,
            "tags": self.twin.tags,
            "properties": {
                "desired": self.twin.desired.full(),
                "reported": self.twin.reported.full(),
            },
            "capabilities": { "iotEdge": self.edge },
        })
    }
}

fn at(at_us: Option<i64>) -> String {
    at_us.map_or_else(|| time::NEVER.to_owned(), time::utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_service() {
        for id in [
            "a",
            "Line-7:pump_2",
            "a.b+c%d#e*f?g!h(i),=@$'",
            &"x".repeat(128),
        ] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        for id in ["", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn an_identity_that_makes_no_sense_names_the_field() {
        let wrong = [
            (json!({"status": "off"}), "status"),
            (
                json!({"authentication": {"type": "password"}}),
                "authentication.type",
            ),
            (
                json!({"authentication": {"symmetricKey": {"primaryKey": "c2hvcnQ=", "secondaryKey": "c2hvcnQ="}}}),
                "16 to 64 bytes",
            ),
        ];
        for (body, text) in wrong {
            let error = Wish::parse(&body).unwrap_err();
            assert!(error.text.contains(text), "{error:?}");
        }
        let wish = Wish::parse(&json!({"deviceId": "d"})).unwrap();
        assert_eq!((wish.authentication, wish.disabled), (None, false));
    }
}
