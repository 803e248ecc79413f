use proptest::prelude::*;
use stamp_placement::catalogue::{Source, read};

use super::*;

/// One stamp with room for `devices`.
fn fleet(devices: u64) -> Fleet {
    let text = crate::tests::catalogue(&[("only", devices)]);
    let source = Source {
        name: "fleet.toml",
        text: &text,
    };
    read(&[source]).unwrap().fleet
}

fn one() -> Load {
    Load::ZERO.with(Axis::Devices, 1)
}

#[test]
fn nothing_is_given_away_before_the_database_was_seen() {
    let fleet = fleet(100);
    let id = &fleet.stamps()[0].id;
    let mut reserve = Reserve::new(Part::new(0.1, 1));
    assert_eq!(reserve.give(id, one()), Err(Axis::Devices));
    reserve.sync(&fleet, &Used::new());
    for _ in 0..10 {
        reserve.give(id, one()).unwrap();
    }
    assert_eq!(reserve.give(id, one()), Err(Axis::Devices));
    assert!((reserve.used_ratio() - 1.0).abs() < 1e-9);
}

#[test]
fn a_reserve_of_nothing_leaves_the_whole_stamp_to_the_database() {
    let fleet = fleet(100);
    let stamp = &fleet.stamps()[0];
    let mut reserve = Reserve::new(Part::NONE);
    reserve.sync(&fleet, &Used::new());
    assert_eq!(Part::NONE.limits(stamp)[Axis::Devices], 100);
    assert_eq!(reserve.give(&stamp.id, one()), Err(Axis::Devices));
}

/// A database that comes and goes: what is written down is not in what was seen of it.
#[test]
fn what_is_written_down_is_given_away_again_only_when_it_was_seen_in_the_database() {
    let fleet = fleet(100);
    let stamp = &fleet.stamps()[0];
    let mut reserve = Reserve::new(Part::new(0.1, 2));
    let booked = |count: u64| Used::from([(stamp.id.clone(), one().with(Axis::Devices, count))]);
    reserve.sync(&fleet, &booked(90));
    for _ in 0..5 {
        reserve.give(&stamp.id, one()).unwrap();
    }
    for _ in 0..5 {
        reserve.written(&stamp.id, one());
    }
    assert_eq!(reserve.give(&stamp.id, one()), Err(Axis::Devices));
    // It took the stamp into the part that is kept back, so nothing is left.
    reserve.sync(&fleet, &booked(95));
    assert_eq!(reserve.give(&stamp.id, one()), Err(Axis::Devices));
    reserve.sync(&fleet, &booked(89));
    for _ in 0..5 {
        reserve.give(&stamp.id, one()).unwrap();
    }
    assert_eq!(reserve.give(&stamp.id, one()), Err(Axis::Devices));
}

/// What a provisioner does next.
#[derive(Debug, Clone)]
enum Step {
    /// Books with the database.
    Book,
    /// Gives away without it.
    Give,
    /// Gives away, and the disk does not take it.
    GiveInVain,
    /// A device that was given a place asks again, and is booked for that.
    BookGiven,
    /// Writes one device down.
    Write,
    /// Looks what is booked.
    Look,
    /// Takes what it saw.
    Sync,
    /// Dies, and starts again with its journal.
    Restart,
    /// Somebody gives a place back.
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Book),
        4 => Just(Step::Give),
        1 => Just(Step::GiveInVain),
        1 => Just(Step::BookGiven),
        3 => Just(Step::Write),
        2 => Just(Step::Look),
        2 => Just(Step::Sync),
        1 => Just(Step::Restart),
        1 => Just(Step::Release),
    ]
}

/// One provisioner.
struct One {
    reserve: Reserve,
    /// Devices that are not written down; true for those that the database has.
    pending: Vec<bool>,
    /// Lines of the journal that are written down. It is emptied when all are.
    lines: usize,
    /// What it saw of the database and has not taken yet.
    seen: Option<Used>,
}

proptest! {
    #[test]
    fn all_provisioners_together_never_pass_a_hard_limit(
        hard in 1_u64..60,
        share in 0.0_f64..0.5,
        replicas in 1_u32..4,
        steps in proptest::collection::vec((0_usize..4, step()), 0..400),
    ) {
        let fleet = fleet(hard);
        let stamp = &fleet.stamps()[0];
        let part = Part::new(share, replicas);
        let one_of = |_| One {
            reserve: Reserve::new(part),
            pending: Vec::new(),
            lines: 0,
            seen: None,
        };
        let mut all: Vec<One> = (0..replicas).map(one_of).collect();
        let mut booked = 0;
        for (who, step) in steps {
            let who = who % all.len();
            let One { reserve, pending, lines, seen } = &mut all[who];
            match step {
                Step::Book if booked < part.limits(stamp)[Axis::Devices] => booked += 1,
                Step::Book => {}
                Step::Give => {
                    if reserve.give(&stamp.id, one()).is_ok() {
                        pending.push(false);
                    }
                }
                Step::GiveInVain => {
                    if reserve.give(&stamp.id, one()).is_ok() {
                        reserve.taken_back(&stamp.id, one());
                    }
                }
                Step::BookGiven => {
                    if let Some(given) = pending.iter_mut().find(|is_booked| !**is_booked) {
                        *given = true;
                        booked += 1;
                    }
                }
                // One task writes and looks, one after the other.
                Step::Write if seen.is_none() => {
                    if let Some(is_booked) = pending.pop() {
                        booked += u64::from(!is_booked);
                        reserve.written(&stamp.id, one());
                        *lines += 1;
                    }
                    if pending.is_empty() {
                        *lines = 0;
                    }
                }
                Step::Write => {}
                Step::Look => {
                    *seen = Some(Used::from([(stamp.id.clone(), one().with(Axis::Devices, booked))]));
                }
                Step::Sync => {
                    if let Some(seen) = seen.take() {
                        reserve.sync(&fleet, &seen);
                    }
                }
                Step::Restart => {
                    *reserve = Reserve::new(part);
                    *seen = None;
                    pending.extend(std::iter::repeat_n(true, std::mem::take(lines)));
                    for _ in 0..pending.len() {
                        reserve.was_given(&stamp.id, one());
                    }
                }
                Step::Release => booked = booked.saturating_sub(1),
            }
            let of = |one: &One| one.pending.iter().filter(|is_booked| !**is_booked).count() as u64;
            let given: u64 = all.iter().map(of).sum();
            prop_assert!(booked + given <= hard, "{booked} and {given} of {hard}");
        }
    }
}
