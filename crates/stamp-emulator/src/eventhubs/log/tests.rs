use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn bound(value: i64, inclusive: bool) -> Bound {
    Bound { value, inclusive }
}

fn keep_all() -> Retention {
    Retention {
        events_max: u64::MAX,
        bytes_max: u64::MAX,
        age_max: Duration::MAX,
    }
}

/// Appends events of `size` bytes, one a millisecond from time 0.
fn filled(retention: Retention, events: i64, size: usize) -> Log {
    let mut log = Log::new(retention);
    for n in 0..events {
        log.append(n * 1_000, |out, _| out.resize(out.len() + size, 0));
    }
    log
}

fn sequences(log: &Log, from: i64) -> Vec<i64> {
    log.read(from).map(|(sequence, _)| sequence).collect()
}

#[test]
fn a_full_segment_is_read_as_it_was_while_the_log_goes_on_and_forgets_it() {
    let mut log = filled(keep_all(), 1_000, 600);
    let segment = log.sealed(3).unwrap();
    assert!(log.sealed(999).is_none(), "it is still appended to");
    assert!(log.sealed(1_000).is_none(), "nobody has it yet");
    let held: Vec<i64> = segment.read(3).map(|(sequence, _)| sequence).collect();
    assert_eq!(held, (3..segment.end()).collect::<Vec<_>>());
    assert_eq!(sequences(&log, segment.end())[0], segment.end());
    log.append(1_000_000, |out, _| out.push(1));
    log.expire_before(1_000);
    assert!(log.sealed(3).is_none(), "it is gone");
    let still: Vec<i64> = segment.read(3).map(|(sequence, _)| sequence).collect();
    assert_eq!(still, held);
    assert_eq!(sequences(&log, 0), [1_000]);
}

#[test]
fn retention_by_count_keeps_the_latest() {
    let log = filled(
        Retention {
            events_max: 3,
            ..keep_all()
        },
        10,
        5,
    );
    assert_eq!((log.begin(), log.next()), (7, 10));
    assert_eq!(sequences(&log, 0), [7, 8, 9]);
}

#[test]
fn retention_by_bytes_keeps_what_fits() {
    let log = filled(
        Retention {
            bytes_max: 25,
            ..keep_all()
        },
        10,
        10,
    );
    assert_eq!(sequences(&log, 0), [8, 9]);
    let none = filled(
        Retention {
            bytes_max: 5,
            ..keep_all()
        },
        3,
        10,
    );
    assert!(none.is_empty());
    assert_eq!(none.last().unwrap().sequence, 2);
}

#[test]
fn retention_by_age_follows_the_clock() {
    let age_max = Duration::from_millis(4);
    let mut log = filled(
        Retention {
            age_max,
            ..keep_all()
        },
        10,
        1,
    );
    assert_eq!(log.begin(), 5);
    log.expire(12_000);
    assert_eq!(sequences(&log, 0), [8, 9]);
    log.expire(1_000_000);
    assert_eq!((log.begin(), log.next()), (10, 10));
}

#[test]
fn an_old_position_begins_at_the_earliest_that_is_left() {
    let mut log = filled(keep_all(), 10, 4);
    log.expire_before(6);
    assert_eq!(log.start(Position::Sequence(bound(2, false))), Ok(6));
    assert_eq!(log.start(Position::Offset(bound(0, true))), Ok(6));
    assert_eq!(log.start(Position::EnqueuedMs(bound(0, true))), Ok(6));
    assert_eq!(log.start(Position::Earliest), Ok(6));
    log.expire_before(i64::MAX);
    assert_eq!((log.begin(), log.next()), (10, 10));
}

#[test]
fn positions_are_exclusive_or_inclusive_as_asked() {
    let log = filled(keep_all(), 10, 4);
    for (position, first) in [
        (Position::Sequence(bound(4, false)), 5),
        (Position::Sequence(bound(4, true)), 4),
        (Position::Offset(bound(16, false)), 5),
        (Position::Offset(bound(16, true)), 4),
        (Position::Offset(bound(17, true)), 5),
        (Position::EnqueuedMs(bound(4, false)), 5),
        (Position::EnqueuedMs(bound(4, true)), 4),
        (Position::EnqueuedMs(bound(99, true)), 10),
        (Position::EnqueuedMs(bound(-5, true)), 0),
        (Position::Sequence(bound(9, false)), 10),
        (Position::Latest, 10),
    ] {
        assert_eq!(log.start(position), Ok(first), "{position:?}");
    }
}

#[test]
fn a_position_past_the_end_is_refused_as_the_service_does() {
    let log = filled(keep_all(), 3, 4);
    let error = log.start(Position::Sequence(bound(7, false))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The supplied sequence number '7' is invalid. The last sequence number in the system is '2'"
    );
    assert!(log.start(Position::Offset(bound(9, true))).is_err());
    assert!(
        Log::new(keep_all())
            .start(Position::Sequence(bound(0, true)))
            .is_err()
    );
}

#[test]
fn enqueued_times_never_run_backwards() {
    let mut log = Log::new(keep_all());
    let times = [5_000, 9_999, 1_000, 12_000].map(|now| log.append(now, |_, _| {}).enqueued_ms);
    assert_eq!(times, [5, 9, 9, 12]);
}

proptest! {
    #[test]
    fn the_log_agrees_with_a_plain_list(
        sizes in prop::collection::vec(0_usize..60_000, 1..60),
        events_max in 1_u64..80,
        bytes_max in 1_u64..2_000_000,
        expired in 0_i64..80,
        from in 0_i64..80,
    ) {
        let mut log = Log::new(Retention { events_max, bytes_max, ..keep_all() });
        let mut plain: Vec<(i64, u64, Vec<u8>)> = Vec::new();
        let (mut offset, mut next) = (0_u64, 0_i64);
        for size in sizes {
            let body = vec![u8::try_from(next % 251).unwrap(); size];
            let place = log.append(next, |out, _| out.extend_from_slice(&body));
            prop_assert_eq!((place.sequence, place.offset), (next, offset));
            plain.push((next, offset, body));
            (next, offset) = (next + 1, offset + size as u64);
            let held = |plain: &[(i64, u64, Vec<u8>)]| {
                plain.iter().map(|(_, _, body)| body.len() as u64).sum::<u64>()
            };
            while plain.len() as u64 > events_max || held(&plain) > bytes_max {
                plain.remove(0);
            }
        }
        log.expire_before(expired);
        plain.retain(|(sequence, ..)| *sequence >= expired);
        prop_assert_eq!(log.begin(), plain.first().map_or(next, |(sequence, ..)| *sequence));
        let read: Vec<(i64, Vec<u8>)> =
            log.read(from).map(|(sequence, bytes)| (sequence, bytes.to_vec())).collect();
        let wanted: Vec<(i64, Vec<u8>)> = plain
            .iter()
            .filter(|(sequence, ..)| *sequence >= from)
            .map(|(sequence, _, body)| (*sequence, body.clone()))
            .collect();
        prop_assert_eq!(read, wanted);
        for (sequence, offset, _) in &plain {
            let inclusive = Position::Offset(bound(i64::try_from(*offset).unwrap(), true));
            // Events without bytes share their offset; the first of them is where reading starts.
            let first = plain.iter().find(|(_, o, _)| o == offset).unwrap().0;
            prop_assert_eq!(log.start(inclusive), Ok(first));
            let after = Position::Sequence(bound(*sequence, false));
            prop_assert_eq!(log.start(after), Ok(sequence + 1));
        }
    }
}
