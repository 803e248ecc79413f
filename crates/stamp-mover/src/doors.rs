//! The services of a move, each behind its own retries and at its own pace.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stamp_iothub::{DeviceRegistry, ProvisioningService};
use stamp_model::StampId;
use stamp_placement::sku::DPS_PER_MINUTE;
use stamp_resilience::{Bucket, Observer, Pace, Peer, PolicyError, RetryPolicy};

use crate::plan::Plan;
use crate::sighting::Sightings;

/// How services are called.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerPolicy {
    /// For DPS and the hubs. An attempt is at one act: up to three requests.
    pub services: RetryPolicy,
    /// For the stamps' tables.
    pub tables: RetryPolicy,
    /// The share of a hub's and of DPS's limits that the move may use, above 0, at most 1. The rest
    /// is for everybody else. Default 0.8.
    pub share_of_limits: f64,
    /// Seed of the pauses.
    pub seed: u64,
}

impl PeerPolicy {
    /// The defaults with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            services: RetryPolicy::iot_hub(),
            tables: RetryPolicy::store(),
            share_of_limits: 0.8,
            seed,
        }
    }
}

/// The clients of a move's services.
#[derive(Debug)]
pub struct Open<H, D, S> {
    /// DPS.
    pub dps: D,
    /// The source's hub and each target's.
    pub hubs: BTreeMap<StampId, H>,
    /// Their tables.
    pub sightings: S,
}

/// Why the doors of a move do not fit it.
#[derive(Debug, thiserror::Error)]
pub enum DoorsError {
    /// There is no door to a hub of the move.
    #[error("stamp {0} takes part in the move, and how to reach its IoT Hub is not given")]
    NoHub(StampId),
    /// A policy breaks a rule.
    #[error("the retry policy cannot be used")]
    Policy(#[from] PolicyError),
    /// The share is not above 0 and at most 1.
    #[error("share-of-limits: {0} is not above 0 and at most 1")]
    Share(f64),
}

/// The retries and paces of services, shared by moves that run in one process: a hub's limit is one,
/// however many moves ask it. Clones are the same lanes.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    peers: BTreeMap<String, Peer>,
    paces: BTreeMap<String, Pace>,
}

impl Lanes {
    /// The peer of this name; the first to ask makes it.
    fn peer(
        &self,
        name: String,
        make: impl FnOnce(String) -> Result<Peer, PolicyError>,
    ) -> Result<Peer, PolicyError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.peers.get(&name) {
            return Ok(peer.clone());
        }
        let peer = make(name.clone())?;
        known.peers.insert(name, peer.clone());
        Ok(peer)
    }

    /// The pace of this name at this limit. Another limit, of a hub that got units since, is another.
    fn pace(&self, name: &str, per_minute: u64, share: f64) -> Pace {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{name} {per_minute}");
        let made = || pace(per_minute, share);
        known.paces.entry(name).or_insert_with(made).clone()
    }
}

/// A hub, its retries and its pace.
pub(crate) struct HubDoor<H> {
    pub(crate) door: H,
    pub(crate) peer: Peer,
    pub(crate) registry: Pace,
    pub(crate) twins: Pace,
    /// As DPS knows it.
    pub(crate) name: String,
}

/// The services of one move. Clones share everything.
pub struct Doors<H, D, S> {
    inner: Arc<Inner<H, D, S>>,
}

pub(crate) struct Inner<H, D, S> {
    pub(crate) dps: D,
    pub(crate) dps_peer: Peer,
    pub(crate) dps_pace: Pace,
    /// Devices that are disabled, and therefore register again, a minute.
    pub(crate) registrations: Pace,
    pub(crate) hubs: BTreeMap<StampId, HubDoor<H>>,
    pub(crate) sightings: S,
    pub(crate) tables: BTreeMap<StampId, Peer>,
}

impl<H, D, S> Clone for Doors<H, D, S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<H, D, S> std::fmt::Debug for Doors<H, D, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

impl<H: DeviceRegistry, D: ProvisioningService, S: Sightings> Doors<H, D, S> {
    /// Doors for a plan: `hubs` has the source's and each target's. Inside a runtime only.
    ///
    /// # Errors
    /// [`DoorsError`].
    pub fn new(
        plan: &Plan,
        dps: D,
        hubs: BTreeMap<StampId, H>,
        sightings: S,
        policy: &PeerPolicy,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self, DoorsError> {
        let open = Open {
            dps,
            hubs,
            sightings,
        };
        Self::within(plan, open, policy, observer, &Lanes::default())
    }

    /// As [`Doors::new`], with retries and paces that other moves use too. The first move that uses a
    /// lane says its policy, its share and who observes it.
    ///
    /// # Errors
    /// [`DoorsError`].
    pub fn within(
        plan: &Plan,
        open: Open<H, D, S>,
        policy: &PeerPolicy,
        observer: &Arc<dyn Observer>,
        lanes: &Lanes,
    ) -> Result<Self, DoorsError> {
        let share = policy.share_of_limits;
        if !(share > 0.0 && share <= 1.0) {
            return Err(DoorsError::Share(share));
        }
        let peer = |name: String, retry: &RetryPolicy| {
            lanes.peer(name, |name| {
                Peer::new(name, retry.clone(), policy.seed, Arc::clone(observer))
            })
        };
        let mut hubs = open.hubs;
        let mut doors = BTreeMap::new();
        let mut tables = BTreeMap::new();
        for side in std::iter::once(&plan.source).chain(plan.targets.values()) {
            let stamp = &side.stamp;
            let missing = || DoorsError::NoHub(stamp.clone());
            let door = hubs.remove(stamp).ok_or_else(missing)?;
            let registry = format!("registry/{stamp}");
            let twins = format!("twins/{stamp}");
            let hub = HubDoor {
                door,
                peer: peer(format!("iothub/{stamp}"), &policy.services)?,
                registry: lanes.pace(&registry, side.registry_per_minute, share),
                twins: lanes.pace(&twins, side.twin_reads_per_minute, share),
                name: side.hub.clone(),
            };
            doors.insert(stamp.clone(), hub);
            let store = peer(format!("tables/{stamp}"), &policy.tables)?;
            tables.insert(stamp.clone(), store);
        }
        let inner = Inner {
            dps: open.dps,
            dps_peer: peer("dps".to_owned(), &policy.services)?,
            dps_pace: lanes.pace("dps", DPS_PER_MINUTE, share),
            registrations: lanes.pace("registrations", DPS_PER_MINUTE, share),
            hubs: doors,
            sightings: open.sightings,
            tables,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn inner(&self) -> &Inner<H, D, S> {
        &self.inner
    }
}

/// A share of a limit, with a burst of six seconds' worth.
fn pace(per_minute: u64, share: f64) -> Pace {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits are far below 2^53, and the share is from 0 to 1"
    )]
    let count = (per_minute as f64 * share) as u64;
    let burst = u32::try_from(count / 10).unwrap_or(u32::MAX).max(1);
    Pace::new(Bucket::per_minute(count.max(1), burst))
}
