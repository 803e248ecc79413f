//! What `stampworks provision --config FILE` reads: the fleet, the database, who may ask.
//!
//! Unknown keys are refused with their line. Secrets come from the environment or from files, and are
//! never part of what is printed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_http::{AccessConfig, Limits, TlsFiles};
use stamp_model::StampId;
use stamp_reservations::{ReservationsConfig, ReservationsError};
use stamp_resilience::RetryPolicy;

use crate::ConfigError;
use crate::reserve::Part;

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most of a stamp that may be kept back.
const SHARE_MAX: f64 = 0.5;
/// Age of a connection from which on each answer is its last: a caller's certificate that is let in no
/// more, and one replica that everybody is connected to, are a matter of minutes.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// Most provisioners that share the reserve.
const REPLICAS_MAX: u32 = 64;

/// What `stampworks provision --config FILE` reads: one provisioner. Paths are relative to it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProvisionConfig {
    /// Name of the provisioner, the label `stamp` of its metrics. Default `provisioner`.
    #[serde(default = "name")]
    #[schemars(with = "String")]
    pub name: StampId,
    /// The catalogue, a file or a folder, relative to the configuration file. It is read again when it
    /// changes.
    pub fleet: PathBuf,
    /// Where the webhook is served.
    pub listen: SocketAddr,
    /// The server's certificate. DPS calls nothing without one: leave it out only behind something
    /// that has one.
    pub tls: Option<TlsFiles>,
    /// Who may ask.
    #[serde(default)]
    pub access: AccessConfig,
    /// The database. A path of SQLite is relative to the configuration file.
    pub reservations: ReservationsConfig,
    /// What may be given away while the database is away. Nothing when not given.
    pub reserve: Option<ReserveConfig>,
    /// What callers may take of the server.
    #[serde(default)]
    pub http: ServerConfig,
    /// The retry policy of the database.
    #[serde(default)]
    pub resilience: ResilienceConfig,
    /// Logs, metrics and health.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

fn name() -> StampId {
    StampId::parse("provisioner").expect("a literal that is one path segment")
}

/// What may be given away while the database is away.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReserveConfig {
    /// Share of every hard limit, above 0 and up to 0.5, that is kept back for it. The same for all
    /// provisioners of a fleet.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = SHARE_MAX))]
    pub share: f64,
    /// Provisioners that share it, 1 to 64. The same for all. More processes than that give away more
    /// than there is.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub replicas: u32,
    /// File that holds what was given away until it is in the database, relative to the configuration
    /// file; on a disk that outlives the process. One for each process.
    pub journal: PathBuf,
}

/// What callers may take of the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServerConfig {
    /// Most connections, 1 to 10,000. Default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub connections_max: usize,
    /// Largest body of a request, 1 KiB to 4 MiB. Default 256 KiB: a call with an enrolment and a
    /// payload is below that.
    #[serde(serialize_with = "print_size")]
    #[schemars(with = "String", extend("x-size" = ["1KiB", "4MiB"]))]
    pub body_max: ByteSize,
    /// Longest time for one request, 100 ms to 60 s. Default 5 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "1m"]))]
    pub request_max: Duration,
    /// Longest silence of a connection, and longest time that a caller may take to receive an answer:
    /// 100 ms to 10 min. Default 30 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "10m"]))]
    pub idle_max: Duration,
    /// How long a look-up may be kept by whoever asked, up to 1 h. Default 30 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["0s", "1h"]))]
    pub cache_max: Duration,
    /// How long a stop may take, up to 10 min. Default 10 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["0s", "10m"]))]
    pub drain_max: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 256,
            body_max: ByteSize::kib(256),
            request_max: Duration::from_secs(5),
            idle_max: Duration::from_secs(30),
            cache_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
        }
    }
}

fn print_size<S: serde::Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}B", size.as_u64()))
}

/// The retry policy of the database; see docs/resilience.md.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ResilienceConfig {
    /// For the database.
    #[serde(deserialize_with = "RetryPolicy::over_reservations")]
    pub reservations: RetryPolicy,
    /// Seed of the jitter. Random when not given.
    pub seed: Option<u64>,
    /// How often the database is looked at anew, and the files: 100 ms to 5 min. Default 2 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "5m"]))]
    pub look_every: Duration,
}

impl Default for ResilienceConfig {
    fn default() -> Self {
        Self {
            reservations: RetryPolicy::reservations(),
            seed: None,
            look_every: Duration::from_secs(2),
        }
    }
}

/// Logs, metrics and health.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetryConfig {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are served. Default `127.0.0.1:9465`.
    pub listen: SocketAddr,
    /// `json` or `text`. Default `json`.
    pub log_format: LogFormat,
    /// Filter such as `info,stamp_provisioner=debug`. Default `info`.
    pub log_filter: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9465)),
            log_format: LogFormat::Json,
            log_filter: "info".into(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person.
    Text,
}

impl ProvisionConfig {
    /// Reads and checks a configuration file; the paths in it become relative to where we are.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::Syntax`] with line and key, [`ConfigError::Value`] when a
    /// value is out of range or two contradict.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        };
        let size = std::fs::metadata(path).map_err(refuse)?.len();
        if size > FILE_BYTES_MAX {
            let cause = format!("{size} bytes; at most {FILE_BYTES_MAX}");
            return Err(refuse(std::io::Error::other(cause)));
        }
        let text = std::fs::read_to_string(path).map_err(refuse)?;
        let mut config = Self::parse(&text, path)?;
        config.check()?;
        config.rebase(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Parses the text of a configuration file; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|cause| ConfigError::Syntax {
            path: path.to_owned(),
            cause: Box::new(cause),
        })
    }

    /// Checks ranges and rules that no single key can break.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.http.check()?;
        let resilience = &self.resilience;
        within("resilience.look-every", resilience.look_every, 100, 300_000)?;
        let key = "resilience.reservations";
        let policy = resilience.reservations.validate(key);
        policy.map_err(|cause| ConfigError::value(key, cause.to_string()))?;
        if let Some(reserve) = &self.reserve {
            if !(reserve.share > 0.0 && reserve.share <= SHARE_MAX) {
                let why = format!(
                    "is {}; must be above 0 and up to {SHARE_MAX}",
                    reserve.share
                );
                return Err(ConfigError::value("reserve.share", why));
            }
            if !(1..=REPLICAS_MAX).contains(&reserve.replicas) {
                let why = format!("is {}; must be 1 to {REPLICAS_MAX}", reserve.replicas);
                return Err(ConfigError::value("reserve.replicas", why));
            }
        }
        self.reservations.check().map_err(|error| match error {
            ReservationsError::Config { key, reason } => {
                ConfigError::value(format!("reservations.{key}"), reason)
            }
            other => ConfigError::value("reservations", other.to_string()),
        })?;
        let certified = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        Ok(self.access.check(certified)?)
    }

    fn rebase(&mut self, base: &Path) {
        let rebase = |path: &mut PathBuf| *path = base.join(&*path);
        rebase(&mut self.fleet);
        if let Some(tls) = &mut self.tls {
            let files = [
                Some(&mut tls.certificate),
                Some(&mut tls.key),
                tls.client_ca.as_mut(),
            ];
            files.into_iter().flatten().for_each(rebase);
        }
        self.access.keys_file.iter_mut().for_each(rebase);
        self.reservations.rebase(base);
        if let Some(reserve) = &mut self.reserve {
            rebase(&mut reserve.journal);
        }
    }

    /// Files beside the catalogue that may change while it runs.
    pub(crate) fn secrets(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(|tls| {
            [
                Some(&tls.certificate),
                Some(&tls.key),
                tls.client_ca.as_ref(),
            ]
        });
        let mut files: Vec<PathBuf> = tls.flatten().cloned().collect();
        files.extend(self.access.keys_file.clone());
        files
    }

    pub(crate) fn part(&self) -> Part {
        self.reserve.as_ref().map_or(Part::NONE, |reserve| {
            Part::new(reserve.share, reserve.replicas)
        })
    }
}

impl ServerConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=10_000).contains(&self.connections_max) {
            let why = format!("is {}; must be 1 to 10,000", self.connections_max);
            return Err(ConfigError::value("http.connections-max", why));
        }
        if !(1 << 10..=4 << 20).contains(&self.body_max.as_u64()) {
            let why = format!("is {}; must be 1 KiB to 4 MiB", self.body_max);
            return Err(ConfigError::value("http.body-max", why));
        }
        within("http.request-max", self.request_max, 100, 60_000)?;
        within("http.idle-max", self.idle_max, 100, 600_000)?;
        within("http.cache-max", self.cache_max, 0, 3_600_000)?;
        within("http.drain-max", self.drain_max, 0, 600_000)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            body_bytes_max: usize::try_from(self.body_max.as_u64()).unwrap_or(usize::MAX),
            request_max: self.request_max,
            idle_max: self.idle_max,
            age_max: CONNECTION_AGE_MAX,
            drain_max: self.drain_max,
        }
    }
}

fn within(key: &str, value: Duration, low_ms: u128, high_ms: u128) -> Result<(), ConfigError> {
    if (low_ms..=high_ms).contains(&value.as_millis()) {
        return Ok(());
    }
    let why = format!(
        "is {} ms; must be {low_ms} to {high_ms} ms",
        value.as_millis()
    );
    Err(ConfigError::value(key, why))
}

#[cfg(test)]
mod tests;
