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

fn devices(used: &Used, stamp: &StampId) -> u64 {
    used.get(stamp).copied().unwrap_or_default()[Axis::Devices]
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

/// What a provisioner does next.
#[derive(Debug, Clone)]
enum Step {
    /// Books with the database.
    Book,
    /// Gives away without it.
    Give,
    /// Writes everything down and takes what is booked.
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
        2 => Just(Step::Sync),
        1 => Just(Step::Restart),
        1 => Just(Step::Release),
    ]
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
        let mut all: Vec<Reserve> = (0..replicas).map(|_| Reserve::new(part)).collect();
        let mut journals = vec![0_u64; all.len()];
        let mut booked = Used::new();
        for (who, step) in steps {
            let who = who % all.len();
            let now = devices(&booked, &stamp.id);
            match step {
                Step::Book if now < part.limits(stamp)[Axis::Devices] => {
                    booked.insert(stamp.id.clone(), one().with(Axis::Devices, now + 1));
                }
                Step::Book => {}
                Step::Give => {
                    if all[who].give(&stamp.id, one()).is_ok() {
                        journals[who] += 1;
                    }
                }
                Step::Sync => {
                    let written = one().with(Axis::Devices, now + journals[who]);
                    booked.insert(stamp.id.clone(), written);
                    for _ in 0..std::mem::take(&mut journals[who]) {
                        all[who].settled(&stamp.id, one());
                    }
                    all[who].sync(&fleet, &booked);
                }
                Step::Restart => {
                    all[who] = Reserve::new(part);
                    for _ in 0..journals[who] {
                        all[who].was_given(&stamp.id, one());
                    }
                }
                Step::Release => {
                    booked.insert(stamp.id.clone(), one().with(Axis::Devices, now.saturating_sub(1)));
                }
            }
            let given: u64 = journals.iter().sum();
            prop_assert!(devices(&booked, &stamp.id) + given <= hard);
        }
    }
}
