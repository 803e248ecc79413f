//! What the service promises, on a hub and a store in memory and a paused clock.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod delivery;
mod gaps;
mod neighbours;
mod ownership;
mod quotas;
mod recovery;
mod spoofing;
mod start;
mod support;
mod tenants;
mod together;

use stamp_eventhubs::memory::MemoryHub;
use support::{Stamp, event, once, partition, reading};

const P0: u32 = 0;

/// A refused device, an invalid body, and readings of two tenants, over and over.
fn publish(hub: &MemoryHub, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let value = f64::from(u32::try_from(number % 100).unwrap());
        let event = match number % 10 {
            3 => event("stranger", "{}".into()),
            6 => event("a-1", r#"{"value":"warm"}"#.into()),
            n if n % 2 == 0 => reading("a-2", value),
            _ => reading("b-1", value),
        };
        hub.append(partition(P0), event);
    }
}

fn of_kind(range: std::ops::Range<i64>, is: impl Fn(i64) -> bool) -> support::Rows {
    once(range.filter(|number| is(number % 10)))
}

/// Every event of `publish` is where it belongs, once.
async fn assert_complete(stamp: &Stamp, count: i64) {
    let alpha = of_kind(0..count, |n| n % 2 == 0 && n != 6);
    let beta = of_kind(0..count, |n| n % 2 == 1 && n != 3);
    assert_eq!(stamp.rows("alpha", "readings").await, alpha);
    assert_eq!(stamp.rows("beta", "readings").await, beta);
    assert_eq!(
        stamp.rows("alpha", "rejected").await,
        of_kind(0..count, |n| n == 6)
    );
    assert_eq!(
        stamp.quarantined("unknown_tenant").await,
        of_kind(0..count, |n| n == 3)
    );
    let sum = |rows: &support::Rows| -> f64 {
        rows.keys()
            .map(|(_, n)| f64::from(u32::try_from(n % 100).unwrap()))
            .sum()
    };
    assert_eq!(
        stamp.rolled_up("alpha").await,
        (i64::try_from(alpha.len()).unwrap(), sum(&alpha))
    );
    assert_eq!(
        stamp.rolled_up("beta").await,
        (i64::try_from(beta.len()).unwrap(), sum(&beta))
    );
}
