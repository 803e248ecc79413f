//! Every state that mover, hubs, DPS, device, operator and crashes can reach together.

mod world;

use std::collections::HashMap;

use super::*;
use world::{At, Node, Record, Side, steps};

const POLICY: MovePolicy = MovePolicy {
    keep_source_us: 0,
    straggler_after_us: 100,
};

/// The reachable states and, for each, the states that lead to it.
struct Reached {
    nodes: Vec<Node>,
    before: Vec<Vec<usize>>,
}

impl Reached {
    fn explore() -> Self {
        let mut index = HashMap::from([(Node::START, 0)]);
        let mut nodes = vec![Node::START];
        let mut before = vec![Vec::new()];
        let mut next = 0;
        while let Some(&node) = nodes.get(next) {
            for after in steps(&node, &POLICY) {
                let at = *index.entry(after).or_insert_with(|| {
                    nodes.push(after);
                    before.push(Vec::new());
                    nodes.len() - 1
                });
                before[at].push(next);
            }
            next += 1;
        }
        Self { nodes, before }
    }

    /// For each state, whether a state of this kind can be reached from it.
    fn leads_to(&self, goal: impl Fn(&Node) -> bool) -> Vec<bool> {
        let mut leads: Vec<bool> = self.nodes.iter().map(goal).collect();
        let mut work: Vec<usize> = (0..leads.len()).filter(|&i| leads[i]).collect();
        while let Some(at) = work.pop() {
            for &from in &self.before[at] {
                if !std::mem::replace(&mut leads[from], true) {
                    work.push(from);
                }
            }
        }
        leads
    }
}

#[test]
fn whatever_happens_the_device_is_erased_only_after_it_was_seen_and_every_move_can_end() {
    let reached = Reached::explore();
    assert!(
        reached.nodes.len() > 2_000,
        "{} states",
        reached.nodes.len()
    );
    for stage in Stage::ALL {
        let found = reached.nodes.iter().any(|node| node.mover.stage() == stage);
        assert!(
            found,
            "{stage:?} is never reached: the exploration is no proof"
        );
    }
    for node in &reached.nodes {
        let world = &node.world;
        assert!(!world.erased_unseen, "erased before it was seen: {node:?}");
        match node.mover.stage() {
            Stage::Erased => {
                assert_eq!(world.source, Record::Absent, "{node:?}");
                assert_eq!(world.enrolment, Side::Target, "{node:?}");
                assert!(
                    world.telemetry && node.mover.evidence().is_some(),
                    "{node:?}"
                );
            }
            Stage::RolledBack => {
                assert_eq!(world.enrolment, Side::Source, "{node:?}");
                assert!(
                    !world.late.points_to(Side::Target),
                    "may still land: {node:?}"
                );
                assert_ne!(world.source, Record::Disabled, "{node:?}");
                assert!(!world.late.disables_source(), "may still land: {node:?}");
                assert_ne!(world.target, Record::Enabled, "{node:?}");
            }
            _ => {}
        }
    }
    let ends = reached.leads_to(|node| node.mover.stage().is_end());
    let back = reached.leads_to(|node| node.mover.stage() == Stage::RolledBack);
    let settled =
        reached.leads_to(|node| node.mover.stage().is_end() && node.world.device != At::Nowhere);
    for (index, node) in reached.nodes.iter().enumerate() {
        assert!(ends[index], "a move that cannot end: {node:?}");
        assert!(settled[index], "a device that finds no hub: {node:?}");
        let undoable = node.mover.stage().can_roll_back();
        assert_eq!(back[index], undoable, "the way back: {node:?}");
    }
}

fn done(state: DeviceMove, now_us: i64) -> DeviceMove {
    let begun = state.begin(now_us, &POLICY).unwrap();
    assert!(begun.stage().acting().is_some());
    begun.on(Event::Acted(Outcome::Done), now_us).unwrap()
}

fn evidence(enqueued_at_us: i64) -> Evidence {
    Evidence {
        enqueued_at_us,
        partition: 3,
        sequence: 77,
    }
}

/// A move whose device is disabled at the source at 40.
fn disabled() -> DeviceMove {
    let mut state = DeviceMove::planned(10);
    for now_us in [20, 30, 40] {
        state = done(state, now_us);
    }
    assert_eq!(state.stage(), Stage::Disabled);
    state
}

#[test]
fn a_move_without_trouble_does_four_acts_in_order() {
    let mut state = DeviceMove::planned(0);
    let mut acts = Vec::new();
    loop {
        state = match state.next(0, &POLICY) {
            Due::Begin(act) => {
                acts.push(act);
                done(state, 0)
            }
            Due::Telemetry { .. } => state.on(Event::Telemetry(evidence(1)), 0).unwrap(),
            _ => break,
        };
    }
    assert_eq!(
        acts,
        [
            Act::RecordSource,
            Act::PointEnrolment,
            Act::DisableSource,
            Act::EraseSource
        ]
    );
    assert_eq!(state.stage(), Stage::Erased);
    assert_eq!(state.evidence(), Some(evidence(1)));
}

#[test]
fn telemetry_of_an_earlier_life_in_the_target_proves_nothing() {
    let state = disabled();
    let stale = state.on(Event::Telemetry(evidence(29)), 50).unwrap();
    assert_eq!(stale, state);
    let fresh = state.on(Event::Telemetry(evidence(30)), 50).unwrap();
    assert_eq!(fresh.stage(), Stage::Verified);
}

#[test]
fn a_device_that_arrives_before_the_source_rejects_it_is_verified_at_once() {
    let mut state = DeviceMove::planned(0);
    state = done(done(state, 0), 0);
    state = state.on(Event::Telemetry(evidence(5)), 6).unwrap();
    assert_eq!(
        state.stage(),
        Stage::Pointed,
        "it is still enabled at the source"
    );
    assert_eq!(done(state, 7).stage(), Stage::Verified);
}

#[test]
fn a_verified_device_is_kept_at_the_source_for_as_long_as_configured() {
    let policy = MovePolicy {
        keep_source_us: 1_000,
        ..POLICY
    };
    let state = disabled().on(Event::Telemetry(evidence(50)), 60).unwrap();
    assert_eq!(state.next(1_059, &policy), Due::Until(1_060));
    assert_eq!(
        state.begin(1_059, &policy),
        Err(NotNow::NoAct(Stage::Verified))
    );
    assert_eq!(state.next(1_060, &policy), Due::Begin(Act::EraseSource));
}

#[test]
fn a_straggler_is_told_and_waited_for() {
    let state = disabled();
    assert_eq!(
        state.next(140, &POLICY),
        Due::Telemetry { straggler: false }
    );
    assert_eq!(state.next(141, &POLICY), Due::Telemetry { straggler: true });
}

#[test]
fn there_is_no_way_back_once_the_erase_may_have_been_sent() {
    let verified = disabled().on(Event::Telemetry(evidence(50)), 60).unwrap();
    let erasing = verified.begin(60, &POLICY).unwrap();
    assert_eq!(
        erasing.on(Event::RollBack, 61),
        Err(NotNow::NoWayBack(Stage::Erasing))
    );
    let lost = erasing.on(Event::Acted(Outcome::Unknown), 62).unwrap();
    assert_eq!(lost.next(62, &POLICY), Due::Do(Act::EraseSource));
}

#[test]
fn a_refused_act_waits_for_a_person_and_is_tried_again_when_told() {
    let recorded = done(DeviceMove::planned(0), 0);
    let pointing = recorded.begin(0, &POLICY).unwrap();
    let refused = Event::Acted(Outcome::Refused(Obstacle::Changed));
    let stuck = pointing.on(refused, 1).unwrap();
    assert_eq!(stuck.next(1, &POLICY), Due::Person(Obstacle::Changed));
    let again = stuck.on(Event::Continue, 2).unwrap();
    assert_eq!(again.next(2, &POLICY), Due::Begin(Act::PointEnrolment));
}

#[test]
fn a_pause_holds_every_act_and_forgets_nothing() {
    let pointing = done(DeviceMove::planned(0), 0).begin(0, &POLICY).unwrap();
    let paused = pointing.on(Event::Pause, 1).unwrap();
    assert_eq!(paused.next(1, &POLICY), Due::Paused);
    let ended = paused.on(Event::Acted(Outcome::Done), 2).unwrap();
    assert_eq!(
        (ended.stage(), ended.next(2, &POLICY)),
        (Stage::Pointed, Due::Paused)
    );
    let on = paused.on(Event::Continue, 3).unwrap();
    assert_eq!(on.next(3, &POLICY), Due::Do(Act::PointEnrolment));
}

#[test]
fn a_saved_state_is_read_back_as_it_was() {
    let state = disabled().on(Event::Telemetry(evidence(50)), 60).unwrap();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<DeviceMove>(&text).unwrap(), state);
    assert!(serde_json::from_str::<DeviceMove>(&text.replace("verified", "done")).is_err());
}
