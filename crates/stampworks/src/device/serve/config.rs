//! What `stampworks device serve --config FILE` reads.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_consumer::ConfigError;
use stamp_http::{AccessConfig, Limits, TlsFiles};
use stamp_model::StampId;
use stamp_mover::service::MoveLimits;
use stamp_provisioner::LogFormat;
use stamp_reservations::{ReservationsConfig, ReservationsError};

use crate::exit::Failure;
use crate::fleet::usage::read_toml;

/// Age of a connection from which on each answer is its last, as the provisioner has it: a caller's
/// certificate that is let in no more is a matter of minutes.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);

/// What `stampworks device serve --config FILE` reads: one service of moves. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ServeConfig {
    /// Label `stamp` of its metrics. Default `mover`.
    #[serde(default = "name")]
    #[schemars(with = "String")]
    pub(super) name: StampId,
    /// The catalogue, a file or a folder. Read for each order and each start of a move.
    pub(super) fleet: PathBuf,
    /// Where DPS, the hubs and the tables are. Read as often.
    pub(super) services: PathBuf,
    /// What is used of each stamp and where tenants are. Read for each order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<PathBuf>,
    /// The provisioner's database, which says the same as it is booked. Only read, for each order; what
    /// `usage` says counts before it. A path of SQLite is relative to the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reservations: Option<ReservationsConfig>,
    /// Folder of the moves; made when it is not there. One process at a time has it, on a disk that
    /// outlives the process.
    pub(super) state: PathBuf,
    /// Where orders are taken.
    pub(super) listen: SocketAddr,
    /// The server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<TlsFiles>,
    /// Who may ask.
    #[serde(default)]
    pub(super) access: AccessConfig,
    /// What callers may take of the server.
    #[serde(default)]
    pub(super) http: HttpConfig,
    /// How many moves there may be, and what they take of the hubs together.
    #[serde(default)]
    pub(super) moves: MovesConfig,
    /// Logs, metrics and health.
    #[serde(default)]
    pub(super) telemetry: Telemetry,
}

fn name() -> StampId {
    StampId::parse("mover").expect("a literal that is one path segment")
}

/// What callers may take of the server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct HttpConfig {
    /// Most connections, 1 to 10,000. Default 64.
    #[schemars(range(min = 1, max = 10_000))]
    connections_max: usize,
    /// Largest body of a request, 1 KiB to 256 MiB. Default 8 MiB: a device id with
    /// its quotes has 40 bytes or so.
    #[serde(serialize_with = "print_size")]
    #[schemars(with = "String", extend("x-size" = ["1KiB", "256MiB"]))]
    body_max: ByteSize,
    /// Longest time for one request, 100 ms to 10 min. Default 1 min: an order may be a query of
    /// a hub.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "10m"]))]
    request_max: Duration,
    /// Longest silence of a connection, and longest time that a caller may take to receive an answer:
    /// 100 ms to 10 min. Default 30 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "10m"]))]
    idle_max: Duration,
    /// How long a stop may take, up to 10 min. Default 10 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["0s", "10m"]))]
    drain_max: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 64,
            body_max: ByteSize::mib(8),
            request_max: Duration::from_secs(60),
            idle_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
        }
    }
}

fn print_size<S: serde::Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}B", size.as_u64()))
}

/// How many moves there may be, and what they take of the hubs together.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct MovesConfig {
    /// Most moves in all, ended ones included, 1 to 1,000. Default 100. Then orders are refused until one is deleted.
    #[schemars(range(min = 1, max = 1_000))]
    kept_max: usize,
    /// Most moves that have not ended, 1 to 64. Default 4. Then orders are refused until one has.
    #[schemars(range(min = 1, max = 64))]
    at_once_max: usize,
    /// How often a move that waits or failed looks again, 100 ms to 1 h. Default 1 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "1h"]))]
    again_every: Duration,
    /// Which share of the limits of DPS and of each hub all moves together take, above 0 and up to 1.
    /// Default 0.8.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1.0))]
    pub(super) share_of_limits: f64,
}

impl Default for MovesConfig {
    fn default() -> Self {
        Self {
            kept_max: 100,
            at_once_max: 4,
            again_every: Duration::from_secs(60),
            share_of_limits: 0.8,
        }
    }
}

/// Logs, metrics and health.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Telemetry {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are served. Default `127.0.0.1:9466`.
    pub(super) listen: SocketAddr,
    /// `json` or `text`. Default `json`.
    pub(super) log_format: LogFormat,
    /// Filter such as `info,stamp_mover=debug`. Default `info`.
    pub(super) log_filter: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9466)),
            log_format: LogFormat::Json,
            log_filter: "info".into(),
        }
    }
}

impl ServeConfig {
    /// Reads and checks a configuration file; the paths in it become relative to where we are.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let mut config: Self = read_toml(path)?;
        config.check()?;
        config.rebase(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        let http = &self.http;
        let counts = [
            ("http.connections-max", http.connections_max, 1, 10_000),
            ("moves.kept-max", self.moves.kept_max, 1, 1_000),
            ("moves.at-once-max", self.moves.at_once_max, 1, 64),
        ];
        for (key, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return wrong(key, format!("is {value}; must be {least} to {most}"));
            }
        }
        if !(1 << 10..=256 << 20).contains(&http.body_max.as_u64()) {
            let why = format!("is {}; must be 1 KiB to 256 MiB", http.body_max);
            return wrong("http.body-max", why);
        }
        let lengths = [
            ("http.request-max", http.request_max, 100, 600_000),
            ("http.idle-max", http.idle_max, 100, 600_000),
            ("http.drain-max", http.drain_max, 0, 600_000),
            ("moves.again-every", self.moves.again_every, 100, 3_600_000),
        ];
        for (key, value, least, most) in lengths {
            let ms = value.as_millis();
            if !(least..=most).contains(&ms) {
                return wrong(key, format!("is {ms} ms; must be {least} to {most} ms"));
            }
        }
        let share = self.moves.share_of_limits;
        if !(share > 0.0 && share <= 1.0) {
            let why = format!("is {share}; must be above 0 and at most 1");
            return wrong("moves.share-of-limits", why);
        }
        if let Some(Err(error)) = self.reservations.as_ref().map(ReservationsConfig::check) {
            return match error {
                ReservationsError::Config { key, reason } => {
                    wrong(&format!("reservations.{key}"), reason)
                }
                other => wrong("reservations", other.to_string()),
            };
        }
        let certified = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        self.access.check(certified).map_err(super::denied)
    }

    fn rebase(&mut self, base: &Path) {
        let rebase = |path: &mut PathBuf| *path = base.join(&*path);
        [&mut self.fleet, &mut self.services, &mut self.state]
            .into_iter()
            .for_each(rebase);
        let tls = self.tls.iter_mut().flat_map(|tls| {
            let files = [Some(&mut tls.certificate), Some(&mut tls.key)];
            files.into_iter().chain([tls.client_ca.as_mut()])
        });
        tls.chain([self.usage.as_mut(), self.access.keys_file.as_mut()])
            .flatten()
            .for_each(rebase);
        if let Some(reservations) = &mut self.reservations {
            reservations.rebase(base);
        }
    }

    /// Files of keys and certificates.
    pub(super) fn secrets(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(|tls| {
            let files = [Some(&tls.certificate), Some(&tls.key)];
            files.into_iter().chain([tls.client_ca.as_ref()])
        });
        let all = tls.chain([self.access.keys_file.as_ref()]).flatten();
        all.cloned().collect()
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            connections_max: self.http.connections_max,
            body_bytes_max: usize::try_from(self.http.body_max.as_u64()).unwrap_or(usize::MAX),
            request_max: self.http.request_max,
            idle_max: self.http.idle_max,
            age_max: CONNECTION_AGE_MAX,
            drain_max: self.http.drain_max,
        }
    }

    pub(super) fn move_limits(&self) -> MoveLimits {
        MoveLimits {
            kept_max: self.moves.kept_max,
            at_once_max: self.moves.at_once_max,
            again_every: self.moves.again_every,
        }
    }
}

fn wrong(key: &str, why: impl Into<String>) -> Result<(), Failure> {
    Err(ConfigError::value(key, why.into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "fleet = \"fleet.toml\"\nservices = \"services.toml\"\nstate = \"moves\"\n\
        listen = \"127.0.0.1:0\"\naccess.keys-file = \"keys\"\n";

    fn load(more: &str) -> Result<ServeConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mover.toml");
        std::fs::write(&file, format!("{LEAST}{more}")).unwrap();
        let loaded = ServeConfig::load(&file);
        loaded
            .inspect(|config| assert_eq!(config.state, folder.path().join("moves")))
            .map_err(|failure| {
                assert_eq!(failure.code(), 3);
                stamp_consumer::chain(&failure).to_string()
            })
    }

    #[test]
    fn a_short_configuration_has_good_defaults_and_a_wrong_value_is_told_by_its_key() {
        let config = load("").unwrap();
        assert_eq!(config.limits().body_bytes_max, 8 << 20);
        assert_eq!(config.move_limits().at_once_max, 4);
        assert_eq!(config.secrets().len(), 1);
        for (more, key) in [
            ("moves.kept-max = 0\n", "moves.kept-max"),
            ("moves.at-once-max = 65\n", "moves.at-once-max"),
            ("moves.share-of-limits = 1.5\n", "moves.share-of-limits"),
            ("moves.again-every = \"1ms\"\n", "moves.again-every"),
            ("http.body-max = \"1B\"\n", "http.body-max"),
            ("http.request-max = \"1h\"\n", "http.request-max"),
            ("access.keys-env = \"KEYS\"\n", "access.keys-file"),
            ("reservations.url = \"mysql://x\"\n", "reservations.url"),
            ("move.kept-max = 1\n", "move"),
        ] {
            let error = load(more).unwrap_err();
            assert!(error.contains(key), "{more}: {error}");
        }
    }

    #[test]
    fn the_example_is_a_good_configuration() {
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/mover.toml");
        let config = ServeConfig::load(&example).unwrap();
        assert!(config.tls.is_some());
        assert!(config.fleet.is_dir(), "{}", config.fleet.display());
        super::super::super::services::Services::read(&config.services).unwrap();
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<ServeConfig>(&printed).unwrap(), config);
    }
}
