//! What is used of each stamp and where each tenant is, as a file or the bookings say.

use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_consumer::ConfigError;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment, Fleet, Load, Stamp, Usage};
use stamp_reservations::ReservationsConfig;

use super::files::read_text;
use super::reservations::{self, Booked, configured};
use crate::exit::Failure;
use crate::output;

/// Largest usage or growth file that is read, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;

/// Where it is said.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// What is used of each stamp and where tenants are, in a file.
    #[arg(long, value_name = "FILE")]
    usage: Option<PathBuf>,
    /// The same as it is booked: the configuration file of a provisioner, or one with its section
    /// `[reservations]`. What the usage file says counts before it.
    #[arg(long, value_name = "FILE")]
    reservations: Option<PathBuf>,
}

impl UsageArgs {
    /// Reads both; without any nothing is used. Outside of a runtime only.
    pub(crate) fn load(&self, fleet: &Fleet) -> Result<UsageFile, Failure> {
        crate::runtime()?.block_on(self.read(fleet))
    }

    /// As [`Self::load`], inside of a runtime.
    pub(crate) async fn read(&self, fleet: &Fleet) -> Result<UsageFile, Failure> {
        let usage = UsageFile::load(self.usage.as_deref(), fleet)?;
        let Some(path) = &self.reservations else {
            return Ok(usage);
        };
        let (usage, strangers) = usage.with_bookings(fleet, &configured(path)?).await?;
        for stamp in strangers {
            output::note(&format!(
                "{stamp} has bookings and is no stamp of the fleet"
            ));
        }
        Ok(usage)
    }

    /// The stamp that a device is booked on.
    pub(crate) fn device(&self, device: &DeviceId) -> Result<Option<StampId>, Failure> {
        let path = self.reservations.as_deref();
        let found = path
            .map(|path| reservations::device(path, device))
            .transpose()?;
        Ok(found.flatten())
    }
}

/// What `--usage` of `stampworks fleet` and `device` reads: what is used of each stamp and where tenants are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UsageFile {
    /// What is used of each stamp; nothing of one that is not there.
    #[serde(default)]
    stamps: Vec<StampUsage>,
    /// Where tenants are.
    #[serde(default)]
    tenants: Vec<Assignment>,
    /// What the database says, when it was asked.
    #[serde(skip)]
    booked: Option<Booked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StampUsage {
    /// The stamp.
    #[schemars(with = "String")]
    id: StampId,
    /// Device identities in its IoT Hub.
    devices: Option<u64>,
    /// Messages a day, as IoT Hub meters them.
    messages_per_day: Option<u64>,
    /// Events a second, at the peak.
    events_per_second: Option<u64>,
    /// Bytes a second, at the peak.
    bytes_per_second: Option<u64>,
    /// Tenants. Counted from the section `tenants` when not given.
    tenants: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Assignment {
    /// The tenant.
    #[schemars(with = "String")]
    id: TenantId,
    /// The stamps it is on, at most one of each environment.
    #[schemars(with = "Vec<String>")]
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

    /// The same with what is booked, and the stamps with bookings that are not of the fleet. Inside of a
    /// runtime only.
    pub(crate) async fn with_bookings(
        self,
        fleet: &Fleet,
        database: &ReservationsConfig,
    ) -> Result<(Self, Vec<StampId>), Failure> {
        let booked = reservations::booked(database).await?;
        let strangers = booked.stamps().filter(|id| fleet.stamp(id).is_none());
        let strangers = strangers.cloned().collect();
        let booked = Some(booked);
        Ok((Self { booked, ..self }, strangers))
    }

    /// What is used of each stamp; nothing where nothing is said.
    pub(crate) fn usage(&self, fleet: &Fleet) -> Usage {
        let mut usage = Usage::none(fleet);
        for stamp in fleet.stamps() {
            let used = |load: Load, axis| {
                let known = self.known(&stamp.id, axis);
                load.with(axis, known.map_or(0, |(used, _)| used))
            };
            let load = Axis::ALL.into_iter().fold(Load::ZERO, used);
            usage.add(fleet, &stamp.id, load);
        }
        usage
    }

    /// What is known of a stamp on an axis, and who says so: the file by a number, the file by the
    /// tenants that it places there, the bookings.
    pub(crate) fn known(&self, stamp: &StampId, axis: Axis) -> Option<(u64, &'static str)> {
        let counted = || match (axis, self.tenants_of(stamp)) {
            (Axis::Tenants, tenants @ 1..) => Some(tenants),
            _ => None,
        };
        let said = self.said(stamp, axis).or_else(counted);
        let booked = || Some((self.booked.as_ref()?.of(stamp)[axis], "booked"));
        said.map(|used| (used, "usage file")).or_else(booked)
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
        let said = of.flat_map(|assigned| &assigned.stamps).find(is_there);
        let booked = || self.booked.as_ref()?.home(tenant, environment);
        said.or_else(booked).cloned()
    }

    /// Whether a stamp has to read for a tenant: it is on it, or is booked as leaving it, so that devices
    /// may still send there.
    pub(crate) fn is_on(&self, fleet: &Fleet, tenant: &TenantId, stamp: &Stamp) -> bool {
        let home = self.home(fleet, tenant, stamp.environment);
        let leaves = |booked: &Booked| booked.leaves(tenant, &stamp.id);
        home.as_ref() == Some(&stamp.id) || self.booked.as_ref().is_some_and(leaves)
    }

    /// Tenants that the file has on a stamp.
    fn tenants_of(&self, stamp: &StampId) -> u64 {
        let on = self
            .tenants
            .iter()
            .filter(|assigned| assigned.stamps.contains(stamp));
        on.count() as u64
    }

    /// What the file itself says of a stamp on an axis.
    fn said(&self, stamp: &StampId, axis: Axis) -> Option<u64> {
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
