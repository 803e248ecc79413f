//! Which stamp, by the catalogue and what is used of it. Functions of their arguments: no I/O, no
//! clock, nothing is booked.

use std::collections::{BTreeMap, HashMap};

use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::placement::{Objection, Outcome, Refusal, Why};
use stamp_placement::{
    Answer, Axis, Directory, Environment, Fleet, Load, Placing, Planner, Request, Stamp, Tenant,
    Usage,
};

use crate::webhook::Registration;
use crate::{Reason, Refused};

/// What is used of each stamp; nothing, where nothing is said.
pub(crate) type Used = BTreeMap<StampId, Load>;

/// A fleet, prepared for questions.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) fleet: Fleet,
    directory: Directory,
    /// Host names in lower case.
    hubs: HashMap<String, StampId>,
}

impl Snapshot {
    pub(crate) fn new(fleet: Fleet) -> Self {
        let directory = Directory::new(&fleet);
        let stamps = fleet.stamps().iter();
        let hubs = stamps.map(|s| (s.iot_hub.name.to_ascii_lowercase(), s.id.clone()));
        Self {
            hubs: hubs.collect(),
            directory,
            fleet,
        }
    }

    fn stamp_of_hub(&self, host: &str) -> Option<&StampId> {
        self.hubs.get(&host.to_ascii_lowercase())
    }

    pub(crate) fn tenant_of(&self, device: &DeviceId) -> Option<&TenantId> {
        self.directory.tenant_of(device)
    }

    /// The environment that a tenant is in when nobody says another.
    pub(crate) fn environment_of(&self, tenant: &Tenant) -> Environment {
        let named = match &tenant.placing {
            Placing::Stamps(named) => named.as_slice(),
            Placing::Rule { .. } => &[],
        };
        let request = Request::tenant(tenant);
        self.fleet_of(tenant, named, |planner| planner.environment_of(&request))
    }

    /// Asks a planner of a few stamps and one tenant: it answers the same as one of the whole fleet
    /// that rejected all others, and is made in microseconds.
    fn fleet_of<'a, T>(
        &'a self,
        tenant: &Tenant,
        stamps: impl IntoIterator<Item = &'a StampId>,
        ask: impl FnOnce(&Planner<'_>) -> T,
    ) -> T {
        let mut ids: Vec<&StampId> = stamps.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let stamps = ids
            .iter()
            .filter_map(|id| self.fleet.stamp(id))
            .cloned()
            .collect();
        let few = Fleet::new(self.fleet.image.clone(), stamps, vec![tenant.clone()]);
        ask(&Planner::new(&few))
    }
}

/// What a registration comes to in terms of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) device: DeviceId,
    pub(crate) tenant: TenantId,
    pub(crate) environment: Environment,
    /// Stamps of the hubs that it may be assigned to, never none.
    pub(crate) linked: Vec<StampId>,
    /// The one stamp, when its enrolment names one hub and no other: the operator has decided, and
    /// DPS takes nothing else.
    pub(crate) pinned: Option<StampId>,
    /// The stamp of the hub that DPS assigned it to last.
    pub(crate) current: Option<StampId>,
}

impl Question {
    /// # Errors
    /// `unknown-tenant`, `tenant-mismatch`, `no-linked-stamp`.
    pub(crate) fn of(snapshot: &Snapshot, registration: &Registration) -> Result<Self, Refused> {
        let tenant = tenant_of(snapshot, registration)?;
        let hubs = registration.linked_hubs.iter();
        let linked: Vec<StampId> = hubs
            .filter_map(|hub| snapshot.stamp_of_hub(hub))
            .cloned()
            .collect();
        if linked.is_empty() {
            let hubs = registration.linked_hubs.join(", ");
            let message = format!("no stamp of the catalogue has one of the hubs {hubs}");
            return Err(Refused::new(Reason::NoLinkedStamp, message));
        }
        let current = registration.current_hub.as_deref();
        let pinned = match registration.linked_hubs.as_slice() {
            [_] => linked.first().and_then(|id| snapshot.fleet.stamp(id)),
            _ => None,
        };
        Ok(Self {
            device: registration.device.clone(),
            environment: match pinned {
                Some(stamp) => stamp.environment,
                None => environment(snapshot, registration, tenant, &linked),
            },
            tenant: tenant.id.clone(),
            pinned: pinned.map(|stamp| stamp.id.clone()),
            linked,
            current: current.and_then(|hub| snapshot.stamp_of_hub(hub)).cloned(),
        })
    }
}

/// The catalogue's entries decide; the enrolment speaks for devices that they do not list.
fn tenant_of<'s>(
    snapshot: &'s Snapshot,
    registration: &Registration,
) -> Result<&'s Tenant, Refused> {
    let listed = snapshot.tenant_of(&registration.device);
    let device = &registration.device;
    let id = match (listed, &registration.enrolled_tenant) {
        (Some(listed), Some(enrolled)) if listed != enrolled => {
            let message =
                format!("the catalogue says {listed} of {device}, the enrolment {enrolled}");
            return Err(Refused::new(Reason::TenantMismatch, message));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            let message = format!(
                "no tenant of the catalogue has {device}, and its enrolment has no tag `tenant`"
            );
            return Err(Refused::new(Reason::UnknownTenant, message));
        }
    };
    let tenant = snapshot.fleet.tenant(id);
    tenant.ok_or_else(|| unknown_tenant(id))
}

pub(crate) fn unknown_tenant(id: &TenantId) -> Refused {
    Refused::new(
        Reason::UnknownTenant,
        format!("the catalogue has no tenant {id}"),
    )
}

/// The enrolment's word; else that of its hubs, when they are all for one; else the tenant's own.
fn environment(
    snapshot: &Snapshot,
    registration: &Registration,
    tenant: &Tenant,
    linked: &[StampId],
) -> Environment {
    if let Some(environment) = registration.enrolled_environment {
        return environment;
    }
    let of = |id: &StampId| snapshot.fleet.stamp(id).map(|stamp| stamp.environment);
    let first = linked.first().and_then(of);
    match first {
        Some(first) if linked.iter().all(|id| of(id) == Some(first)) => first,
        _ => snapshot.environment_of(tenant),
    }
}

/// A place for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is there and stays.
    Stays(StampId),
    /// It goes there.
    Goes(StampId),
}

/// Where a tenant's home is, or is to be.
///
/// # Errors
/// The refusal of the planner; `home-not-linked` when its stamp is no hub of the enrolment's.
pub(crate) fn home(
    snapshot: &Snapshot,
    used: &Used,
    question: &Question,
    current: Option<&StampId>,
) -> Result<Place, Refused> {
    let tenant = tenant(snapshot, question)?;
    let mut request = Request::tenant(tenant);
    request.needs = tenant_needs(tenant);
    request.environment = Some(question.environment);
    request.current = current.cloned();
    let place = place(snapshot, used, question, tenant, &request)?;
    let (Place::Stays(stamp) | Place::Goes(stamp)) = &place;
    if !question.linked.contains(stamp) {
        let message = format!(
            "{} is on {stamp}, whose hub the enrolment does not link",
            tenant.id
        );
        return Err(Refused::new(Reason::HomeNotLinked, message));
    }
    Ok(place)
}

/// Whether an enrolment that names one hub overrules this refusal of a home there: where a tenant is
/// or should be is not asked then. Residency, room and the tenant's state are.
pub(crate) fn is_overruled(refused: &Refused) -> bool {
    matches!(
        refused.reason,
        Reason::HomeNotLinked | Reason::NoneNamed | Reason::NoStampFits
    )
}

/// Where a device goes whose tenant is on `home`: there, or where its enrolment pins it to.
///
/// # Errors
/// The refusal of the planner.
pub(crate) fn device(
    snapshot: &Snapshot,
    used: &Used,
    question: &Question,
    current: Option<&StampId>,
    home: &StampId,
) -> Result<Place, Refused> {
    let mut tenant = tenant(snapshot, question)?.clone();
    let home = match &question.pinned {
        // As if the catalogue named it: kind and ring are the operator's choice then.
        Some(pinned) => {
            tenant.placing = Placing::Stamps(vec![pinned.clone()]);
            pinned
        }
        None => home,
    };
    let tenant = &tenant;
    let device = question.device.clone();
    let mut request = Request::device(tenant.id.clone(), device, Some(home.clone()));
    request.environment = Some(question.environment);
    request.current = current.cloned();
    place(snapshot, used, question, tenant, &request)
}

fn tenant<'s>(snapshot: &'s Snapshot, question: &Question) -> Result<&'s Tenant, Refused> {
    let tenant = snapshot.fleet.tenant(&question.tenant);
    tenant.ok_or_else(|| unknown_tenant(&question.tenant))
}

/// What a tenant is looked for room for: everything it is expected to need, and the device that it
/// comes with.
fn tenant_needs(tenant: &Tenant) -> Load {
    let devices = tenant.expected[Axis::Devices].max(1);
    tenant
        .expected
        .with(Axis::Tenants, 1)
        .with(Axis::Devices, devices)
}

/// What a tenant's own booking takes. Its devices are booked one by one when they come.
pub(crate) fn tenant_books(tenant: &Tenant) -> Load {
    tenant_needs(tenant).with(Axis::Devices, 0)
}

/// What a device's booking takes.
pub(crate) fn device_books() -> Load {
    Load::ZERO.with(Axis::Devices, 1)
}

fn place(
    snapshot: &Snapshot,
    used: &Used,
    question: &Question,
    tenant: &Tenant,
    request: &Request,
) -> Result<Place, Refused> {
    let others = request.current.iter().chain(&request.home);
    let answer = snapshot.fleet_of(tenant, question.linked.iter().chain(others), |planner| {
        let mut usage = Usage::none(planner.fleet());
        for (stamp, load) in used {
            usage.set(planner.fleet(), stamp, *load);
        }
        let answer = planner.place(&usage, request);
        match answer.outcome {
            // Only a refusal needs every stamp's reasons.
            Outcome::Refused(Refusal::NoneFits { .. }) => planner.explain(&usage, request),
            _ => answer,
        }
    });
    match &answer.outcome {
        Outcome::Placed {
            stamp,
            why: Why::Stays,
            ..
        } => Ok(Place::Stays(stamp.clone())),
        Outcome::Placed { stamp, .. } => Ok(Place::Goes(stamp.clone())),
        Outcome::Refused(refusal) => Err(refused(refusal, &answer)),
    }
}

fn refused(refusal: &Refusal, answer: &Answer) -> Refused {
    let abroad = |objections: &[Objection]| {
        objections
            .iter()
            .any(|objection| matches!(objection, Objection::Geography(_)))
    };
    let full = |objections: &[Objection]| {
        objections
            .iter()
            .all(|objection| matches!(objection, Objection::Full { .. }))
    };
    let reason = match refusal {
        Refusal::UnknownTenant => Reason::UnknownTenant,
        Refusal::TenantState(_) => Reason::TenantState,
        Refusal::NoneNamed => Reason::NoneNamed,
        Refusal::Home { objections, .. } if abroad(objections) => Reason::Residency,
        Refusal::Home { objections, .. } if full(objections) => Reason::NoCapacity,
        Refusal::Home { .. } => Reason::NoStampFits,
        Refusal::NoneFits { full: 1.. } => Reason::NoCapacity,
        Refusal::NoneFits { full: 0 }
            if answer
                .rejected
                .iter()
                .all(|rejected| abroad(&rejected.objections)) =>
        {
            Reason::Residency
        }
        Refusal::NoneFits { .. } => Reason::NoStampFits,
    };
    Refused::new(reason, format!("{}: {refusal}", answer.tenant))
}

/// Whether more room could change this refusal.
pub(crate) fn is_about_room(refused: &Refused) -> bool {
    refused.reason == Reason::NoCapacity
}

/// The stamp of a booking, which the catalogue may have lost.
pub(crate) fn stamp<'s>(snapshot: &'s Snapshot, id: &StampId) -> Result<&'s Stamp, Refused> {
    snapshot.fleet.stamp(id).ok_or_else(|| {
        Refused::new(
            Reason::NoStampFits,
            format!("{id} is not in the catalogue any more"),
        )
    })
}
