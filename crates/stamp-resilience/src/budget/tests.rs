//! The bucket against its promise, exactly.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio::time::Instant;

use super::{Budget, TOKEN};
use crate::policy::BudgetPolicy;

#[derive(Debug, Clone, Copy)]
enum Move {
    Deposit,
    Withdraw,
    Wait(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => Just(Move::Deposit),
        3 => Just(Move::Withdraw),
        1 => (0_u64..2_000_000_000).prop_map(Move::Wait),
    ]
}

/// How many withdrawals are granted.
fn granted(budget: &mut Budget, now: Instant, tries: usize) -> usize {
    (0..tries).filter(|_| budget.withdraw(now).0).count()
}

/// The same cases each time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others and more.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    match config.rng_seed {
        RngSeed::Random => ProptestConfig {
            rng_seed: RngSeed::Fixed(7),
            ..config
        },
        RngSeed::Fixed(_) => config,
    }
}

proptest! {
    #![proptest_config(config())]

    /// Over every stretch of a history, not only from its start.
    #[test]
    fn rule_08_no_stretch_of_time_grants_more_than_burst_share_and_floor(
        moves in prop::collection::vec(any_move(), 1..200),
        thousandths in 0_u32..=500,
        floor_per_minute in 1_u32..=60,
        burst_max in 1_u32..=20,
    ) {
        let ratio = f64::from(thousandths) / 1e3;
        let policy = BudgetPolicy { ratio, floor_per_minute, burst_max };
        let mut now = Instant::now();
        let mut budget = Budget::new(&policy, now);
        let mut history = Vec::new();
        for step in moves {
            let (deposits, grants, waited_ns) = match step {
                Move::Deposit => (1, 0, { budget.deposit(now); 0 }),
                Move::Withdraw => (0, u128::from(budget.withdraw(now).0), 0),
                Move::Wait(ns) => (0, 0, { now += Duration::from_nanos(ns); u128::from(ns) }),
            };
            history.push((deposits, grants, waited_ns));
        }

        for from in 0..history.len() {
            let (mut deposits, mut grants, mut waited_ns) = (0_u128, 0_u128, 0_u128);
            for (d, g, w) in &history[from..] {
                deposits += d;
                grants += g;
                waited_ns += w;
            }
            let floor = waited_ns * u128::from(floor_per_minute) / 60_000;
            let share = deposits * u128::from(thousandths) * 1_000;
            // One part more: what a refill before this stretch could not make whole.
            let allowed = u128::from(burst_max) * u128::from(TOKEN) + share + floor + 1;
            prop_assert!(grants * u128::from(TOKEN) <= allowed);
        }
    }
}

#[test]
fn rule_08_ten_operations_at_a_tenth_are_exactly_one_retry() {
    let policy = BudgetPolicy {
        ratio: 0.1,
        floor_per_minute: 1,
        burst_max: 5,
    };
    let now = Instant::now();
    let mut budget = Budget::new(&policy, now);
    assert_eq!(granted(&mut budget, now, 10), 5);

    for _ in 0..9 {
        budget.deposit(now);
    }
    assert_eq!(granted(&mut budget, now, 1), 0);
    budget.deposit(now);
    assert_eq!(granted(&mut budget, now, 2), 1);
}

#[test]
fn rule_08_a_minute_adds_exactly_the_floor_however_it_is_cut() {
    let policy = BudgetPolicy {
        ratio: 0.0,
        floor_per_minute: 7,
        burst_max: 50,
    };
    let start = Instant::now();
    let mut budget = Budget::new(&policy, start);
    assert_eq!(granted(&mut budget, start, 60), 50);

    let mut grants = 0;
    for step in 1..=59_999_u64 {
        grants += granted(&mut budget, start + Duration::from_millis(step), 1);
    }
    assert_eq!(grants, 6);
    assert_eq!(granted(&mut budget, start + Duration::from_secs(60), 2), 1);
}
