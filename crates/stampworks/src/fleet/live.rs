//! What the stamps' own metrics say: one scrape of each process, or two a while apart for rates.
//!
//! A process that does not answer is a result, not an error: it is asked once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stamp_model::StampId;
use stamp_placement::{Fleet, Stamp, StampState};
use stamp_telemetry::{Scrape, addresses, scrape};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most processes that are asked at a time.
const ASKED_AT_ONCE_MAX: usize = 64;

/// What counts as healthy.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Bounds {
    /// A partition whose last event read is older than this is not healthy.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(super) lag_max: Duration,
    /// Less time than this until unread events are lost is not healthy.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = humantime::parse_duration)]
    pub(super) headroom_min: Duration,
    /// How long one process may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
}

/// One process of a stamp, as it answered.
pub(super) struct Process {
    pub(super) url: String,
    /// None when the name has no address.
    pub(super) address: Option<SocketAddr>,
    pub(super) said: Result<Scrape, String>,
    at: Instant,
}

/// One process of a stamp, for a report.
#[derive(Debug, Serialize)]
pub(super) struct Answered {
    pub(super) url: String,
    pub(super) address: Option<SocketAddr>,
    /// Why it did not answer.
    pub(super) error: Option<String>,
}

/// What a stamp's processes say together.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Live {
    pub(super) processes: Vec<Answered>,
    /// Versions that run.
    pub(super) versions: Vec<String>,
    /// Events a second that the hub gave, when measured.
    pub(super) events_per_second: Option<f64>,
    /// Events that are not read yet, over all partitions.
    pub(super) lag_events: Option<f64>,
    /// Age of the last event read in the slowest partition, in seconds.
    pub(super) lag_seconds: Option<f64>,
    /// What is wrong; empty when it is healthy.
    pub(super) complaints: Vec<String>,
}

impl Live {
    pub(super) fn up(&self) -> usize {
        self.processes
            .iter()
            .filter(|process| process.error.is_none())
            .count()
    }
}

/// Asks every stamp that should serve; twice, when rates are wanted.
pub(super) async fn look(
    fleet: &Fleet,
    bounds: Bounds,
    over: Option<Duration>,
) -> BTreeMap<StampId, Live> {
    let first = ask_all(fleet, bounds.timeout).await;
    let second = match over {
        None => None,
        Some(over) => {
            // The first tick is at once.
            let mut ticks = tokio::time::interval(over);
            ticks.tick().await;
            ticks.tick().await;
            Some(ask_all(fleet, bounds.timeout).await)
        }
    };
    let serving = fleet.stamps().iter().filter(|stamp| serves(stamp));
    let live = |stamp: &Stamp| {
        let none = Vec::new();
        let before = first.get(&stamp.id).unwrap_or(&none);
        let after = second.as_ref().and_then(|second| second.get(&stamp.id));
        (stamp.id.clone(), sum_up(stamp, before, after, bounds))
    };
    serving.map(live).collect()
}

pub(super) fn serves(stamp: &Stamp) -> bool {
    matches!(stamp.state, StampState::Active | StampState::Draining)
}

async fn ask_all(fleet: &Fleet, within: Duration) -> BTreeMap<StampId, Vec<Process>> {
    let places = Arc::new(Semaphore::new(ASKED_AT_ONCE_MAX));
    let mut asked = JoinSet::new();
    for stamp in fleet.stamps().iter().filter(|stamp| serves(stamp)) {
        for url in &stamp.metrics {
            let (places, stamp, url) = (Arc::clone(&places), stamp.id.clone(), url.clone());
            asked.spawn(async move {
                let _place = places.acquire_owned().await;
                (stamp, ask(&url, within).await)
            });
        }
    }
    let mut answers: BTreeMap<StampId, Vec<Process>> = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        if let Ok((stamp, processes)) = answer {
            answers.entry(stamp).or_default().extend(processes);
        }
    }
    for processes in answers.values_mut() {
        processes.sort_by(|a, b| (&a.url, a.address).cmp(&(&b.url, b.address)));
    }
    answers
}

/// Every process behind one URL: each address of its name.
async fn ask(url: &str, within: Duration) -> Vec<Process> {
    let process = |address, said| Process {
        url: url.to_owned(),
        address,
        said,
        at: Instant::now(),
    };
    let found = tokio::time::timeout(within, addresses(url)).await;
    let addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return vec![process(None, Err(told(&error)))],
        Err(_) => return vec![process(None, Err("its name was not found in time".into()))],
    };
    let mut processes = Vec::with_capacity(addresses.len());
    for address in addresses {
        let said = scrape(url, address, within).await;
        processes.push(process(Some(address), said.map_err(|error| told(&error))));
    }
    processes
}

/// An error with its causes in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn sum_up(stamp: &Stamp, before: &[Process], after: Option<&Vec<Process>>, bounds: Bounds) -> Live {
    let now = after.map_or(before, Vec::as_slice);
    let said: Vec<&Scrape> = now.iter().filter_map(|p| p.said.as_ref().ok()).collect();
    let mut versions = BTreeSet::new();
    for build in said.iter().flat_map(|scrape| scrape.of("stamp_build_info")) {
        versions.extend(build.labels.get("version").cloned());
    }
    Live {
        processes: now.iter().map(answered).collect(),
        versions: versions.into_iter().collect(),
        events_per_second: after.and_then(|after| rate(before, after)),
        lag_events: fold(&said, "stamp_lag_events", |a, b| a + b),
        lag_seconds: fold(&said, "stamp_lag_seconds", f64::max),
        complaints: complaints(stamp, now, &said, bounds),
    }
}

fn answered(process: &Process) -> Answered {
    Answered {
        url: process.url.clone(),
        address: process.address,
        error: process.said.as_ref().err().cloned(),
    }
}

fn fold(said: &[&Scrape], name: &str, with: impl Fn(f64, f64) -> f64) -> Option<f64> {
    let samples = said.iter().flat_map(|scrape| scrape.of(name));
    samples.map(|sample| sample.value).reduce(with)
}

/// Events a second of all processes that answered twice; `None` when one of them started anew or
/// none did.
fn rate(before: &[Process], after: &[Process]) -> Option<f64> {
    let received = |process: &Process| {
        let said = process.said.as_ref().ok()?;
        Some(said.sum("stamp_events_received_total").unwrap_or(0.0))
    };
    let mut sum = None;
    for now in after {
        let same = |then: &&Process| then.url == now.url && then.address == now.address;
        let Some(then) = before.iter().find(same) else {
            continue;
        };
        let (Some(from), Some(to)) = (received(then), received(now)) else {
            continue;
        };
        let seconds = now.at.duration_since(then.at).as_secs_f64();
        if to < from || seconds <= 0.0 {
            return None;
        }
        sum = Some(sum.unwrap_or(0.0) + (to - from) / seconds);
    }
    sum
}

fn complaints(stamp: &Stamp, now: &[Process], said: &[&Scrape], bounds: Bounds) -> Vec<String> {
    let mut found = Vec::new();
    if now.is_empty() {
        found.push("the catalogue has no metrics address of it".to_owned());
    }
    for process in now {
        if let Err(why) = &process.said {
            let place = process
                .address
                .map_or(String::new(), |address| format!(" at {address}"));
            found.push(format!("{}{place} does not answer: {why}", process.url));
        }
    }
    if said.is_empty() {
        return found;
    }
    if let Some(other) = foreign(stamp, said) {
        found.push(format!("what answers is stamp {other}"));
    }
    let partitions = fold(said, "stamp_partitions_owned", |a, b| a + b);
    let declared = stamp.event_hub.partitions;
    #[expect(clippy::cast_precision_loss, reason = "at most 1,024 partitions")]
    if let Some(owned) = partitions.filter(|owned| *owned < declared as f64) {
        found.push(format!("{owned} of {declared} partitions are read"));
    }
    for (name, label, value, text) in [
        (
            "stamp_partition_state",
            "state",
            "paused",
            "partition is paused",
        ),
        (
            "stamp_breaker_state",
            "state",
            "open",
            "circuit breaker is open",
        ),
    ] {
        let of = said.iter().flat_map(|scrape| scrape.of(name));
        let on = of.filter(|s| s.value >= 1.0 && s.labels.get(label).is_some_and(|l| l == value));
        for sample in on {
            let whose = sample.labels.get("partition").or(sample.labels.get("peer"));
            found.push(format!("{text}: {}", whose.map_or("", String::as_str)));
        }
    }
    let broken = fold(said, "stamp_invariant_violations_total", |a, b| a + b);
    if let Some(count) = broken.filter(|count| *count > 0.0) {
        found.push(format!(
            "{count} promises of the ingest protocol were seen broken"
        ));
    }
    let lag = fold(said, "stamp_lag_seconds", f64::max);
    if let Some(lag) = lag.filter(|lag| *lag > bounds.lag_max.as_secs_f64()) {
        found.push(format!("the slowest partition is {lag:.0} s behind"));
    }
    let headroom = fold(said, "stamp_retention_headroom_seconds", f64::min);
    if let Some(left) = headroom.filter(|left| *left < bounds.headroom_min.as_secs_f64()) {
        found.push(format!("unread events are lost in {left:.0} s"));
    }
    found
}

/// The stamp that a process says it is of, when that is another one.
fn foreign<'a>(stamp: &Stamp, said: &[&'a Scrape]) -> Option<&'a str> {
    let labels = said.iter().flat_map(|scrape| scrape.of("stamp_build_info"));
    let names = labels.filter_map(|sample| sample.labels.get("stamp"));
    names
        .map(String::as_str)
        .find(|name| *name != stamp.id.as_str())
}
