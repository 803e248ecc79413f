//! Readings that were written come back as columns, whatever happened to the schema meanwhile.

use std::fmt::Write;

use proptest::prelude::*;
use stamp_lake::{EncodeOptions, LakeError, SequenceRange, Table, encode_readings};
use stamp_model::{FieldKind, Readings, Shape, Values};

use crate::round_trip::{any_row, buffer, lake, runtime, shape, store};
use crate::suite::{START_US, encoded, field, partition, put_all, readings_table, tenant};

fn between(number: u32, above: i64, up_to: i64) -> SequenceRange {
    SequenceRange {
        partition: partition(number),
        above,
        up_to,
        since_us: i64::MIN,
    }
}

/// Every row as text, sorted: rows come in the order of the files.
fn lines(readings: &Readings) -> Vec<String> {
    assert!(readings.is_rectangular());
    let line = |row: usize| {
        let mut line = format!(
            "{:?} {} {} {} {} {}",
            readings.devices.get(readings.device[row]),
            readings.ts_us[row],
            readings.enqueued_at_us[row],
            readings.late[row],
            readings.clock_suspect[row],
            readings.sequence[row],
        );
        for column in &readings.columns {
            if !column.is_valid(row) {
                line.push_str(" -");
                continue;
            }
            match &column.values {
                Values::Bool(values) => write!(line, " {}", values[row]),
                Values::I64(values) | Values::Timestamp(values) => write!(line, " {}", values[row]),
                Values::F64(values) => write!(line, " {:?}", values[row]),
                Values::String { texts, keys } => write!(line, " {:?}", texts.get(keys[row])),
            }
            .unwrap();
        }
        line
    };
    let mut lines: Vec<_> = (0..readings.len()).map(line).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn readings_are_read_back_into_the_columns_they_came_from(
        rows in prop::collection::vec(any_row(), 1..60),
    ) {
        let buffer = buffer(&rows);
        let order: Vec<u32> = (0..).take(rows.len()).collect();
        let files = encode_readings(&shape(), &buffer, &order, &EncodeOptions::default()).unwrap();
        let runtime = runtime();
        let table = lake(&runtime).tenant(&tenant("t")).readings(&shape());

        let page = runtime.block_on(async {
            store(&table, &files).await;
            table.readings_between(&shape(), between(5, -1, 1_000), 1_000).await.unwrap()
        });

        prop_assert_eq!(page.through, 1_000);
        prop_assert_eq!(lines(&page.readings), lines(&buffer));
    }

    #[test]
    fn pages_hold_whole_events_and_together_the_whole_range(
        batches in prop::collection::vec((0_u32..3, 0_i64..100, 1_i64..40), 1..6),
        above in -1_i64..120,
        width in 0_i64..80,
        rows_max in 1_usize..30,
    ) {
        let runtime = runtime();
        let table = readings_table(&lake(&runtime), "t");
        let up_to = above + width;
        let (found, mut wanted) = runtime.block_on(async {
            let (mut wanted, mut found) = (Vec::new(), Vec::new());
            let mut at = table.load().await.unwrap();
            // The batches overlap, so an event has several rows.
            for (number, start, count) in batches {
                let files = encoded(partition(number), start..start + count);
                let files = put_all(&table, &files).await;
                at = table.append(&at, files, &[]).await.unwrap();
                if number == 1 {
                    wanted.extend((start..start + count).filter(|s| above < *s && *s <= up_to));
                }
            }
            let mut through = above;
            while through < up_to {
                let range = between(1, through, up_to);
                let shape = crate::suite::shape();
                let page = table.readings_between(&shape, range, rows_max).await.unwrap();
                assert!(page.through > through, "{} after {through}", page.through);
                let last = page.readings.sequence.iter().max().copied().unwrap_or(page.through);
                let before = page.readings.sequence.iter().filter(|s| **s < last).count();
                assert!(before < rows_max, "{before} rows before the event that fills the page");
                found.extend(page.readings.sequence);
                through = page.through;
            }
            found.sort_unstable();
            (found, wanted)
        });
        wanted.sort_unstable();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn a_field_the_table_lacks_reads_as_null_and_one_the_schema_lacks_is_left_out() {
    let runtime = runtime();
    let lake = lake(&runtime);
    let newer = Shape {
        fields: vec![
            field("added", FieldKind::String),
            field("whole", FieldKind::I64),
        ],
    };
    let page = runtime.block_on(async {
        let table = crate::suite::readings_table(&lake, "t");
        let files = put_all(&table, &encoded(partition(1), 0..3)).await;
        let at = table.load().await.unwrap();
        table.append(&at, files, &[]).await.unwrap();
        // As the service after a change of the schema sees it, before it widens the table.
        let table = lake.tenant(&tenant("t")).readings(&newer);
        let page = table.readings_between(&newer, between(1, -1, 9), 100);
        page.await.unwrap()
    });

    assert_eq!((page.readings.len(), page.through), (3, 9));
    for column in &page.readings.columns {
        assert!((0..3).all(|row| !column.is_valid(row)), "{column:?}");
    }
}

#[test]
fn a_field_of_another_type_than_its_column_is_refused_by_name() {
    let runtime = runtime();
    let other = Shape {
        fields: vec![field("temp", FieldKind::String)],
    };
    let refused = runtime.block_on(async {
        let table: Table = crate::suite::readings_table(&lake(&runtime), "t");
        table.load().await.unwrap();
        let page = table.readings_between(&other, between(1, -1, 9), 100);
        page.await.unwrap_err()
    });

    assert!(
        matches!(&refused, LakeError::Column { column, .. } if column == "temp"),
        "{refused:?}"
    );
}

#[test]
fn readings_of_an_earlier_hub_are_left_out_and_a_missing_table_has_none() {
    let runtime = runtime();
    let (missing, page) = runtime.block_on(async {
        let table = crate::suite::readings_table(&lake(&runtime), "t");
        let shape = crate::suite::shape();
        let range = between(1, -1, 9);
        let missing = table.readings_between(&shape, range, 100).await.unwrap();
        let at = table.load().await.unwrap();
        let files = put_all(&table, &encoded(partition(1), 0..10)).await;
        table.append(&at, files, &[]).await.unwrap();
        let range = SequenceRange {
            since_us: START_US + 7_000_000,
            ..range
        };
        let page = table.readings_between(&shape, range, 100).await.unwrap();
        (missing, page)
    });

    assert_eq!((missing.readings.len(), missing.through), (0, 9));
    assert_eq!(page.readings.sequence, [7, 8, 9]);
}
