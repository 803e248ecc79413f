//! One attempt at one act: reads the record, writes it with the entity tag it has just read, and
//! writes it even when it already looks right, so that a request of a dead process that is still
//! on its way cannot land after this one.

use serde_json::{Value, json};
use stamp_iothub::{
    BulkMode, Device, DeviceRegistry, DeviceStatus, Enrollment, EnrollmentKind,
    ProvisioningService, ServiceError,
};
use stamp_placement::device_move::{Obstacle, Outcome};
use stamp_resilience::{Classify, FailureKind};

use crate::journal::KEPT_BYTES_MAX;
use crate::kept::Kept;
use crate::plan::PlannedDevice;

/// What the mover writes as the reason of a device's status, before the rest. Devices at a target
/// that carry it were disabled by an earlier move that was taken back.
const MARK: &str = "stampworks move";

/// Why an attempt at an act failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The service said no, or nothing.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Somebody wrote the record between our read and our write. Transient: read it again.
    #[error("{what} was changed while it was being written")]
    Raced {
        /// Which record.
        what: String,
        /// The refusal.
        #[source]
        source: Option<ServiceError>,
    },
    /// It is not ours to do. Permanent.
    #[error("{why}")]
    Obstacle {
        /// What a person has to look at.
        obstacle: Obstacle,
        /// Names device, hub or enrolment.
        why: String,
    },
}

impl Classify for ActError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Service(error) => error.kind(),
            Self::Raced { .. } => FailureKind::Transient,
            Self::Obstacle { .. } => FailureKind::Permanent,
        }
    }
}

/// Whether a move gave the device its status.
fn is_marked(device: &Device) -> bool {
    let reason = device.status_reason();
    reason.is_some_and(|reason| reason.starts_with(MARK))
}

fn obstacle<T>(obstacle: Obstacle, why: String) -> Result<T, ActError> {
    Err(ActError::Obstacle { obstacle, why })
}

/// A missing record as `None`.
fn found<T>(answer: Result<T, ServiceError>) -> Result<Option<T>, ServiceError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ServiceError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The answer to a write with an entity tag: gone is absent, another tag is a race.
fn written<T>(what: String, answer: Result<T, ServiceError>) -> Result<Outcome, ActError> {
    match answer {
        Ok(_) => Ok(Outcome::Done),
        Err(ServiceError::NotFound(_)) => Ok(Outcome::Absent),
        Err(source @ (ServiceError::Changed(_) | ServiceError::Exists(_))) => {
            Err(ActError::Raced {
                what,
                source: Some(source),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// The enrolment that decides about a device now: its own, else the group it came by.
pub(crate) async fn read_enrollment(
    dps: &impl ProvisioningService,
    device: &PlannedDevice,
) -> Result<Enrollment, ActError> {
    let id = &device.registration;
    let name = dps.name();
    if let Some(own) = found(dps.enrollment(EnrollmentKind::Individual, id).await)? {
        // DPS ids have no case, so an enrolment without a device id cannot tell more.
        if own.device_id().eq_ignore_ascii_case(device.device.as_str()) {
            return Ok(own);
        }
        let why = format!(
            "enrolment {id} at {name} is for device {}, not {}",
            own.device_id(),
            device.device
        );
        return obstacle(Obstacle::EnrolmentMissing, why);
    }
    let missing = format!("{name} has no enrolment {id}, and no device that registered by that id");
    let Some(registration) = found(dps.registration(id).await)? else {
        return obstacle(Obstacle::EnrolmentMissing, missing);
    };
    let assigned = registration.device_id.as_deref();
    if let Some(other) = assigned.filter(|id| *id != device.device.as_str()) {
        // Enrolled by itself it would be let in under the name of the device that is to be moved.
        let why = format!(
            "registration {id} at {name} is of device {other}, not {}",
            device.device
        );
        return obstacle(Obstacle::EnrolmentMissing, why);
    }
    let Some(group) = registration.group_id else {
        let why =
            format!("{name} has no enrolment {id} any more, and its registration names no group");
        return obstacle(Obstacle::EnrolmentMissing, why);
    };
    match found(dps.enrollment(EnrollmentKind::Group, &group).await)? {
        Some(record) => Ok(record),
        None => {
            let why = format!("{name} has no enrolment group {group}, which device {id} came by");
            obstacle(Obstacle::EnrolmentMissing, why)
        }
    }
}

/// The identity and twin at the source, with the enrolment that was read before.
pub(crate) async fn read_source(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
    enrollment: &Enrollment,
) -> Result<Option<Kept>, ActError> {
    if !enrollment.is_enabled() {
        let why = format!(
            "enrolment {} is disabled: device {} could not register at its new hub",
            enrollment.id, device.device
        );
        return obstacle(Obstacle::Denied, why);
    }
    let Some(identity) = found(hub.device(&device.device).await)? else {
        return Ok(None);
    };
    if identity.status == DeviceStatus::Disabled {
        // DPS makes it at the target as one that is let in.
        let reason = identity.status_reason().unwrap_or("no reason is given");
        let why = format!(
            "device {} is disabled at {} ({reason}): moved, it would be let in",
            device.device,
            hub.name()
        );
        return obstacle(Obstacle::Denied, why);
    }
    let Some(twin) = found(hub.twin(&device.device).await)? else {
        return Ok(None);
    };
    let kept = Kept::new(enrollment, &identity, twin);
    let bytes = kept.bytes();
    if bytes > KEPT_BYTES_MAX {
        let why = format!(
            "the records of device {} have {bytes} bytes; at most {KEPT_BYTES_MAX} can be kept",
            device.device
        );
        return obstacle(Obstacle::Denied, why);
    }
    Ok(Some(kept))
}

/// Refuses a device that the target lets in before anything was done: its rows there would be no
/// sign that the one at the source has come, which would then be erased.
pub(crate) async fn check_target(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
) -> Result<(), ActError> {
    match found(hub.device(&device.device).await)? {
        Some(there) if there.status == DeviceStatus::Enabled => {
            let why = format!(
                "device {} is let in at {} already: its rows there would prove nothing; delete or disable it there",
                device.device,
                hub.name()
            );
            obstacle(Obstacle::Denied, why)
        }
        _ => Ok(()),
    }
}

/// Points the device's enrolment to one hub.
///
/// `between` are the two hubs of the move: an enrolment that names another one by now, and did not
/// when it was kept, was changed by somebody else. A device of a group gets an enrolment of its own,
/// since the group's would move every device of it.
pub(crate) async fn point(
    dps: &impl ProvisioningService,
    device: &PlannedDevice,
    kept: &Kept,
    hub: &str,
    between: [&str; 2],
) -> Result<Outcome, ActError> {
    let (id, kind) = (&device.registration, EnrollmentKind::Individual);
    let Some(record) = found(dps.enrollment(kind, id).await)? else {
        return match &kept.group {
            Some(group) => enroll(dps, device, kept, group, hub).await,
            None => Ok(Outcome::Absent),
        };
    };
    let known = kept.hubs();
    let ours = |name: &&str| {
        let among = |hub: &str| hub.eq_ignore_ascii_case(name);
        between.into_iter().any(among) || known.iter().any(|hub| among(hub))
    };
    if let Some(other) = record.hubs().into_iter().find(|name| !ours(name)) {
        let why = format!("enrolment {id} was pointed to {other} by somebody else");
        return obstacle(Obstacle::Changed, why);
    }
    let etag = record.etag.clone();
    let mut record = record.pointed_to(hub);
    if record.lacks_keys() {
        // Without them DPS would make new ones, and the device could not prove who it is.
        let Some(keys) = found(dps.attestation(kind, id).await)? else {
            return Ok(Outcome::Absent);
        };
        record = record.with_attestation(&keys);
    }
    written(
        format!("enrolment {id}"),
        dps.put(&record, Some(&etag)).await,
    )
}

/// Enrols a device of a group by itself, with the keys that the group's give it.
async fn enroll(
    dps: &impl ProvisioningService,
    device: &PlannedDevice,
    kept: &Kept,
    group: &str,
    hub: &str,
) -> Result<Outcome, ActError> {
    let id = &device.registration;
    let Some(keys) = found(dps.attestation(EnrollmentKind::Group, group).await)? else {
        return Ok(Outcome::Absent);
    };
    let Some(keys) = keys.of_device(id) else {
        let why = format!(
            "enrolment group {group} proves its devices by certificate: enrol device {id} by itself, then move it"
        );
        return obstacle(Obstacle::Denied, why);
    };
    let mut record = Enrollment::individual(id, Some(&keys)).json();
    record["deviceId"] = device.device.as_str().into();
    for name in [
        "initialTwin",
        "capabilities",
        "reprovisionPolicy",
        "allocationPolicy",
        "customAllocationDefinition",
    ] {
        if !kept.enrollment[name].is_null() {
            record[name] = kept.enrollment[name].clone();
        }
    }
    let record = Enrollment::parse(EnrollmentKind::Individual, record);
    let record = record.map_err(|why| ActError::Obstacle {
        obstacle: Obstacle::Denied,
        why,
    })?;
    // A bulk, because only that refuses when there is one by now.
    let entries = [record.pointed_to(hub)];
    let kind = EnrollmentKind::Individual;
    let answer = dps.bulk(kind, BulkMode::Create, &entries).await?;
    match answer.problems.first() {
        None => Ok(Outcome::Done),
        Some(problem) if problem.code.starts_with("409") => Err(ActError::Raced {
            what: format!("enrolment {id}"),
            source: None,
        }),
        Some(problem) => obstacle(
            Obstacle::Denied,
            format!("enrolment {id}: {} {}", problem.code, problem.detail),
        ),
    }
}

/// Makes room at the target: a record that an earlier move disabled on its way back would keep the
/// device out, since DPS leaves the status of a device that is there.
pub(crate) async fn clear_target(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
) -> Result<Outcome, ActError> {
    let Some(left) = found(hub.device(&device.device).await)? else {
        return Ok(Outcome::Done);
    };
    if left.status == DeviceStatus::Enabled {
        return Ok(Outcome::Done);
    }
    if !is_marked(&left) {
        let why = format!(
            "device {} is at {} already and disabled there, not by a move",
            device.device,
            hub.name()
        );
        return obstacle(Obstacle::Denied, why);
    }
    let deleted = hub.delete(&device.device, &left.etag).await;
    let what = format!("device {} at {}", device.device, hub.name());
    written(what, deleted).map(|_| Outcome::Done)
}

/// Sets the device at a hub to `disabled`. With `only`, another generation is another device.
pub(crate) async fn disable(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
    only: Option<&Kept>,
    reason: &str,
) -> Result<Outcome, ActError> {
    let Some(identity) = found(hub.device(&device.device).await)? else {
        return Ok(Outcome::Absent);
    };
    if let Some(kept) = only
        && identity.generation_id != kept.generation_id
    {
        return changed(device, hub.name());
    }
    let record = identity.with_status(DeviceStatus::Disabled, &format!("{MARK}: {reason}"));
    write(hub, device, &identity.etag, &record).await
}

/// Gives the device at the source the status that it had. One that somebody else disabled since stays
/// disabled: that was a decision about the device, and it is the later one.
pub(crate) async fn enable(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
    kept: &Kept,
) -> Result<Outcome, ActError> {
    let Some(identity) = found(hub.device(&device.device).await)? else {
        return Ok(Outcome::Absent);
    };
    if identity.status == DeviceStatus::Disabled && kept.was_enabled && !is_marked(&identity) {
        return Ok(Outcome::Done);
    }
    let mut record = identity.with_status(kept.status(), "");
    record["statusReason"] = json!(kept.status_reason);
    write(hub, device, &identity.etag, &record).await
}

/// Deletes the device at the source, if it is still the one that the move disabled.
pub(crate) async fn erase(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
    kept: &Kept,
) -> Result<Outcome, ActError> {
    let Some(identity) = found(hub.device(&device.device).await)? else {
        return Ok(Outcome::Absent);
    };
    let ours =
        identity.generation_id == kept.generation_id && identity.status == DeviceStatus::Disabled;
    if !ours {
        return changed(device, hub.name());
    }
    let what = format!("device {} at {}", device.device, hub.name());
    written(what, hub.delete(&device.device, &identity.etag).await)
}

async fn write(
    hub: &impl DeviceRegistry,
    device: &PlannedDevice,
    etag: &str,
    record: &Value,
) -> Result<Outcome, ActError> {
    let what = format!("device {} at {}", device.device, hub.name());
    written(what, hub.update(&device.device, etag, record).await)
}

fn changed(device: &PlannedDevice, hub: &str) -> Result<Outcome, ActError> {
    let why = format!(
        "device {} at {hub} was registered anew or enabled by somebody else since the move read it",
        device.device
    );
    obstacle(Obstacle::Changed, why)
}
