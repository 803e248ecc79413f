//! One consumer process as the world sees it: when it hangs, when it dies, what it does.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stamp_lake::faults::{Decision, Fault, Moment, Request, RequestKind, Schedule};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::keyed;

/// Effects of different actors and tables never fall on the same millisecond: each has a slot of
/// its own in this many.
const SLOTS: u64 = 256;

/// Slot within an actor's sixteen for what goes to the hub.
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
    pub(crate) throttled: u64,
    pub(crate) slow: u64,
    pub(crate) stale: u64,
    pub(crate) hub: u64,
}

/// A consumer's fate, drawn before it starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) weather: Weather,
    /// Dies at this request to the store, before it is made or after.
    pub(crate) dies_at: Option<(u64, bool)>,
    /// Everything it asks of hub and store within these hangs until the end.
    pub(crate) hangs: Option<(u64, u64)>,
}

pub(crate) struct Actor {
    pub(crate) id: u64,
    seed: u64,
    fate: Fate,
    /// From then on nothing it asks for happens.
    pub(crate) dead: CancellationToken,
    epoch: Instant,
    requests: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    log: Log,
}

impl Actor {
    pub(crate) fn new(id: u64, seed: u64, fate: Fate, epoch: Instant, log: &Log) -> Arc<Self> {
        Arc::new(Self {
            id,
            seed,
            fate,
            dead: CancellationToken::new(),
            epoch,
            requests: AtomicU64::new(0),
            counts: Mutex::default(),
            log: log.clone(),
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap()
    }

    pub(crate) fn note(&self, line: String) {
        self.log.write(self.now_ms(), self.id, line);
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
        let mut until = self.now_ms() + least_ms;
        if let Some((_, to)) = self
            .fate
            .hangs
            .filter(|(from, to)| (from..to).contains(&&until))
        {
            until = to;
        }
        let slot = (self.id * 16 + channel) % SLOTS;
        let behind = (slot + SLOTS - until % SLOTS) % SLOTS;
        wait_until(self.epoch, until + behind).await;
    }

    fn fault(&self, request: &Request<'_>, what: &str, nth: u64) -> Fault {
        let Weather {
            refused,
            lost,
            throttled,
            stale,
            ..
        } = self.fate.weather;
        let roll = self.draw(what, nth, 1_000);
        let is_list = request.kind == RequestKind::List;
        match roll {
            r if r < refused => Fault::Refuse,
            r if r < refused + lost && !is_list => Fault::LoseReply,
            r if r < refused + lost + throttled => Fault::Throttle(Duration::from_secs(1 + r % 7)),
            r if is_list && r < refused + lost + throttled + stale => Fault::StaleList,
            _ => Fault::None,
        }
    }

    fn latency_ms(&self, what: &str, nth: u64) -> u64 {
        let slow = self.draw(&format!("{what} slow"), nth, 1_000) < self.fate.weather.slow;
        let most = if slow { 45_000 } else { 40 };
        1 + self.draw(&format!("{what} latency"), nth, most)
    }

    pub(crate) fn hub_fails(&self, what: &str, nth: u64) -> bool {
        self.draw(what, nth, 1_000) < self.fate.weather.hub
    }

    async fn before(self: Arc<Self>, kind: RequestKind, path: String) -> Fault {
        let request = Request { kind, path: &path };
        let what = format!("{kind:?} {}", without_ids(&path));
        let (nth, number) = (
            self.nth(&what),
            self.requests.fetch_add(1, Ordering::Relaxed),
        );
        self.pass(channel(&path), self.latency_ms(&what, nth)).await;
        if self.fate.dies_at == Some((number, false)) {
            self.note(format!("{what} dies"));
            self.dead.cancel();
        }
        if self.dead.is_cancelled() {
            return Fault::Refuse;
        }
        let fault = self.fault(&request, &what, nth);
        self.note(format!("{what} {fault:?}"));
        fault
    }

    async fn after(self: Arc<Self>, kind: RequestKind, path: String, done: bool) -> Fault {
        let what = format!("{kind:?} {} reply", without_ids(&path));
        self.note(format!("{what} {}", if done { "done" } else { "failed" }));
        let (nth, number) = (self.nth(&what), self.requests.load(Ordering::Relaxed));
        if self.fate.dies_at == Some((number.saturating_sub(1), true)) {
            self.note(format!("{what} dies"));
            self.dead.cancel();
        }
        if self.draw(&what, nth, 4) == 0 {
            self.pass(channel(&path), self.latency_ms(&what, nth)).await;
        }
        if self.dead.is_cancelled() {
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

/// Waits on the simulated clock.
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
        _ => 12 + u64::from(path.ends_with('1')),
    }
}

/// A path without the random ids in it: parts of a file's name that are long and hexadecimal.
fn without_ids(path: &str) -> String {
    let is_id =
        |part: &str| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match path.rsplit_once('/') {
        Some((folder, name)) if name.ends_with(".parquet") => {
            let stem = name.trim_end_matches(".parquet");
            // p{partition}-{first}-{last}-{id}: the id has hyphens of its own.
            let mut parts = stem.splitn(4, '-');
            let kept: Vec<&str> = parts.by_ref().take(3).collect();
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
