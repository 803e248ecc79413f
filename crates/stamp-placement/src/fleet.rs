//! The fleet as typed values: what a catalogue without problems says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_model::{StampId, TenantId};

use crate::load::{Capacity, Load};
use crate::sku::{EventHubTier, IotHubTier};

/// Gives an enum its names in the catalogue, for reading and for messages.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            pub(crate) const NAMES: &[(&str, Self)] = &[$(($text, Self::$variant)),+];

            /// The word of the catalogue.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of a word of the catalogue.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// Whether a stamp serves many tenants or one.
    Kind {
        /// Many tenants.
        Shared = "shared",
        /// One tenant.
        Dedicated = "dedicated",
    }
}
named! {
    /// What a stamp is for. A device is tested in one and moved to the other.
    Environment {
        /// Devices and firmware are tried out.
        Test = "test",
        /// The real thing.
        Production = "production",
    }
}
named! {
    /// A group of stamps that is updated together; ordered as updates go.
    Ring {
        /// First.
        Canary = "canary",
        /// Second.
        Early = "early",
        /// Last, and most of the fleet.
        General = "general",
    }
}
named! {
    /// Where a stamp is in its life.
    StampState {
        /// Not deployed yet: nothing is placed on it.
        Planned = "planned",
        /// Takes tenants.
        Active = "active",
        /// Serves what it has, takes nothing new.
        Draining = "draining",
        /// Serves nothing.
        Closed = "closed",
    }
}
named! {
    /// Where a tenant is in its life.
    TenantState {
        /// May be placed.
        Trial = "trial",
        /// May be placed.
        Active = "active",
        /// Keeps its stamp; nothing new of it is placed.
        Suspended = "suspended",
        /// Is being taken to another stamp.
        Moving = "moving",
        /// Gone: it has no stamp.
        Offboarded = "offboarded",
    }
}

/// The IoT Hub of a stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct IotHub {
    /// Host name such as `contoso-weu-1.azure-devices.net`, lower case.
    pub name: String,
    /// Tier.
    pub tier: IotHubTier,
    /// Units of that tier.
    pub units: u64,
}

/// The Event Hub that the IoT Hub routes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventHub {
    /// Host name such as `contoso-weu-1.servicebus.windows.net`, lower case.
    pub namespace: String,
    /// Name of the hub, lower case.
    pub hub: String,
    /// Tier.
    pub tier: EventHubTier,
    /// Throughput, processing or capacity units of the namespace; 0 for the built-in endpoint.
    pub units: u64,
    /// Partitions of the hub.
    pub partitions: u64,
    /// Consumer group that the stamp's service reads with.
    pub consumer_group: String,
}

/// How the service of a stamp runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// Fewest processes.
    pub replicas_min: u64,
    /// Most processes; never more than partitions.
    pub replicas_max: u64,
    /// Processor of one process, in thousandths of a core.
    pub cpu_millicores: u64,
    /// Memory of one process, in bytes.
    pub memory_bytes: u64,
    /// Client id of the stamp's own workload identity.
    pub identity: Option<String>,
}

/// One stamp of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stamp {
    /// Name.
    pub id: StampId,
    /// Azure region, such as `westeurope`.
    pub region: String,
    /// What residency is decided by, such as `europe`.
    pub geography: String,
    /// Shared or dedicated.
    pub kind: Kind,
    /// The one tenant of a dedicated stamp, when it is already known.
    pub dedicated_to: Option<TenantId>,
    /// Test or production.
    pub environment: Environment,
    /// Update ring.
    pub ring: Ring,
    /// Version of the service that the stamp should run.
    pub version: String,
    /// Where the stamp is in its life.
    pub state: StampState,
    /// IoT Hub.
    pub iot_hub: IotHub,
    /// Event Hub.
    pub event_hub: EventHub,
    /// Root of the stamp's tables, such as `az://contosoweu1/telemetry`.
    pub storage_root: String,
    /// Whether each tenant has a container of its own, called like the tenant, in the same account.
    pub tenant_containers: bool,
    /// `/metrics` of its processes, `http://host:port/path`.
    pub metrics: Vec<String>,
    /// Limits on every axis.
    pub capacity: Capacity,
    /// How its service runs.
    pub service: Service,
}

/// Upper limits of a tenant, as the service of its stamp enforces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quota {
    /// Events a second.
    pub events_per_second: Option<u64>,
    /// Bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Distinct devices.
    pub devices_max: Option<u64>,
}

/// Where a tenant may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placing {
    /// On these stamps and no others, at most one of each environment.
    Stamps(Vec<StampId>),
    /// On any stamp that fits.
    Rule {
        /// Shared or dedicated.
        kind: Kind,
        /// Where its devices go when a request does not say.
        environment: Environment,
        /// Rings it may be in, the preferred one first.
        rings: Vec<Ring>,
    },
}

/// One tenant of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tenant {
    /// Name.
    pub id: TenantId,
    /// Geographies its data may be in.
    pub geographies: Vec<String>,
    /// What it pays for, the operator's own word.
    pub tier: String,
    /// Where it is in its life.
    pub state: TenantState,
    /// Where it may be placed.
    pub placing: Placing,
    /// Schema file, relative to the catalogue file that names it.
    pub schema: String,
    /// Device ids, or prefixes that end in `*`.
    pub devices: Vec<String>,
    /// Upper limits.
    pub quota: Quota,
    /// What it is expected to need of a stamp; counted when it is placed.
    pub expected: Load,
}

/// All stamps and tenants of one operator, each sorted by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Image of the service without its tag, such as `registry.example/stampworks`.
    pub image: String,
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) tenants: Vec<Tenant>,
}

impl Fleet {
    /// A fleet of these; sorted here. For tests and simulations that need no catalogue: nothing is
    /// checked, so ids must be unique.
    #[must_use]
    pub fn new(image: String, mut stamps: Vec<Stamp>, mut tenants: Vec<Tenant>) -> Self {
        stamps.sort_by(|a, b| a.id.cmp(&b.id));
        tenants.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            image,
            stamps,
            tenants,
        }
    }

    /// Every stamp, by id.
    #[must_use]
    pub fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }

    /// Every tenant, by id.
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The stamp of this name.
    #[must_use]
    pub fn stamp(&self, id: &StampId) -> Option<&Stamp> {
        self.stamp_index(id).map(|index| &self.stamps[index])
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        let found = self.tenants.binary_search_by(|tenant| tenant.id.cmp(id));
        found.ok().map(|index| &self.tenants[index])
    }

    pub(crate) fn stamp_index(&self, id: &StampId) -> Option<usize> {
        self.stamps.binary_search_by(|stamp| stamp.id.cmp(id)).ok()
    }
}
