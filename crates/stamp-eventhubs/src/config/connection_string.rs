//! The connection string of a namespace, as the portal of Azure and the emulators give it out.

use std::fmt;

use super::{Endpoint, bad};
use crate::HubError;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself, for signing only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves to the hub who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A named key, from which tokens are made.
    SharedKey { name: String, key: Secret },
    /// A token that somebody else made; it cannot be renewed.
    SharedSignature(Secret),
    /// None: no token is sent. For an emulator.
    Absent,
}

/// A parsed connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionString {
    pub(crate) endpoint: Endpoint,
    pub(crate) credential: Credential,
    /// `EntityPath`
    pub(crate) hub: Option<String>,
    /// `UseDevelopmentEmulator=true`
    pub(crate) emulator: bool,
}

impl ConnectionString {
    /// Parses `Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=...[;EntityPath=...]`.
    /// Keys are compared without regard to case and unknown ones are passed over, as the clients
    /// of Azure do.
    ///
    /// # Errors
    /// [`HubError::BadConfig`] names `config_key` and the part, never the text.
    pub fn parse(config_key: &'static str, text: &str) -> Result<Self, HubError> {
        let mut endpoint = None;
        let (mut key_name, mut key, mut signature, mut hub) = (None, None, None, None);
        let mut emulator = false;
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return bad(config_key, "a part of the connection string has no '='");
            };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "endpoint" => endpoint = Some(value),
                "sharedaccesskeyname" => key_name = Some(value.to_owned()),
                "sharedaccesskey" => key = Some(Secret::new(value)),
                "sharedaccesssignature" => signature = Some(Secret::new(value)),
                "entitypath" => hub = Some(value.to_owned()),
                "usedevelopmentemulator" => emulator = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        let credential = match (key_name, key, signature) {
            (Some(name), Some(key), None) => Credential::SharedKey { name, key },
            (None, None, Some(token)) => Credential::SharedSignature(token),
            _ => {
                return bad(
                    config_key,
                    "the connection string needs SharedAccessKeyName and SharedAccessKey, or SharedAccessSignature alone",
                );
            }
        };
        let Some(endpoint) = endpoint else {
            return bad(config_key, "the connection string has no Endpoint");
        };
        Ok(Self {
            endpoint: endpoint_of(config_key, endpoint, emulator)?,
            credential,
            hub,
            emulator,
        })
    }
}

/// The emulator speaks plain TCP although its connection string says `sb`.
fn endpoint_of(config_key: &'static str, text: &str, emulator: bool) -> Result<Endpoint, HubError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if !scheme.eq_ignore_ascii_case("sb") {
        return bad(
            config_key,
            "the Endpoint of the connection string does not begin with sb://",
        );
    }
    let scheme = if emulator { "amqp" } else { "amqps" };
    Endpoint::parse(config_key, &format!("{scheme}://{rest}"))
}
