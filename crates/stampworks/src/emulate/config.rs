//! The file of `stampworks emulate --config`: Event Hubs, IoT Hubs and a DPS that belong together.
//!
//! Enrolments are written in the words of the DPS service API, so that what works here can be given
//! to the real service. What only the emulators know is checked by them when they start.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stamp_consumer::ConfigError;
use stamp_emulator::{
    Allocation, Enrichment, Hub, HubConfig, Listen, Route, RouteSource, Routing, Sku, Tier,
    WebhookSpelling,
};

/// Hubs of one file.
const HUBS_MAX: usize = 50;

/// What `stampworks emulate --config FILE` reads: Event Hubs, IoT Hubs and a DPS that belong together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EmulateConfig {
    /// Where Event Hubs listen, a loopback address. Default `127.0.0.1:5672`.
    #[serde(default = "event_hubs_address")]
    pub(super) listen: SocketAddr,
    /// Where they listen as well for clients that begin with TLS, as on the service's port 5671.
    pub(super) tls_listen: Option<SocketAddr>,
    /// Where the certificate of the authority goes that signs for IoT Hubs, DPS and `tls-listen`; relative
    /// to the file. Needed as soon as there is one of them.
    pub(super) ca_file: Option<PathBuf>,
    /// Event Hubs, by name, at most 50.
    pub(super) event_hubs: BTreeMap<String, EventHubSection>,
    /// IoT Hubs, by a name that `linked-hubs` uses, at most 50.
    #[serde(default)]
    pub(super) iot_hubs: BTreeMap<String, IotHubSection>,
    /// The provisioning service before them.
    pub(super) dps: Option<DpsSection>,
    /// For servers of somebody else that clients of this authority call, such as a webhook.
    #[serde(default)]
    pub(super) certificates: Vec<CertificateSection>,
}

/// A certificate that the authority signs, and where it goes; relative to the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CertificateSection {
    /// Host names and addresses.
    pub(super) names: Vec<String>,
    /// Where the certificate goes, as PEM.
    pub(super) certificate: PathBuf,
    /// Where its private key goes.
    pub(super) key: PathBuf,
}

fn event_hubs_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 5672))
}

/// One Event Hub.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EventHubSection {
    /// Partitions, 1 to 1,024. Default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 1_024))]
    partitions: u32,
    /// Consumer groups beside `$Default`.
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ListenSection {
    /// A loopback address that nothing else here has, such as `127.0.0.2`.
    address: Ipv4Addr,
    /// The name that it is called by and that its certificate is for. The address when not given.
    host_name: Option<String>,
    /// Port of the service API and of devices that speak HTTPS. Default 443.
    #[serde(default = "https")]
    https_port: u16,
    /// Port of devices that speak MQTT. Default 8883.
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

/// One IoT Hub.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct IotHubSection {
    /// Where it listens.
    listen: ListenSection,
    /// Tier. Default `S1`.
    #[serde(default)]
    tier: TierName,
    /// Units of that tier. Default 1.
    #[serde(default = "one")]
    units: u32,
    /// Whether quotas and throttles of the tier hold. Default `false`.
    #[serde(default)]
    enforced: bool,
    /// The Event Hub of the built-in endpoint, `events`.
    event_hub: String,
    /// Event Hubs of other endpoints, by the endpoint's name.
    #[serde(default)]
    endpoints: BTreeMap<String, String>,
    /// Which messages go to which endpoint.
    #[serde(default)]
    routes: Vec<RouteSection>,
    /// Whether a message that no route takes goes to `events`. Default `true`.
    #[serde(default = "yes")]
    fallback: bool,
    /// Application properties that the hub adds to messages.
    #[serde(default)]
    enrichments: Vec<EnrichmentSection>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
enum TierName {
    #[default]
    S1,
    S2,
    S3,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RouteSection {
    /// Which messages it is for.
    source: Source,
    /// Condition in the query language of IoT Hub. Default `true`.
    #[serde(default = "all")]
    condition: String,
    /// `events`, or one of `endpoints`.
    endpoint: String,
}

fn all() -> String {
    "true".to_owned()
}

/// Named as IoT Hub names them.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
enum Source {
    DeviceMessages,
    TwinChangeEvents,
    DeviceLifecycleEvents,
    DeviceConnectionStateEvents,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EnrichmentSection {
    /// Name of the property.
    key: String,
    /// Its value: a text, or `$iothubname`, `$twin.tags.NAME`, `$twin.properties.NAME`.
    value: String,
    /// Endpoints whose messages get it.
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

/// The provisioning service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DpsSection {
    /// Where it listens.
    listen: ListenSection,
    /// The id scope that devices name.
    pub(super) id_scope: String,
    /// Names of `iot-hubs` that devices may be sent to.
    pub(super) linked_hubs: Vec<String>,
    /// Which of its hubs a device gets whose enrolment does not say. Default `hashed`.
    #[serde(default)]
    allocation: AllocationName,
    /// What devices are told to wait between polls. Default 3 s.
    #[serde(default = "three_seconds", with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = []))]
    pub(super) retry_after: Duration,
    /// How long an answer of a webhook is waited for. Default 5 s.
    #[serde(default = "five_seconds", with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = []))]
    pub(super) webhook_timeout: Duration,
    /// How the key with the name of a device's present hub is spelled to a webhook. Default
    /// `currentIotHubHostName`.
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

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum AllocationName {
    #[default]
    Hashed,
    GeoLatency,
    Static,
}

/// How the name of a device's present hub is spelled to a webhook.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
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
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, hub) in &self.event_hubs {
            hub.hub(name)?;
        }
        if self.event_hubs.len() > HUBS_MAX || self.iot_hubs.len() > HUBS_MAX {
            let why = format!("at most {HUBS_MAX} hubs of a kind");
            return Err(ConfigError::value("event-hubs, iot-hubs", why));
        }
        let has_tls = !self.iot_hubs.is_empty() || self.dps.is_some() || self.tls_listen.is_some();
        if has_tls && self.ca_file.is_none() {
            let why = "is needed: clients that come with TLS trust the certificate in it";
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
