//! What a mover does to the world, and what comes back.

use serde::{Deserialize, Serialize};

/// Something to be done at DPS or a hub. Each may be done twice; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Reads and keeps the enrolment, the device's record and its twin at the source, so that all of
    /// it can be put back. Changes nothing.
    RecordSource,
    /// Points the enrolment to the target's hub, with `updateHubAssignment`.
    PointEnrolment,
    /// Sets the device to `disabled` at the source hub.
    DisableSource,
    /// Deletes the device at the source hub, if its record is still the disabled one.
    EraseSource,
    /// Points the enrolment back to the source's hub.
    RestoreEnrolment,
    /// Sets the device to `disabled` at the target hub, so that it is rejected there and registers
    /// again.
    DisableTarget,
    /// Gives the device at the source hub the status back that it had when it was recorded.
    EnableSource,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 7] = [
        Self::RecordSource,
        Self::PointEnrolment,
        Self::DisableSource,
        Self::EraseSource,
        Self::RestoreEnrolment,
        Self::DisableTarget,
        Self::EnableSource,
    ];
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// The enrolment or the device that it is about does not exist.
    Absent,
    /// It was not done and may be tried again: no connection, throttled, given up for now.
    NotDone,
    /// It may have been done: the reply was lost.
    Unknown,
    /// It was not done, and trying again cannot help.
    Refused(Obstacle),
}

/// What a person has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// There is no such enrolment.
    EnrolmentMissing,
    /// There is no such device at the source.
    DeviceMissing,
    /// Somebody else changed the record since it was read for this move.
    Changed,
    /// The hub or DPS refuses: rights, a wrong request, a limit.
    Denied,
}

/// The first telemetry of the device in the target's stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// When the target's hub took it in, microseconds since 1970 UTC.
    pub enqueued_at_us: i64,
    /// Partition of the target's Event Hub.
    pub partition: u32,
    /// Its position there.
    pub sequence: i64,
}
