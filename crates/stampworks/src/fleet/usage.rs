//! What is used of each stamp and where each tenant is, as a file says.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stamp_consumer::ConfigError;
use stamp_model::{StampId, TenantId};
use stamp_placement::{Axis, Environment, Fleet, Load, Usage};

use super::files::read_text;
use crate::exit::Failure;

/// Largest usage or growth file that is read, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;

/// The content of a usage file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UsageFile {
    /// What is used of each stamp; nothing of one that is not there.
    #[serde(default)]
    stamps: Vec<StampUsage>,
    /// Where tenants are.
    #[serde(default)]
    tenants: Vec<Assignment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StampUsage {
    id: StampId,
    devices: Option<u64>,
    messages_per_day: Option<u64>,
    events_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
    tenants: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Assignment {
    id: TenantId,
    /// At most one of each environment.
    stamps: Vec<StampId>,
}

impl UsageFile {
    /// Reads a usage file and checks its names against the fleet; without one nothing is used.
    pub(crate) fn load(path: Option<&Path>, fleet: &Fleet) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let file: Self = read_toml(path)?;
        let named = file.stamps.iter().map(|stamp| &stamp.id);
        let assigned = file.tenants.iter().flat_map(|tenant| &tenant.stamps);
        let key = path.display();
        if let Some(stamp) = named.chain(assigned).find(|id| fleet.stamp(id).is_none()) {
            let why = format!("{stamp} is no stamp of the fleet");
            return Err(ConfigError::value(format!("{key}: stamps"), why).into());
        }
        if let Some(tenant) = file.tenants.iter().find(|t| fleet.tenant(&t.id).is_none()) {
            let why = format!("{} is no tenant of the fleet", tenant.id);
            return Err(ConfigError::value(format!("{key}: tenants"), why).into());
        }
        Ok(file)
    }

    /// What is used of each stamp. Tenants are counted here, unless the file has a number.
    pub(crate) fn usage(&self, fleet: &Fleet) -> Usage {
        let mut usage = Usage::none(fleet);
        for stamp in &self.stamps {
            usage.add(fleet, &stamp.id, stamp.load());
        }
        for stamp in fleet.stamps() {
            if usage.of(fleet, &stamp.id)[Axis::Tenants] == 0 {
                let load = Load::ZERO.with(Axis::Tenants, self.tenants_of(&stamp.id));
                usage.add(fleet, &stamp.id, load);
            }
        }
        usage
    }

    /// The stamp of a tenant in an environment.
    pub(crate) fn home(
        &self,
        fleet: &Fleet,
        tenant: &TenantId,
        environment: Environment,
    ) -> Option<StampId> {
        let of = self
            .tenants
            .iter()
            .filter(|assigned| assigned.id == *tenant);
        let is_there = |id: &&StampId| {
            fleet
                .stamp(id)
                .is_some_and(|stamp| stamp.environment == environment)
        };
        of.flat_map(|assigned| &assigned.stamps)
            .find(is_there)
            .cloned()
    }

    /// Tenants that are on a stamp.
    pub(crate) fn tenants_of(&self, stamp: &StampId) -> u64 {
        let on = self
            .tenants
            .iter()
            .filter(|assigned| assigned.stamps.contains(stamp));
        on.count() as u64
    }

    /// What the file itself says of a stamp on an axis.
    pub(crate) fn said(&self, stamp: &StampId, axis: Axis) -> Option<u64> {
        let stamp = self.stamps.iter().find(|said| said.id == *stamp)?;
        stamp.on(axis)
    }
}

impl StampUsage {
    fn on(&self, axis: Axis) -> Option<u64> {
        match axis {
            Axis::Devices => self.devices,
            Axis::MessagesPerDay => self.messages_per_day,
            Axis::EventsPerSecond => self.events_per_second,
            Axis::BytesPerSecond => self.bytes_per_second,
            Axis::Tenants => self.tenants,
        }
    }

    fn load(&self) -> Load {
        let said = |load: Load, axis| load.with(axis, self.on(axis).unwrap_or(0));
        Axis::ALL.into_iter().fold(Load::ZERO, said)
    }
}

/// Reads a TOML file whose unknown keys are refused with their line.
pub(crate) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = read_text(path, FILE_BYTES_MAX)?;
    toml::from_str(&text).map_err(|cause| {
        let path: PathBuf = path.to_owned();
        let cause = Box::new(cause);
        Failure::Config(ConfigError::Syntax { path, cause })
    })
}
