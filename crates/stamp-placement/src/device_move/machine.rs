//! Stages, and what leads from one to the next.

use serde::{Deserialize, Serialize};

use super::act::{Act, Evidence, Obstacle, Outcome};

/// How far a move is. Stages in `-ing` are saved before their act and mean that it may or may not
/// have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing was done.
    Planned,
    /// [`Act::RecordSource`] is under way.
    Recording,
    /// What the source looked like is kept.
    Recorded,
    /// [`Act::PointEnrolment`] is under way.
    Pointing,
    /// DPS sends the device to the target.
    Pointed,
    /// [`Act::DisableSource`] is under way.
    Disabling,
    /// The source rejects the device. Its first telemetry in the target is waited for.
    Disabled,
    /// The target has telemetry of the device.
    Verified,
    /// [`Act::EraseSource`] is under way. There is no way back from here on.
    Erasing,
    /// The end: the device is at the target only.
    Erased,
    /// [`Act::RestoreEnrolment`] is under way.
    Restoring,
    /// DPS sends the device to the source again.
    Restored,
    /// [`Act::DisableTarget`] is under way.
    Withdrawing,
    /// The target rejects the device, or never had it.
    Withdrawn,
    /// [`Act::EnableSource`] is under way.
    Enabling,
    /// The end: the device is at the source, or DPS makes it there when it registers.
    RolledBack,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 16] = [
        Self::Planned,
        Self::Recording,
        Self::Recorded,
        Self::Pointing,
        Self::Pointed,
        Self::Disabling,
        Self::Disabled,
        Self::Verified,
        Self::Erasing,
        Self::Erased,
        Self::Restoring,
        Self::Restored,
        Self::Withdrawing,
        Self::Withdrawn,
        Self::Enabling,
        Self::RolledBack,
    ];

    /// The act that is under way; `None` at rest.
    #[must_use]
    pub fn acting(self) -> Option<Act> {
        match self {
            Self::Recording => Some(Act::RecordSource),
            Self::Pointing => Some(Act::PointEnrolment),
            Self::Disabling => Some(Act::DisableSource),
            Self::Erasing => Some(Act::EraseSource),
            Self::Restoring => Some(Act::RestoreEnrolment),
            Self::Withdrawing => Some(Act::DisableTarget),
            Self::Enabling => Some(Act::EnableSource),
            _ => None,
        }
    }

    /// Nothing more happens.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Erased | Self::RolledBack)
    }

    /// Everything that was done can be taken back.
    #[must_use]
    pub fn can_roll_back(self) -> bool {
        !matches!(self, Self::Erasing | Self::Erased)
    }

    /// On the way back, or back.
    #[must_use]
    pub fn is_back(self) -> bool {
        matches!(
            self,
            Self::Restoring
                | Self::Restored
                | Self::Withdrawing
                | Self::Withdrawn
                | Self::Enabling
                | Self::RolledBack
        )
    }
}

/// The state of one move; what is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceMove {
    stage: Stage,
    /// Taking it back was asked for while an act was under way.
    roll_back: bool,
    /// A person asked to wait.
    paused: bool,
    /// The last act was refused; a person decides.
    obstacle: Option<Obstacle>,
    /// When the enrolment was first pointed to the target, microseconds since 1970 UTC.
    pointed_us: Option<i64>,
    /// The first telemetry in the target after that.
    evidence: Option<Evidence>,
    /// When the stage began, microseconds since 1970 UTC.
    since_us: i64,
}

/// How long stages last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MovePolicy {
    /// How long a verified device is kept at the source, so that the move can still be taken back,
    /// in microseconds.
    pub keep_source_us: i64,
    /// After this long without telemetry in the target the device is a straggler, in microseconds.
    /// It is waited for all the same.
    pub straggler_after_us: i64,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Save [`DeviceMove::begin`], then do this.
    Begin(Act),
    /// It was begun and its outcome is not known: do it, again perhaps.
    Do(Act),
    /// Wait for telemetry of the device in the target.
    Telemetry {
        /// It is taking too long; tell a person.
        straggler: bool,
    },
    /// Wait until then, microseconds since 1970 UTC.
    Until(i64),
    /// A person asked to wait.
    Paused,
    /// A person has to look at this; [`Event::Continue`] tries again.
    Person(Obstacle),
    /// Nothing, ever.
    Nothing,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The act under way ended.
    Acted(Outcome),
    /// Telemetry of the device arrived in the target.
    Telemetry(Evidence),
    /// A person wants to wait. What an act that was sent comes to is still taken in.
    Pause,
    /// A person wants to go on, or to try a refused act again.
    Continue,
    /// A person wants it taken back.
    RollBack,
}

/// An event that cannot happen at this stage. The state is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// No act is under way, so none can begin or have ended.
    #[error("no act is under way at stage {0:?}")]
    NoAct(Stage),
    /// The device was erased at the source, or may have been.
    #[error("the device may be erased at the source; there is no way back at stage {0:?}")]
    NoWayBack(Stage),
    /// The move is over.
    #[error("the move ended at stage {0:?}")]
    Over(Stage),
}

impl DeviceMove {
    /// A move of which nothing was done.
    #[must_use]
    pub const fn planned(now_us: i64) -> Self {
        Self {
            stage: Stage::Planned,
            roll_back: false,
            paused: false,
            obstacle: None,
            pointed_us: None,
            evidence: None,
            since_us: now_us,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The first telemetry of the device in the target.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        self.evidence
    }

    /// When the enrolment was first pointed to the target, or may have been, microseconds since 1970
    /// UTC. Telemetry in the target from before proves nothing.
    #[must_use]
    pub fn pointed_us(&self) -> Option<i64> {
        self.pointed_us
    }

    /// When the stage began, microseconds since 1970 UTC.
    #[must_use]
    pub fn since_us(&self) -> i64 {
        self.since_us
    }

    /// What is due now.
    #[must_use]
    pub fn next(&self, now_us: i64, policy: &MovePolicy) -> Due {
        if self.stage.is_end() {
            return Due::Nothing;
        }
        if let Some(obstacle) = self.obstacle {
            return Due::Person(obstacle);
        }
        if self.paused {
            return Due::Paused;
        }
        if let Some(act) = self.stage.acting() {
            return Due::Do(act);
        }
        match self.stage {
            Stage::Disabled => Due::Telemetry {
                straggler: now_us.saturating_sub(self.since_us) > policy.straggler_after_us,
            },
            Stage::Verified => {
                let until = self.since_us.saturating_add(policy.keep_source_us);
                if now_us < until {
                    Due::Until(until)
                } else {
                    Due::Begin(Act::EraseSource)
                }
            }
            stage => begins(stage).map_or(Due::Nothing, |(act, _)| Due::Begin(act)),
        }
    }

    /// The state to save before the act that is due is done.
    ///
    /// # Errors
    /// [`NotNow::NoAct`] when [`next`](Self::next) does not say [`Due::Begin`].
    pub fn begin(&self, now_us: i64, policy: &MovePolicy) -> Result<Self, NotNow> {
        let stage = match self.next(now_us, policy) {
            Due::Begin(_) => begins(self.stage).map(|(_, stage)| stage),
            _ => None,
        };
        let stage = stage.ok_or(NotNow::NoAct(self.stage))?;
        let mut begun = self.at(stage, now_us);
        if stage == Stage::Pointing {
            begun.pointed_us.get_or_insert(now_us);
        }
        Ok(begun)
    }

    /// The state after something happened; to be saved before anything else is done.
    ///
    /// # Errors
    /// [`NotNow`] when it cannot happen at this stage.
    pub fn on(&self, event: Event, now_us: i64) -> Result<Self, NotNow> {
        if self.stage.is_end() {
            return Err(NotNow::Over(self.stage));
        }
        match event {
            Event::Acted(outcome) => self.acted(outcome, now_us),
            Event::Telemetry(evidence) => Ok(self.seen(evidence, now_us)),
            Event::Pause => Ok(Self {
                paused: true,
                ..*self
            }),
            Event::Continue => Ok(Self {
                paused: false,
                obstacle: None,
                ..*self
            }),
            Event::RollBack => self.turned(now_us),
        }
    }

    fn at(&self, stage: Stage, now_us: i64) -> Self {
        Self {
            stage,
            since_us: now_us,
            ..*self
        }
    }

    fn seen(&self, evidence: Evidence, now_us: i64) -> Self {
        // Telemetry from before the enrolment pointed to the target is of an earlier life of the
        // device there, and proves nothing about this one.
        let of_this_move = self
            .pointed_us
            .is_some_and(|at| evidence.enqueued_at_us >= at);
        let counts = of_this_move
            && matches!(
                self.stage,
                Stage::Pointing | Stage::Pointed | Stage::Disabling | Stage::Disabled
            );
        if !counts || self.evidence.is_some() {
            return *self;
        }
        let state = Self {
            evidence: Some(evidence),
            ..*self
        };
        match self.stage {
            Stage::Disabled => state.at(Stage::Verified, now_us),
            _ => state,
        }
    }

    fn acted(&self, outcome: Outcome, now_us: i64) -> Result<Self, NotNow> {
        let act = self.stage.acting().ok_or(NotNow::NoAct(self.stage))?;
        let ended = match outcome {
            // It stays under way: it is due again, and reads what there is before it writes.
            Outcome::NotDone | Outcome::Unknown => *self,
            Outcome::Done => self.at(self.done(act), now_us),
            Outcome::Absent => match absent(act) {
                Ok(()) => self.at(self.done(act), now_us),
                Err(obstacle) => self.refused(act, obstacle, now_us),
            },
            Outcome::Refused(obstacle) => self.refused(act, obstacle, now_us),
        };
        if self.roll_back && self.stage.can_roll_back() && !self.stage.is_back() {
            return Ok(ended.way_back(act, outcome, now_us));
        }
        Ok(ended)
    }

    /// The stage that an act leads to.
    fn done(&self, act: Act) -> Stage {
        match act {
            Act::RecordSource => Stage::Recorded,
            Act::PointEnrolment => Stage::Pointed,
            Act::DisableSource if self.evidence.is_some() => Stage::Verified,
            Act::DisableSource => Stage::Disabled,
            Act::EraseSource => Stage::Erased,
            Act::RestoreEnrolment => Stage::Restored,
            Act::DisableTarget => Stage::Withdrawn,
            Act::EnableSource => Stage::RolledBack,
        }
    }

    /// Back to the rest before the act; a person decides.
    fn refused(&self, act: Act, obstacle: Obstacle, now_us: i64) -> Self {
        let stage = match act {
            Act::RecordSource => Stage::Planned,
            Act::PointEnrolment => Stage::Recorded,
            Act::DisableSource => Stage::Pointed,
            // A refused erase has erased nothing, but a request before it may have: no way back.
            Act::EraseSource => Stage::Erasing,
            Act::RestoreEnrolment => Stage::Restoring,
            Act::DisableTarget => Stage::Restored,
            Act::EnableSource => Stage::Withdrawn,
        };
        let obstacle = Some(obstacle);
        Self {
            obstacle,
            ..self.at(stage, now_us)
        }
    }

    /// Taking it back was asked for.
    fn turned(&self, now_us: i64) -> Result<Self, NotNow> {
        if !self.stage.can_roll_back() {
            return Err(NotNow::NoWayBack(self.stage));
        }
        if self.stage.is_back() {
            return Ok(*self);
        }
        let asked = Self {
            roll_back: true,
            paused: false,
            obstacle: None,
            ..*self
        };
        Ok(match self.stage {
            // Nothing was changed: no try to point the enrolment was ever begun.
            Stage::Planned | Stage::Recorded if self.pointed_us.is_none() => {
                asked.at(Stage::RolledBack, now_us)
            }
            stage if stage.acting().is_some() => asked,
            _ => asked.at(Stage::Restoring, now_us),
        })
    }

    /// The act under way ended while the way back was asked for.
    fn way_back(&self, act: Act, outcome: Outcome, now_us: i64) -> Self {
        let stage = match (act, outcome) {
            (Act::RecordSource, _) => Stage::RolledBack,
            // Whether it was done or not: restoring writes anyway, and that settles it.
            _ => Stage::Restoring,
        };
        Self {
            obstacle: None,
            ..self.at(stage, now_us)
        }
    }
}

/// The act that begins at a stage of rest, and the stage that is saved for it.
fn begins(stage: Stage) -> Option<(Act, Stage)> {
    match stage {
        Stage::Planned => Some((Act::RecordSource, Stage::Recording)),
        Stage::Recorded => Some((Act::PointEnrolment, Stage::Pointing)),
        Stage::Pointed => Some((Act::DisableSource, Stage::Disabling)),
        Stage::Verified => Some((Act::EraseSource, Stage::Erasing)),
        Stage::Restored => Some((Act::DisableTarget, Stage::Withdrawing)),
        Stage::Withdrawn => Some((Act::EnableSource, Stage::Enabling)),
        _ => None,
    }
}

/// Whether an act is done when what it is about does not exist.
fn absent(act: Act) -> Result<(), Obstacle> {
    match act {
        Act::RecordSource => Err(Obstacle::DeviceMissing),
        Act::PointEnrolment | Act::RestoreEnrolment => Err(Obstacle::EnrolmentMissing),
        // DPS removes a device from its old hub by itself when it migrates the device's data.
        Act::DisableSource | Act::EraseSource => Ok(()),
        // The device never came to the target.
        Act::DisableTarget => Ok(()),
        // DPS makes it again when the device registers: the enrolment points to the source.
        Act::EnableSource => Ok(()),
    }
}
