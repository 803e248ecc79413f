//! All moves of a service: begun, asked, looked at, forgotten. It knows no HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stamp_resilience::{GaveUp, Observer};
use stamp_telemetry::MoverMetrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, State};
use super::estate::{Estate, Survey};
use super::folder::{Folder, Ordered, Reported};
use super::live::live;
use super::order::{Goal, MoveId, Order, Pick};
use super::refused::{Reason, Refused};
use crate::doors::Lanes;
use crate::journal::Journal;
use crate::mover::Clock;
use crate::plan::{Destination, Plan, Wanted, plan};
use crate::request::{Request, What};
use crate::select::{SelectError, select};
use crate::step::chain;

/// Most devices of other moves that a refusal names.
const OVERLAPS_MAX: usize = 20;

/// How many moves there may be, and how often one that waits looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveLimits {
    /// Moves that are kept, ended ones among them, at least 1.
    pub kept_max: usize,
    /// Moves that have not ended, at least 1.
    pub at_once_max: usize,
    /// Between two runs of a move that waits for late devices or for a service.
    pub again_every: Duration,
}

/// The moves of one process.
pub(crate) struct Moves<E> {
    pub(crate) estate: Arc<E>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) limits: MoveLimits,
    pub(crate) lanes: Lanes,
    pub(crate) metrics: MoverMetrics,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    entries: Mutex<BTreeMap<MoveId, Arc<Entry>>>,
    /// One move is begun or forgotten at a time, so that limits and devices are counted right.
    changing: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the program gives the moves.
pub(crate) struct MovesParts<E> {
    pub(crate) estate: Arc<E>,
    pub(crate) folder: Folder,
    pub(crate) limits: MoveLimits,
    pub(crate) metrics: MoverMetrics,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// What became of an order.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is a move now.
    New(Arc<Entry>),
    /// It was one before.
    Known(Arc<Entry>),
    /// It would be this one.
    Dry(Plan),
}

impl<E: Estate> Moves<E> {
    pub(crate) fn new(parts: MovesParts<E>) -> Arc<Self> {
        Arc::new(Self {
            estate: parts.estate,
            folder: Arc::new(parts.folder),
            limits: parts.limits,
            lanes: Lanes::default(),
            metrics: parts.metrics,
            observer: parts.observer,
            clock: parts.clock,
            stop: parts.stop,
            entries: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Takes in a move that an earlier process began, and goes on with it unless it has ended.
    pub(crate) fn found(
        self: &Arc<Self>,
        id: MoveId,
        ordered: Ordered,
        reported: Option<Reported>,
        journal: Result<Journal, String>,
    ) {
        let entry = Arc::new(Entry::new(id, ordered, self.metrics.clone()));
        if let Some(reported) = &reported {
            entry.reported(&reported.report);
        }
        let is_final = reported.is_some_and(|reported| reported.is_final);
        self.entries().insert(entry.id.clone(), Arc::clone(&entry));
        let journal = match journal {
            Ok(journal) => {
                entry.journal_is(&journal);
                Some(journal)
            }
            Err(why) => {
                entry.is(State::Failed, Some(why));
                None
            }
        };
        match is_final && journal.is_some() {
            true => {
                let now_us = (self.clock)();
                let progress = journal.as_ref().map(|journal| journal.progress(now_us));
                entry.inner().progress = progress.unwrap_or_default();
                entry.is(State::Ended, None);
            }
            false => self.spawn(entry, journal),
        }
    }

    fn spawn(self: &Arc<Self>, entry: Arc<Entry>, journal: Option<Journal>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            report(ended);
        }
        tasks.spawn(live(Arc::clone(self), entry, journal));
    }

    /// Returns once every move has finished the acts that were under way, after `stop` was cancelled.
    pub(crate) async fn stopped(&self) {
        // A move that is just being begun is among them, and no other comes.
        let _one_at_a_time = self.changing.lock().await;
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<MoveId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every move, by its id.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries().values().cloned().collect()
    }

    /// A move.
    ///
    /// # Errors
    /// `no-such-move`.
    pub(crate) fn of(&self, id: &MoveId) -> Result<Arc<Entry>, Refused> {
        let found = self.entries().get(id).cloned();
        found.ok_or_else(|| Refused::new(Reason::NoSuchMove, format!("there is no move {id}")))
    }

    /// Begins a move, or says what would be. Dropped in the middle, the move is begun or is not; asking
    /// again with the same order tells.
    ///
    /// # Errors
    /// Every reason against it.
    pub(crate) async fn begin(self: &Arc<Self>, order: Order) -> Result<Begun, Refused> {
        if let Some(known) = self.known(&order)? {
            return Ok(Begun::Known(known));
        }
        let survey = self.survey().await?;
        let wanted = self.wanted(&order, &survey).await?;
        let planned = planned(&survey, &order, &wanted)?;
        if order.dry_run {
            self.check(&planned)?;
            return Ok(Begun::Dry(planned));
        }
        // A task of its own: a caller who goes away does not leave a half-begun move.
        let moves = Arc::clone(self);
        let begun = tokio::spawn(async move { moves.create(order, planned).await });
        begun.await.map_err(|error| away(error.to_string()))?
    }

    /// The move of an order that is there already.
    fn known(&self, order: &Order) -> Result<Option<Arc<Entry>>, Refused> {
        let Some(known) = self.entries().get(&order.id).cloned() else {
            return Ok(None);
        };
        match known.ordered.digest.as_deref() == Some(order.digest.as_str()) {
            true => Ok(Some(known)),
            false => {
                let id = &order.id;
                let message = format!("there is another move {id}; its order was not this one");
                Err(Refused::new(Reason::IdTaken, message))
            }
        }
    }

    async fn survey(&self) -> Result<Survey, Refused> {
        let estate = Arc::clone(&self.estate);
        let survey = tokio::task::spawn_blocking(move || estate.survey()).await;
        let survey = survey.map_err(|error| away(error.to_string()))?;
        survey.map_err(|error| away(error.to_string()))
    }

    /// The devices of an order.
    async fn wanted(&self, order: &Order, survey: &Survey) -> Result<Vec<Wanted>, Refused> {
        let query = match &order.pick {
            Pick::Devices(devices) => return Ok(devices.clone()),
            Pick::Query(query) => query,
        };
        let from = &order.from;
        let message = format!("from: {from} is no stamp of the fleet");
        let unknown = || Refused::new(Reason::Refused, message);
        let stamp = survey.fleet.stamp(from).ok_or_else(unknown)?;
        let hub = {
            let (estate, from) = (Arc::clone(&self.estate), from.clone());
            let opened = tokio::task::spawn_blocking(move || estate.hub(&from)).await;
            let opened = opened.map_err(|error| away(error.to_string()))?;
            opened.map_err(|error| away(error.to_string()))?
        };
        let queries = stamp.iot_hub.tier.queries_per_minute(stamp.iot_hub.units);
        let policy = self.estate.policy();
        let found = select(&hub, query, queries, &policy, &self.observer, &self.stop).await;
        let found = found.map_err(|error| {
            let passes = match &error {
                SelectError::GaveUp(gave_up) => !matches!(**gave_up, GaveUp::Permanent { .. }),
                _ => false,
            };
            let reason = if passes {
                Reason::Unavailable
            } else {
                Reason::Refused
            };
            Refused::new(reason, format!("query: {}", chain(&error)))
        })?;
        let wanted = |device| Wanted {
            device,
            registration: None,
        };
        Ok(found.into_iter().map(wanted).collect())
    }

    /// Whether there is room for a move, and whether its devices are free.
    fn check(&self, planned: &Plan) -> Result<(), Refused> {
        let all = self.all();
        let (kept_max, at_once_max) = (self.limits.kept_max, self.limits.at_once_max);
        if all.len() >= kept_max {
            let message =
                format!("{kept_max} moves are kept, as many as may be: DELETE one that has ended");
            return Err(Refused::new(Reason::MovesKept, message));
        }
        let open: Vec<_> = all
            .iter()
            .filter(|entry| entry.state() != State::Ended)
            .collect();
        if open.len() >= at_once_max {
            let message = format!("{at_once_max} moves have not ended, as many as may be at once");
            return Err(Refused::new(Reason::MovesAtOnce, message));
        }
        let mut problems = Vec::new();
        for entry in open {
            let taken: Arc<BTreeSet<String>> = Arc::clone(&entry.inner().devices);
            let both = planned
                .devices
                .iter()
                .filter(|device| taken.contains(device.device.as_str()));
            let told =
                both.map(|device| format!("device {} is in move {}", device.device, entry.id));
            problems.extend(told.take(OVERLAPS_MAX));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Refused::for_each(
                Reason::DeviceInMove,
                "devices of it are in other moves that have not ended",
                problems.into_iter(),
            )),
        }
    }

    async fn create(self: Arc<Self>, order: Order, planned: Plan) -> Result<Begun, Refused> {
        let _one_at_a_time = self.changing.lock().await;
        if let Some(known) = self.known(&order)? {
            return Ok(Begun::Known(known));
        }
        if self.stop.is_cancelled() {
            return Err(away("the service is stopping"));
        }
        self.check(&planned)?;
        let ordered = Ordered {
            digest: Some(order.digest),
            options: order.options,
        };
        let journal = {
            let (folder, id, ordered) =
                (Arc::clone(&self.folder), order.id.clone(), ordered.clone());
            let now_us = (self.clock)();
            let begin = move || folder.begin(&id, &ordered, &planned, now_us);
            let begun = tokio::task::spawn_blocking(begin).await;
            let begun = begun.map_err(|error| away(error.to_string()))?;
            begun.map_err(|error| away(chain(&error)))?
        };
        let entry = Arc::new(Entry::new(order.id.clone(), ordered, self.metrics.clone()));
        entry.journal_is(&journal);
        entry.inner().progress = journal.progress((self.clock)());
        tracing::info!(id = %order.id, devices = journal.devices().len(), "a move begins");
        // Before its task may say anything else.
        entry.is(State::Running, None);
        self.entries().insert(order.id, Arc::clone(&entry));
        self.spawn(Arc::clone(&entry), Some(journal));
        Ok(Begun::New(entry))
    }

    /// Leaves a request to a move: it is on the disk when this returns, and the move takes it in.
    ///
    /// # Errors
    /// `no-such-move`, `no-such-device`, `ended`, `unusable`.
    pub(crate) async fn ask(
        &self,
        id: &MoveId,
        what: What,
        devices: Vec<String>,
    ) -> Result<Arc<Entry>, Refused> {
        let entry = self.of(id)?;
        let known = {
            let inner = entry.inner();
            if inner.state == State::Ended {
                return Err(Refused::new(Reason::Ended, format!("move {id} has ended")));
            }
            Arc::clone(&inner.devices)
        };
        if known.is_empty() {
            let message = format!("the journal of move {id} could not be read yet");
            return Err(Refused::new(Reason::Unusable, message));
        }
        if let Some(unknown) = devices.iter().find(|device| !known.contains(*device)) {
            let message = format!("{unknown} is no device of move {id}");
            return Err(Refused::new(Reason::NoSuchDevice, message));
        }
        let requests = self.folder.requests(id);
        let request = Request {
            at_us: (self.clock)(),
            what,
            devices,
        };
        let left = tokio::task::spawn_blocking(move || requests.leave(&request)).await;
        let left = left.map_err(|error| away(error.to_string()))?;
        left.map_err(|error| away(chain(&error)))?;
        entry.wake.notify_one();
        Ok(entry)
    }

    /// Removes a move that has ended, with its journal and its report.
    ///
    /// # Errors
    /// `no-such-move`, `not-ended`.
    pub(crate) async fn forget(self: &Arc<Self>, id: &MoveId) -> Result<(), Refused> {
        let (moves, id) = (Arc::clone(self), id.clone());
        let forgotten = tokio::spawn(async move {
            let _one_at_a_time = moves.changing.lock().await;
            if moves.of(&id)?.state() != State::Ended {
                let message = format!("move {id} has not ended: its journal is needed");
                return Err(Refused::new(Reason::NotEnded, message));
            }
            let (folder, forgets) = (Arc::clone(&moves.folder), id.clone());
            let removed = tokio::task::spawn_blocking(move || folder.forget(&forgets)).await;
            let removed = removed.map_err(|error| away(error.to_string()))?;
            removed.map_err(|error| away(chain(&error)))?;
            moves.entries().remove(&id);
            moves.metrics.forgotten(id.as_str());
            tracing::info!(%id, "a move is forgotten");
            Ok(())
        });
        forgotten.await.map_err(|error| away(error.to_string()))?
    }
}

fn planned(survey: &Survey, order: &Order, wanted: &[Wanted]) -> Result<Plan, Refused> {
    let destination = match &order.goal {
        Goal::To(stamp) => Destination::Stamp(stamp.clone()),
        Goal::Place(environment) => {
            let of = |((tenant, at), stamp): (&(_, _), &_)| {
                let (tenant, stamp): (&stamp_model::TenantId, &stamp_model::StampId) =
                    (tenant, stamp);
                (at == environment).then(|| (tenant.clone(), stamp.clone()))
            };
            Destination::Place {
                environment: *environment,
                homes: survey.homes.iter().filter_map(of).collect(),
            }
        }
    };
    let (fleet, usage) = (&survey.fleet, &survey.usage);
    plan(fleet, usage, &order.from, &destination, wanted).map_err(|problems| {
        let count = problems.len();
        let message = format!("the move is refused for {count} reasons");
        let told = problems.iter().map(ToString::to_string);
        Refused::for_each(Reason::Refused, message, told)
    })
}

pub(crate) fn away(why: impl Into<String>) -> Refused {
    Refused::new(Reason::Unavailable, why)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a move ended");
    }
}
