//! The file of `stampworks emulate --config`: Event Hubs, IoT Hubs and a DPS that belong together.
//!
//! Enrolments are written in the words of the DPS service API, so that what works here can be given
//! to the real service. What only the emulators know is checked by them when they start.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use stamp_consumer::ConfigError;
use stamp_emulator::{
    Allocation, Enrichment, Hub, HubConfig, Listen, Route, RouteSource, Routing, Sku, Tier,
    WebhookSpelling,
};

/// Hubs of one file.
const HUBS_MAX: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EmulateConfig {
    /// Where Event Hubs listen.
    #[serde(default = "event_hubs_address")]
    pub(super) listen: SocketAddr,
    /// Where the certificate of the authority goes that signs for IoT Hubs and DPS; relative to the
    /// file.
    pub(super) ca_file: Option<PathBuf>,
    /// By name.
    pub(super) event_hubs: BTreeMap<String, EventHubSection>,
    /// By a name that `linked-hubs` uses.
    #[serde(default)]
    pub(super) iot_hubs: BTreeMap<String, IotHubSection>,
    pub(super) dps: Option<DpsSection>,
    /// For servers of somebody else that clients of this authority call, such as a webhook.
    #[serde(default)]
    pub(super) certificates: Vec<CertificateSection>,
}

/// A certificate that the authority signs, and where it goes; relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CertificateSection {
    /// Host names and addresses.
    pub(super) names: Vec<String>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

fn event_hubs_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 5672))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EventHubSection {
    #[serde(default = "four")]
    partitions: u32,
    #[serde(default)]
    consumer_groups: Vec<String>,
}

fn four() -> u32 {
    4
}

impl EventHubSection {
    pub(super) fn hub(&self, name: &str) -> Result<HubConfig, ConfigError> {
        if !(1..=1024).contains(&self.partitions) {
            let key = format!("event-hubs.{name}.partitions");
            return Err(ConfigError::value(key, "must be 1 to 1024"));
        }
        let mut hub = HubConfig {
            name: name.to_owned(),
            partitions: self.partitions,
            ..HubConfig::default()
        };
        hub.consumer_groups.extend(self.consumer_groups.clone());
        Ok(hub)
    }
}

/// Where an IoT Hub or a DPS listens. Published clients have fixed ports, so each one needs an
/// address of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ListenSection {
    address: Ipv4Addr,
    host_name: Option<String>,
    #[serde(default = "https")]
    https_port: u16,
    #[serde(default = "mqtts")]
    mqtts_port: u16,
}

fn https() -> u16 {
    443
}

fn mqtts() -> u16 {
    8883
}

impl ListenSection {
    fn listen(&self) -> Listen {
        Listen {
            https: Some(self.https_port),
            mqtts: Some(self.mqtts_port),
            host_name: self.host_name.clone(),
            ..Listen::on(self.address)
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct IotHubSection {
    listen: ListenSection,
    #[serde(default)]
    tier: TierName,
    #[serde(default = "one")]
    units: u32,
    /// Whether quotas and throttles hold.
    #[serde(default)]
    enforced: bool,
    /// The Event Hub of the built-in endpoint, `events`.
    event_hub: String,
    /// Event Hubs of other endpoints, by the endpoint's name.
    #[serde(default)]
    endpoints: BTreeMap<String, String>,
    #[serde(default)]
    routes: Vec<RouteSection>,
    #[serde(default = "yes")]
    fallback: bool,
    #[serde(default)]
    enrichments: Vec<EnrichmentSection>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum TierName {
    #[default]
    S1,
    S2,
    S3,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RouteSection {
    source: Source,
    #[serde(default = "all")]
    condition: String,
    endpoint: String,
}

fn all() -> String {
    "true".to_owned()
}

/// Named as IoT Hub names them.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Source {
    DeviceMessages,
    TwinChangeEvents,
    DeviceLifecycleEvents,
    DeviceConnectionStateEvents,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EnrichmentSection {
    key: String,
    value: String,
    endpoints: Vec<String>,
}

impl IotHubSection {
    pub(super) fn listen(&self) -> Listen {
        self.listen.listen()
    }

    pub(super) fn sku(&self) -> Sku {
        let tier = match self.tier {
            TierName::S1 => Tier::S1,
            TierName::S2 => Tier::S2,
            TierName::S3 => Tier::S3,
        };
        Sku {
            tier,
            units: self.units,
            enforced: self.enforced,
        }
    }

    /// The routing of the hub called `name`, into what `event_hub` gives for a name.
    pub(super) fn routing(
        &self,
        name: &str,
        event_hub: impl Fn(&str) -> Option<Hub>,
    ) -> Result<Routing, ConfigError> {
        let find = |key: &str, hub: &str| {
            event_hub(hub).ok_or_else(|| {
                let key = format!("iot-hubs.{name}.{key}");
                ConfigError::value(key, format!("there is no event hub {hub:?}"))
            })
        };
        let endpoints = self.endpoints.iter().map(|(endpoint, hub)| {
            let found = find(&format!("endpoints.{endpoint}"), hub)?;
            Ok((endpoint.clone(), found))
        });
        let route = |route: &RouteSection| Route {
            source: match route.source {
                Source::DeviceMessages => RouteSource::DeviceMessages,
                Source::TwinChangeEvents => RouteSource::TwinChangeEvents,
                Source::DeviceLifecycleEvents => RouteSource::DeviceLifecycleEvents,
                Source::DeviceConnectionStateEvents => RouteSource::DeviceConnectionStateEvents,
            },
            condition: route.condition.clone(),
            endpoint: route.endpoint.clone(),
        };
        let enrichment = |enrichment: &EnrichmentSection| Enrichment {
            key: enrichment.key.clone(),
            value: enrichment.value.clone(),
            endpoints: enrichment.endpoints.clone(),
        };
        Ok(Routing {
            built_in: Some(find("event-hub", &self.event_hub)?),
            endpoints: endpoints.collect::<Result<_, ConfigError>>()?,
            routes: self.routes.iter().map(route).collect(),
            fallback: self.fallback,
            enrichments: self.enrichments.iter().map(enrichment).collect(),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DpsSection {
    listen: ListenSection,
    pub(super) id_scope: String,
    /// Names of `iot-hubs`.
    pub(super) linked_hubs: Vec<String>,
    #[serde(default)]
    allocation: AllocationName,
    /// What devices are told to wait between polls.
    #[serde(default = "three_seconds", with = "humantime_serde")]
    pub(super) retry_after: Duration,
    #[serde(default = "five_seconds", with = "humantime_serde")]
    pub(super) webhook_timeout: Duration,
    #[serde(default)]
    webhook_spelling: SpellingName,
    /// Individual enrolments by registration id, in the words of the service API.
    #[serde(default)]
    pub(super) enrollments: BTreeMap<String, Value>,
    /// Enrolment groups by name, likewise.
    #[serde(default)]
    pub(super) enrollment_groups: BTreeMap<String, Value>,
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AllocationName {
    #[default]
    Hashed,
    GeoLatency,
    Static,
}

/// How the name of a device's present hub is spelled to a webhook.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum SpellingName {
    #[default]
    #[serde(rename = "currentIotHubHostName")]
    IotHub,
    #[serde(rename = "currentIoTHubHostName")]
    IoTHub,
}

impl DpsSection {
    pub(super) fn listen(&self) -> Listen {
        self.listen.listen()
    }

    pub(super) fn allocation(&self) -> Allocation {
        match self.allocation {
            AllocationName::Hashed => Allocation::Hashed,
            AllocationName::GeoLatency => Allocation::GeoLatency,
            AllocationName::Static => Allocation::Static,
        }
    }

    pub(super) fn spelling(&self) -> WebhookSpelling {
        match self.webhook_spelling {
            SpellingName::IotHub => WebhookSpelling::IotHub,
            SpellingName::IoTHub => WebhookSpelling::IoTHub,
        }
    }
}

impl EmulateConfig {
    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, hub) in &self.event_hubs {
            hub.hub(name)?;
        }
        if self.event_hubs.len() > HUBS_MAX || self.iot_hubs.len() > HUBS_MAX {
            let why = format!("at most {HUBS_MAX} hubs of a kind");
            return Err(ConfigError::value("event-hubs, iot-hubs", why));
        }
        let has_tls = !self.iot_hubs.is_empty() || self.dps.is_some();
        if has_tls && self.ca_file.is_none() {
            let why = "is needed: clients of IoT Hub and DPS trust the certificate in it";
            return Err(ConfigError::value("ca-file", why));
        }
        let linked = self.dps.iter().flat_map(|dps| &dps.linked_hubs);
        for name in linked {
            if !self.iot_hubs.contains_key(name) {
                let why = format!("there is no iot hub {name:?}");
                return Err(ConfigError::value("dps.linked-hubs", why));
            }
        }
        Ok(())
    }
}
