//! Compares what is in the tables with what the oracle knows.

use std::collections::BTreeSet;

use stamp_lake::Lake;

use crate::oracle::{BACKLOG, GAP, OVER_QUOTA, Oracle, Place, Texts};
use crate::tables::{Found, Sums, find};

/// Most differences that are told.
const TOLD_MAX: usize = 12;

/// How much there was to compare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Sequence numbers.
    pub(crate) places: usize,
    /// Those in a row of `gaps`.
    pub(crate) gaps: usize,
    /// Those in quarantine because they found no room.
    pub(crate) backlog: usize,
    /// Those in quarantine because they were over their tenant's quota.
    pub(crate) over_quota: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.places += other.places;
        self.gaps += other.gaps;
        self.backlog += other.backlog;
        self.over_quota += other.over_quota;
    }
}

/// What differs, and how much was compared. While consumers may still come, rows above the
/// checkpoint may be missing; `settled` says that none may.
pub(crate) async fn differences(
    lake: &Lake,
    oracle: &Oracle,
    partitions: u32,
    settled: bool,
) -> (Vec<String>, Tally) {
    let found = find(lake, partitions).await;
    let nothing = Texts::new();
    let places: BTreeSet<&Place> = found.items.keys().chain(oracle.ends.keys()).collect();
    let judge = |&place: &&Place| {
        let texts = found.items.get(place).unwrap_or(&nothing);
        let why = oracle.judge(*place, texts, || {
            must_be_there(&found, oracle, *place, settled)
        })?;
        Some(format!("{place:?}: {why}"))
    };
    let mut told: Vec<String> = places.iter().filter_map(judge).collect();
    told.extend(sum_differences(&found.rolled, &found.read, settled));
    if settled {
        for (partition, at) in (0..).zip(&found.checkpoints) {
            let last = oracle.last(partition);
            if at.unwrap_or(-1) != last {
                told.push(format!(
                    "the checkpoint of {partition} is {at:?}, the last event {last}"
                ));
            }
        }
    }
    told.truncate(TOLD_MAX);
    (told, tally(&found))
}

fn tally(found: &Found) -> Tally {
    let with = |text: &str| {
        let places = found.items.values();
        places.filter(|texts| texts.contains_key(text)).count()
    };
    Tally {
        places: found.items.len(),
        gaps: with(GAP),
        backlog: with(BACKLOG),
        over_quota: with(OVER_QUOTA),
    }
}

/// Why something must be at a place.
fn must_be_there(found: &Found, oracle: &Oracle, place: Place, settled: bool) -> Option<String> {
    let (partition, sequence) = place;
    if settled {
        return Some("all is settled".into());
    }
    let checkpoint = found.checkpoints[usize::try_from(partition).unwrap()];
    if checkpoint.is_some_and(|at| at >= sequence) {
        return Some(format!("the checkpoint is {checkpoint:?}"));
    }
    // Above the checkpoint, what the hub took away is found out by the next reader.
    if oracle.is_expired(place) {
        return None;
    }
    let texts = oracle.ends.get(&place)?.texts();
    let covers = |(table, p, mark): &&(String, i64, i64)| {
        let is_of = |text: &String| text.starts_with(table.as_str());
        *p == partition && *mark >= sequence && texts.keys().any(is_of)
    };
    let mark = found.marks.iter().find(covers)?;
    Some(format!("the mark of {}is {}", mark.0, mark.2))
}

/// Rollups are of the readings that are there: never of more, and of all once all is settled.
fn sum_differences(rolled: &Sums, read: &Sums, settled: bool) -> Vec<String> {
    let keys: BTreeSet<&String> = rolled.keys().chain(read.keys()).collect();
    let differs = |key: &&&String| {
        let of = |sums: &Sums| sums.get(**key).copied().unwrap_or_default();
        let (rolled, read) = (of(rolled), of(read));
        let lacks = read.0 - rolled.0;
        lacks < 0 || (settled && lacks > 0) || (lacks == 0 && rolled.1 != read.1)
    };
    keys.iter()
        .filter(differs)
        .map(|key| {
            format!(
                "rollup {key}: {:?} and readings {:?}",
                rolled.get(*key),
                read.get(*key)
            )
        })
        .collect()
}
