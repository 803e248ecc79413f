//! Whatever the buffers hold comes back from the table as it was.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::suite::{START_US, field, mark, partition, put_all, tenant};
use proptest::prelude::*;
use stamp_lake::{
    EncodeOptions, EncodedFile, Lake, RawKind, StoreConfig, Table, Value, encode_gaps, encode_raw,
    encode_readings, encode_rollups,
};
use stamp_model::{
    Column, Dictionary, FieldKind, GapRow, RawRow, Readings, RollupRows, Shape, Values,
};
use tokio::runtime::Runtime;

const KINDS: [FieldKind; 5] = [
    FieldKind::Bool,
    FieldKind::I64,
    FieldKind::F64,
    FieldKind::String,
    FieldKind::Timestamp,
];

/// Text with line ends, quotes, a zero, marks that combine, and letters beyond the first plane.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-c]{1,3}",
        "[\"\\\\\n\u{0}é\u{301}\u{1f600}\u{10ffff} ]{1,40}",
        "\\PC{0,80}",
    ]
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("tables hold finite floats", |value| value.is_finite()),
        (-1_000_i32..1_000).prop_map(|value| f64::from(value) / 100.0),
        prop_oneof![
            Just(0.0),
            Just(-0.0),
            Just(f64::MIN_POSITIVE / 2.0),
            Just(f64::MAX),
            Just(f64::MIN)
        ],
    ]
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => START_US - 200_000_000_000..START_US + 200_000_000_000,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => any::<i64>(),
    ]
}

#[derive(Debug, Clone)]
enum Cell {
    Null,
    Bool(bool),
    I64(i64),
    F64(f64),
    Text(String),
    Timestamp(i64),
}

fn any_cell(kind: FieldKind) -> BoxedStrategy<Cell> {
    let value = match kind {
        FieldKind::Bool => any::<bool>().prop_map(Cell::Bool).boxed(),
        FieldKind::I64 => prop_oneof![any::<i64>(), -3_i64..3]
            .prop_map(Cell::I64)
            .boxed(),
        FieldKind::F64 => any_float().prop_map(Cell::F64).boxed(),
        FieldKind::String => any_text().prop_map(Cell::Text).boxed(),
        FieldKind::Timestamp => any_time().prop_map(Cell::Timestamp).boxed(),
    };
    prop_oneof![1 => Just(Cell::Null), 4 => value].boxed()
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    device: String,
    ts: i64,
    enqueued_at: i64,
    late: bool,
    suspect: bool,
    cells: Vec<Cell>,
}

pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let cells: Vec<_> = KINDS.iter().map(|&kind| any_cell(kind)).collect();
    let device = prop_oneof!["[a-d]", any_text()];
    let times = (any_time(), any_time());
    (device, times, any::<[bool; 2]>(), cells).prop_map(|(device, times, flags, cells)| Row {
        device,
        ts: times.0,
        enqueued_at: times.1,
        late: flags[0],
        suspect: flags[1],
        cells,
    })
}

pub(crate) fn shape() -> Shape {
    let names = ["flag", "whole", "number", "text", "at"];
    let fields = names
        .iter()
        .zip(KINDS)
        .map(|(name, kind)| field(name, kind));
    Shape {
        fields: fields.collect(),
    }
}

fn push(column: &mut Column, cell: &Cell) {
    match (&mut column.values, cell) {
        (_, Cell::Null) => return column.push_null(),
        (Values::Bool(values), Cell::Bool(value)) => values.push(*value),
        (Values::I64(values), Cell::I64(value)) => values.push(*value),
        (Values::F64(values), Cell::F64(value)) => values.push(*value),
        (Values::Timestamp(values), Cell::Timestamp(value)) => values.push(*value),
        (Values::String { texts, keys }, Cell::Text(value)) => keys.push(texts.intern(value)),
        (values, cell) => panic!("{cell:?} in {values:?}"),
    }
    column.pushed();
}

pub(crate) fn buffer(rows: &[Row]) -> Readings {
    let mut readings = Readings::new(&shape(), partition(5));
    for (row, sequence) in rows.iter().zip(0..) {
        readings.device.push(readings.devices.intern(&row.device));
        readings.ts_us.push(row.ts);
        readings.enqueued_at_us.push(row.enqueued_at);
        readings.late.push(row.late);
        readings.clock_suspect.push(row.suspect);
        readings.sequence.push(sequence);
        for (column, cell) in readings.columns.iter_mut().zip(&row.cells) {
            push(column, cell);
        }
    }
    readings
}

/// Bit for bit, and text for text: `Debug` tells -0.0 from 0.0 and shows every digit.
fn expected(row: &Row, sequence: usize) -> String {
    let cells: Vec<String> = row
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Null => "Null".to_owned(),
            Cell::Bool(value) => format!("Bool({value:?})"),
            Cell::I64(value) => format!("I64({value:?})"),
            Cell::F64(value) => format!("F64({value:?})"),
            Cell::Text(value) => format!("Text({value:?})"),
            Cell::Timestamp(value) => format!("TimestampUs({value:?})"),
        })
        .collect();
    format!(
        "[I64({sequence}), Text({:?}), TimestampUs({}), TimestampUs({}), {}, Bool({}), Bool({}), I64(5)]",
        row.device,
        row.ts,
        row.enqueued_at,
        cells.join(", "),
        row.late,
        row.suspect
    )
}

const READ: [&str; 12] = [
    "sequence",
    "device_id",
    "ts",
    "enqueued_at",
    "flag",
    "whole",
    "number",
    "text",
    "at",
    "late",
    "clock_suspect",
    "partition",
];

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

pub(crate) fn lake(runtime: &Runtime) -> Lake {
    Lake::open(&StoreConfig::new("memory:"), runtime.handle().clone()).unwrap()
}

pub(crate) async fn store(table: &Table, files: &[EncodedFile]) {
    let at = table.load().await.unwrap();
    let files = put_all(table, files).await;
    table
        .append(&at, files, &[mark(partition(5), 1_000_000)])
        .await
        .unwrap();
}

fn read(runtime: &Runtime, table: &Table, files: &[EncodedFile], columns: &[&str]) -> Vec<String> {
    let mut lines = runtime.block_on(async {
        store(table, files).await;
        crate::suite::printed(table, columns).await
    });
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn readings_come_back_as_they_were(
        rows in prop::collection::vec(any_row(), 1..60),
        shuffle in any::<bool>(),
    ) {
        let buffer = buffer(&rows);
        let mut order: Vec<u32> = (0..).take(rows.len()).collect();
        if !shuffle {
            order.sort_by_key(|&row| {
                let row = &rows[row as usize];
                (row.device.clone(), row.ts)
            });
        }
        let files = encode_readings(&shape(), &buffer, &order, &EncodeOptions::default()).unwrap();

        let runtime = runtime();
        let table = lake(&runtime).tenant(&tenant("t")).readings(&shape());
        let found = read(&runtime, &table, &files, &READ);

        let mut wanted: Vec<_> = rows.iter().enumerate().map(|(i, row)| expected(row, i)).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
        let named: u64 = files.iter().map(|file| file.rows).sum();
        prop_assert_eq!(named, rows.len() as u64);
    }

    #[test]
    fn only_the_rows_of_the_order_are_written(
        rows in prop::collection::vec(any_row(), 1..20),
        keep in prop::collection::vec(any::<bool>(), 20),
    ) {
        let buffer = buffer(&rows);
        let order: Vec<u32> = (0..).take(rows.len()).filter(|&row| keep[row as usize]).collect();
        let files = encode_readings(&shape(), &buffer, &order, &EncodeOptions::default()).unwrap();

        let runtime = runtime();
        let table = lake(&runtime).tenant(&tenant("t")).readings(&shape());
        let found = read(&runtime, &table, &files, &["sequence"]);

        let mut wanted: Vec<_> = order.iter().map(|row| format!("[I64({row})]")).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_range_of_sequences_is_what_a_full_scan_would_give(
        batches in prop::collection::vec((0_u32..3, 0_i64..200, 1_i64..40), 1..6),
        above in -1_i64..250,
        width in 0_i64..80,
    ) {
        let runtime = runtime();
        let table = crate::suite::readings_table(&lake(&runtime), "t");
        let mut wanted = stamp_model::Sequences::default();
        let found = runtime.block_on(async {
            let mut at = table.load().await.unwrap();
            for (number, start, count) in batches {
                let files = crate::suite::encoded(partition(number), start..start + count);
                let files = put_all(&table, &files).await;
                at = table.append(&at, files, &[]).await.unwrap();
                if number == 1 {
                    let range = (start..start + count).filter(|s| above < *s && *s <= above + width);
                    wanted.union(&range.collect());
                }
            }
            table.sequences(partition(1), above, above + width).await.unwrap()
        });
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn rollups_come_back_as_they_were(
        rows in prop::collection::vec(
            (any_text(), any_text(), any_time(), prop::array::uniform6(any_float()), any::<[i64; 5]>()),
            1..40,
        ),
    ) {
        let (mut devices, mut metrics) = (Dictionary::default(), Dictionary::default());
        let device = rows.iter().map(|row| devices.intern(&row.0)).collect();
        let metric = rows.iter().map(|row| metrics.intern(&row.1)).collect();
        let float = |i: usize| rows.iter().map(|row| row.3[i]).collect::<Vec<f64>>();
        let whole = |i: usize| rows.iter().map(|row| row.4[i]).collect::<Vec<i64>>();
        let partials = RollupRows {
            partitions: None,
            partition: 5, window_s: 60, devices, metrics, device, metric,
            window_start_us: rows.iter().map(|row| row.2).collect(),
            count: whole(0), sum: float(0), min: float(1), max: float(2),
            first: float(3), first_ts_us: whole(1), last: float(4), last_ts_us: whole(2),
            m2: float(5), late_count: whole(0), sequence_first: whole(3), sequence_last: whole(4),
        };
        let files = encode_rollups(&partials, &EncodeOptions::default()).unwrap();

        let runtime = runtime();
        let table = lake(&runtime).tenant(&tenant("t")).rollups();
        let found = read(&runtime, &table, &files, &[
            "device_id", "metric", "window_start", "window_s", "count", "sum", "min", "max",
            "first", "first_ts", "last", "last_ts", "m2", "late_count", "partition",
            "sequence_first", "sequence_last",
        ]);

        let mut wanted: Vec<_> = rows.iter().map(|(device, metric, start, f, w)| {
            let f = f.map(Value::F64);
            let [count, first_ts, last_ts, first, last] = *w;
            let [sum, min, max, first_value, last_value, m2] = f;
            format!("{:?}", [
                Value::Text(device), Value::Text(metric), Value::TimestampUs(*start), Value::I64(60),
                Value::I64(count), sum, min, max, first_value, Value::TimestampUs(first_ts),
                last_value, Value::TimestampUs(last_ts), m2, Value::I64(count), Value::I64(5),
                Value::I64(first), Value::I64(last),
            ])
        }).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn raw_events_come_back_as_they_were(
        rows in prop::collection::vec(
            (
                any_text(), any_text(), prop::option::of(any_text()), any::<i64>(), any_time(),
                prop::collection::btree_map("[a-z]{1,4}", any_text(), 0..4),
                prop::collection::vec(any::<u8>(), 0..60),
            ),
            1..30,
        ),
    ) {
        let raw: Vec<RawRow> = rows.iter().map(|row| RawRow {
            reason: "malformed_json",
            detail: row.0.clone(),
            rule: row.1.clone(),
            tenant: row.2.clone(),
            device_id: row.2.clone().map(Into::into),
            partition: partition(5),
            sequence: row.3,
            offset: row.0.as_str().into(),
            enqueued_at_us: row.4,
            content_type: row.2.clone().map(Into::into),
            properties: row.5.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect(),
            body: row.6.clone().into(),
        }).collect();
        let files = encode_raw(&raw, RawKind::Quarantine, &EncodeOptions::default()).unwrap();

        let runtime = runtime();
        let table = lake(&runtime).stamp().quarantine();
        let found = read(&runtime, &table, &files, &[
            "reason", "detail", "rule", "tenant", "device_id", "partition", "sequence", "offset",
            "enqueued_at", "content_type", "properties", "body",
        ]);

        let mut wanted: Vec<_> = rows.iter().map(|(detail, rule, some, sequence, at, map, body)| {
            let text = |text: &Option<String>| match text {
                Some(text) => format!("Text({text:?})"),
                None => "Null".to_owned(),
            };
            let rule = text(&Some(rule.clone()).filter(|rule| !rule.is_empty()));
            let map: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            format!(
                "[Text(\"malformed_json\"), Text({detail:?}), {rule}, {0}, {0}, I64(5), \
                 I64({sequence}), Text({detail:?}), TimestampUs({at}), {0}, {1:?}, {2:?}]",
                text(some), Value::Map(map), Value::Bytes(body),
            )
        }).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn gaps_come_back_as_they_were(
        rows in prop::collection::vec((any::<i64>(), any::<i64>(), any_time()), 1..20),
    ) {
        let gaps: Vec<_> = rows.iter().map(|&(first, last, next)| GapRow {
            partition: partition(5), sequence_first: first, sequence_last: last,
            next_enqueued_at_us: next, reason: "retention",
        }).collect();
        let files = encode_gaps(&gaps, &EncodeOptions::default()).unwrap();

        let runtime = runtime();
        let table = lake(&runtime).stamp().gaps();
        let columns = ["partition", "sequence_first", "sequence_last", "next_enqueued_at", "reason"];
        let found = read(&runtime, &table, &files, &columns);

        let mut wanted: Vec<_> = rows.iter().map(|(first, last, next)| format!(
            "[I64(5), I64({first}), I64({last}), TimestampUs({next}), Text(\"retention\")]"
        )).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn rows_that_fit_no_file_are_refused_with_their_place() {
    let options = EncodeOptions::default();
    let mut buffer = crate::suite::readings(partition(0), 0..3);
    let error = encode_readings(&crate::suite::shape(), &buffer, &[0, 3], &options).unwrap_err();
    assert_eq!(error.to_string(), "encode: row 3 of a buffer of 3 rows");
    let error = encode_readings(&shape(), &buffer, &[0], &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "encode: the buffer has 1 columns and the schema 5 fields"
    );
    buffer.late.pop();
    assert!(encode_readings(&crate::suite::shape(), &buffer, &[0], &options).is_err());
}

#[test]
fn rows_of_several_partitions_share_a_file_and_each_says_its_own() {
    let options = EncodeOptions::default();
    let gap = |number| GapRow {
        partition: partition(number),
        sequence_first: 0,
        sequence_last: 1,
        next_enqueued_at_us: 0,
        reason: "retention",
    };
    let mut readings = crate::suite::readings(partition(1), 0..3);
    readings.append(&crate::suite::readings(partition(2), 5..7), &[0, 1]);
    let order = [0, 1, 2, 3, 4];
    let shape = crate::suite::shape();
    for (files, wanted) in [
        (encode_gaps(&[gap(1), gap(2)], &options), vec![1, 2]),
        (
            encode_readings(&shape, &readings, &order, &options),
            vec![1, 1, 1, 2, 2],
        ),
    ] {
        let files = files.unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].origin, None);
        assert!(files[0].name().starts_with("mixed-"), "{}", files[0].name());
        let mut found = Vec::new();
        let reader = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let partitions = batch["partition"].as_primitive::<Int32Type>();
            found.extend(partitions.iter().flatten());
        }
        found.sort_unstable();
        assert_eq!(found, wanted);
    }
    let one = encode_gaps(&[gap(2), gap(2)], &options).unwrap();
    let origin = one[0].origin.map(|origin| origin.partition.number());
    assert_eq!(origin, Some(2));
}

#[test]
fn no_rows_make_no_file() {
    let options = EncodeOptions::default();
    let buffer = crate::suite::readings(partition(0), 0..3);
    assert!(
        encode_readings(&crate::suite::shape(), &buffer, &[], &options)
            .unwrap()
            .is_empty()
    );
    assert!(
        encode_rollups(&RollupRows::default(), &options)
            .unwrap()
            .is_empty()
    );
    assert!(
        encode_raw(&[], RawKind::Rejected, &options)
            .unwrap()
            .is_empty()
    );
    assert!(encode_gaps(&[], &options).unwrap().is_empty());
}
