//! Order, lateness and partials against naive oracles.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use stamp_model::{Column, FieldDef, FieldKind, PartitionId, Readings, RollupRows, Shape, Values};
use stamp_rollup::{PartialRow, Windows, mark_late, merge, merge_all, partials, sorted_rows};

/// 2026-03-01T12:00:00Z
const NOON_US: i64 = 1_772_366_400_000_000;

const WINDOWS: Windows = Windows {
    window_s: 60,
    lateness: Duration::from_secs(30),
};

fn field(name: &str, kind: FieldKind, rollup: bool) -> FieldDef {
    FieldDef {
        name: name.to_owned(),
        kind,
        unit: None,
        required: false,
        rollup,
    }
}

/// Two metrics that are rolled up, one that is not, and one that cannot be. By name the second
/// metric comes first, as its rollups do.
fn shape() -> Shape {
    Shape {
        fields: vec![
            field("temp", FieldKind::F64, true),
            field("seq", FieldKind::I64, false),
            field("rpm", FieldKind::I64, true),
            field("mode", FieldKind::String, false),
        ],
    }
}

#[derive(Debug, Clone)]
struct Row {
    device: &'static str,
    /// Seconds before or after noon.
    ts_s: i32,
    enqueued_s: i32,
    suspect: bool,
    temp: Option<f64>,
    rpm: Option<i64>,
    /// Belongs to the event of the row before.
    same_event: bool,
}

fn row() -> impl Strategy<Value = Row> {
    // Some ids share a long prefix, one is the prefix of another, one has a zero byte.
    let device = prop::sample::select(vec![
        "press",
        "press-1",
        "press-10",
        "press-2",
        "Press",
        "a",
        "contoso-plant-4-line-1-press-1",
        "contoso-plant-4-line-1-press-2",
        "press\0",
    ]);
    let temp = prop::option::weighted(
        0.8,
        prop_oneof![-1_000.0..1_000.0, Just(0.0), 1e6..1.000_1e6],
    );
    let rpm = prop::option::weighted(0.8, -5_000_i64..5_000);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    (device, -150_i32..150, -150_i32..400, temp, rpm, flags).prop_map(
        |(device, ts_s, enqueued_s, temp, rpm, (suspect, same_event))| Row {
            device,
            ts_s,
            enqueued_s,
            suspect,
            temp,
            rpm,
            same_event,
        },
    )
}

fn push_i64(column: &mut Column, value: Option<i64>) {
    match (&mut column.values, value) {
        (Values::I64(values), Some(value)) => {
            values.push(value);
            column.pushed();
        }
        _ => column.push_null(),
    }
}

fn push_f64(column: &mut Column, value: Option<f64>) {
    match (&mut column.values, value) {
        (Values::F64(values), Some(value)) => {
            values.push(value);
            column.pushed();
        }
        _ => column.push_null(),
    }
}

fn readings(rows: &[Row]) -> Readings {
    let partition = PartitionId::new(5).expect("5 is a partition");
    let mut readings = Readings::new(&shape(), partition);
    let mut sequence = 100;
    for row in rows {
        sequence += i64::from(!row.same_event);
        let device = readings.devices.intern(row.device);
        readings.device.push(device);
        readings
            .ts_us
            .push(NOON_US + i64::from(row.ts_s) * 1_000_000);
        readings
            .enqueued_at_us
            .push(NOON_US + i64::from(row.enqueued_s) * 1_000_000);
        readings.late.push(false);
        readings.clock_suspect.push(row.suspect);
        readings.sequence.push(sequence);
        push_f64(&mut readings.columns[0], row.temp);
        push_i64(&mut readings.columns[1], Some(sequence));
        push_i64(&mut readings.columns[2], row.rpm);
        readings.columns[3].push_null();
    }
    assert!(readings.is_rectangular());
    readings
}

fn value(readings: &Readings, column: usize, row: usize) -> Option<f64> {
    let column = &readings.columns[column];
    let value = match &column.values {
        Values::F64(values) => values[row],
        Values::I64(values) => values[row] as f64,
        _ => return None,
    };
    column.is_valid(row).then_some(value)
}

type Key = (String, usize, i64);

/// The columns of the metrics, by their names: `rpm` before `temp`.
const METRIC_COLUMNS: [usize; 2] = [2, 0];

/// One value at a time, every aggregate by its definition.
fn oracle(readings: &Readings, above: i64) -> BTreeMap<Key, Vec<usize>> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for row in (0..readings.len()).filter(|&row| readings.sequence[row] > above) {
        for (metric, column) in METRIC_COLUMNS.into_iter().enumerate() {
            if value(readings, column, row).is_some() {
                let device = readings.devices.get(readings.device[row]).to_owned();
                let window = readings.window_time_us(row).div_euclid(60_000_000) * 60_000_000;
                groups
                    .entry((device, metric, window))
                    .or_default()
                    .push(row);
            }
        }
    }
    groups
}

fn expected(readings: &Readings, metric: usize, rows: &[usize]) -> PartialRow {
    let column = METRIC_COLUMNS[metric];
    let value =
        |row: usize| value(readings, column, row).expect("only rows with a value are grouped");
    let place = |row: &usize| (readings.window_time_us(*row), readings.sequence[*row], *row);
    let first = *rows.iter().min_by_key(|row| place(row)).expect("not empty");
    let last = *rows.iter().max_by_key(|row| place(row)).expect("not empty");
    let values: Vec<f64> = rows.iter().map(|&row| value(row)).collect();
    let sum: f64 = values.iter().sum();
    let mean = sum / values.len() as f64;
    PartialRow {
        count: values.len() as i64,
        sum,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        first: value(first),
        first_ts_us: readings.window_time_us(first),
        last: value(last),
        last_ts_us: readings.window_time_us(last),
        m2: values.iter().map(|v| (v - mean).powi(2)).sum(),
        late_count: rows.iter().filter(|row| readings.late[**row]).count() as i64,
        sequence_first: rows
            .iter()
            .map(|row| readings.sequence[*row])
            .min()
            .expect("not empty"),
        sequence_last: rows
            .iter()
            .map(|row| readings.sequence[*row])
            .max()
            .expect("not empty"),
    }
}

/// Equal, but for the rounding that is promised: sums within 1e-12 of the sum of sizes, m2 within
/// 1e-9 of itself and 1e-12 of the sum of squares.
fn same(a: &PartialRow, b: &PartialRow) -> Result<(), TestCaseError> {
    let exact = |p: &PartialRow| PartialRow {
        sum: 0.0,
        m2: 0.0,
        ..*p
    };
    prop_assert_eq!(exact(a), exact(b));
    let largest = a.min.abs().max(a.max.abs());
    let sizes = largest * a.count as f64;
    prop_assert!((a.sum - b.sum).abs() <= 1e-12 * sizes, "{:?} {:?}", a, b);
    let m2_error = 1e-9 * a.m2 + 1e-12 * sizes * largest;
    prop_assert!((a.m2 - b.m2).abs() <= m2_error, "{:?} {:?}", a, b);
    prop_assert!(a.m2 >= 0.0 && b.m2 >= 0.0);
    Ok(())
}

fn key(rows: &RollupRows, row: usize) -> Key {
    let device = rows.devices.get(rows.device[row]).to_owned();
    let metric = rows.metrics.get(rows.metric[row]);
    (
        device,
        usize::from(metric == "temp"),
        rows.window_start_us[row],
    )
}

fn fold(readings: &Readings, above: i64) -> RollupRows {
    partials(readings, &shape(), &sorted_rows(readings, above), &WINDOWS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn rows_are_ordered_by_device_time_sequence_and_arrival(rows in prop::collection::vec(row(), 0..120), above in 99_i64..160) {
        let readings = readings(&rows);
        let mut expected: Vec<u32> = (0..readings.len() as u32)
            .filter(|&row| readings.sequence[row as usize] > above)
            .collect();
        expected.sort_by_key(|&row| {
            let at = row as usize;
            (readings.devices.get(readings.device[at]), readings.ts_us[at], readings.sequence[at], row)
        });
        prop_assert_eq!(sorted_rows(&readings, above), expected);
    }

    #[test]
    fn partials_are_what_their_definitions_say(rows in prop::collection::vec(row(), 0..150), above in 99_i64..160) {
        let mut readings = readings(&rows);
        mark_late(&mut readings, 0, &WINDOWS);
        let folded = fold(&readings, above);
        let groups = oracle(&readings, above);
        let keys: Vec<Key> = (0..folded.len()).map(|row| key(&folded, row)).collect();
        prop_assert_eq!(&keys, &groups.keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!((folded.partition, folded.window_s), (5, 60));
        for (row, ((_, metric, _), group)) in groups.iter().enumerate() {
            same(&PartialRow::of(&folded, row), &expected(&readings, *metric, group))?;
        }
    }

    #[test]
    fn flushes_merged_in_any_order_are_the_whole(
        rows in prop::collection::vec(row(), 1..150),
        cuts in prop::collection::vec(100_i64..250, 0..6),
        order in any::<u64>(),
    ) {
        let mut whole = readings(&rows);
        mark_late(&mut whole, 0, &WINDOWS);
        let mut pieces: BTreeMap<Key, Vec<PartialRow>> = BTreeMap::new();
        let mut cuts = cuts;
        cuts.extend([99, i64::MAX]);
        cuts.sort_unstable();
        for flush in cuts.windows(2) {
            // A flush holds the rows of some consecutive sequence numbers.
            let mut part = whole.clone();
            let end = part.sequence.partition_point(|&sequence| sequence <= flush[1]);
            part.truncate(end);
            let folded = fold(&part, flush[0]);
            for row in 0..folded.len() {
                pieces.entry(key(&folded, row)).or_default().push(PartialRow::of(&folded, row));
            }
        }
        let folded = fold(&whole, 99);
        prop_assert_eq!(pieces.len(), folded.len());
        for (row, (piece_key, mut partials)) in pieces.into_iter().enumerate() {
            prop_assert_eq!(&piece_key, &key(&folded, row));
            let whole = PartialRow::of(&folded, row);
            // Neighbours may be merged in any grouping ...
            let in_order = partials.iter().copied().reduce(merge).unwrap();
            same(&whole, &in_order)?;
            let from_the_end = partials.iter().rev().copied().reduce(|later, earlier| merge(earlier, later)).unwrap();
            same(&whole, &from_the_end)?;
            // ... and all of them in any order.
            let turns = partials.len();
            partials.rotate_left(order as usize % turns);
            if order % 2 == 0 { partials.reverse() }
            same(&whole, &merge_all(partials).unwrap())?;
        }
    }

    #[test]
    fn lateness_does_not_depend_on_other_rows(rows in prop::collection::vec(row(), 1..60)) {
        let mut together = readings(&rows);
        let late = mark_late(&mut together, 0, &WINDOWS);
        prop_assert_eq!(late, together.late.iter().filter(|late| **late).count());
        for (index, row) in rows.iter().enumerate() {
            let mut alone = readings(std::slice::from_ref(row));
            mark_late(&mut alone, 0, &WINDOWS);
            prop_assert_eq!(alone.late[0], together.late[index]);
            let window_end_s = (alone.window_time_us(0) - NOON_US).div_euclid(60_000_000) * 60 + 60;
            prop_assert_eq!(alone.late[0], i64::from(row.enqueued_s) > window_end_s + 30);
        }
    }

    #[test]
    fn no_values_make_a_partial_infinite(values in prop::collection::vec(prop_oneof![
        Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(0.0), any::<f64>().prop_filter("finite", |f| f.is_finite()),
    ], 1..20), split in 0_usize..20) {
        let rows: Vec<Row> = values.iter().map(|&value| Row {
            device: "d", ts_s: 0, enqueued_s: 0, suspect: false, temp: Some(value), rpm: None, same_event: false,
        }).collect();
        let whole = readings(&rows);
        let (mut head, above) = (whole.clone(), 100 + split.min(rows.len()) as i64);
        head.truncate(split.min(rows.len()));
        let mut merged = Vec::new();
        for folded in [fold(&whole, 99), fold(&head, 99), fold(&whole, above)] {
            merged.extend((0..folded.len()).map(|row| PartialRow::of(&folded, row)));
        }
        merged.push(merge_all(merged.iter().copied()).unwrap());
        for partial in merged {
            prop_assert!(partial.sum.is_finite() && partial.m2.is_finite() && partial.m2 >= 0.0, "{:?}", partial);
        }
    }
}

#[test]
fn only_rows_from_the_given_one_on_are_marked() {
    let late = Row {
        device: "d",
        ts_s: -150,
        enqueued_s: 300,
        suspect: false,
        temp: None,
        rpm: None,
        same_event: false,
    };
    let mut readings = readings(&[late.clone(), late.clone(), late]);
    assert_eq!(mark_late(&mut readings, 2, &WINDOWS), 1);
    assert_eq!(readings.late, [false, false, true]);
}

#[test]
fn a_wrong_clock_counts_in_the_window_of_the_hubs_time() {
    let row = Row {
        device: "d",
        ts_s: -100_000,
        enqueued_s: 61,
        suspect: true,
        temp: Some(1.0),
        rpm: None,
        same_event: false,
    };
    let folded = fold(&readings(&[row]), 99);
    assert_eq!(folded.window_start_us, [NOON_US + 60_000_000]);
    assert_eq!(folded.first_ts_us, [NOON_US + 61_000_000]);
}

#[test]
fn more_rows_than_a_block_are_folded_whole() {
    let row = |second: i32| Row {
        device: if second % 3 == 0 { "a" } else { "b" },
        ts_s: second / 100,
        enqueued_s: 0,
        suspect: false,
        temp: Some(f64::from(second)),
        rpm: (second % 2 == 0).then_some(1),
        same_event: false,
    };
    let rows: Vec<Row> = (0..9_000).map(row).collect();
    let readings = readings(&rows);
    let folded = fold(&readings, 99);
    let groups = oracle(&readings, 99);
    assert_eq!(folded.len(), groups.len());
    for (row, ((_, metric, _), group)) in groups.iter().enumerate() {
        same(
            &PartialRow::of(&folded, row),
            &expected(&readings, *metric, group),
        )
        .unwrap();
    }
}

#[test]
fn nothing_gives_nothing() {
    assert!(fold(&readings(&[]), 99).is_empty());
    assert!(sorted_rows(&readings(&[]), -1).is_empty());
    assert_eq!(merge_all([]), None);
}

/// Fault scenario 38.
#[test]
fn an_event_that_is_days_late_is_another_partial_of_its_own_window() {
    let row = |ts_s, enqueued_s, temp| Row {
        device: "d",
        ts_s,
        enqueued_s,
        suspect: false,
        temp: Some(temp),
        rpm: None,
        same_event: false,
    };
    let mut readings = readings(&[row(5, 6, 20.0), row(10, 3 * 86_400, 22.0)]);
    assert_eq!(mark_late(&mut readings, 0, &WINDOWS), 1);

    let (both, late) = (fold(&readings, 100), fold(&readings, 101));
    assert_eq!(late.window_start_us, [NOON_US]);
    assert_eq!((late.count[0], late.late_count[0]), (1, 1));
    // Both in one flush, as readers merge them from two.
    assert_eq!(both.window_start_us, [NOON_US]);
    assert_eq!((both.count[0], both.late_count[0]), (2, 1));
    assert_eq!((both.sum[0], both.max[0]), (42.0, 22.0));
}
