//! What an IoT Hub is started with.

use std::sync::Arc;

use super::routing::Routing;
use crate::listen::Listen;
use crate::{Authority, Clock, EmulatorError, wall_clock};

/// An emulated IoT Hub.
#[derive(Clone)]
pub struct IotHubConfig {
    /// Where it listens, and its name.
    pub listen: Listen,
    /// Who signs its certificate. Clients trust [`Authority::pem`].
    pub authority: Arc<Authority>,
    /// Who may use the service API, and how. The default is `iothubowner` with every permission.
    pub policies: Vec<SharedAccessPolicy>,
    /// Where events go.
    pub routing: Routing,
    /// Size and speed.
    pub sku: Sku,
    /// The time.
    pub clock: Clock,
}

impl IotHubConfig {
    /// A hub of the default kind.
    #[must_use]
    pub fn new(listen: Listen, authority: Arc<Authority>) -> Self {
        Self {
            listen,
            authority,
            policies: vec![SharedAccessPolicy::owner()],
            routing: Routing::default(),
            sku: Sku::default(),
            clock: wall_clock(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), EmulatorError> {
        let bad = |text: &str| Err(EmulatorError::Config(text.to_owned()));
        if self.policies.is_empty() {
            return bad("policies: at least one is needed");
        }
        if !(1..=200).contains(&self.sku.units) {
            return bad("sku.units must be 1 to 200");
        }
        Ok(())
    }
}

impl std::fmt::Debug for IotHubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IotHubConfig")
            .field("listen", &self.listen)
            .field("sku", &self.sku)
            .finish_non_exhaustive()
    }
}

/// A named key of the hub. Keys are no secret here; they are checked all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedAccessPolicy {
    /// Its name: the `skn` of tokens.
    pub name: String,
    /// Its key, base64.
    pub key: String,
    /// What it opens.
    pub permissions: Vec<Permission>,
}

impl SharedAccessPolicy {
    /// `iothubowner`, with every permission and a well-known key.
    #[must_use]
    pub fn owner() -> Self {
        Self {
            name: "iothubowner".to_owned(),
            key: "c3RhbXAtZW11bGF0b3ItaW90aHVib3duZXI=".to_owned(),
            permissions: vec![
                Permission::RegistryRead,
                Permission::RegistryWrite,
                Permission::ServiceConnect,
                Permission::DeviceConnect,
            ],
        }
    }
}

/// What a policy opens (IoT Hub's access control by shared access signatures).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reading device identities.
    RegistryRead,
    /// Writing them; includes reading.
    RegistryWrite,
    /// Twins, queries, methods.
    ServiceConnect,
    /// Being any device.
    DeviceConnect,
}

/// A hub's tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Standard 1.
    S1,
    /// Standard 2.
    S2,
    /// Standard 3.
    S3,
}

/// Size and speed of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sku {
    /// The tier.
    pub tier: Tier,
    /// How many units, 1 to 200.
    pub units: u32,
    /// Whether quotas and throttles hold (429001, 403002). Default `false`: tests run at full speed
    /// unless they are about throttling.
    pub enforced: bool,
}

impl Default for Sku {
    fn default() -> Self {
        Self {
            tier: Tier::S1,
            units: 1,
            enforced: false,
        }
    }
}

impl Sku {
    /// Most devices of a hub, whatever its tier.
    pub(crate) const DEVICES_MAX: usize = 1_000_000;

    /// Messages of a day.
    pub(crate) fn messages_per_day(self) -> u64 {
        let per_unit = match self.tier {
            Tier::S1 => 400_000,
            Tier::S2 => 6_000_000,
            Tier::S3 => 300_000_000,
        };
        per_unit * u64::from(self.units)
    }

    /// Registry operations of a minute.
    pub(crate) fn registry_per_minute(self) -> u64 {
        let per_unit = if self.tier == Tier::S3 { 5_000 } else { 100 };
        per_unit * u64::from(self.units)
    }

    /// Telemetry messages of a second; connections have the same figure.
    pub(crate) fn sends_per_second(self) -> u64 {
        let units = u64::from(self.units);
        match self.tier {
            Tier::S1 => (12 * units).max(100),
            Tier::S2 => 120 * units,
            Tier::S3 => 6_000 * units,
        }
    }

    /// Queries of a minute.
    pub(crate) fn queries_per_minute(self) -> u64 {
        let per_unit = if self.tier == Tier::S3 { 1_000 } else { 20 };
        per_unit * u64::from(self.units)
    }

    /// Twin changes of a second.
    pub(crate) fn twin_updates_per_second(self) -> u64 {
        let units = u64::from(self.units);
        match self.tier {
            Tier::S1 => 50,
            Tier::S2 => (5 * units).max(50),
            Tier::S3 => 250 * units,
        }
    }
}
