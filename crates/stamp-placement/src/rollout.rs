//! Which stamps may change their version, ring by ring.
//!
//! A version goes to canary first, then to early, then to general. It goes on only when every stamp
//! of the rings before runs it, is healthy by its own metrics, and has been so for long enough. A
//! security fix may skip the waiting; that is recorded as such. A pause stops everything else.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use stamp_model::StampId;

use crate::fleet::{Fleet, Ring, Stamp, StampState};

/// One line of the record of who runs what since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// What was done.
    pub action: Action,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stamp; none for a pause and its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<StampId>,
    /// The version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What an entry of the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A version went on to a ring.
    Promote,
    /// A ring went back to the version before.
    RollBack,
    /// A version went to a ring without waiting for the rings before.
    SecurityFix,
    /// Nothing is promoted until it is resumed.
    Pause,
    /// Promotions go on.
    Resume,
}

/// What a stamp's own metrics say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Versions of its processes; empty when none answers.
    pub versions: Vec<String>,
    /// What is wrong with it; empty when it is healthy.
    pub complaints: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// This version for the ring.
    Promote {
        /// An image tag.
        version: &'a str,
        /// Whether the rings before are not waited for, nor a pause.
        security_fix: bool,
    },
    /// The version before for each stamp of the ring.
    RollBack,
}

/// A stamp whose version is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The stamp.
    pub stamp: StampId,
    /// The version that the catalogue says now.
    pub from: String,
    /// The version that it is to say.
    pub to: String,
}

/// Why nothing may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// Somebody paused it.
    Paused {
        /// Who.
        by: String,
        /// Why, in that person's words.
        reason: Option<String>,
    },
    /// No open stamp is in the ring.
    EmptyRing(Ring),
    /// A stamp of a ring before is to run another version.
    Behind {
        /// The stamp.
        stamp: StampId,
        /// Its ring.
        ring: Ring,
        /// What the catalogue says.
        version: String,
    },
    /// A stamp of a ring before does not run what the catalogue says.
    NotRunning {
        /// The stamp.
        stamp: StampId,
        /// Its ring.
        ring: Ring,
        /// What it runs.
        runs: Vec<String>,
    },
    /// A stamp of a ring before is not healthy.
    Unhealthy {
        /// The stamp.
        stamp: StampId,
        /// Its ring.
        ring: Ring,
        /// Why.
        complaints: Vec<String>,
    },
    /// A stamp of a ring before has not run the version for long enough.
    TooSoon {
        /// The stamp.
        stamp: StampId,
        /// Its ring.
        ring: Ring,
        /// How much longer, in milliseconds.
        wait_ms: i64,
    },
    /// The record has no version before for a stamp.
    NothingBefore(StampId),
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { by, reason: None } => write!(f, "paused by {by}"),
            Self::Paused {
                by,
                reason: Some(reason),
            } => write!(f, "paused by {by}: {reason}"),
            Self::EmptyRing(ring) => write!(f, "no open stamp is in ring {ring}"),
            Self::Behind {
                stamp,
                ring,
                version,
            } => {
                write!(
                    f,
                    "{stamp} of ring {ring} is to run {version}; promote that ring first"
                )
            }
            Self::NotRunning { stamp, ring, runs } if runs.is_empty() => {
                write!(f, "{stamp} of ring {ring} does not answer")
            }
            Self::NotRunning { stamp, ring, runs } => {
                write!(
                    f,
                    "{stamp} of ring {ring} still runs {}",
                    runs.join(" and ")
                )
            }
            Self::Unhealthy {
                stamp,
                ring,
                complaints,
            } => {
                write!(
                    f,
                    "{stamp} of ring {ring} is not healthy: {}",
                    complaints.join("; ")
                )
            }
            Self::TooSoon {
                stamp,
                ring,
                wait_ms,
            } => write!(
                f,
                "{stamp} of ring {ring} has run it for too short a time: {} min more",
                (wait_ms + 59_999) / 60_000
            ),
            Self::NothingBefore(stamp) => {
                write!(f, "the record has no version of {stamp} before this one")
            }
        }
    }
}

/// Says which stamps change to which version.
///
/// `soak_ms` is how long the stamps of the rings before must have had the version. A stamp that
/// the record does not know had its version always. An empty list means that the ring has it.
///
/// # Errors
/// Every reason why nothing may be changed. Nothing is changed in part.
pub fn decide(
    fleet: &Fleet,
    record: &[Entry],
    observed: &BTreeMap<StampId, Observed>,
    ring: Ring,
    wish: Wish<'_>,
    now_ms: i64,
    soak_ms: i64,
) -> Result<Vec<Change>, Vec<Blocked>> {
    let stamps: Vec<&Stamp> = open(fleet).filter(|stamp| stamp.ring == ring).collect();
    if stamps.is_empty() {
        return Err(vec![Blocked::EmptyRing(ring)]);
    }
    match wish {
        Wish::RollBack => roll_back(&stamps, record),
        Wish::Promote {
            version,
            security_fix,
        } => {
            let mut blocked = Vec::new();
            if !security_fix {
                blocked.extend(paused(record));
                for before in open(fleet).filter(|stamp| stamp.ring < ring) {
                    let since = since(record, &before.id);
                    let wait = since.map_or(0, |since| soak_ms - (now_ms - since));
                    blocked.extend(holds(before, observed.get(&before.id), version, wait));
                }
            }
            if blocked.is_empty() {
                Ok(changes(&stamps, |_| version.to_owned()))
            } else {
                Err(blocked)
            }
        }
    }
}

/// Stamps that run something, or will.
fn open(fleet: &Fleet) -> impl Iterator<Item = &Stamp> {
    let runs = |s: &&Stamp| matches!(s.state, StampState::Active | StampState::Draining);
    fleet.stamps().iter().filter(runs)
}

fn changes(stamps: &[&Stamp], to: impl Fn(&Stamp) -> String) -> Vec<Change> {
    let change = |stamp: &&Stamp| Change {
        stamp: stamp.id.clone(),
        from: stamp.version.clone(),
        to: to(stamp),
    };
    stamps
        .iter()
        .map(change)
        .filter(|change| change.from != change.to)
        .collect()
}

fn paused(record: &[Entry]) -> Option<Blocked> {
    let last = record
        .iter()
        .rev()
        .find(|entry| matches!(entry.action, Action::Pause | Action::Resume))?;
    (last.action == Action::Pause).then(|| Blocked::Paused {
        by: last.by.clone(),
        reason: last.reason.clone(),
    })
}

/// Since when a stamp has had its version, by the record; milliseconds since 1970 UTC.
#[must_use]
pub fn since(record: &[Entry], stamp: &StampId) -> Option<i64> {
    let of = |entry: &&Entry| entry.stamp.as_ref() == Some(stamp) && entry.to.is_some();
    record.iter().rev().find(of).map(|entry| entry.at_ms)
}

/// What about a stamp of an earlier ring holds a version back.
fn holds(
    stamp: &Stamp,
    observed: Option<&Observed>,
    version: &str,
    wait_ms: i64,
) -> Option<Blocked> {
    let (id, ring) = (stamp.id.clone(), stamp.ring);
    if stamp.version != version {
        let version = stamp.version.clone();
        return Some(Blocked::Behind {
            stamp: id,
            ring,
            version,
        });
    }
    let runs = observed.map_or(&[][..], |observed| &observed.versions);
    if runs.is_empty() || runs.iter().any(|running| running != version) {
        return Some(Blocked::NotRunning {
            stamp: id,
            ring,
            runs: runs.to_vec(),
        });
    }
    let complaints = observed.map_or(&[][..], |observed| &observed.complaints);
    if !complaints.is_empty() {
        return Some(Blocked::Unhealthy {
            stamp: id,
            ring,
            complaints: complaints.to_vec(),
        });
    }
    (wait_ms > 0).then_some(Blocked::TooSoon {
        stamp: id,
        ring,
        wait_ms,
    })
}

fn roll_back(stamps: &[&Stamp], record: &[Entry]) -> Result<Vec<Change>, Vec<Blocked>> {
    let before = |stamp: &Stamp| {
        let last = |entry: &&Entry| {
            entry.stamp.as_ref() == Some(&stamp.id) && entry.to.as_ref() == Some(&stamp.version)
        };
        record
            .iter()
            .rev()
            .find(last)
            .and_then(|entry| entry.from.clone())
    };
    let unknown: Vec<Blocked> = stamps
        .iter()
        .filter(|stamp| before(stamp).is_none())
        .map(|stamp| Blocked::NothingBefore(stamp.id.clone()))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(changes(stamps, |stamp| before(stamp).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
