//! Where the lake is and how to get in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::LakeError;

/// Where the tables and checkpoints are kept, and which credential opens the door.
///
/// Holds no secret itself, only where each one is found, so printing it is safe. Secrets are read
/// when the lake is opened.
///
/// ```toml
/// url = "az://contoso/telemetry/stamp-01"
/// workload-identity = true
/// ```
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// The root: `file:///absolute/folder`, `memory:` (gone when the process ends) or
    /// `az://account/container/prefix`; no percent sign in it. KEDA reads checkpoints at the top of a container only:
    /// when it scales this stamp, use a URL without a prefix for them.
    pub url: String,
    /// Only for `az`: the service's address when it is not the public cloud's, with the account
    /// in its path where the service wants that, such as
    /// `http://127.0.0.1:10000/devstoreaccount1` for Azurite.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Only for `az`: the environment variable that holds the account key.
    #[serde(default)]
    pub account_key_env: Option<String>,
    /// Only for `az`: the file that holds the account key.
    #[serde(default)]
    pub account_key_file: Option<PathBuf>,
    /// Only for `az`: the environment variable that holds a shared access signature, with or
    /// without the leading question mark.
    #[serde(default)]
    pub sas_env: Option<String>,
    /// Only for `az`: use the pod's workload identity (`AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`, as the webhook sets them).
    #[serde(default)]
    pub workload_identity: bool,
    /// Only for `az`: use the virtual machine's or container host's managed identity; the client
    /// id of a user-assigned one is read from `AZURE_CLIENT_ID`.
    #[serde(default)]
    pub managed_identity: bool,
    /// Longest time for one request with its body, 1 s to 10 min. A larger value lets big files
    /// pass a slow line; a smaller one finds a hung connection sooner.
    #[serde(default = "request_timeout_default", with = "duration")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "10m"]))]
    pub request_timeout: Duration,
}

fn request_timeout_default() -> Duration {
    Duration::from_secs(60)
}

/// The store the URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    Memory,
    Azure {
        account: String,
        container: String,
        prefix: String,
    },
}

/// The one credential that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    KeyEnv(&'a str),
    KeyFile(&'a Path),
    SasEnv(&'a str),
    WorkloadIdentity,
    ManagedIdentity,
}

impl StoreConfig {
    /// A configuration for this URL with all else left at its default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            account_key_env: None,
            account_key_file: None,
            sas_env: None,
            workload_identity: false,
            managed_identity: false,
            request_timeout: request_timeout_default(),
        }
    }

    /// Checks every key and every pair of keys that must fit each other. Reads no secret and
    /// makes no request.
    ///
    /// # Errors
    /// [`LakeError::Config`] with the key and what it should be.
    pub fn validate(&self) -> Result<(), LakeError> {
        let place = self.place()?;
        let range = Duration::from_secs(1)..=Duration::from_secs(600);
        if !range.contains(&self.request_timeout) {
            return Err(wrong("request-timeout", "must be 1s to 10min"));
        }
        if let Place::Azure { .. } = place {
            self.credential().map(drop)?;
            self.endpoint_url().map(drop)
        } else {
            self.refuse_azure_keys()
        }
    }

    /// The store the URL names.
    pub(crate) fn place(&self) -> Result<Place, LakeError> {
        let url = Url::parse(&self.url).map_err(|error| {
            wrong(
                "url",
                format!(
                    "{error}; expected file:///folder, memory: or az://account/container/prefix"
                ),
            )
        })?;
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return Err(wrong(
                "url",
                "must not hold a query, a fragment or a password; a signature belongs in sas-env",
            ));
        }
        match url.scheme() {
            "file" => folder_place(&url),
            "memory" => Ok(Place::Memory),
            "az" => azure_place(&url),
            other => Err(wrong(
                "url",
                format!("scheme {other:?} is not one of file, memory, az"),
            )),
        }
    }

    /// The credential, when exactly one is set.
    pub(crate) fn credential(&self) -> Result<Credential<'_>, LakeError> {
        let all = [
            self.account_key_env.as_deref().map(Credential::KeyEnv),
            self.account_key_file.as_deref().map(Credential::KeyFile),
            self.sas_env.as_deref().map(Credential::SasEnv),
            self.workload_identity
                .then_some(Credential::WorkloadIdentity),
            self.managed_identity.then_some(Credential::ManagedIdentity),
        ];
        let mut set = all.into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(credential), None) => Ok(credential),
            _ => Err(wrong(
                "url",
                "az needs exactly one of account-key-env, account-key-file, sas-env, \
                 workload-identity and managed-identity",
            )),
        }
    }

    pub(crate) fn endpoint_url(&self) -> Result<Option<Url>, LakeError> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(None);
        };
        let url = Url::parse(endpoint).map_err(|error| wrong("endpoint", error.to_string()))?;
        if matches!(url.scheme(), "http" | "https") && url.host().is_some() {
            Ok(Some(url))
        } else {
            Err(wrong("endpoint", "must be an http or https address"))
        }
    }

    fn refuse_azure_keys(&self) -> Result<(), LakeError> {
        let keys = [
            ("endpoint", self.endpoint.is_some()),
            ("account-key-env", self.account_key_env.is_some()),
            ("account-key-file", self.account_key_file.is_some()),
            ("sas-env", self.sas_env.is_some()),
            ("workload-identity", self.workload_identity),
            ("managed-identity", self.managed_identity),
        ];
        match keys.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(wrong(key, "is only for az:// URLs")),
            None => Ok(()),
        }
    }
}

fn folder_place(url: &Url) -> Result<Place, LakeError> {
    let refuse = || wrong("url", "must be file:/// and an absolute folder");
    let folder = url.to_file_path().map_err(|()| refuse())?;
    let text = folder.to_str().ok_or_else(refuse)?;
    if text.contains('%') {
        // The table library would read it as an escape when it lists the log.
        return Err(wrong(
            "url",
            "the folder's name must not have a percent sign",
        ));
    }
    Ok(Place::Folder(folder))
}

fn azure_place(url: &Url) -> Result<Place, LakeError> {
    let refuse = || wrong("url", "must be az://account/container or with a prefix");
    let account = url.host_str().filter(|host| !host.is_empty());
    let mut segments = url.path_segments().ok_or_else(refuse)?;
    let container = segments.next().filter(|name| !name.is_empty());
    let prefix: Vec<_> = segments.filter(|segment| !segment.is_empty()).collect();
    if prefix.iter().any(|segment| segment.contains('%')) {
        return Err(wrong(
            "url",
            "the prefix must be plain letters, digits and - _ . ~",
        ));
    }
    Ok(Place::Azure {
        account: account.ok_or_else(refuse)?.to_owned(),
        container: container.ok_or_else(refuse)?.to_owned(),
        prefix: prefix.join("/"),
    })
}

pub(crate) fn wrong(key: &'static str, reason: impl Into<String>) -> LakeError {
    LakeError::Config {
        key,
        reason: reason.into(),
    }
}

mod duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!(
                "{text:?} is not a duration such as \"60s\": {error}"
            ))
        })
    }

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
