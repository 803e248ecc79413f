//! Asks both hubs about every device, at the end: nobody may be let in at two, or at none.

use std::sync::Arc;

use stamp_iothub::{DeviceRegistry, DeviceStatus, ProvisioningService, Registration, ServiceError};
use stamp_model::{DeviceId, StampId};
use stamp_resilience::{GaveUp, idempotent};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::doors::{Doors, HubDoor};
use crate::plan::PlannedDevice;
use crate::sighting::Sightings;
use crate::step::chain;

/// Questions that are under way at the same time.
const ASKED_MAX: usize = 8;

/// What the hubs say of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Audited {
    /// Its status at the source; `None` when it is not there.
    pub(crate) source: Option<DeviceStatus>,
    /// Its status at the target.
    pub(crate) target: Option<DeviceStatus>,
    /// Why it could not be found out.
    pub(crate) problem: Option<String>,
}

/// Asks both hubs about each device, in their order. Ends early when cancelled: the rest says so.
pub(crate) async fn audit<H, D, S>(
    doors: &Doors<H, D, S>,
    source: &StampId,
    devices: Vec<PlannedDevice>,
    cancel: &CancellationToken,
) -> Vec<Audited>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let unasked = Audited {
        problem: Some("it was not asked about".to_owned()),
        ..Audited::default()
    };
    let mut answers = vec![unasked; devices.len()];
    let mut asking = JoinSet::new();
    let source = Arc::new(source.clone());
    let mut devices = devices.into_iter().enumerate();
    loop {
        while asking.len() < ASKED_MAX
            && !cancel.is_cancelled()
            && let Some((index, device)) = devices.next()
        {
            let (doors, source, cancel) = (doors.clone(), Arc::clone(&source), cancel.clone());
            asking.spawn(async move { (index, ask(&doors, &source, &device, &cancel).await) });
        }
        match asking.join_next().await {
            Some(Ok((index, answer))) => answers[index] = answer,
            Some(Err(error)) => tracing::error!(%error, "a question panicked"),
            None => return answers,
        }
    }
}

async fn ask<H, D, S>(
    doors: &Doors<H, D, S>,
    source: &StampId,
    device: &PlannedDevice,
    cancel: &CancellationToken,
) -> Audited
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let hubs = &doors.inner().hubs;
    let mut audited = Audited::default();
    for (stamp, is_source) in [(source, true), (&device.target, false)] {
        let Some(hub) = hubs.get(stamp) else { continue };
        match (status(hub, &device.device, cancel).await, is_source) {
            (Ok(status), true) => audited.source = status,
            (Ok(status), false) => audited.target = status,
            (Err(gave_up), _) => audited.problem = Some(chain(&gave_up)),
        }
    }
    audited
}

async fn status<H: DeviceRegistry>(
    hub: &HubDoor<H>,
    device: &DeviceId,
    cancel: &CancellationToken,
) -> Result<Option<DeviceStatus>, GaveUp<ServiceError>> {
    hub.registry.turn(cancel).await;
    let read = |attempt: stamp_resilience::Attempt| async move {
        if attempt.number > 1 {
            hub.registry.charge();
        }
        match hub.door.device(device).await {
            Ok(found) => Ok(Some(found.status)),
            Err(ServiceError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    };
    hub.peer.run(idempotent("iothub.audit"), cancel, read).await
}

/// What DPS knows of a device that was not seen; a text for a person.
pub(crate) async fn registered<H, D, S>(
    doors: &Doors<H, D, S>,
    device: &PlannedDevice,
    cancel: &CancellationToken,
) -> String
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let inner = doors.inner();
    inner.dps_pace.turn(cancel).await;
    let read = |_| async {
        match inner.dps.registration(&device.registration).await {
            Ok(registration) => Ok(Some(registration)),
            Err(ServiceError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let name = idempotent("dps.read-registration");
    match inner.dps_peer.run(name, cancel, read).await {
        Ok(Some(registration)) => told(&registration),
        Ok(None) => "it has never registered with DPS".to_owned(),
        Err(gave_up) => chain(&gave_up),
    }
}

fn told(registration: &Registration) -> String {
    match (&registration.error, &registration.assigned_hub) {
        (Some(error), _) => format!("its last registration failed: {error}"),
        (None, Some(hub)) => format!("DPS: {}, {hub}", registration.status),
        (None, None) => format!("DPS: {}", registration.status),
    }
}
