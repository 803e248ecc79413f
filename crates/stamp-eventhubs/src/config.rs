//! The configuration of the hub's door: where the hub is, how to read it, where the secret lies.
//!
//! The configuration itself never holds a secret, so it may be printed. The connection string is
//! read from the environment or from a file when the hub is made.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HubError;

pub(crate) mod connection_string;
mod duration;

pub use connection_string::ConnectionString;
pub(crate) use connection_string::Credential;

/// Most credit that may be configured. More brings no more speed, and a hub that is cut off has so
/// many events sent for nothing.
const CREDIT_MAX: u32 = 4_000;

/// How to reach and read one hub. In TOML the keys are in kebab case, an unknown key is refused,
/// and durations are texts with a unit such as `"10s"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AmqpConfig {
    /// Where to connect: `amqps://host[:port]` or `sb://host[:port]` (TLS, port 5671 when not
    /// given), or `amqp://host[:port]` (plain TCP, port 5672, only for an emulator). May be left out
    /// when a connection string is given; beside one it says where the namespace is really
    /// reached, such as a private endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Environment variable that holds the connection string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string_env: Option<String>,
    /// File that holds the connection string; white space around it is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string_file: Option<PathBuf>,
    /// Name of the hub. May be left out when the connection string holds an `EntityPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Consumer group to read as.
    #[serde(default = "default_consumer_group")]
    pub consumer_group: String,
    /// How many events the hub may send ahead, 1 to 4,000. Bounds the events that wait in memory
    /// for one partition.
    #[serde(default = "default_credit")]
    #[schemars(range(min = 1, max = 4_000))]
    pub credit: u32,
    /// For endpoints with TLS.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Longest time for connecting, TLS and the opening of the AMQP connection, and after that for
    /// each answer of the hub.
    #[serde(default = "default_connect_timeout", with = "duration")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "5m"]))]
    pub connect_timeout: Duration,
    /// A connection on which the hub is silent for this long is given up. The hub is asked to send
    /// a sign of life twice in this time.
    #[serde(default = "default_idle_timeout", with = "duration")]
    #[schemars(with = "String", extend("x-duration" = ["4s", "1h"]))]
    pub idle_timeout: Duration,
}

/// Which certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with certificate authorities that are trusted beside the system's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

fn default_consumer_group() -> String {
    "$Default".to_owned()
}

fn default_credit() -> u32 {
    1_000
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_idle_timeout() -> Duration {
    Duration::from_secs(60)
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            connection_string_env: None,
            connection_string_file: None,
            hub: None,
            consumer_group: default_consumer_group(),
            credit: default_credit(),
            tls: TlsConfig::default(),
            connect_timeout: default_connect_timeout(),
            idle_timeout: default_idle_timeout(),
        }
    }
}

impl AmqpConfig {
    /// Checks everything that can be checked without the secret and the network.
    ///
    /// # Errors
    /// [`HubError::BadConfig`] names the key and says what to write.
    pub fn validate(&self) -> Result<(), HubError> {
        if self.connection_string_env.is_some() && self.connection_string_file.is_some() {
            return bad(
                "connection-string-env",
                "give this or connection-string-file, not both",
            );
        }
        if !(1..=CREDIT_MAX).contains(&self.credit) {
            return bad(
                "credit",
                format!("{} is not from 1 to {CREDIT_MAX}", self.credit),
            );
        }
        for (key, value, least, most) in [
            ("connect-timeout", self.connect_timeout, 1, 300),
            ("idle-timeout", self.idle_timeout, 4, 3_600),
        ] {
            if value < Duration::from_secs(least) || value > Duration::from_secs(most) {
                return bad(key, format!("{value:?} is not from {least}s to {most}s"));
            }
        }
        check_name("consumer-group", &self.consumer_group, 50)?;
        if let Some(hub) = &self.hub {
            check_name("hub", hub, 256)?;
        }
        if let Some(endpoint) = &self.endpoint {
            Endpoint::parse("endpoint", endpoint)?;
        }
        Ok(())
    }

    /// Reads the connection string from where the configuration says it is; `None` when it says
    /// nothing.
    pub(crate) fn read_connection_string(&self) -> Result<Option<ConnectionString>, HubError> {
        let (key, text) = match (&self.connection_string_env, &self.connection_string_file) {
            (Some(name), _) => {
                let text = std::env::var(name).or_else(|error| {
                    bad(
                        "connection-string-env",
                        format!("environment variable {name}: {error}"),
                    )
                })?;
                ("connection-string-env", text)
            }
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).or_else(|error| {
                    bad(
                        "connection-string-file",
                        format!("cannot read {}: {error}", path.display()),
                    )
                })?;
                ("connection-string-file", text)
            }
            (None, None) => return Ok(None),
        };
        ConnectionString::parse(key, text.trim()).map(Some)
    }
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host name or address, without brackets around an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Endpoint {
    /// Parses `amqp://`, `amqps://` and `sb://` addresses. Errors do not repeat the text: a whole
    /// connection string may have been put in its place.
    pub(crate) fn parse(key: &'static str, text: &str) -> Result<Self, HubError> {
        let expected = "write amqps://host, sb://host or amqp://host, with :port when needed";
        let refuse = |why: &str| bad(key, format!("the endpoint {why}; {expected}"));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => return refuse("is not an address"),
        };
        let tls = match scheme.as_str() {
            "amqps" | "sb" => true,
            "amqp" => false,
            _ => return refuse("has an unknown scheme"),
        };
        // The scheme is replaced because the parser's rules for host and port depend on it.
        let Ok(url) = url::Url::parse(&format!("ws://{rest}")) else {
            return refuse("has no valid host and port");
        };
        let bare = url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let Some(host) = url.host_str().filter(|_| bare) else {
            return refuse("holds more than a host and a port");
        };
        // 80 is the replacement scheme's own port, which the parser does not report.
        let explicit_80 = rest.trim_end_matches('/').ends_with(":80");
        let port = match url.port() {
            Some(port) => port,
            None if explicit_80 => 80,
            None if tls => 5671,
            None => 5672,
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
            tls,
        })
    }

    /// `host:port`, for people and as the peer's name in errors.
    pub(crate) fn peer(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn check_name(key: &'static str, name: &str, chars_max: usize) -> Result<(), HubError> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "$._-".contains(c);
    if name.is_empty() || name.len() > chars_max || !name.chars().all(ok) {
        return bad(
            key,
            format!("{name:?} is not 1 to {chars_max} letters, digits, '.', '_', '-' or '$'"),
        );
    }
    Ok(())
}

pub(crate) fn bad<T>(key: &'static str, problem: impl Into<String>) -> Result<T, HubError> {
    Err(HubError::BadConfig {
        key,
        problem: problem.into(),
    })
}

#[cfg(test)]
mod tests;
