//! Where a service is and what opens it.

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ServiceError, bad};
use crate::http::{Host, HttpsClient};
use crate::tls;
use crate::token::{Credential, Secret, Tokens, WorkloadIdentity};

/// Where Entra is unless `AZURE_AUTHORITY_HOST` says otherwise.
const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// Largest file with a connection string.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How to reach one IoT Hub or one DPS.
///
/// Holds no secret, only where it is found, so printing it is safe. Exactly one of the two places of
/// a connection string, or `workload-identity` with a `host`.
///
/// ```
/// # use stamp_iothub::ServiceConfig;
/// let text = "connection-string-env = \"HUB_WEU_1\"\nextra-ca-file = \"ca.pem\"";
/// let config: ServiceConfig = toml::from_str(text).unwrap();
/// config.validate().unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceConfig {
    /// `host` or `host:port`. May be left out beside a connection string, which names it; given, it
    /// says where the service is really reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Environment variable that holds the connection string of a shared access policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string_env: Option<String>,
    /// File that holds it; white space around it is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string_file: Option<PathBuf>,
    /// Use the pod's workload identity: `AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`, as its webhook sets them, and `AZURE_AUTHORITY_HOST`, if set.
    #[serde(default)]
    pub workload_identity: bool,
    /// PEM file with certificate authorities that are trusted beside the system's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

/// A service that can be called.
pub(crate) struct Opened {
    pub(crate) client: HttpsClient,
    pub(crate) tokens: Tokens,
}

impl ServiceConfig {
    /// Checks everything that can be checked without secrets and the network.
    ///
    /// # Errors
    /// [`ServiceError::BadConfig`] with the key and what to write.
    pub fn validate(&self) -> Result<(), ServiceError> {
        let given = usize::from(self.connection_string_env.is_some())
            + usize::from(self.connection_string_file.is_some())
            + usize::from(self.workload_identity);
        if given != 1 {
            return bad(
                "connection-string-env",
                "give exactly one of connection-string-env, connection-string-file and workload-identity = true",
            );
        }
        match &self.host {
            Some(host) => Host::parse("host", host).map(drop),
            None if self.workload_identity => bad("host", "must be given with workload-identity"),
            None => Ok(()),
        }
    }

    /// Reads the secret and the certificates. `scope` is what an Entra token is asked for.
    pub(crate) fn open(&self, scope: &'static str) -> Result<Opened, ServiceError> {
        self.validate()?;
        let tls = tls::connector(self.extra_ca_file.as_deref())?;
        let (named, credential) = match self.connection_string()? {
            Some((key, text)) => {
                let parsed = ConnectionString::parse(key, &text)?;
                (Some(parsed.host), parsed.credential)
            }
            None => {
                let identity = WorkloadIdentity::from_env(scope, tls.clone())?;
                (None, Credential::WorkloadIdentity(Box::new(identity)))
            }
        };
        let given = self.host.as_deref();
        let given = given.map(|host| Host::parse("host", host)).transpose()?;
        // Tokens are for the name in the connection string, however the service is reached.
        let resource = named
            .as_ref()
            .or(given.as_ref())
            .map(|host| host.name.clone());
        let (Some(resource), Some(host)) = (resource, given.or(named)) else {
            return bad("host", "must be given with workload-identity");
        };
        Ok(Opened {
            client: HttpsClient::new("host", host, tls)?,
            tokens: Tokens::new(credential, &resource),
        })
    }

    fn connection_string(&self) -> Result<Option<(&'static str, String)>, ServiceError> {
        if let Some(variable) = &self.connection_string_env {
            let key = "connection-string-env";
            return match std::env::var(variable) {
                Ok(text) => Ok(Some((key, text.trim().to_owned()))),
                Err(error) => bad(key, format!("{variable}: {error}")),
            };
        }
        let Some(path) = &self.connection_string_file else {
            return Ok(None);
        };
        let key = "connection-string-file";
        Ok(Some((key, read_file(key, path)?)))
    }
}

fn read_file(key: &'static str, path: &Path) -> Result<String, ServiceError> {
    let refuse = |error: std::io::Error| ServiceError::BadConfig {
        key,
        problem: format!("{}: {error}", path.display()),
    };
    if fs::metadata(path).map_err(refuse)?.len() > FILE_BYTES_MAX {
        return bad(
            key,
            format!("{}: over {FILE_BYTES_MAX} bytes", path.display()),
        );
    }
    let text = fs::read_to_string(path).map_err(refuse)?;
    Ok(text.trim().to_owned())
}

impl WorkloadIdentity {
    fn from_env(
        scope: &'static str,
        tls: tokio_rustls::TlsConnector,
    ) -> Result<Self, ServiceError> {
        let read = |name: &'static str| match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => bad(name, "is not set; workload identity needs it"),
        };
        let authority = std::env::var("AZURE_AUTHORITY_HOST");
        let authority = authority.unwrap_or_else(|_| AUTHORITY.to_owned());
        Self::new(
            &authority,
            read("AZURE_TENANT_ID")?,
            read("AZURE_CLIENT_ID")?,
            read("AZURE_FEDERATED_TOKEN_FILE")?.into(),
            scope,
            tls,
        )
    }

    pub(crate) fn new(
        authority: &str,
        tenant: String,
        client: String,
        token_file: PathBuf,
        scope: &'static str,
        tls: tokio_rustls::TlsConnector,
    ) -> Result<Self, ServiceError> {
        let key = "AZURE_AUTHORITY_HOST";
        let Some(host) = authority.strip_prefix("https://") else {
            return bad(key, "must begin with https://");
        };
        let host = Host::parse(key, host.trim_end_matches('/'))?;
        Ok(Self {
            issuer: HttpsClient::new(key, host, tls)?,
            tenant,
            client,
            token_file,
            scope,
        })
    }
}

/// `HostName=..;SharedAccessKeyName=..;SharedAccessKey=..`, or `SharedAccessSignature=..` for the
/// latter two, as the portal of Azure gives it out.
#[derive(Debug)]
struct ConnectionString {
    host: Host,
    credential: Credential,
}

impl ConnectionString {
    /// Names are compared without regard to case. Errors name the part and never show the text.
    fn parse(key: &'static str, text: &str) -> Result<Self, ServiceError> {
        let (mut host, mut policy, mut secret, mut signature) = (None, None, None, None);
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return bad(key, "a part of the connection string has no '='");
            };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "hostname" => host = Some(value),
                "sharedaccesskeyname" => policy = Some(value.to_owned()),
                "sharedaccesskey" => secret = Some(Secret(value.to_owned())),
                "sharedaccesssignature" => signature = Some(Secret(value.to_owned())),
                "deviceid" => {
                    return bad(
                        key,
                        "is of a device; one of a shared access policy is needed",
                    );
                }
                _ => {}
            }
        }
        let credential = match (policy, secret, signature) {
            (Some(policy), Some(key), None) => Credential::SharedKey { policy, key },
            (_, None, Some(token)) => Credential::SharedSignature(token),
            _ => {
                return bad(
                    key,
                    "the connection string needs SharedAccessKeyName and SharedAccessKey, or SharedAccessSignature",
                );
            }
        };
        let Some(host) = host else {
            return bad(key, "the connection string has no HostName");
        };
        let host = Host::parse(key, host)?;
        Ok(Self { host, credential })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_connection_string_is_refused_without_showing_it() {
        for text in [
            "",
            "HostName=h;SharedAccessKeyName=n",
            "HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0",
            "SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0",
            "HostName=h/x;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0",
            "HostName=h:p;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0",
            "c2VjcmV0",
        ] {
            let error = ConnectionString::parse("connection-string-env", text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("connection-string-env"), "{shown}");
            assert!(!shown.contains("c2VjcmV0"), "{shown}");
        }
        let good = "hostname=H.Example:8443;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0";
        let good = ConnectionString::parse("connection-string-env", good).unwrap();
        assert_eq!(good.host.to_string(), "h.example:8443");
        assert!(!format!("{good:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn exactly_one_credential_is_taken_and_unknown_keys_are_refused() {
        let check = |text: &str| match toml::from_str::<ServiceConfig>(text) {
            Ok(config) => config.validate().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(check("connection-string-file = \"f\""), Ok(()));
        assert_eq!(check("workload-identity = true\nhost = \"h\""), Ok(()));
        assert!(check("").unwrap_err().contains("exactly one"));
        assert!(
            check("workload-identity = true")
                .unwrap_err()
                .starts_with("host:")
        );
        let two = "connection-string-env = \"A\"\nworkload-identity = true\nhost = \"h\"";
        assert!(check(two).unwrap_err().contains("exactly one"));
        assert!(
            check("conection-string-env = \"A\"")
                .unwrap_err()
                .contains("unknown field")
        );
    }
}
