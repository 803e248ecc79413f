//! One act with its retries: which service, at which pace, and what its failure comes to.

use std::fmt::Write as _;

use stamp_iothub::{DeviceRegistry, ProvisioningService};
use stamp_model::StampId;
use stamp_placement::device_move::{Act, Obstacle, Outcome};
use stamp_resilience::{GaveUp, Pace, Peer, idempotent};
use tokio_util::sync::CancellationToken;

use crate::act::{self, ActError};
use crate::doors::{HubDoor, Inner};
use crate::kept::Kept;
use crate::plan::PlannedDevice;
use crate::sighting::Sightings;

/// What an act came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stepped {
    pub(crate) outcome: Outcome,
    /// What [`Act::RecordSource`] read.
    pub(crate) kept: Option<Kept>,
    /// Why it was not done, for a person.
    pub(crate) why: Option<String>,
}

impl Stepped {
    fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            kept: None,
            why: None,
        }
    }

    fn refused(obstacle: Obstacle, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::of(Outcome::Refused(obstacle))
        }
    }
}

/// An act that is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) act: Act,
    pub(crate) device: PlannedDevice,
    pub(crate) kept: Option<Kept>,
    pub(crate) source: StampId,
}

/// How many requests of which kind an act may make.
type Turns<'a> = [(&'a Pace, u32)];

/// Does an act. Never fails: what went wrong is its outcome. When it was given up, the peer has had
/// its rest before this returns.
///
/// Not cancel safe: dropped, the act may have been done. It is due again then.
pub(crate) async fn perform<H, D, S>(
    doors: &Inner<H, D, S>,
    step: &Step,
    cancel: &CancellationToken,
) -> Stepped
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let device = &step.device;
    let (Some(source), Some(target)) =
        (doors.hubs.get(&step.source), doors.hubs.get(&device.target))
    else {
        return Stepped::refused(Obstacle::Denied, "there is no door to a hub of the move");
    };
    let Some(kept) = &step.kept else {
        if step.act == Act::RecordSource {
            return record(doors, [source, target], device, cancel).await;
        }
        return Stepped::refused(
            Obstacle::Changed,
            "the journal has lost what the source was like",
        );
    };
    let done = match step.act {
        Act::RecordSource => return record(doors, [source, target], device, cancel).await,
        Act::PointEnrolment => point(doors, [source, target], device, kept, cancel).await,
        Act::RestoreEnrolment => {
            let hubs = [source.name.as_str(), target.name.as_str()];
            let op = || act::point(&doors.dps, device, kept, hubs[0], hubs);
            let turns = [(&doors.dps_pace, 3)];
            run(&doors.dps_peer, &turns, "dps.restore-enrolment", cancel, op).await
        }
        Act::DisableSource => {
            let reason = format!("to {}", device.target);
            let op = || act::disable(&source.door, device, Some(kept), &reason);
            let turns = [(&source.registry, 2), (&doors.registrations, 1)];
            run(&source.peer, &turns, "iothub.disable-source", cancel, op).await
        }
        Act::EraseSource => {
            let op = || act::erase(&source.door, device, kept);
            let turns = [(&source.registry, 2)];
            run(&source.peer, &turns, "iothub.erase-source", cancel, op).await
        }
        Act::DisableTarget => {
            let reason = format!("back to {}", step.source);
            let op = || act::disable(&target.door, device, None, &reason);
            let turns = [(&target.registry, 2), (&doors.registrations, 1)];
            run(&target.peer, &turns, "iothub.disable-target", cancel, op).await
        }
        Act::EnableSource => {
            let op = || act::enable(&source.door, device, kept);
            let turns = [(&source.registry, 2)];
            run(&source.peer, &turns, "iothub.enable-source", cancel, op).await
        }
    };
    done.map_or_else(|failed| failed, Stepped::of).settled(step)
}

impl Stepped {
    /// Says what is absent, where the machine takes that for an obstacle.
    fn settled(mut self, step: &Step) -> Self {
        let is_enrolment = matches!(step.act, Act::PointEnrolment | Act::RestoreEnrolment);
        if self.outcome == Outcome::Absent && is_enrolment {
            let id = &step.device.registration;
            self.why = Some(format!("enrolment {id} is gone"));
        }
        self
    }
}

async fn record<H, D, S>(
    doors: &Inner<H, D, S>,
    [source, target]: [&HubDoor<H>; 2],
    device: &PlannedDevice,
    cancel: &CancellationToken,
) -> Stepped
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let read = || act::read_enrollment(&doors.dps, device);
    let turns = [(&doors.dps_pace, 3)];
    let enrollment = run(&doors.dps_peer, &turns, "dps.read-enrolment", cancel, read).await;
    let enrollment = match enrollment {
        Ok(enrollment) => enrollment,
        Err(failed) => return failed,
    };
    let check = || act::check_target(&target.door, device);
    let turns = [(&target.registry, 1)];
    let checked = run(&target.peer, &turns, "iothub.check-target", cancel, check).await;
    if let Err(failed) = checked {
        return failed;
    }
    let read = || act::read_source(&source.door, device, &enrollment);
    let turns = [(&source.registry, 1), (&source.twins, 1)];
    match run(&source.peer, &turns, "iothub.read-source", cancel, read).await {
        Ok(Some(kept)) => Stepped {
            kept: Some(kept),
            ..Stepped::of(Outcome::Done)
        },
        Ok(None) => Stepped {
            why: Some(format!(
                "device {} is not at {}",
                device.device, source.name
            )),
            ..Stepped::of(Outcome::Absent)
        },
        Err(failed) => failed,
    }
}

async fn point<H, D, S>(
    doors: &Inner<H, D, S>,
    [source, target]: [&HubDoor<H>; 2],
    device: &PlannedDevice,
    kept: &Kept,
    cancel: &CancellationToken,
) -> Result<Outcome, Stepped>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let clear = || act::clear_target(&target.door, device);
    let turns = [(&target.registry, 2)];
    run(&target.peer, &turns, "iothub.clear-target", cancel, clear).await?;
    let hubs = [source.name.as_str(), target.name.as_str()];
    let op = || act::point(&doors.dps, device, kept, hubs[1], hubs);
    let turns = [(&doors.dps_pace, 3)];
    run(&doors.dps_peer, &turns, "dps.point-enrolment", cancel, op).await
}

/// Waits for the turns, then tries until it is done or given up.
async fn run<T, F, Fut>(
    peer: &Peer,
    turns: &Turns<'_>,
    name: &'static str,
    cancel: &CancellationToken,
    op: F,
) -> Result<T, Stepped>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, ActError>>,
{
    for (pace, count) in turns {
        for _ in 0..*count {
            if !pace.turn(cancel).await {
                return Err(Stepped::of(Outcome::NotDone));
            }
        }
    }
    let attempt = |attempt: stamp_resilience::Attempt| {
        if attempt.number > 1 {
            let charge = |(pace, count): &(&Pace, u32)| (0..*count).for_each(|_| pace.charge());
            turns.iter().for_each(charge);
        }
        op()
    };
    // Each act may be done twice: it reads first, and writes with the tag it has read.
    match peer.run(idempotent(name), cancel, attempt).await {
        Ok(value) => Ok(value),
        Err(gave_up) => {
            let failed = failed(&gave_up);
            if !matches!(failed.outcome, Outcome::Refused(_)) && !gave_up.is_cancelled() {
                // What comes next for this peer would only meet the same.
                peer.rest(cancel).await;
            }
            Err(failed)
        }
    }
}

fn failed(gave_up: &GaveUp<ActError>) -> Stepped {
    let outcome = match gave_up.last() {
        Some(ActError::Obstacle { obstacle, .. }) => Outcome::Refused(*obstacle),
        _ if matches!(gave_up, GaveUp::Permanent { .. }) => Outcome::Refused(Obstacle::Denied),
        _ if gave_up.may_have_happened() => Outcome::Unknown,
        _ => Outcome::NotDone,
    };
    let why = match gave_up.last() {
        // The layer's own words say nothing that the obstacle does not.
        Some(error @ ActError::Obstacle { .. }) => error.to_string(),
        _ => chain(gave_up),
    };
    Stepped {
        outcome,
        kept: None,
        why: Some(why),
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &(impl std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            // Writing to a String cannot fail.
            let _written = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}
