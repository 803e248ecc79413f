//! The loop: requests in, acts out, outcomes and sightings in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stamp_iothub::{DeviceRegistry, ProvisioningService};
use stamp_model::StampId;
use stamp_placement::device_move::{Act, DeviceMove, Due, Event, MovePolicy, Outcome, Stage};
use stamp_resilience::idempotent;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Mover, MoverError};
use crate::journal::Change;
use crate::request::{Request, What};
use crate::schedule::Schedule;
use crate::sighting::{Seen, Sightings};
use crate::step::{Step, Stepped, chain, perform};

/// How often requests are looked for.
const TICK: Duration = Duration::from_millis(500);

/// What a task has come to.
enum Done {
    Acted {
        device: usize,
        act: Act,
        stepped: Box<Stepped>,
    },
    Looked {
        stamp: StampId,
        /// By the mover's clock, when the look began.
        at_us: i64,
        seen: Option<BTreeMap<String, Seen>>,
    },
}

/// The state of one run.
struct Run {
    schedule: Schedule,
    tasks: JoinSet<Done>,
    acting: BTreeSet<usize>,
    looking: BTreeSet<StampId>,
    next_look: Instant,
    /// When each target was looked at for the last time.
    looked_us: BTreeMap<StampId, i64>,
    /// Looks that were given up, one after another.
    blind: u32,
    stragglers: usize,
    requests_bytes: Option<u64>,
    /// When whoever watches is told again: it takes a look at every device.
    next_told: Instant,
}

pub(super) async fn run<H, D, S>(
    mover: &mut Mover<H, D, S>,
    cancel: &CancellationToken,
) -> Result<(), MoverError>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    mover.given_up.clear();
    let policy = *mover.journal().policy();
    let mut run = Run {
        schedule: Schedule::new(policy, mover.bounds()),
        tasks: JoinSet::new(),
        acting: BTreeSet::new(),
        looking: BTreeSet::new(),
        next_look: Instant::now(),
        looked_us: BTreeMap::new(),
        blind: 0,
        stragglers: 0,
        requests_bytes: None,
        next_told: Instant::now(),
    };
    run.fill(mover);
    let ended = run.turns(mover, cancel).await;
    // What was begun is finished, also after an error: its outcome may still be written.
    let drained = run.drain(mover).await;
    mover.observed.progress(&mover.progress());
    ended.and(drained)
}

impl Run {
    async fn turns<H, D, S>(
        &mut self,
        mover: &mut Mover<H, D, S>,
        cancel: &CancellationToken,
    ) -> Result<(), MoverError>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        loop {
            self.take_requests(mover).await?;
            self.stragglers = self.count_stragglers(mover);
            if cancel.is_cancelled() || self.is_over(mover) {
                return Ok(());
            }
            self.begin(mover, cancel).await?;
            self.look(mover, cancel);
            if Instant::now() >= self.next_told {
                mover.observed.progress(&mover.progress());
                self.next_told = Instant::now() + TICK;
            }
            let ended = self.wait(cancel).await;
            self.take_in(mover, ended).await?;
        }
    }

    /// Puts every device in the queue that its state asks for.
    fn fill<H, D, S>(&mut self, mover: &Mover<H, D, S>)
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let now_us = mover.now_us();
        self.schedule.clear();
        for (device, moving) in mover.journal().devices().iter().enumerate() {
            let left = mover.given_up.get(&device);
            let is_left = left.is_some_and(|times| *times >= mover.options.tries_max);
            match self.acting.contains(&device) || is_left {
                true => self.schedule.note(device, &moving.state),
                false => self.schedule.put(device, &moving.state, now_us),
            }
        }
    }

    /// Takes in what people asked since the last time.
    async fn take_requests<H, D, S>(&mut self, mover: &mut Mover<H, D, S>) -> Result<(), MoverError>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let bytes = mover.requests.bytes();
        if self.requests_bytes == Some(bytes) {
            return Ok(());
        }
        self.requests_bytes = Some(bytes);
        let taken = mover.journal().requests();
        let fresh = mover.requests.after(mover.requests.read()?, taken)?;
        if fresh.is_empty() {
            return Ok(());
        }
        for request in &fresh {
            tracing::info!(what = ?request.what, devices = request.devices.len(), "asked");
            if request.what == What::Continue {
                mover.given_up.clear();
            }
            let changes = asked(mover, request);
            mover.save(changes, None).await?;
        }
        mover.save(Vec::new(), Some(taken + fresh.len())).await?;
        self.fill(mover);
        Ok(())
    }

    /// Begins as many acts as may run: their states are on the disk first.
    async fn begin<H, D, S>(
        &mut self,
        mover: &Mover<H, D, S>,
        cancel: &CancellationToken,
    ) -> Result<(), MoverError>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let (changes, steps) = self.pick(mover);
        if let Err(error) = mover.save(changes, None).await {
            let begun: BTreeSet<usize> = steps.iter().map(|(device, _)| *device).collect();
            self.acting.retain(|device| !begun.contains(device));
            return Err(error);
        }
        for (device, step) in steps {
            let (doors, cancel) = (mover.doors.clone(), cancel.clone());
            self.tasks.spawn(async move {
                let stepped = perform(doors.inner(), &step, &cancel).await;
                Done::Acted {
                    device,
                    act: step.act,
                    stepped: Box::new(stepped),
                }
            });
        }
        Ok(())
    }

    /// The next acts, and the states to save before they are done.
    fn pick<H, D, S>(&mut self, mover: &Mover<H, D, S>) -> (Vec<Change>, Vec<(usize, Step)>)
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let acts_max = mover.options.acts_max.clamp(1, 256);
        let (mut changes, mut steps) = (Vec::new(), Vec::new());
        let (journal, now_us) = (mover.journal(), mover.now_us());
        while self.acting.len() < acts_max
            && let Some(device) = self.schedule.next(self.stragglers, now_us)
        {
            let Some(moving) = journal.devices().get(device) else {
                continue;
            };
            let (act, state) = match due(&moving.state, journal.policy(), now_us) {
                Some(due) => due,
                None => {
                    self.schedule.put(device, &moving.state, now_us);
                    continue;
                }
            };
            if state != moving.state {
                changes.push(Change {
                    device,
                    state,
                    kept: None,
                    why: None,
                });
            }
            let step = Step {
                act,
                device: moving.planned.clone(),
                kept: moving.kept.clone(),
                source: journal.source().clone(),
            };
            steps.push((device, step));
            self.schedule.note(device, &state);
            self.acting.insert(device);
        }
        (changes, steps)
    }

    /// Looks into the tables of the targets, when it is time and somebody is waited for.
    fn look<H, D, S>(&mut self, mover: &Mover<H, D, S>, cancel: &CancellationToken)
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        if self.schedule.waiting_count() == 0
            || !self.looking.is_empty()
            || Instant::now() < self.next_look
        {
            return;
        }
        self.next_look = Instant::now() + mover.options.look_every;
        let at_us = mover.now_us();
        for (stamp, devices) in self.looked_for(mover) {
            let (doors, cancel) = (mover.doors.clone(), cancel.clone());
            self.looking.insert(stamp.clone());
            self.tasks.spawn(async move {
                let seen = look(&doors, &stamp, &devices, &cancel).await;
                Done::Looked { stamp, at_us, seen }
            });
        }
    }

    /// The devices that are waited for, by their target, with the time from which they count.
    fn looked_for<H, D, S>(
        &self,
        mover: &Mover<H, D, S>,
    ) -> BTreeMap<StampId, BTreeMap<String, i64>>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let journal = mover.journal();
        let mut wanted: BTreeMap<StampId, BTreeMap<String, i64>> = BTreeMap::new();
        for device in self.schedule.waiting().take(super::UNDER_WAY_MAX) {
            if let Some(moving) = journal.devices().get(device) {
                let since_us = moving.state.pointed_us().unwrap_or(i64::MAX);
                let of_stamp = wanted.entry(moving.planned.target.clone()).or_default();
                of_stamp.insert(moving.planned.device.as_str().to_owned(), since_us);
            }
        }
        wanted
    }

    /// Waits until a task ends, and gives it with all others that have ended too; or for a tick.
    async fn wait(&mut self, cancel: &CancellationToken) -> Vec<Result<Done, JoinError>> {
        let mut ended = Vec::new();
        let tick = async {
            let cancelled = cancel.cancelled();
            let _elapsed = tokio::time::timeout(TICK, cancelled).await;
        };
        tokio::select! {
            biased;
            Some(first) = self.tasks.join_next() => ended.push(first),
            () = tick => {}
        }
        while let Some(more) = self.tasks.try_join_next() {
            ended.push(more);
        }
        ended
    }

    /// Finishes what was begun.
    async fn drain<H, D, S>(&mut self, mover: &mut Mover<H, D, S>) -> Result<(), MoverError>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        while let Some(ended) = self.tasks.join_next().await {
            self.take_in(mover, vec![ended]).await?;
        }
        Ok(())
    }

    /// Writes what tasks have come to, before anything else is done with their devices.
    async fn take_in<H, D, S>(
        &mut self,
        mover: &mut Mover<H, D, S>,
        ended: Vec<Result<Done, JoinError>>,
    ) -> Result<(), MoverError>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let mut changes = Vec::new();
        let mut touched = Vec::new();
        for done in ended {
            match done.map_err(|error| MoverError::Panicked(error.to_string()))? {
                Done::Acted {
                    device,
                    act,
                    stepped,
                } => {
                    mover.observed.acted(act, stepped.outcome);
                    self.acting.remove(&device);
                    touched.push(device);
                    changes.extend(acted(mover, device, *stepped));
                }
                Done::Looked { stamp, at_us, seen } => {
                    self.looking.remove(&stamp);
                    self.blind = if seen.is_some() { 0 } else { self.blind + 1 };
                    if seen.is_some() || self.blind >= mover.options.tries_max {
                        self.looked_us.insert(stamp.clone(), at_us);
                    }
                    let found = self.seen(mover, &stamp, &seen.unwrap_or_default());
                    touched.extend(found.iter().map(|change| change.device));
                    changes.extend(found);
                }
            }
        }
        mover.save(changes, None).await?;
        let now_us = mover.now_us();
        for device in touched {
            self.schedule.found(device);
            if let Some(moving) = mover.journal().devices().get(device) {
                let left = mover.given_up.get(&device);
                match left.is_some_and(|times| *times >= mover.options.tries_max) {
                    true => self.schedule.note(device, &moving.state),
                    false => self.schedule.put(device, &moving.state, now_us),
                }
            }
        }
        Ok(())
    }

    /// Devices whose telemetry has arrived.
    fn seen<H, D, S>(
        &self,
        mover: &Mover<H, D, S>,
        stamp: &StampId,
        seen: &BTreeMap<String, Seen>,
    ) -> Vec<Change>
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let (journal, now_us) = (mover.journal(), mover.now_us());
        let mut changes = Vec::new();
        for device in self.schedule.waiting() {
            let Some(moving) = journal.devices().get(device) else {
                continue;
            };
            let found = seen.get(moving.planned.device.as_str());
            let Some(found) = found.filter(|_| moving.planned.target == *stamp) else {
                continue;
            };
            if let Ok(state) = moving.state.on(Event::Telemetry(found.first), now_us)
                && state != moving.state
            {
                changes.push(Change {
                    device,
                    state,
                    kept: None,
                    why: None,
                });
            }
        }
        changes
    }

    fn count_stragglers<H, D, S>(&self, mover: &Mover<H, D, S>) -> usize
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        let (journal, now_us) = (mover.journal(), mover.now_us());
        let is_straggler = |device: &usize| {
            let moving = journal.devices().get(*device);
            let due = moving.map(|moving| moving.state.next(now_us, journal.policy()));
            matches!(due, Some(Due::Telemetry { straggler: true }))
        };
        self.schedule.waiting().filter(is_straggler).count()
    }

    /// Whether this run can do nothing more: nothing runs, nothing is due, and everybody who is
    /// waited for is a straggler that was looked for after becoming one.
    fn is_over<H, D, S>(&self, mover: &Mover<H, D, S>) -> bool
    where
        H: DeviceRegistry,
        D: ProvisioningService,
        S: Sightings,
    {
        if !self.tasks.is_empty() || !self.schedule.is_still(self.stragglers) {
            return false;
        }
        if self.stragglers < self.schedule.waiting_count() {
            return false;
        }
        let journal = mover.journal();
        self.schedule.waiting().all(|device| {
            let Some(moving) = journal.devices().get(device) else {
                return true;
            };
            let late_us = moving.state.since_us();
            let late_us = late_us.saturating_add(journal.policy().straggler_after_us);
            let looked_us = self.looked_us.get(&moving.planned.target);
            looked_us.is_some_and(|looked_us| *looked_us > late_us)
        })
    }
}

/// The act that is due, and the state that is on the disk before it is done.
fn due(state: &DeviceMove, policy: &MovePolicy, now_us: i64) -> Option<(Act, DeviceMove)> {
    match state.next(now_us, policy) {
        Due::Begin(act) => Some((act, state.begin(now_us, policy).ok()?)),
        // It was saved as begun, by an earlier run or try.
        Due::Do(act) => Some((act, *state)),
        _ => None,
    }
}

/// One look with its retries; `None` when it was given up.
async fn look<H, D, S>(
    doors: &crate::doors::Doors<H, D, S>,
    stamp: &StampId,
    devices: &BTreeMap<String, i64>,
    cancel: &CancellationToken,
) -> Option<BTreeMap<String, Seen>>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let inner = doors.inner();
    let peer = inner.tables.get(stamp)?;
    let op = |_| inner.sightings.look(stamp, devices);
    match peer.run(idempotent("tables.look"), cancel, op).await {
        Ok(seen) => Some(seen),
        Err(gave_up) => {
            // The next look comes by itself.
            tracing::warn!(%stamp, error = chain(&gave_up), "cannot look into the tables");
            None
        }
    }
}

/// The change that an act's outcome makes. A device whose act was given up is counted.
fn acted<H, D, S>(mover: &mut Mover<H, D, S>, device: usize, stepped: Stepped) -> Option<Change>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let now_us = mover.now_us();
    let given_up = matches!(stepped.outcome, Outcome::NotDone | Outcome::Unknown);
    match given_up {
        true => *mover.given_up.entry(device).or_default() += 1,
        false => drop(mover.given_up.remove(&device)),
    }
    let mut journal = mover.journal();
    let moving = journal.devices().get(device)?;
    let state = moving
        .state
        .on(Event::Acted(stepped.outcome), now_us)
        .ok()?;
    let is_same = state == moving.state && stepped.kept.is_none();
    if is_same && moving.why.is_some() && stepped.why.is_some() {
        // Tried again and again while a service is away, it would only make the journal longer.
        journal.tell(device, stepped.why);
        return None;
    }
    Some(Change {
        device,
        state,
        kept: stepped.kept,
        why: stepped.why,
    })
}

/// What a request makes of each device that it speaks of.
fn asked<H, D, S>(mover: &Mover<H, D, S>, request: &Request) -> Vec<Change>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    let (journal, now_us) = (mover.journal(), mover.now_us());
    let named: BTreeSet<&str> = request.devices.iter().map(String::as_str).collect();
    let mut changes = Vec::new();
    for (device, moving) in journal.devices().iter().enumerate() {
        if !named.is_empty() && !named.contains(moving.planned.device.as_str()) {
            continue;
        }
        let event = match request.what {
            What::Pause => Event::Pause,
            What::Continue => Event::Continue,
            What::RollBack => Event::RollBack,
            What::Abort if is_untouched(moving.state.stage()) => Event::RollBack,
            What::Abort => continue,
        };
        // A device that has ended, or cannot go back any more, stays as it is.
        if let Ok(state) = moving.state.on(event, now_us)
            && state != moving.state
        {
            changes.push(Change {
                device,
                state,
                kept: None,
                why: moving.why.clone(),
            });
        }
    }
    changes
}

fn is_untouched(stage: Stage) -> bool {
    matches!(stage, Stage::Planned | Stage::Recording | Stage::Recorded)
}
