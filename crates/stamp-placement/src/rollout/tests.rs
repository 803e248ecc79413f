//! A version goes on only where it has proved itself.

use super::*;
use crate::catalogue::{Source, read};

const STAMPS: &str = include_str!("../../../../deploy/examples/fleet/stamps.toml");
const TENANTS: &str = include_str!("../../../../deploy/examples/fleet/tenants.toml");
const HOUR_MS: i64 = 3_600_000;

/// The example fleet, with these versions of its canary, early and general stamps. The order in
/// the file is weu-test (canary), weu-1 (early), weu-fabrikam, eus-1 (general), eus-2 (planned).
fn fleet(canary: &str, early: &str, general: &str) -> Fleet {
    let mut stamps = STAMPS.to_owned();
    for version in [canary, early, general, general, early] {
        stamps = stamps.replacen(
            "version = \"0.1.0\"",
            &format!("version  = \"{version}\""),
            1,
        );
    }
    let source = |name, text| Source { name, text };
    read(&[
        source("stamps.toml", &stamps),
        source("tenants.toml", TENANTS),
    ])
    .unwrap()
    .fleet
}

fn id(name: &str) -> StampId {
    StampId::parse(name).unwrap()
}

/// Every stamp runs what the catalogue says and has nothing to complain of.
fn fine(fleet: &Fleet) -> BTreeMap<StampId, Observed> {
    let observed = |stamp: &Stamp| Observed {
        versions: vec![stamp.version.clone()],
        complaints: vec![],
    };
    open(fleet)
        .map(|stamp| (stamp.id.clone(), observed(stamp)))
        .collect()
}

fn entry(at_ms: i64, action: Action, change: Option<(&str, &str, &str)>) -> Entry {
    Entry {
        at_ms,
        by: "sam".into(),
        action,
        reason: None,
        stamp: change.map(|(stamp, _, _)| id(stamp)),
        from: change.map(|(_, from, _)| from.into()),
        to: change.map(|(_, _, to)| to.into()),
    }
}

const TO_2: Wish<'_> = Wish::Promote {
    version: "2",
    security_fix: false,
};

#[test]
fn a_version_starts_in_the_first_ring() {
    let fleet = fleet("1", "1", "1");
    let changes = decide(
        &fleet,
        &[],
        &BTreeMap::new(),
        Ring::Canary,
        TO_2,
        0,
        HOUR_MS,
    )
    .unwrap();
    let change = Change {
        stamp: id("weu-test"),
        from: "1".into(),
        to: "2".into(),
    };
    assert_eq!(changes, [change]);
}

#[test]
fn a_version_goes_on_when_every_ring_before_runs_it_well_for_long_enough() {
    let fleet = fleet("2", "2", "1");
    let record = [
        entry(0, Action::Promote, Some(("weu-test", "1", "2"))),
        entry(HOUR_MS, Action::Promote, Some(("weu-1", "1", "2"))),
    ];
    let ask = |now| {
        decide(
            &fleet,
            &record,
            &fine(&fleet),
            Ring::General,
            TO_2,
            now,
            HOUR_MS,
        )
    };
    let soon = ask(2 * HOUR_MS - 1).unwrap_err();
    assert_eq!(
        soon,
        [Blocked::TooSoon {
            stamp: id("weu-1"),
            ring: Ring::Early,
            wait_ms: 1
        }]
    );
    let changes = ask(2 * HOUR_MS).unwrap();
    let stamps: Vec<&str> = changes.iter().map(|change| change.stamp.as_str()).collect();
    assert_eq!(stamps, ["eus-1", "weu-fabrikam"]);
}

#[test]
fn a_ring_before_that_is_behind_silent_or_unwell_holds_a_version_back() {
    let behind = fleet("2", "1", "1");
    let found = decide(&behind, &[], &fine(&behind), Ring::General, TO_2, 0, 0).unwrap_err();
    let early = Blocked::Behind {
        stamp: id("weu-1"),
        ring: Ring::Early,
        version: "1".into(),
    };
    assert_eq!(found, [early]);

    let fleet = fleet("2", "1", "1");
    let mut observed = fine(&fleet);
    observed.insert(
        id("weu-test"),
        Observed {
            versions: vec!["1".into(), "2".into()],
            complaints: vec![],
        },
    );
    let ask = |observed: &_| decide(&fleet, &[], observed, Ring::Early, TO_2, 0, 0).unwrap_err();
    assert!(ask(&observed)[0].to_string().contains("still runs 1 and 2"));
    observed.remove(&id("weu-test"));
    assert!(ask(&observed)[0].to_string().contains("does not answer"));
    let unwell = Observed {
        versions: vec!["2".into()],
        complaints: vec!["partition 3 is paused".into()],
    };
    observed.insert(id("weu-test"), unwell);
    assert!(
        ask(&observed)[0]
            .to_string()
            .contains("partition 3 is paused")
    );
}

#[test]
fn a_pause_holds_everything_but_a_security_fix_until_it_is_resumed() {
    let fleet = fleet("1", "1", "1");
    let pause = entry(5, Action::Pause, None);
    let ask = |record: &[Entry], wish| {
        decide(&fleet, record, &BTreeMap::new(), Ring::Canary, wish, 10, 0)
    };
    let paused = Blocked::Paused {
        by: "sam".into(),
        reason: None,
    };
    assert_eq!(ask(std::slice::from_ref(&pause), TO_2), Err(vec![paused]));
    assert!(ask(&[pause.clone(), entry(6, Action::Resume, None)], TO_2).is_ok());
    let fix = Wish::Promote {
        version: "2",
        security_fix: true,
    };
    assert!(ask(&[pause], fix).is_ok());
}

#[test]
fn a_security_fix_waits_for_no_ring() {
    let fleet = fleet("1", "1", "1");
    let fix = Wish::Promote {
        version: "2",
        security_fix: true,
    };
    let changes = decide(
        &fleet,
        &[],
        &BTreeMap::new(),
        Ring::General,
        fix,
        0,
        HOUR_MS,
    )
    .unwrap();
    assert_eq!(changes.len(), 2);
}

#[test]
fn a_ring_goes_back_to_what_each_of_its_stamps_ran_before() {
    let fleet = fleet("3", "3", "3");
    let record = [
        entry(0, Action::Promote, Some(("eus-1", "1", "2"))),
        entry(1, Action::Promote, Some(("eus-1", "2", "3"))),
        entry(2, Action::Promote, Some(("weu-fabrikam", "1", "3"))),
    ];
    let ask = |record: &[Entry]| {
        decide(
            &fleet,
            record,
            &BTreeMap::new(),
            Ring::General,
            Wish::RollBack,
            9,
            HOUR_MS,
        )
    };
    let back: Vec<(String, String)> = ask(&record)
        .unwrap()
        .into_iter()
        .map(|c| (c.stamp.to_string(), c.to))
        .collect();
    assert_eq!(
        back,
        [
            ("eus-1".into(), "2".into()),
            ("weu-fabrikam".into(), "1".into())
        ]
    );
    let unknown = Blocked::NothingBefore(id("weu-fabrikam"));
    assert_eq!(ask(&record[..2]), Err(vec![unknown]));
}

#[test]
fn a_ring_that_has_the_version_is_left_alone() {
    let fleet = fleet("2", "1", "1");
    let changes = decide(&fleet, &[], &BTreeMap::new(), Ring::Canary, TO_2, 0, 0);
    assert_eq!(changes, Ok(vec![]));
}
