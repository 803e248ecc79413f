//! Places registrations: asks the database, and when it is away, memory and the reserve. Every
//! branch is here; what it calls decides one thing or makes one call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Axis, Environment, Fleet, Load};
use stamp_reservations::{Booked, Booking, Claim, Moved, Reservations, ReservationsError, Subject};
use stamp_resilience::{GaveUp, Peer, idempotent};
use stamp_status::{AxisUse, ProvisionerFacts, StampFacts};
use stamp_telemetry::{AnswerOrigin, ProvisionMetrics};
use tokio_util::sync::CancellationToken;

use crate::decide::{self, Place, Question, Snapshot, Used};
use crate::journal::{Given, Journal};
use crate::memory::{Known, Memory};
use crate::reserve::{Part, Reserve};
use crate::webhook::Registration;
use crate::{Clock, Reason, Refused};

mod away;
mod book;
mod settle;

/// How often a tenant's place is chosen anew because somebody else was faster.
const CHOICES_MAX: usize = 5;

/// Where a device goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) tenant: TenantId,
    pub(crate) stamp: StampId,
    /// Host name of the stamp's IoT Hub.
    pub(crate) hub: String,
    pub(crate) origin: AnswerOrigin,
}

/// Where a tenant or a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) known: Known,
    pub(crate) origin: AnswerOrigin,
}

/// Why a branch ends without a place.
#[derive(Debug)]
enum Stop {
    /// For good, until somebody changes something.
    Refused(Refused),
    /// The database did not answer.
    Away(Box<GaveUp<ReservationsError>>),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<GaveUp<ReservationsError>> for Stop {
    fn from(gave_up: GaveUp<ReservationsError>) -> Self {
        Self::Away(Box::new(gave_up))
    }
}

/// What is known and given away; never held over a call.
struct State {
    memory: Memory,
    reserve: Reserve,
}

/// Devices that were given a place and are not yet in the database.
#[derive(Default)]
struct Ledger {
    pending: BTreeMap<DeviceId, Given>,
    journal: Option<Arc<Mutex<Journal>>>,
    /// Whether the journal holds anything.
    is_written: bool,
}

/// Places registrations.
pub(crate) struct Allocator {
    snapshot: RwLock<Arc<Snapshot>>,
    door: Reservations,
    peer: Peer,
    state: Mutex<State>,
    ledger: tokio::sync::Mutex<Ledger>,
    metrics: ProvisionMetrics,
    clock: Clock,
    stop: CancellationToken,
}

/// What an [`Allocator`] is made of.
pub(crate) struct AllocatorParts {
    pub(crate) fleet: Fleet,
    pub(crate) door: Reservations,
    pub(crate) peer: Peer,
    pub(crate) part: Part,
    /// Without one, nothing is given away while the database is away.
    pub(crate) journal: Option<(Journal, Vec<Given>)>,
    pub(crate) metrics: ProvisionMetrics,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Allocator {
    pub(crate) fn new(parts: AllocatorParts) -> Self {
        let mut reserve = Reserve::new(parts.part);
        let mut ledger = Ledger::default();
        if let Some((journal, given)) = parts.journal {
            ledger.journal = Some(Arc::new(Mutex::new(journal)));
            for given in given {
                // The journal was checked when it was read.
                let Some(device) = given.device() else {
                    continue;
                };
                reserve.was_given(&given.stamp, decide::device_books());
                // A line that was refused, because the disk failed, and could not be taken back.
                if let Some(before) = ledger.pending.insert(device, given) {
                    reserve.taken_back(&before.stamp, decide::device_books());
                }
                ledger.is_written = true;
            }
        }
        let memory = Memory::default();
        Self {
            snapshot: RwLock::new(Arc::new(Snapshot::new(parts.fleet))),
            door: parts.door,
            peer: parts.peer,
            state: Mutex::new(State { memory, reserve }),
            ledger: tokio::sync::Mutex::new(ledger),
            metrics: parts.metrics,
            clock: parts.clock,
            stop: parts.stop,
        }
    }

    /// The catalogue in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&snapshot)
    }

    /// Puts another catalogue in force.
    pub(crate) fn use_fleet(&self, fleet: Fleet) {
        let snapshot = Arc::new(Snapshot::new(fleet));
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// How full the stamps are, as of the last look at the database and what was given away since.
    pub(crate) fn facts(&self) -> ProvisionerFacts {
        let snapshot = self.snapshot();
        let (used, given) = {
            let state = self.state();
            (state.memory.used().clone(), state.reserve.given().clone())
        };
        let stamps = snapshot.fleet.stamps().iter().map(|stamp| {
            let of = |loads: &Used| loads.get(&stamp.id).copied().unwrap_or_default();
            let (booked, reserve) = (of(&used), of(&given));
            let axes = Axis::ALL.into_iter().map(|axis| AxisUse {
                axis: axis.as_str(),
                booked: booked[axis],
                soft: stamp.capacity[axis].soft,
                hard: stamp.capacity[axis].hard,
                reserve: reserve[axis],
            });
            StampFacts {
                id: stamp.id.to_string(),
                axes: axes.collect(),
            }
        });
        ProvisionerFacts {
            stamps: stamps.collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a device goes. Idempotent: asked again it says the same, as long as the catalogue and
    /// the enrolment do.
    ///
    /// # Errors
    /// Every [`Reason`] of a placement.
    pub(crate) async fn allocate(
        &self,
        registration: &Registration,
    ) -> Result<Allocation, Refused> {
        let snapshot = self.snapshot();
        let question = Question::of(&snapshot, registration)?;
        let (stamp, origin) = match self.with_database(&snapshot, &question).await {
            Ok(placed) => placed,
            Err(Stop::Refused(refused)) => return Err(refused),
            Err(Stop::Away(gave_up)) => {
                self.is_away(&gave_up);
                self.without_database(&snapshot, &question).await?
            }
        };
        let hub = decide::stamp(&snapshot, &stamp)?.iot_hub.name.clone();
        Ok(Allocation {
            tenant: question.tenant,
            stamp,
            hub,
            origin,
        })
    }

    async fn with_database(
        &self,
        snapshot: &Snapshot,
        question: &Question,
    ) -> Result<(StampId, AnswerOrigin), Stop> {
        let existing = match self.existing(question).await? {
            Some(booking) => self.of_its_tenant(question, booking).await?,
            None => None,
        };
        let home = match (self.home(snapshot, question).await, &question.pinned) {
            (Err(Stop::Refused(refused)), Some(pinned)) if decide::is_overruled(&refused) => {
                pinned.clone()
            }
            (home, _) => home?,
        };
        let current = existing.as_ref().map(|booking| booking.stamp.clone());
        let place = self
            .with_room(snapshot, |used| {
                decide::device(snapshot, used, question, current.as_ref(), &home)
            })
            .await?;
        let (booking, origin) = match (place, existing) {
            (Place::Stays(_), Some(existing)) => {
                let booking = self.arrived(question, existing).await?;
                (booking, AnswerOrigin::Kept)
            }
            (Place::Goes(stamp), Some(existing)) => {
                let booking = self
                    .move_device(snapshot, question, existing, &stamp)
                    .await?;
                (booking, AnswerOrigin::Moved)
            }
            (Place::Goes(stamp) | Place::Stays(stamp), None) => {
                self.book_device(snapshot, question, &stamp).await?
            }
        };
        let stamp = booking.stamp.clone();
        self.state()
            .memory
            .device_is(question.device.clone(), known(booking));
        // Somebody else may have booked it a moment ago, for an enrolment of other hubs.
        if !question.linked.contains(&stamp) {
            let message = format!(
                "{} is on {stamp}, whose hub the enrolment does not link",
                question.device
            );
            return Err(Refused::new(Reason::HomeNotLinked, message).into());
        }
        Ok((stamp, origin))
    }

    /// Where the device is. What it was given without the database counts, and is written down first:
    /// its place is its own, whatever room there is by now.
    async fn existing(&self, question: &Question) -> Result<Option<Booking>, Stop> {
        let device = &question.device;
        let given = self.ledger.lock().await.pending.get(device).cloned();
        Ok(match given {
            // It stays counted against the reserve until all are settled: see `Reserve::sync`.
            Some(given) => self.write_one(device, &given).await?,
            None => self.get(&Subject::Device(device.clone())).await?,
        })
    }

    /// The stamp that the tenant is on, booked for it when it has none yet.
    async fn home(&self, snapshot: &Snapshot, question: &Question) -> Result<StampId, Stop> {
        let subject = Subject::Tenant(question.tenant.clone(), question.environment);
        let mut existing = self.get(&subject).await?;
        for _ in 0..CHOICES_MAX {
            let current = existing.as_ref().map(|booking| booking.stamp.clone());
            let place = self
                .with_room(snapshot, |used| {
                    decide::home(snapshot, used, question, current.as_ref())
                })
                .await?;
            let booking = match (place, existing) {
                (Place::Stays(_), Some(booking)) => booking,
                (Place::Goes(stamp) | Place::Stays(stamp), None) => {
                    match self.book_tenant(snapshot, question, &stamp).await? {
                        Some(booking) if booking.stamp == stamp => booking,
                        // Another provisioner was faster, or the stamp is full: choose again.
                        other => {
                            existing = other;
                            continue;
                        }
                    }
                }
                (Place::Goes(stamp), Some(booking)) => {
                    match self.move_home(snapshot, &subject, booking, &stamp).await? {
                        Ok(moved) => moved,
                        Err(now) => {
                            existing = now;
                            continue;
                        }
                    }
                }
            };
            let stamp = booking.stamp.clone();
            let (tenant, environment) = (question.tenant.clone(), question.environment);
            self.state()
                .memory
                .home_is(tenant, environment, known(booking));
            return Ok(stamp);
        }
        let message = format!(
            "{}: every stamp that was chosen was taken by others",
            question.tenant
        );
        Err(Refused::new(Reason::NoCapacity, message).into())
    }

    /// Where a tenant's home in an environment is.
    pub(crate) async fn locate_tenant(
        &self,
        tenant: &TenantId,
        environment: Environment,
    ) -> Result<Located, Refused> {
        let subject = Subject::Tenant(tenant.clone(), environment);
        let remembered = |memory: &Memory| memory.home(tenant, environment).cloned();
        self.locate(&subject, remembered).await
    }

    /// Where a device is.
    pub(crate) async fn locate_device(&self, device: &DeviceId) -> Result<Located, Refused> {
        let subject = Subject::Device(device.clone());
        self.locate(&subject, |memory| memory.device(device).cloned())
            .await
    }

    async fn locate(
        &self,
        subject: &Subject,
        remembered: impl FnOnce(&Memory) -> Option<Known>,
    ) -> Result<Located, Refused> {
        match self.get(subject).await {
            Ok(Some(booking)) => Ok(Located {
                known: known(booking),
                origin: AnswerOrigin::Kept,
            }),
            Ok(None) => Err(Refused::new(
                Reason::NotPlaced,
                format!("{subject} is on no stamp"),
            )),
            Err(gave_up) => {
                self.is_away(&gave_up);
                let known = remembered(&self.state().memory);
                known
                    .map(|known| Located {
                        known,
                        origin: AnswerOrigin::Memory,
                    })
                    .ok_or_else(|| {
                        let message =
                            format!("{subject} is not known here, and the database is away");
                        Refused::new(Reason::DatabaseAway, message)
                    })
            }
        }
    }
}

fn known(booking: Booking) -> Known {
    Known {
        tenant: booking.tenant,
        stamp: booking.stamp,
        leaving: booking.leaving,
        since_us: booking.changed_us,
    }
}

#[cfg(test)]
mod tests;
