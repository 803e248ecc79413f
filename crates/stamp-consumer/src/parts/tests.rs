use std::time::Duration;

use stamp_model::{AppId, Event, FieldDef, FieldKind, HubIdentity, PartitionId, StampId, Values};
use stamp_schema::{Rejection, RejectionCode};
use tokio::time::Instant;

use super::*;
use crate::buffer::{Lane, Position, Rows};
use crate::memory::MemoryAccount;
use crate::muster::Muster;
use crate::raw::rejected;

#[test]
fn only_the_parts_of_a_loss_that_are_not_recorded_are_left() {
    let row = GapRow {
        partition: PartitionId::new(0).unwrap(),
        sequence_first: 10,
        sequence_last: 19,
        next_enqueued_at_us: 0,
        reason: "retention",
    };
    for (recorded, left) in [
        (vec![], vec![(10, 19)]),
        (vec![(15, 19)], vec![(10, 14)]),
        (vec![(0, 9), (12, 13), (30, 40)], vec![(10, 11), (14, 19)]),
        (vec![(5, 25)], vec![]),
        (vec![(10, 15), (12, 19)], vec![]),
    ] {
        let parts = unrecorded(&row, &recorded);
        let parts: Vec<_> = parts
            .iter()
            .map(|p| (p.sequence_first, p.sequence_last))
            .collect();
        assert_eq!(parts, left, "{recorded:?}");
    }
}

/// A batch of a partition: readings and rejected events `first` to `last`, and one gap of them all.
fn batch(partition: u32, first: i64, last: i64) -> Arc<Sealed> {
    let partition = PartitionId::new(partition).unwrap();
    let hub = HubIdentity {
        namespace: "n".into(),
        hub: "h".into(),
        created_at_ms: 1,
    };
    let app = AppId::new(&StampId::parse("s").unwrap(), &hub, partition);
    let before = Position {
        sequence: first - 1,
        offset: "".into(),
        enqueued_at_us: None,
    };
    let mut lane = Lane::default();
    let account = MemoryAccount::new(1 << 20);
    let active = lane.open(&account, &before, Instant::now, || {
        let seat = Muster::new(Duration::ZERO).seat();
        (Rows::new(Some(&shape()), partition), seat)
    });
    let readings = active.rows.readings.as_mut().unwrap();
    let device = readings.devices.intern("press");
    for sequence in first..=last {
        readings.device.push(device);
        readings.ts_us.push(sequence);
        readings.enqueued_at_us.push(sequence);
        readings.late.push(false);
        readings.clock_suspect.push(false);
        readings.sequence.push(sequence);
    }
    let Values::F64(values) = &mut readings.columns[0].values else {
        panic!("the shape has a float");
    };
    values.extend((first..=last).map(|_| 20.5));
    for sequence in first..=last {
        let event = Event {
            sequence,
            ..Event::default()
        };
        let why = Rejection {
            code: RejectionCode::EmptyBody,
            detail: String::new(),
            rule: String::new(),
        };
        active.rows.push_raw(rejected(&event, partition, why));
    }
    active.rows.gaps.push(GapRow {
        partition,
        sequence_first: first,
        sequence_last: last,
        next_enqueued_at_us: 0,
        reason: "retention",
    });
    lane.seal(&app, Instant::now()).unwrap().0
}

fn shape() -> Shape {
    Shape {
        fields: vec![FieldDef {
            name: "t".into(),
            kind: FieldKind::F64,
            unit: None,
            required: true,
            rollup: true,
        }],
    }
}

/// The parts of a batch for each table.
fn parts(batch: &Arc<Sealed>) -> [Part; 4] {
    let (shape, order) = (Arc::new(shape()), Order::default());
    let windows = Windows {
        window_s: 60,
        lateness: Duration::from_secs(300),
    };
    [
        Part::Readings(batch.clone(), shape.clone(), order.clone()),
        Part::Rollups(batch.clone(), shape, windows, order),
        Part::Raw(batch.clone(), RawKind::Rejected),
        Part::Gaps(batch.clone()),
    ]
}

/// What each table has: everything up to a sequence number.
fn known(up_to: i64) -> [Known; 4] {
    [
        Known::UpTo(up_to),
        Known::UpTo(up_to),
        Known::Rows((0..=up_to).collect()),
        Known::Ranges(vec![(0, up_to)]),
    ]
}

#[test]
fn what_each_partition_has_written_already_is_left_out_of_the_file_they_share() {
    let (one, two) = (batch(1, 10, 19), batch(2, 100, 129));
    let all = parts(&one).into_iter().zip(parts(&two));
    let known = known(14).into_iter().zip(known(109));
    // A batch's partials are of one device and window, so there is one of each.
    let wanted = [[5, 20], [1, 1], [5, 20], [1, 1]];
    for (((one, two), (known_one, known_two)), rows) in all.zip(known).zip(wanted) {
        let encoded = encode(&[(one, known_one), (two, known_two)]).unwrap();
        assert_eq!(encoded.rows, rows);
        assert_eq!(encoded.files.len(), 1);
        assert_eq!(encoded.files[0].rows, rows.iter().sum::<u64>());
    }
}

#[test]
fn batches_that_are_in_the_table_make_no_file() {
    let (one, two) = (batch(1, 10, 19), batch(2, 100, 129));
    let all = parts(&one).into_iter().zip(parts(&two));
    let known = known(19).into_iter().zip(known(129));
    for ((one, two), (known_one, known_two)) in all.zip(known) {
        let encoded = encode(&[(one, known_one), (two, known_two)]).unwrap();
        assert_eq!((encoded.files.len(), encoded.rows), (0, vec![0, 0]));
    }
    assert!(encode(&[]).unwrap().files.is_empty());
}

#[test]
fn parts_share_a_file_as_long_as_they_are_few_and_always_the_first() {
    let small = parts(&batch(1, 10, 19))[0].clone();
    let large = parts(&batch(1, 0, 199_999))[0].clone();
    let own = Part::Own(Arc::new(|_: &Known| Ok(Vec::new())));
    assert!(large.shared_bytes() > Some(SHARED_BYTES_MAX));
    for (parts, together) in [
        (vec![&small, &small, &small], 3),
        (vec![&small, &small, &large, &small], 2),
        (vec![&large, &small], 1),
        (vec![&own, &small], 1),
        (vec![&small, &own], 1),
    ] {
        assert_eq!(sharing(parts.into_iter()), together);
    }
}
