//! One consumer process as the world sees it: when it hangs, when it dies, what it does.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_lake::faults::{Decision, Fault, Moment, Request, RequestKind, Schedule};
use stamp_model::PartitionId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::keyed;

/// Effects of one actor on different tables never fall on the same millisecond: each has a slot of
/// its own in this many.
const SLOTS: u64 = 16;

/// Slot of what goes to the hub.
pub(crate) const HUB: u64 = 15;

/// What each consumer did to hub and store. Lines of one instant are sorted, so that nothing
/// depends on which of two tasks the runtime woke first.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(u64, u64, String)>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        let mut lines = self.0.lock().unwrap().clone();
        lines.sort();
        let text = lines
            .iter()
            .map(|(ms, actor, line)| format!("{ms:>8} {actor:>2} {line}\n"));
        text.collect()
    }

    pub(crate) fn write(&self, ms: u64, actor: u64, line: String) {
        self.0.lock().unwrap().push((ms, actor, line));
    }
}

/// How often things go wrong, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) torn: u64,
    pub(crate) throttled: u64,
    pub(crate) slow: u64,
    pub(crate) stale: u64,
    pub(crate) hub: u64,
}

/// A time in which a tenant's store takes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) tenant: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Requests hang until the end, or are refused at once.
    pub(crate) hangs: bool,
}

/// A consumer's fate, drawn before it starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) weather: Weather,
    /// Dies at this moment: every request has one before it is made and one after.
    pub(crate) dies_at: Option<u64>,
    /// Is not scheduled any more from this moment on, until the world lets it go on.
    pub(crate) freezes_at: Option<u64>,
    /// Everything it asks of hub and store within these hangs until the end.
    pub(crate) hangs: Option<(u64, u64)>,
    pub(crate) outages: Vec<Outage>,
}

pub(crate) struct Actor {
    pub(crate) id: u64,
    seed: u64,
    fate: Fate,
    born_ms: u64,
    epoch: Instant,
    dead: AtomicBool,
    frozen: AtomicBool,
    thawed: CancellationToken,
    /// Tells whoever drives it that it is dead or frozen.
    pub(crate) halted: Notify,
    moments: AtomicU64,
    /// Until when its weather lasts.
    calm_from: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    /// Receivers that are open.
    pub(crate) reading: Mutex<BTreeMap<PartitionId, u32>>,
    log: Log,
}

impl Actor {
    /// Inside the runtime of its host, whose clock stands for `born_ms`.
    pub(crate) fn new(id: u64, seed: u64, fate: Fate, born_ms: u64, log: &Log) -> Arc<Self> {
        Arc::new(Self {
            id,
            seed,
            fate,
            born_ms,
            epoch: Instant::now(),
            dead: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            thawed: CancellationToken::new(),
            halted: Notify::new(),
            moments: AtomicU64::new(0),
            calm_from: AtomicU64::new(u64::MAX),
            counts: Mutex::default(),
            reading: Mutex::default(),
            log: log.clone(),
        })
    }

    /// The world's time, read off the clock of the host.
    fn now_ms(&self) -> u64 {
        self.born_ms + u64::try_from(self.epoch.elapsed().as_millis()).unwrap()
    }

    pub(crate) fn note(&self, line: String) {
        self.log.write(self.now_ms(), self.id, line);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::Release);
        self.thawed.cancel();
    }

    /// From now on nothing of its fate happens: weather, outages, a death of its own.
    pub(crate) fn calm(&self, now_ms: u64) {
        self.calm_from.store(now_ms, Ordering::Release);
    }

    /// Whether it will hang at some time after this.
    pub(crate) fn hangs_after(&self, now_ms: u64) -> bool {
        self.fate.hangs.is_some_and(|(_, to)| to > now_ms)
    }

    /// How many moments there were so far.
    pub(crate) fn moments(&self) -> u64 {
        self.moments.load(Ordering::Acquire)
    }

    /// One more moment at which it may die or stop being scheduled. `true` when it stops.
    pub(crate) fn moment(&self, what: &str) -> bool {
        let number = Some(self.moments.fetch_add(1, Ordering::AcqRel));
        if self.calm_from.load(Ordering::Acquire) <= self.now_ms() {
            return false;
        }
        if self.fate.dies_at == number {
            self.note(format!("{what} dies"));
            self.dead.store(true, Ordering::Release);
        } else if self.fate.freezes_at == number {
            self.note(format!("{what} freezes"));
            self.freeze();
        } else {
            return false;
        }
        self.halted.notify_one();
        true
    }

    /// A moment at which it may wait.
    async fn moment_passes(&self, what: &str) {
        if self.moment(what) && self.is_frozen() {
            self.thawed.cancelled().await;
        }
    }

    /// How often this was asked before.
    pub(crate) fn nth(&self, what: &str) -> u64 {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(what.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// A number below `to`, by what is asked and how often before.
    pub(crate) fn draw(&self, what: &str, nth: u64, to: u64) -> u64 {
        keyed(self.seed, what, &[self.id, nth]) % to
    }

    /// Passes at least this time, and more while the process hangs.
    pub(crate) async fn pass(&self, channel: u64, least_ms: u64) {
        let until = self.now_ms() + least_ms;
        let hangs = self.fate.hangs;
        let hangs = hangs.filter(|(from, to)| (from..to).contains(&&until));
        self.pass_until(channel, hangs.map_or(until, |(_, to)| to))
            .await;
    }

    async fn pass_until(&self, channel: u64, until: u64) {
        let behind = (channel + SLOTS - until % SLOTS) % SLOTS;
        wait_until(self.epoch, until + behind - self.born_ms).await;
    }

    fn weather(&self) -> Weather {
        if self.now_ms() < self.calm_from.load(Ordering::Acquire) {
            self.fate.weather
        } else {
            Weather::default()
        }
    }

    fn outage(&self, path: &str) -> Option<Outage> {
        let now = self.now_ms();
        let is_of = |outage: &&Outage| {
            let of_tenant = path.split('/').next() == Some(outage.tenant);
            of_tenant && (outage.from..outage.to).contains(&now)
        };
        let calm = now >= self.calm_from.load(Ordering::Acquire);
        self.fate
            .outages
            .iter()
            .find(is_of)
            .filter(|_| !calm)
            .copied()
    }

    fn fault(&self, request: &Request<'_>, what: &str, nth: u64) -> Fault {
        let weather = self.weather();
        let roll = self.draw(what, nth, 1_000);
        let is_list = request.kind == RequestKind::List;
        let refused = weather.refused;
        let lost = refused + weather.lost;
        let torn = lost + weather.torn;
        let throttled = torn + weather.throttled;
        match roll {
            r if r < refused => Fault::Refuse,
            r if r < lost && !is_list => Fault::LoseReply,
            r if r < torn => Fault::Tear { done: r % 2 == 0 },
            r if r < throttled => Fault::Throttle(Duration::from_secs(1 + r % 7)),
            r if is_list && r < throttled + weather.stale => Fault::StaleList,
            _ => Fault::None,
        }
    }

    fn latency_ms(&self, what: &str, nth: u64) -> u64 {
        let slow = self.draw(&format!("{what} slow"), nth, 1_000) < self.weather().slow;
        let most = if slow { 45_000 } else { 40 };
        1 + self.draw(&format!("{what} latency"), nth, most)
    }

    pub(crate) fn hub_fails(&self, what: &str, nth: u64) -> bool {
        self.draw(what, nth, 1_000) < self.weather().hub
    }

    /// A request to the hub: time passes, and it may be the last of the process.
    pub(crate) async fn ask_hub(&self, what: &str, nth: u64) {
        self.pass(HUB, 1 + self.draw(what, nth, 30)).await;
        self.moment_passes(what).await;
    }

    async fn before(self: Arc<Self>, kind: RequestKind, path: String) -> Fault {
        let request = Request { kind, path: &path };
        let what = format!("{kind:?} {}", without_ids(&path));
        let nth = self.nth(&what);
        let channel = channel(&path);
        self.pass(channel, self.latency_ms(&what, nth)).await;
        let outage = self.outage(&path);
        if let Some(outage) = outage.filter(|outage| outage.hangs) {
            self.pass_until(channel, outage.to).await;
        }
        self.moment_passes(&what).await;
        if self.is_dead() {
            return Fault::Refuse;
        }
        let fault = match outage {
            Some(_) => Fault::Refuse,
            None => self.fault(&request, &what, nth),
        };
        self.note(format!("{what} {fault:?}"));
        fault
    }

    async fn after(self: Arc<Self>, kind: RequestKind, path: String, done: bool) -> Fault {
        let what = format!("{kind:?} {} reply", without_ids(&path));
        self.note(format!("{what} {}", if done { "done" } else { "failed" }));
        let nth = self.nth(&what);
        self.moment_passes(&what).await;
        if self.draw(&what, nth, 4) == 0 {
            self.pass(channel(&path), self.latency_ms(&what, nth)).await;
        }
        if self.is_dead() {
            Fault::LoseReply
        } else {
            Fault::None
        }
    }
}

impl Schedule for Handle {
    fn decide(&self, request: &Request<'_>, moment: Moment) -> Decision {
        let (actor, kind, path) = (self.0.clone(), request.kind, request.path.to_owned());
        let decision: Pin<Box<dyn Future<Output = Fault> + Send>> = match moment {
            Moment::Before => Box::pin(actor.before(kind, path)),
            Moment::After { done } => Box::pin(actor.after(kind, path, done)),
        };
        decision
    }
}

/// An actor as the store's schedule.
pub(crate) struct Handle(pub(crate) Arc<Actor>);

/// Waits on the simulated clock of a host, which began at `epoch`.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulation is what lets time pass: nothing here waits for a fault to go away"
)]
pub(crate) async fn wait_until(epoch: Instant, ms: u64) {
    tokio::time::sleep_until(epoch + Duration::from_millis(ms)).await;
}

/// One slot a table, so that two tables of one consumer do not meet either.
fn channel(path: &str) -> u64 {
    let mut parts = path.split('/');
    let (first, second) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let tenant = crate::workload::TENANTS.iter().position(|t| *t == first);
    let table = ["readings", "rollups", "rejected"]
        .iter()
        .position(|t| *t == second);
    match (tenant, table, second) {
        (Some(tenant), Some(table), _) => (tenant * 3 + table) as u64,
        (_, _, "quarantine") => 9,
        (_, _, "gaps") => 10,
        (_, _, "probe") => 11,
        _ if path.contains("/ownership") => 14,
        _ => 12 + u64::from(path.ends_with(['1', '3'])),
    }
}

/// A path without the random ids in it: parts of a file's name that are long and hexadecimal.
fn without_ids(path: &str) -> String {
    let is_id =
        |part: &str| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match path.rsplit_once('/') {
        Some((folder, name)) if name.ends_with(".parquet") => {
            let stem = name.trim_end_matches(".parquet");
            // p{partition}-{first}-{last}-{id} or mixed-{id}: the id has hyphens of its own.
            let named = if stem.starts_with("mixed-") { 1 } else { 3 };
            let mut parts = stem.splitn(named + 1, '-');
            let kept: Vec<&str> = parts.by_ref().take(named).collect();
            let id = parts.next().is_some_and(is_id);
            format!(
                "{folder}/{}{}",
                kept.join("-"),
                if id { "-ID" } else { "-?" }
            )
        }
        _ => path.to_owned(),
    }
}
