//! What `stampworks consume --config FILE` reads: one stamp, its hub, its tenants, its limits.
//!
//! Unknown keys are refused with their line. Nothing here opens a file or a socket except
//! [`ConsumerConfig::load`], which reads the configuration itself and the files it names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_eventhubs::AmqpConfig;
use stamp_lake::StoreConfig;
use stamp_model::{PARTITION_MAX, StampId, TenantId};
use stamp_resilience::RetryPolicy;
use stamp_rollup::Windows;

use crate::error::ConfigError;

mod ownership;
mod quota;
mod size;

pub use ownership::OwnershipConfig;
pub use quota::QuotaConfig;

/// Largest configuration, schema or device file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Smallest limit of a pull that many partitions lead to: some hundred usual events. A larger event still
/// comes, alone.
const PULL_BYTES_MIN: u64 = 64 << 10;

/// Highest owner level: far above any that is given by hand, and one can still be added to it.
const OWNER_LEVEL_MAX: i64 = (1 << 62) - 1;

/// What `stampworks consume --config FILE` reads: one stamp's service. Paths are relative to it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConsumerConfig {
    /// Name of the stamp, one path segment such as `eu-1`. Part of every mark: do not rename a
    /// stamp that has data.
    #[schemars(with = "String")]
    pub stamp: StampId,
    /// The Event Hub the IoT Hub routes to.
    pub hub: AmqpConfig,
    /// Where the tables and checkpoints are.
    pub store: StoreConfig,
    /// How partitions are read and buffers flushed.
    #[serde(default)]
    pub consumer: ReadConfig,
    /// How an event's tenant is found.
    #[serde(default)]
    pub tenancy: TenancyConfig,
    /// Windows of the rollups.
    #[serde(default)]
    pub rollup: RollupConfig,
    /// Retry policies by peer.
    #[serde(default)]
    pub resilience: ResilienceConfig,
    /// Logs, metrics and health.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The tenants of this stamp, at least one.
    pub tenants: Vec<TenantConfig>,
}

/// How partitions are read, buffered and flushed.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ReadConfig {
    /// Partitions this process reads, such as `[0, 1]`. All of them when not given.
    pub partitions: Option<BTreeSet<u32>>,
    /// Owner level (epoch) of the receivers; a higher or equal one displaces an older receiver.
    /// `-1` opens without one, beside up to four other readers. Default 0.
    #[schemars(range(min = -1, max = OWNER_LEVEL_MAX))]
    pub owner_level: i64,
    /// How long the hub keeps events, such as `"7d"`. When given, how long is left until unread
    /// events are lost is a metric.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("x-duration" = []))]
    pub hub_retention: Option<Duration>,
    /// Where a partition starts that has neither a checkpoint nor a mark. Default `earliest`.
    pub start: StartPolicy,
    /// What to do when the hub no longer has events that were never read. Default `continue`: the
    /// gap is recorded, counted and the partition goes on.
    pub on_gap: GapPolicy,
    /// Most events in one pull, 1 to 5,000. Default 1,000.
    #[schemars(range(min = 1, max = 5_000))]
    pub batch_events_max: usize,
    /// Most bytes in one pull, 64 KiB to 16 MiB. Default 1 MiB. One event always fits. Less where the pulls
    /// of all partitions would take more than an eighth of `buffer-max`.
    #[serde(serialize_with = "size::print")]
    #[schemars(with = "String", extend("x-size" = ["64KiB", "16MiB"]))]
    pub batch_bytes_max: ByteSize,
    /// Longest wait of a pull for a first event. Default 1 s. Also how often age limits are looked
    /// at on an idle partition.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["10ms", "1m"]))]
    pub batch_wait_max: Duration,
    /// Memory for everything between the wire and the store, over all partitions and tenants,
    /// 16 MiB or more. Default 256 MiB. When it is used up, reading waits.
    #[serde(serialize_with = "size::print")]
    #[schemars(with = "String", extend("x-size" = ["16MiB", "1TiB"]))]
    pub buffer_max: ByteSize,
    /// The part of it that one tenant may hold in one partition. Default an eighth of `buffer-max`
    /// over the number of partitions, at least 1 MiB.
    #[serde(serialize_with = "size::print_optional")]
    #[schemars(with = "Option<String>", extend("x-size" = ["256KiB", "1TiB"]))]
    pub tenant_buffer_max: Option<ByteSize>,
    /// Rows of one tenant in one partition that make a flush. Default 200,000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub flush_rows: usize,
    /// Buffered bytes of one tenant in one partition that make a flush. Default 8 MiB.
    #[serde(serialize_with = "size::print")]
    #[schemars(with = "String", extend("x-size" = ["64KiB", "1TiB"]))]
    pub flush_bytes: ByteSize,
    /// Age of the oldest buffered row that makes a flush. Default 60 s: the freshness of the
    /// tables. Smaller is fresher and makes more, smaller files.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["100ms", "1h"]))]
    pub flush_age: Duration,
    /// How long one flush of a tenant may hang before the tenant's further rows go to quarantine
    /// instead of holding up the partition. Default 30 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "1h"]))]
    pub tenant_stall_max: Duration,
    /// How long a stop may take to flush, commit and checkpoint. Default 25 s; keep it below the
    /// orchestrator's grace period.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "10m"]))]
    pub drain_max: Duration,
    /// How replicas of this stamp share the partitions. Without this section the process reads
    /// `partitions`, or all of them.
    pub ownership: Option<OwnershipConfig>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            partitions: None,
            owner_level: 0,
            hub_retention: None,
            start: StartPolicy::Earliest,
            on_gap: GapPolicy::Continue,
            batch_events_max: 1_000,
            batch_bytes_max: ByteSize::mib(1),
            batch_wait_max: Duration::from_secs(1),
            buffer_max: ByteSize::mib(256),
            tenant_buffer_max: None,
            flush_rows: 200_000,
            flush_bytes: ByteSize::mib(8),
            flush_age: Duration::from_secs(60),
            tenant_stall_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(25),
            ownership: None,
        }
    }
}

/// Where a partition starts that was never read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartPolicy {
    /// With the oldest event the hub still has.
    Earliest,
    /// With the next event to arrive.
    Latest,
}

/// What to do about lost sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapPolicy {
    /// Record the gap and go on.
    Continue,
    /// Record the gap and stop the service with exit code 1.
    Stop,
}

/// How the tenant of an event is found. Never from the body.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TenancyConfig {
    /// An application property that the *hub* sets as a message enrichment and that names the
    /// tenant, for devices the directory does not list. Only name a key that devices cannot set.
    pub enrichment: Option<String>,
    /// An application property in which a device may claim its tenant. It is never believed: a
    /// claim that differs from the directory sends the event to quarantine.
    pub claim_property: Option<String>,
}

/// Windows of the rollups.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RollupConfig {
    /// Length of a window; whole seconds that divide a day. Default 1 minute.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "1day"]))]
    pub window: Duration,
    /// How long after a window's end a row still counts as on time, by the hub's clock. Late rows
    /// are kept all the same, and marked. Default 5 minutes.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["0s", "366days"]))]
    pub lateness: Duration,
}

impl Default for RollupConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            lateness: Duration::from_secs(300),
        }
    }
}

/// Retry policies by peer; see docs/resilience.md.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ResilienceConfig {
    /// For the hub.
    #[serde(deserialize_with = "RetryPolicy::over_event_hubs")]
    pub eventhubs: RetryPolicy,
    /// For every store.
    #[serde(deserialize_with = "RetryPolicy::over_store")]
    pub store: RetryPolicy,
    /// Seed of the jitter. Random when not given; set it only to repeat a run.
    pub seed: Option<u64>,
    /// Partitions open at a random moment within this time of the start, so that the replicas of
    /// a fleet do not knock in step. Default 2 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = []))]
    pub start_spread: Duration,
}

impl Default for ResilienceConfig {
    fn default() -> Self {
        Self {
            eventhubs: RetryPolicy::event_hubs(),
            store: RetryPolicy::store(),
            seed: None,
            start_spread: Duration::from_secs(2),
        }
    }
}

/// Logs, metrics and health.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetryConfig {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are served. Default `127.0.0.1:9464`.
    pub listen: SocketAddr,
    /// `json` or `text`. Default `json`.
    pub log_format: LogFormat,
    /// Filter such as `info,stamp_consumer=debug`. Default `info`.
    pub log_filter: String,
    /// Sends a span of each flush to a collector. None are made without this section.
    pub traces: Option<TracesConfig>,
}

/// Where spans go: OTLP over HTTP, as every collector takes it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TracesConfig {
    /// The collector's URL for traces, such as `"http://127.0.0.1:4318/v1/traces"`.
    pub endpoint: String,
    /// Environment variable with headers of each request, such as an API key:
    /// `name=value,name=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_env: Option<String>,
    /// Which share of spans is kept, from 0 to 1. Default 1.
    #[serde(default = "all_spans")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
}

fn all_spans() -> f64 {
    1.0
}

impl TracesConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let address = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        if !address {
            return Err(ConfigError::value(
                "telemetry.traces.endpoint",
                format!(
                    "is {:?}; expected an address such as http://127.0.0.1:4318/v1/traces",
                    self.endpoint
                ),
            ));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(ConfigError::value(
                "telemetry.traces.sample-ratio",
                format!("is {}; must be 0 to 1", self.sample_ratio),
            ));
        }
        Ok(())
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            log_format: LogFormat::Json,
            log_filter: "info".into(),
            traces: None,
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

/// One tenant of the stamp.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TenantConfig {
    /// One path segment; names the tenant's storage root.
    #[schemars(with = "String")]
    pub id: TenantId,
    /// Schema file, relative to the configuration file.
    pub schema: PathBuf,
    /// Device ids of this tenant. An entry that ends in `*` is a prefix; the longest one wins, an
    /// exact id wins over any prefix.
    #[serde(default)]
    pub devices: Vec<String>,
    /// A file with one such entry a line, relative to the configuration file.
    pub devices_file: Option<PathBuf>,
    /// A store of the tenant's own, with credentials of its own. The stamp's when not given.
    pub store: Option<StoreConfig>,
    /// What it may send. Without a bound when not given.
    pub quota: Option<QuotaConfig>,
}

impl ConsumerConfig {
    /// Reads and checks a configuration file and the schema and device files that it names.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when a file cannot be read or is over 64 MiB; [`ConfigError::Syntax`]
    /// with line and key; [`ConfigError::Value`] when a value is out of range or two contradict.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config = Self::parse(&read(path)?, path)?;
        config.check()?;
        Ok(config)
    }

    /// Parses the text of a configuration file; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] with line and key.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|cause| ConfigError::Syntax {
            path: path.to_owned(),
            cause: Box::new(cause),
        })
    }

    /// Checks ranges and rules that no single key can break.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key, or both keys.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.consumer.check()?;
        if self.consumer.ownership.is_some() && self.store.url.starts_with("file:") {
            return Err(ConfigError::value(
                "consumer.ownership",
                "store.url is a local folder, which has no compare-and-set: one process only, \
                 leave the section out",
            ));
        }
        self.windows()?;
        for (key, policy) in [
            ("resilience.eventhubs", &self.resilience.eventhubs),
            ("resilience.store", &self.resilience.store),
        ] {
            policy
                .validate(key)
                .map_err(|cause| ConfigError::value(key, cause.to_string()))?;
        }
        if self.tenants.is_empty() {
            return Err(ConfigError::value("tenants", "name at least one tenant"));
        }
        let mut seen = BTreeSet::new();
        for tenant in &self.tenants {
            if !seen.insert(&tenant.id) {
                return Err(ConfigError::value(
                    "tenants.id",
                    format!("{} is there twice", tenant.id),
                ));
            }
            if let Some(quota) = &tenant.quota {
                quota.check(tenant.id.as_str())?;
            }
        }
        if let Some(traces) = &self.telemetry.traces {
            traces.check()?;
        }
        if let (Some(a), Some(b)) = (&self.tenancy.enrichment, &self.tenancy.claim_property)
            && a.eq_ignore_ascii_case(b)
        {
            return Err(ConfigError::value(
                "tenancy.enrichment",
                "is the same property as tenancy.claim-property: one is believed, the other never",
            ));
        }
        Ok(())
    }

    /// The rollup windows.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when the window is not a whole number of seconds that divides a day.
    pub fn windows(&self) -> Result<Windows, ConfigError> {
        let refuse = |why: String| ConfigError::value("rollup.window", why);
        if self.rollup.window.subsec_nanos() != 0 {
            return Err(refuse("must be whole seconds".into()));
        }
        let seconds = i32::try_from(self.rollup.window.as_secs())
            .map_err(|_| refuse("must be at most a day".into()))?;
        let windows = Windows {
            window_s: seconds,
            lateness: self.rollup.lateness,
        };
        windows
            .validate()
            .map_err(|cause| refuse(cause.to_string()))?;
        Ok(windows)
    }
}

impl ReadConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let range = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::value(
                    format!("consumer.{key}"),
                    format!("is {value}; must be {low} to {high}"),
                ))
            }
        };
        range("batch-events-max", self.batch_events_max as u64, 1, 5_000)?;
        range(
            "batch-bytes-max",
            self.batch_bytes_max.as_u64(),
            64 << 10,
            16 << 20,
        )?;
        range("buffer-max", self.buffer_max.as_u64(), 16 << 20, 1 << 40)?;
        range("flush-rows", self.flush_rows as u64, 1, 10_000_000)?;
        range(
            "flush-bytes",
            self.flush_bytes.as_u64(),
            64 << 10,
            self.buffer_max.as_u64(),
        )?;
        if !(-1..=OWNER_LEVEL_MAX).contains(&self.owner_level) {
            let why = format!("is {}; must be -1 to {OWNER_LEVEL_MAX}", self.owner_level);
            return Err(ConfigError::value("consumer.owner-level", why));
        }
        if self.batch_bytes_max.as_u64() > self.buffer_max.as_u64() / 8 {
            return Err(ConfigError::value(
                "consumer.batch-bytes-max",
                "is over an eighth of consumer.buffer-max: a few partitions would use it up unread",
            ));
        }
        if let Some(tenant) = self.tenant_buffer_max {
            range(
                "tenant-buffer-max",
                tenant.as_u64(),
                256 << 10,
                self.buffer_max.as_u64(),
            )?;
        }
        for (key, value, low, high) in [
            ("batch-wait-max", self.batch_wait_max, 10, 60_000),
            ("flush-age", self.flush_age, 100, 3_600_000),
            ("tenant-stall-max", self.tenant_stall_max, 1_000, 3_600_000),
            ("drain-max", self.drain_max, 1_000, 600_000),
        ] {
            let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
            range(&format!("{key} (ms)"), ms, low, high)?;
        }
        match &self.partitions {
            Some(list) if list.is_empty() => Err(ConfigError::value(
                "consumer.partitions",
                "is empty; leave it out to read all",
            )),
            Some(list) if list.iter().any(|&p| p > PARTITION_MAX) => Err(ConfigError::value(
                "consumer.partitions",
                format!("goes up to {PARTITION_MAX}"),
            )),
            Some(_) if self.ownership.is_some() => Err(ConfigError::value(
                "consumer.partitions",
                "contradicts consumer.ownership: a fixed share, or one that replicas balance",
            )),
            _ => self
                .ownership
                .as_ref()
                .map_or(Ok(()), OwnershipConfig::check),
        }
    }

    /// What one tenant may hold in one of `partitions` partitions, in bytes.
    #[must_use]
    pub fn tenant_buffer_bytes(&self, partitions: usize) -> usize {
        let share = self.buffer_max.as_u64() / 8 / partitions.max(1) as u64;
        let bytes = self
            .tenant_buffer_max
            .map_or(share.max(1 << 20), |size| size.as_u64());
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes of one pull in each of `partitions` partitions: `batch-bytes-max` at most. Each partition has the memory
    /// of a pull in hand, waiting or not: all of them together take an eighth of `buffer-max`, so
    /// that rows have the rest.
    #[must_use]
    pub fn pull_bytes(&self, partitions: usize) -> usize {
        let share = self.buffer_max.as_u64() / 8 / partitions.max(1) as u64;
        let bytes = self.batch_bytes_max.as_u64().min(share.max(PULL_BYTES_MIN));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Reads a text file of bounded size.
///
/// # Errors
/// [`ConfigError::Read`] when it cannot be read, is over 64 MiB or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let refuse = |cause| ConfigError::Read {
        path: path.to_owned(),
        cause,
    };
    let size = std::fs::metadata(path).map_err(refuse)?.len();
    if size > FILE_BYTES_MAX {
        return Err(refuse(std::io::Error::other(format!(
            "{size} bytes; at most {FILE_BYTES_MAX}"
        ))));
    }
    std::fs::read_to_string(path).map_err(refuse)
}

#[cfg(test)]
mod tests;
