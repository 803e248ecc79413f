//! What a planner answers: a stamp or a refusal, with reasons a person can read.

use std::fmt;

use serde::Serialize;
use stamp_model::{StampId, TenantId};

use crate::fleet::{Environment, Kind, Ring, StampState, TenantState};
use crate::load::Axis;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The tenant that was asked for.
    pub tenant: TenantId,
    /// The device, when one was asked for.
    pub device: Option<String>,
    /// The environment that it was placed in.
    pub environment: Environment,
    /// Where it goes, or why nowhere.
    pub outcome: Outcome,
    /// Stamps that were looked at and not taken, by id, each with every reason. Filled in by
    /// [`Planner::explain`](super::Planner::explain) only.
    pub rejected: Vec<Rejected>,
}

impl Answer {
    /// The stamp, when there is one.
    #[must_use]
    pub fn stamp(&self) -> Option<&StampId> {
        match &self.outcome {
            Outcome::Placed { stamp, .. } => Some(stamp),
            Outcome::Refused(_) => None,
        }
    }
}

/// A stamp, or none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes to this stamp.
    #[serde(rename_all = "kebab-case")]
    Placed {
        /// The stamp.
        stamp: StampId,
        /// Why this one.
        why: Why,
        /// How full its fullest axis is with the request, 1.0 at a hard limit.
        fill: f64,
        /// Axes that are over their soft limit with the request.
        over_soft: Vec<Axis>,
    },
    /// It goes nowhere.
    Refused(Refusal),
}

/// Why a stamp was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is there already, and may be.
    Stays,
    /// The tenant is there, and a device goes where its tenant is.
    Home,
    /// The catalogue names the stamp.
    Named,
    /// It ranked first.
    Ranked {
        /// Stamps that fit.
        fitting: usize,
    },
}

/// Why there is no stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The catalogue has no such tenant.
    UnknownTenant,
    /// Nothing of a tenant in this state is placed.
    TenantState(TenantState),
    /// The catalogue names no stamp of this environment for the tenant.
    NoneNamed,
    /// The one stamp it could go to does not take it: the named one, or the tenant's.
    Home {
        /// That stamp.
        stamp: StampId,
        /// Every reason.
        objections: Vec<Objection>,
    },
    /// No stamp fits.
    NoneFits {
        /// Stamps that would fit if they had room.
        full: usize,
    },
}

/// A stamp that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rejected {
    /// The stamp.
    pub stamp: StampId,
    /// Every reason; none when it fits and another one ranked before it.
    pub objections: Vec<Objection>,
}

/// Why a stamp does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objection {
    /// The tenant's data may not be there.
    Geography(String),
    /// Shared where dedicated is wanted, or the other way round.
    Kind(Kind),
    /// Test where production is wanted, or the other way round.
    Environment(Environment),
    /// Not a ring of the tenant's.
    Ring(Ring),
    /// Takes nothing new.
    State(StampState),
    /// Another tenant's.
    DedicatedTo(TenantId),
    /// No room.
    Full {
        /// On this axis.
        axis: Axis,
        /// What is used.
        used: u64,
        /// What the request needs.
        needs: u64,
        /// The hard limit.
        hard: u64,
    },
    /// The fleet has no such stamp.
    Unknown,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geography(geography) => write!(f, "is in {geography}"),
            Self::Kind(kind) => write!(f, "is {kind}"),
            Self::Environment(environment) => write!(f, "is for {environment}"),
            Self::Ring(ring) => write!(f, "is in ring {ring}"),
            Self::State(state) => write!(f, "is {state}"),
            Self::DedicatedTo(tenant) => write!(f, "is dedicated to {tenant}"),
            Self::Full {
                axis,
                used,
                needs,
                hard,
            } => {
                write!(f, "is full: {axis} {used} used + {needs} is over {hard}")
            }
            Self::Unknown => f.write_str("is not in the catalogue"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stays => f.write_str("is there already"),
            Self::Home => f.write_str("the tenant is there"),
            Self::Named => f.write_str("the catalogue names it"),
            Self::Ranked { fitting: 1 } => f.write_str("the only stamp that fits"),
            Self::Ranked { fitting } => write!(f, "ranked first of {fitting} that fit"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTenant => f.write_str("the catalogue has no such tenant"),
            Self::TenantState(state) => write!(f, "the tenant is {state}"),
            Self::NoneNamed => {
                f.write_str("the catalogue names no stamp of this environment for the tenant")
            }
            Self::Home { stamp, objections } => {
                write!(f, "it can only go to {stamp}, which ")?;
                list(f, objections)
            }
            Self::NoneFits { full: 0 } => f.write_str("no stamp fits"),
            Self::NoneFits { full } => write!(f, "no stamp has room; {full} would fit"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, objections: &[Objection]) -> fmt::Result {
    for (index, objection) in objections.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{objection}")?;
    }
    Ok(())
}
