//! Which device goes where, decided before anything is done. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::placement::{Outcome, Refusal};
use stamp_placement::{Answer, Environment, Fleet, Planner, Request, Stamp, StampState, Usage};

/// Most devices of one move.
pub(crate) const DEVICES_MAX: usize = 1_000_000;
/// Longest registration id (limits of DPS).
const REGISTRATION_CHARS_MAX: usize = 128;

/// A device that is to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its id in the hub.
    pub device: DeviceId,
    /// Its id at DPS, when that is another.
    pub registration: Option<String>,
}

/// Where devices go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// All to this stamp.
    Stamp(StampId),
    /// Each to the stamp that its tenant is on, or would get, in this environment.
    Place {
        /// `Production`, when devices leave a test stamp.
        environment: Environment,
        /// Where tenants are already.
        homes: BTreeMap<TenantId, StampId>,
    },
}

/// A stamp that devices leave or come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Side {
    /// The stamp.
    pub stamp: StampId,
    /// Host name of its IoT Hub, as DPS knows it.
    pub hub: String,
    /// Registry operations a minute that its tier takes.
    pub registry_per_minute: u64,
    /// Twin reads a minute that its tier takes.
    pub twin_reads_per_minute: u64,
}

impl Side {
    fn of(stamp: &Stamp) -> Self {
        let (tier, units) = (stamp.iot_hub.tier, stamp.iot_hub.units);
        Self {
            stamp: stamp.id.clone(),
            hub: stamp.iot_hub.name.clone(),
            registry_per_minute: tier.registry_per_minute(units),
            twin_reads_per_minute: tier.twin_reads_per_minute(units),
        }
    }
}

/// One device and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedDevice {
    /// Its id in the hubs.
    #[serde(with = "device_text")]
    pub device: DeviceId,
    /// Its id at DPS.
    pub registration: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The stamp that it goes to.
    pub target: StampId,
}

/// A device's id as a text.
mod device_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use stamp_model::DeviceId;

    pub(super) fn serialize<S: Serializer>(id: &DeviceId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DeviceId, D::Error> {
        let text = String::deserialize(from)?;
        DeviceId::parse(text.as_str().into()).map_err(D::Error::custom)
    }
}

/// A move: everything that is decided before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stamp that the devices leave.
    pub source: Side,
    /// The stamps that they go to.
    pub targets: BTreeMap<StampId, Side>,
    /// The devices in the order in which they were named.
    pub devices: Vec<PlannedDevice>,
}

/// Why a device, or the whole move, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanProblem {
    /// The catalogue has no such stamp.
    #[error("{0} is no stamp of the fleet")]
    UnknownStamp(StampId),
    /// Nothing comes to a stamp in this state.
    #[error("stamp {stamp} is {state}: no device comes to it")]
    StampState {
        /// The stamp.
        stamp: StampId,
        /// Its state.
        state: StampState,
    },
    /// Source and target are the same.
    #[error("device {device} is on stamp {stamp} and would go there")]
    SameStamp {
        /// The device.
        device: String,
        /// The stamp.
        stamp: StampId,
    },
    /// No device is named.
    #[error("no device is named")]
    Nothing,
    /// Over a million.
    #[error("{0} devices; one move has at most {DEVICES_MAX}")]
    TooMany(usize),
    /// A registration id that DPS cannot have.
    #[error(
        "device {device}: registration id {registration:?} is not 1 to {REGISTRATION_CHARS_MAX} letters, digits and -._:"
    )]
    Registration {
        /// The device.
        device: String,
        /// Its registration id, at most 200 characters of it.
        registration: String,
    },
    /// A device is named twice.
    #[error("device {0} is named twice")]
    Twice(String),
    /// No tenant of the catalogue has the device.
    #[error("device {0} belongs to no tenant of the fleet: see `devices` of the tenants")]
    NoTenant(String),
    /// Its tenant's data may not be where the target is.
    #[error(
        "device {device} may not go to stamp {stamp}: data of tenant {tenant} may not be in {geography}"
    )]
    Residency {
        /// The device.
        device: String,
        /// Its tenant.
        tenant: TenantId,
        /// The target.
        stamp: StampId,
        /// Where the target is.
        geography: String,
    },
    /// The target is another tenant's own.
    #[error(
        "device {device} of tenant {tenant} may not go to stamp {stamp}, which is dedicated to {owner}"
    )]
    Dedicated {
        /// The device.
        device: String,
        /// Its tenant.
        tenant: TenantId,
        /// The target.
        stamp: StampId,
        /// Whose it is.
        owner: TenantId,
    },
    /// Placement has no stamp for it.
    #[error("device {device} of tenant {tenant} has no stamp: {refusal}")]
    NotPlaced {
        /// The device.
        device: String,
        /// Its tenant.
        tenant: TenantId,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The target has no room for so many.
    #[error(
        "stamp {stamp} has no room for {more} devices more: its hard limit is {limit} and {used} are used"
    )]
    NoRoom {
        /// The target.
        stamp: StampId,
        /// Devices of this move that go there.
        more: u64,
        /// Devices it may have.
        limit: u64,
        /// Devices it has.
        used: u64,
    },
}

/// Decides where each device goes.
///
/// `usage` is what the stamps have already. Refused as a whole: a move that begins has no device that
/// may not go.
///
/// # Errors
/// Every problem, those of devices in their order.
pub fn plan(
    fleet: &Fleet,
    usage: &Usage,
    source: &StampId,
    destination: &Destination,
    wanted: &[Wanted],
) -> Result<Plan, Vec<PlanProblem>> {
    let mut problems = Vec::new();
    let unknown = || vec![PlanProblem::UnknownStamp(source.clone())];
    let from = fleet.stamp(source).ok_or_else(unknown)?;
    if let Destination::Stamp(stamp) = destination {
        check_target(fleet, stamp).map_err(|problem| vec![problem])?;
    }
    if wanted.is_empty() {
        return Err(vec![PlanProblem::Nothing]);
    }
    if wanted.len() > DEVICES_MAX {
        return Err(vec![PlanProblem::TooMany(wanted.len())]);
    }
    let owned = owners(fleet, wanted, &mut problems);
    let planner = Planner::new(fleet);
    let found = match destination {
        Destination::Stamp(stamp) => {
            let checked = |(wanted, tenant): &Owned<'_>| checked(fleet, wanted, tenant, stamp);
            owned.iter().map(checked).collect()
        }
        Destination::Place { environment, homes } => {
            placed(&planner, usage, *environment, homes, &owned)
        }
    };
    let mut devices = Vec::with_capacity(wanted.len());
    for ((wanted, tenant), target) in owned.iter().zip(found) {
        match target.and_then(|target| planned(wanted, tenant, source, target)) {
            Ok(planned) => devices.push(planned),
            Err(problem) => problems.push(problem),
        }
    }
    let mut counts: BTreeMap<&StampId, u64> = BTreeMap::new();
    for device in &devices {
        *counts.entry(&device.target).or_default() += 1;
    }
    problems.extend(
        counts
            .iter()
            .filter_map(|(stamp, more)| no_room(fleet, usage, stamp, *more)),
    );
    if !problems.is_empty() {
        return Err(problems);
    }
    let side = |stamp: &&StampId| Some(((*stamp).clone(), Side::of(fleet.stamp(stamp)?)));
    Ok(Plan {
        source: Side::of(from),
        targets: counts.keys().filter_map(side).collect(),
        devices,
    })
}

fn check_target(fleet: &Fleet, stamp: &StampId) -> Result<(), PlanProblem> {
    let found = fleet.stamp(stamp);
    let found = found.ok_or_else(|| PlanProblem::UnknownStamp(stamp.clone()))?;
    match found.state {
        StampState::Active => Ok(()),
        state => Err(PlanProblem::StampState {
            stamp: stamp.clone(),
            state,
        }),
    }
}

fn no_room(fleet: &Fleet, usage: &Usage, stamp: &StampId, more: u64) -> Option<PlanProblem> {
    use stamp_placement::Axis::Devices;
    let limit = fleet.stamp(stamp)?.capacity[Devices].hard;
    let used = usage.of(fleet, stamp)[Devices];
    (used.saturating_add(more) > limit).then(|| PlanProblem::NoRoom {
        stamp: stamp.clone(),
        more,
        limit,
        used,
    })
}

/// A device with its tenant.
type Owned<'a> = (&'a Wanted, &'a TenantId);

/// The devices that a tenant has, each once; what is wrong with the others goes to `problems`.
fn owners<'a>(
    fleet: &'a Fleet,
    wanted: &'a [Wanted],
    problems: &mut Vec<PlanProblem>,
) -> Vec<Owned<'a>> {
    let tenants = Tenants::new(fleet);
    let mut seen = BTreeSet::new();
    let mut owned = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let device = wanted.device.as_str();
        match tenants.of(device) {
            _ if !seen.insert(device) => problems.push(PlanProblem::Twice(device.to_owned())),
            Some(tenant) => owned.push((wanted, tenant)),
            None => problems.push(PlanProblem::NoTenant(device.to_owned())),
        }
    }
    owned
}

fn planned(
    wanted: &Wanted,
    tenant: &TenantId,
    source: &StampId,
    target: StampId,
) -> Result<PlannedDevice, PlanProblem> {
    if target == *source {
        return Err(PlanProblem::SameStamp {
            device: wanted.device.as_str().to_owned(),
            stamp: target,
        });
    }
    let registration = wanted.registration.clone();
    let registration = registration.unwrap_or_else(|| wanted.device.as_str().to_owned());
    if !is_registration(&registration) {
        return Err(PlanProblem::Registration {
            device: wanted.device.as_str().to_owned(),
            registration: registration.chars().take(200).collect(),
        });
    }
    Ok(PlannedDevice {
        registration,
        device: wanted.device.clone(),
        tenant: tenant.clone(),
        target,
    })
}

fn is_registration(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (1..=REGISTRATION_CHARS_MAX).contains(&text.len()) && text.bytes().all(good)
}

/// A stamp that was named: residency and ownership hold all the same.
fn checked(
    fleet: &Fleet,
    wanted: &Wanted,
    tenant: &TenantId,
    stamp: &StampId,
) -> Result<StampId, PlanProblem> {
    let unknown = || PlanProblem::UnknownStamp(stamp.clone());
    let target = fleet.stamp(stamp).ok_or_else(unknown)?;
    let device = wanted.device.as_str().to_owned();
    let owner = fleet.tenant(tenant);
    if !owner.is_some_and(|owner| owner.geographies.contains(&target.geography)) {
        return Err(PlanProblem::Residency {
            device,
            tenant: tenant.clone(),
            stamp: stamp.clone(),
            geography: target.geography.clone(),
        });
    }
    match &target.dedicated_to {
        Some(owner) if owner != tenant => Err(PlanProblem::Dedicated {
            device,
            tenant: tenant.clone(),
            stamp: stamp.clone(),
            owner: owner.clone(),
        }),
        _ => Ok(stamp.clone()),
    }
}

/// Stamps by placement, all at once: devices of a tenant without a home go where the first goes.
fn placed(
    planner: &Planner<'_>,
    usage: &Usage,
    environment: Environment,
    homes: &BTreeMap<TenantId, StampId>,
    owned: &[Owned<'_>],
) -> Vec<Result<StampId, PlanProblem>> {
    let request = |(wanted, tenant): &Owned<'_>| {
        let home = homes.get(*tenant).cloned();
        Request {
            environment: Some(environment),
            ..Request::device((*tenant).clone(), wanted.device.clone(), home)
        }
    };
    let requests: Vec<Request> = owned.iter().map(request).collect();
    let answers = planner.place_all(&mut usage.clone(), &requests);
    let target = |answer: Answer| match answer.outcome {
        Outcome::Placed { stamp, .. } => Ok(stamp),
        Outcome::Refused(refusal) => Err(PlanProblem::NotPlaced {
            device: answer.device.unwrap_or_default(),
            tenant: answer.tenant,
            refusal: Box::new(refusal),
        }),
    };
    answers.into_iter().map(target).collect()
}

/// Which tenant a device belongs to, by the catalogue: an id, else the longest prefix.
struct Tenants<'f> {
    exact: BTreeMap<&'f str, &'f TenantId>,
    prefixes: BTreeMap<&'f str, &'f TenantId>,
}

impl<'f> Tenants<'f> {
    fn new(fleet: &'f Fleet) -> Self {
        let mut tenants = Self {
            exact: BTreeMap::new(),
            prefixes: BTreeMap::new(),
        };
        for tenant in fleet.tenants() {
            for entry in &tenant.devices {
                match entry.strip_suffix('*') {
                    Some(prefix) => tenants.prefixes.insert(prefix, &tenant.id),
                    None => tenants.exact.insert(entry.as_str(), &tenant.id),
                };
            }
        }
        tenants
    }

    fn of(&self, device: &str) -> Option<&'f TenantId> {
        let ends = (0..=device.len())
            .rev()
            .filter(|end| device.is_char_boundary(*end));
        let mut prefixes = ends.filter_map(|end| self.prefixes.get(&device[..end]));
        let exact = self.exact.get(device);
        exact.or_else(|| prefixes.next()).copied()
    }
}

/// Registry operations at the source for one device: recorded 1, disabled 2, erased 2, audited 1.
const SOURCE_OPERATIONS: u64 = 6;
/// At the target: looked for 1, made room for 1, audited 1. DPS makes the device there by itself.
const TARGET_OPERATIONS: u64 = 3;

impl Plan {
    /// How long the move takes at least by the hubs' limits, of which it uses a share, in minutes:
    /// without waiting for devices, and without keeping them at the source.
    #[must_use]
    pub fn minutes_at_least(&self, share_of_limits: f64) -> u64 {
        let minutes = |side: &Side, devices: usize, operations: u64| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "an estimate of minutes, from counts far below 2^53"
            )]
            let least = (devices as u64 * operations) as f64
                / (side.registry_per_minute as f64 * share_of_limits).max(1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "as above, and never below 0"
            )]
            let whole = least.ceil() as u64;
            whole
        };
        let mut counts: BTreeMap<&StampId, usize> = BTreeMap::new();
        for device in &self.devices {
            *counts.entry(&device.target).or_default() += 1;
        }
        let targets = self.targets.iter().map(|(stamp, side)| {
            minutes(
                side,
                counts.get(stamp).copied().unwrap_or_default(),
                TARGET_OPERATIONS,
            )
        });
        let source = minutes(&self.source, self.devices.len(), SOURCE_OPERATIONS);
        targets.fold(source, u64::max)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} devices from {} ({})",
            self.devices.len(),
            self.source.stamp,
            self.source.hub
        )?;
        for (stamp, side) in &self.targets {
            let count = self
                .devices
                .iter()
                .filter(|device| device.target == *stamp)
                .count();
            write!(f, ", {count} to {stamp} ({})", side.hub)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
