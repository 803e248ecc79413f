//! Files read back by the library.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Encoding;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::statistics::Statistics;
use proptest::prelude::*;
use stamp_model::{Dictionary, FieldDef, FieldKind, PartitionId, Readings, Shape, Values};

use super::PAGE_ROWS;
use crate::encode::{EncodeOptions, encode_readings};

/// What the columns of a row hold.
type Row = (i64, f64, String);

fn shape() -> Shape {
    let field = |name: &str, kind| FieldDef {
        name: name.to_owned(),
        kind,
        unit: None,
        required: true,
        rollup: false,
    };
    Shape {
        fields: vec![
            field("number", FieldKind::I64),
            field("float", FieldKind::F64),
            field("text", FieldKind::String),
        ],
    }
}

fn readings(rows: &[Row]) -> Readings {
    let mut readings = Readings::new(&shape(), PartitionId::new(7).unwrap());
    let device = readings.devices.intern("press");
    readings.device = vec![device; rows.len()];
    readings.ts_us = (0..).take(rows.len()).collect();
    readings.enqueued_at_us = vec![0; rows.len()];
    readings.late = (0..rows.len()).map(is_late).collect();
    readings.clock_suspect = vec![false; rows.len()];
    readings.sequence = (0..).take(rows.len()).collect();
    let mut texts = Dictionary::default();
    let keys = rows.iter().map(|row| texts.intern(&row.2)).collect();
    readings.columns[0].values = Values::I64(rows.iter().map(|row| row.0).collect());
    readings.columns[1].values = Values::F64(rows.iter().map(|row| row.1).collect());
    readings.columns[2].values = Values::String { texts, keys };
    readings
}

fn is_late(row: usize) -> bool {
    row % 5 == 2
}

fn file(rows: &[Row]) -> bytes::Bytes {
    let order: Vec<u32> = (0..u32::try_from(rows.len()).unwrap()).collect();
    let options = EncodeOptions::default();
    let files = encode_readings(&shape(), &readings(rows), &order, &options).unwrap();
    files[0].bytes.clone()
}

fn open(file: &bytes::Bytes) -> ParquetRecordBatchReaderBuilder<bytes::Bytes> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap()
}

/// The rows from `from` on, which skips pages by the index.
fn read(file: &bytes::Bytes, from: usize, to: usize) -> Vec<(i64, u64, String, i64, i32, bool)> {
    let selection = [RowSelector::skip(from), RowSelector::select(to - from)];
    let reader = open(file).with_row_selection(RowSelection::from(selection.to_vec()));
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let numbers = batch["number"].as_primitive::<Int64Type>();
        let floats = batch["float"].as_primitive::<Float64Type>();
        let texts = batch["text"].as_string::<i32>();
        let sequences = batch["sequence"].as_primitive::<Int64Type>();
        let partitions = batch["partition"].as_primitive::<arrow_array::types::Int32Type>();
        let late = batch["late"].as_boolean();
        rows.extend((0..batch.num_rows()).map(|row| {
            (
                numbers.value(row),
                floats.value(row).to_bits(),
                texts.value(row).to_owned(),
                sequences.value(row),
                partitions.value(row),
                late.value(row),
            )
        }));
    }
    rows
}

fn check(rows: &[Row], from: usize) {
    let file = file(rows);
    let wanted: Vec<_> = (0..)
        .zip(rows)
        .skip(from)
        .map(|(at, row)| {
            let late = is_late(usize::try_from(at).unwrap());
            (row.0, row.1.to_bits(), row.2.clone(), at, 7, late)
        })
        .collect();
    assert_eq!(read(&file, from, rows.len()), wanted);
    let opened = open(&file);
    let group = opened.metadata().row_group(0);
    for column in group.columns() {
        let path = column.column_path().string();
        match (path.as_str(), column.statistics().unwrap()) {
            ("number", Statistics::Int64(found)) => {
                assert_eq!(found.min_opt(), rows.iter().map(|row| &row.0).min());
                assert_eq!(found.max_opt(), rows.iter().map(|row| &row.0).max());
            }
            ("float", Statistics::Double(found)) => {
                let mut floats: Vec<f64> = rows.iter().map(|row| row.1).collect();
                floats.sort_by(f64::total_cmp);
                let bits = |value: Option<&f64>| value.map(|value| value.to_bits());
                assert_eq!(bits(found.min_opt()), bits(floats.first()));
                assert_eq!(bits(found.max_opt()), bits(floats.last()));
            }
            ("late", Statistics::Boolean(found)) => {
                let late = || (0..rows.len()).map(is_late);
                assert_eq!(found.min_opt().copied(), late().min());
                assert_eq!(found.max_opt().copied(), late().max());
            }
            ("text", Statistics::ByteArray(found)) => {
                let least = rows.iter().map(|row| row.2.as_bytes()).min().unwrap();
                let greatest = rows.iter().map(|row| row.2.as_bytes()).max().unwrap();
                // Long ones may be cut off.
                assert!(found.min_opt().unwrap().data() <= least);
                assert!(found.max_opt().unwrap().data() >= greatest);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_values_come_back(
        values in prop::collection::vec((any::<i64>(), any::<f64>(), ".{0,70}"), 1..200),
        count in prop_oneof![1_usize..300, 4_096..3 * PAGE_ROWS],
        from in 0_usize..4_096,
        run in 1_usize..100,
        counts_up: bool,
    ) {
        let rows: Vec<Row> = (0..count)
            .map(|at| {
                let (number, float, text) = &values[at / run % values.len()];
                let float = if float.is_nan() { -0.0 } else { *float };
                let step = i64::try_from(at).unwrap();
                let number = if counts_up { number.wrapping_add(step) } else { *number };
                (number, float, text.clone())
            })
            .collect();
        check(&rows, from % count);
    }
}

#[test]
fn what_a_dictionary_is_no_good_for_is_left_to_the_library() {
    // The sample sees a few values that repeat; the rest is too much for a dictionary.
    let distinct = |at: usize| format!("{at:060}");
    let rows: Vec<Row> = (0..30_000)
        .map(|at| (0, if at % 2 == 0 { 0.5 } else { f64::NAN }, distinct(at)))
        .collect();
    let file = file(&rows);
    let opened = open(&file);
    let group = opened.metadata().row_group(0);
    let text = group
        .columns()
        .iter()
        .find(|c| c.column_path().string() == "text");
    assert!(
        text.unwrap()
            .encodings()
            .any(|encoding| encoding == Encoding::PLAIN)
    );
    let found = read(&file, 0, rows.len());
    assert!((0..).zip(&found).all(|(at, row)| row.2 == distinct(at)));
    assert!(
        found
            .iter()
            .skip(1)
            .step_by(2)
            .all(|row| f64::from_bits(row.1).is_nan())
    );
}
