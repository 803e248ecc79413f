use bytesize::ByteSize;
use proptest::prelude::*;

use super::*;

const ALL: Share = Share { part: 1, of: 1 };
/// 2026-11-24T00:00:00Z
const MIDNIGHT_US: i64 = 1_795_478_400_000_000;

fn meter(events: Option<u64>, bytes: Option<u64>, devices: Option<u32>) -> Meter {
    Meter::new(QuotaConfig {
        events_per_second: events,
        bytes_per_second: bytes.map(ByteSize::b),
        devices_max: devices,
    })
}

fn load(at_us: i64, device_id: &str, bytes: u64) -> Load<'_> {
    Load {
        enqueued_at_us: MIDNIGHT_US + at_us,
        device_id,
        bytes,
    }
}

#[test]
fn a_minute_takes_its_rate_and_no_more_and_the_next_one_is_its_own() {
    let mut meter = meter(Some(2), None, None);
    let mut admit = |at_us| meter.admit(load(at_us, "d", 1), ALL).is_ok();

    assert_eq!((0..500).filter(|at| admit(*at)).count(), 120);
    assert_eq!((0..500).filter(|at| admit(MINUTE_US + at)).count(), 120);
}

#[test]
fn bytes_that_do_not_fit_do_not_take_the_room_of_those_that_do() {
    let mut meter = meter(None, Some(10), None);
    let mut admit = |bytes| meter.admit(load(0, "d", bytes), ALL);

    assert_eq!(admit(590), Ok(()));
    assert_eq!(admit(11), Err(Excess::Bytes));
    assert_eq!(admit(10), Ok(()));
    assert_eq!(admit(1), Err(Excess::Bytes));
}

#[test]
fn the_first_devices_of_a_day_are_in_and_stay_in_until_the_next_one() {
    let mut meter = meter(None, None, Some(2));
    let mut admit = |at_us, device| meter.admit(load(at_us, device, 1), ALL);

    for (at_us, device, expected) in [
        (0, "a", Ok(())),
        (1, "b", Ok(())),
        (2, "c", Err(Excess::Devices)),
        (DAY_US - 1, "a", Ok(())),
        (DAY_US, "c", Ok(())),
        (DAY_US + 1, "a", Ok(())),
        (DAY_US + 2, "b", Err(Excess::Devices)),
        // A partition that lags is still in its own day.
        (3, "c", Err(Excess::Devices)),
    ] {
        assert_eq!(admit(at_us, device), expected, "{device} at {at_us}");
    }
}

#[test]
fn a_process_has_the_part_of_the_quota_that_it_has_of_the_partitions() {
    for (part, of, taken) in [
        (1, 4, 30),
        (3, 4, 90),
        (4, 4, 120),
        (1, 1_000, 1),
        (0, 0, 120),
    ] {
        let mut meter = meter(Some(2), None, None);
        let share = Share { part, of };
        let admitted = (0..500).filter(|&at| meter.admit(load(at, "d", 1), share).is_ok());
        assert_eq!(admitted.count(), taken, "{part} of {of}");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_forgetting_is_in_favour_of_the_tenant() {
    let mut meter = meter(Some(1), None, Some(1_000));
    for minute in 0..10_000 {
        let device = format!("d-{}", minute % 7);
        assert_eq!(
            meter.admit(load(minute * MINUTE_US, &device, 1), ALL),
            Ok(())
        );
    }
    assert_eq!(
        (meter.minutes.len(), meter.days.len()),
        (MINUTES_MAX, DAYS_MAX)
    );
    // Long before everything that is remembered.
    for _ in 0..60 {
        assert_eq!(meter.admit(load(-90 * DAY_US, "d", 1), ALL), Ok(()));
    }
    assert_eq!(
        (meter.minutes.len(), meter.days.len()),
        (MINUTES_MAX, DAYS_MAX)
    );
}

proptest! {
    #[test]
    fn a_tenant_that_keeps_its_rate_is_never_over_in_whatever_order_its_events_are_read(
        minutes in prop::collection::vec(0_usize..=60, 1..30),
        lag in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let mut events: Vec<i64> = (0_i64..)
            .zip(&minutes)
            .flat_map(|(minute, &count)| {
                (0_i64..).take(count).map(move |at| minute * MINUTE_US + at * 1_000_000)
            })
            .collect();
        // Partitions that are read at different speeds.
        for index in lag {
            if !events.is_empty() {
                let at = index.index(events.len());
                let event = events.remove(at);
                events.push(event);
            }
        }
        let mut meter = meter(Some(1), Some(100), Some(3));
        for (number, at_us) in events.into_iter().enumerate() {
            let device = ["a", "b", "c"][number % 3];
            prop_assert_eq!(meter.admit(load(at_us, device, 100), ALL), Ok(()));
        }
    }

    #[test]
    fn of_a_flood_exactly_the_quota_gets_in(counts in prop::collection::vec(0_usize..400, 1..10)) {
        let mut meter = meter(Some(2), None, None);
        for (minute, count) in (0_i64..).zip(counts) {
            let at = |number: usize| minute * MINUTE_US + i64::try_from(number).unwrap();
            let admitted = (0..count)
                .filter(|&number| meter.admit(load(at(number), "d", 1), ALL).is_ok())
                .count();
            prop_assert_eq!(admitted, count.min(120));
        }
    }
}

#[test]
fn what_is_used_is_of_the_newest_minute_and_day_and_of_this_process() {
    let day = DAY_US;
    let shared = SharedMeter::new(QuotaConfig {
        events_per_second: Some(2),
        bytes_per_second: None,
        devices_max: Some(10),
    });
    let half = Share { part: 1, of: 2 };
    for (at_us, device) in [(day, "a"), (day + 1, "b"), (0, "old"), (day + 2, "a")] {
        assert_eq!(shared.lock().admit(load(at_us, device, 7), half), Ok(()));
    }

    let uses = shared.uses(half);

    let expected = [("events", 3, 60), ("devices", 2, 5)];
    let found: Vec<_> = uses.iter().map(|u| (u.quota, u.used, u.limit)).collect();
    assert_eq!(found, expected);
    // Nobody who looks waits for whoever counts.
    let _counting = shared.lock();
    assert_eq!(shared.uses(half), uses);
}
