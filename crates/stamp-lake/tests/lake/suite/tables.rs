//! What a table promises on every store.

use stamp_lake::faults::Fault;
use stamp_lake::{
    EncodeOptions, Lake, LakeError, RawKind, Table, encode_gaps, encode_raw, encode_rollups,
};
use stamp_model::{FieldKind, GapRow, RawRow, RollupRows, Shape};
use stamp_resilience::{Classify, FailureKind};

use super::*;

/// Every promise, one after the other, each with a tenant of its own.
pub(crate) async fn all(lake: &Lake) {
    lake.probe().await.unwrap();
    a_new_table_has_no_rows_and_no_marks(lake).await;
    rows_and_their_mark_become_visible_together(lake).await;
    a_mark_never_stays_or_goes_back(lake).await;
    a_commit_after_a_stale_version_does_nothing(lake).await;
    putting_the_same_file_again_is_harmless(lake).await;
    a_grown_schema_adds_nullable_columns(lake).await;
    a_column_keeps_its_type_and_unit(lake).await;
    eight_writers_write_every_row_once(lake).await;
    two_writers_of_the_same_rows_write_them_once(lake).await;
    sequences_are_found_by_range(lake).await;
    files_from_before_a_time_are_not_opened(lake).await;
    a_log_checkpoint_keeps_rows_and_marks(lake).await;
    a_lost_commit_reply_is_found_by_reading(lake).await;
    a_refused_commit_is_unknown_and_reading_finds_nothing(lake).await;
    a_lost_create_reply_is_found_by_loading_again(lake).await;
    a_failed_load_changes_nothing(lake).await;
    a_mark_alone_can_be_committed(lake).await;
    every_table_of_a_lake_takes_rows(lake).await;
}

pub(crate) async fn a_new_table_has_no_rows_and_no_marks(lake: &Lake) {
    let table = readings_table(lake, "new");

    assert!(rows(&table).await.is_empty(), "before it is made");
    let snapshot = table.load().await.unwrap();

    assert_eq!(snapshot.version(), 0);
    assert_eq!(snapshot.mark(&app(partition(0))), None);
    assert!(rows(&table).await.is_empty());
    assert_eq!(table.count().await.unwrap(), 0);
}

pub(crate) async fn rows_and_their_mark_become_visible_together(lake: &Lake) {
    let table = readings_table(lake, "visible");
    let at = table.load().await.unwrap();
    let files = put_all(&table, &encoded(partition(3), 0..100)).await;
    assert_eq!(
        table.count().await.unwrap(),
        0,
        "an unnamed file is visible"
    );

    let after = table
        .append(&at, files, &[mark(partition(3), 99)])
        .await
        .unwrap();

    assert_eq!(after.mark(&app(partition(3))), Some(99));
    assert_eq!(table.count().await.unwrap(), 100);
    let other = readings_table(lake, "visible").load().await.unwrap();
    assert_eq!(other.version(), after.version());
    assert_eq!(other.mark(&app(partition(3))), Some(99));
    assert_eq!(other.mark(&app(partition(4))), None);
}

pub(crate) async fn a_mark_never_stays_or_goes_back(lake: &Lake) {
    let table = readings_table(lake, "forward");
    write(&table, partition(1), 0..10).await;
    let at = table.load().await.unwrap();

    for asked in [-1, 0, 8, 9] {
        let files = put_all(&table, &encoded(partition(1), 0..10)).await;
        let marks = [mark(partition(0), 5), mark(partition(1), asked)];
        let error = table.append(&at, files, &marks).await.unwrap_err();
        assert!(
            matches!(&error, LakeError::MarkNotForward { mark: 9, asked: found, .. } if *found == asked),
            "{error:?}"
        );
        assert_eq!(error.kind(), FailureKind::Permanent);
    }
    let twice = [mark(partition(1), 12), mark(partition(1), 11)];
    let error = table.append(&at, Vec::new(), &twice).await.unwrap_err();
    assert!(matches!(error, LakeError::MarkNotForward { .. }));

    let now = readings_table(lake, "forward").load().await.unwrap();
    assert_eq!(
        now.version(),
        at.version(),
        "a refused commit left an entry"
    );
    assert_eq!(now.mark(&app(partition(1))), Some(9));
    assert_eq!(table.count().await.unwrap(), 10);
}

pub(crate) async fn a_commit_after_a_stale_version_does_nothing(lake: &Lake) {
    let (table, other) = (readings_table(lake, "stale"), readings_table(lake, "stale"));
    let stale = table.load().await.unwrap();
    write(&other, partition(0), 0..10).await;

    let files = put_all(&table, &encoded(partition(0), 0..10)).await;
    let error = table
        .append(&stale, files, &[mark(partition(0), 9)])
        .await
        .unwrap_err();

    assert!(matches!(error, LakeError::Conflict { .. }), "{error:?}");
    assert_eq!(error.kind(), FailureKind::Permanent);
    let fresh = table.load().await.unwrap();
    assert_eq!(fresh.mark(&app(partition(0))), Some(9));
    assert_eq!(table.count().await.unwrap(), 10);
}

pub(crate) async fn putting_the_same_file_again_is_harmless(lake: &Lake) {
    let table = readings_table(lake, "again");
    let at = table.load().await.unwrap();
    let file = &encoded(partition(0), 0..10)[0];

    let first = table.put(file).await.unwrap();
    let second = table.put(file).await.unwrap();

    assert_eq!(first.path, second.path);
    table
        .append(&at, vec![second], &[mark(partition(0), 9)])
        .await
        .unwrap();
    assert_eq!(table.count().await.unwrap(), 10);
}

fn grown() -> Shape {
    let mut shape = shape();
    shape.fields.push(field("status", FieldKind::String));
    shape
}

/// Fault scenario 30.
pub(crate) async fn a_grown_schema_adds_nullable_columns(lake: &Lake) {
    write(&readings_table(lake, "grown"), partition(0), 0..2).await;
    let wide = lake.tenant(&tenant("grown")).readings(&grown());
    let at = wide.load().await.unwrap();
    assert_eq!(
        at.mark(&app(partition(0))),
        Some(1),
        "the mark is still there"
    );

    let mut buffer = readings(partition(0), 2..3);
    let mut status = stamp_model::Column::new(FieldKind::String);
    if let Values::String { texts, keys } = &mut status.values {
        keys.push(texts.intern("läuft"));
    }
    buffer.columns.push(status);
    let options = EncodeOptions::default();
    let files = encode_readings(&grown(), &buffer, &[0], &options).unwrap();
    let files = put_all(&wide, &files).await;
    let at = wide
        .append(&at, files, &[mark(partition(0), 2)])
        .await
        .unwrap();

    let mut found = printed(&wide, &["sequence", "temp", "status"]).await;
    found.sort();
    assert_eq!(
        found,
        [
            "[I64(0), F64(0.0), Null]",
            "[I64(1), F64(0.25), Null]",
            "[I64(2), F64(0.5), Text(\"läuft\")]",
        ]
    );
    // A shape that lacks the column again changes nothing.
    let narrow = readings_table(lake, "grown").load().await.unwrap();
    assert_eq!(narrow.version(), at.version());
}

/// Fault scenario 31.
pub(crate) async fn a_column_keeps_its_type_and_unit(lake: &Lake) {
    write(&readings_table(lake, "typed"), partition(0), 0..1).await;
    let load = |change: fn(&mut FieldDef)| {
        let mut shape = shape();
        change(&mut shape.fields[0]);
        let table = lake.tenant(&tenant("typed")).readings(&shape);
        async move { table.load().await }
    };

    let error = load(|field| field.kind = FieldKind::String).await;
    let LakeError::ColumnType {
        column,
        in_table,
        in_schema,
        ..
    } = error.unwrap_err()
    else {
        panic!("another type was accepted");
    };
    assert_eq!(column, "temp");
    assert_eq!(in_table, "double in Cel");
    assert_eq!(in_schema, "string in Cel");
    let error = load(|field| field.unit = Some("K".into())).await;
    assert!(matches!(error, Err(LakeError::ColumnType { .. })));
    load(|field| field.unit = None).await.unwrap();
}

/// Writes the rows above the mark until the mark is there, as a program does. Returns the number
/// of conflicts.
async fn settle(table: &Table, partition: PartitionId, sequences: std::ops::Range<i64>) -> usize {
    let to = sequences.end - 1;
    let mut conflicts = 0;
    loop {
        let at = table.load().await.unwrap();
        let above = at.mark(&app(partition)).unwrap_or(-1);
        if above >= to {
            return conflicts;
        }
        let rest = sequences.clone().filter(|&sequence| sequence > above);
        let files = put_all(table, &encoded(partition, rest)).await;
        match table.append(&at, files, &[mark(partition, to)]).await {
            Ok(_) => return conflicts,
            Err(LakeError::Conflict { .. }) => conflicts += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) async fn eight_writers_write_every_row_once(lake: &Lake) {
    readings_table(lake, "eight").load().await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let table = readings_table(lake, "eight");
            tokio::spawn(async move {
                for start in [0, 10, 20] {
                    settle(&table, partition(number), start..start + 10).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }

    let found = rows(&readings_table(lake, "eight")).await;
    assert_eq!(found.len(), 8 * 30);
    assert!(found.values().all(|&times| times == 1), "{found:?}");
}

/// Fault scenario 11.
pub(crate) async fn two_writers_of_the_same_rows_write_them_once(lake: &Lake) {
    readings_table(lake, "zombie").load().await.unwrap();
    let writers: Vec<_> = [7, 11]
        .map(|step| {
            let table = readings_table(lake, "zombie");
            tokio::spawn(async move {
                for start in (0..50).step_by(step) {
                    let end = (start + i64::try_from(step).unwrap()).min(50);
                    settle(&table, partition(0), start..end).await;
                }
            })
        })
        .into();
    for writer in writers {
        writer.await.unwrap();
    }

    let found = rows(&readings_table(lake, "zombie")).await;
    assert_eq!(found.len(), 50);
    assert!(found.values().all(|&times| times == 1), "{found:?}");
}

pub(crate) async fn sequences_are_found_by_range(lake: &Lake) {
    let table = readings_table(lake, "range");
    let none = table.sequences(partition(0), -1, 100).await.unwrap();
    assert!(none.is_empty());
    write(&table, partition(0), 0..10).await;
    write(&table, partition(1), 5..8).await;
    write(&table, partition(0), 20..30).await;

    let found = table.sequences(partition(0), 7, 22).await.unwrap();

    assert_eq!(found.ascending().collect::<Vec<_>>(), [8, 9, 20, 21, 22]);
    let error = lake
        .tenant(&tenant("range"))
        .rollups()
        .load()
        .await
        .map(drop);
    error.unwrap();
    let rollups = lake.tenant(&tenant("range")).rollups();
    let error = rollups.sequences(partition(0), 0, 1).await.unwrap_err();
    assert!(matches!(error, LakeError::Column { .. }), "{error:?}");
}

pub(crate) async fn files_from_before_a_time_are_not_opened(lake: &Lake) {
    let table = readings_table(lake, "since");
    for first in [0, 100, 200] {
        write(&table, partition(0), first..first + 100).await;
    }
    // Sequence 150, in the middle of the second file.
    let since_us = START_US + 150_000_000 + 120_000;
    let mut found = Vec::new();
    let visit = |columns: &stamp_lake::Columns| {
        found.extend((0..columns.rows()).filter_map(|row| columns.i64(0, row)));
    };
    let filter = stamp_lake::Filter::EnqueuedSince(since_us);
    table
        .scan_where(&["sequence"], &filter, visit)
        .await
        .unwrap();
    found.sort_unstable();
    let opened: Vec<i64> = (100..300).collect();
    assert_eq!(
        found, opened,
        "the first file is left out, the others are whole"
    );
}

pub(crate) async fn a_log_checkpoint_keeps_rows_and_marks(lake: &Lake) {
    let table = readings_table(lake, "summed");
    let mut at = table.load().await.unwrap();
    for sequence in 0..102 {
        let files = if sequence % 20 == 0 {
            put_all(&table, &encoded(partition(1), sequence..sequence + 1)).await
        } else {
            Vec::new()
        };
        let marks = [
            mark(partition(1), sequence),
            mark(partition(2), sequence * 2),
        ];
        at = table.append(&at, files, &marks).await.unwrap();
    }

    let other = readings_table(lake, "summed");
    let found = other.load().await.unwrap();

    assert_eq!(found.version(), 102);
    assert_eq!(found.mark(&app(partition(1))), Some(101));
    assert_eq!(found.mark(&app(partition(2))), Some(202));
    let sequences: Vec<_> = rows(&other).await.into_keys().map(|(_, s)| s).collect();
    assert_eq!(sequences, [0, 20, 40, 60, 80, 100]);
}

fn losing(lake: &Lake, fault: Fault, commit: &'static str) -> Lake {
    lake.with_faults(move |request| {
        if request.is_commit() && request.path.ends_with(commit) {
            fault
        } else {
            Fault::None
        }
    })
}

/// Fault scenario 7.
pub(crate) async fn a_lost_commit_reply_is_found_by_reading(lake: &Lake) {
    let faulty = losing(lake, Fault::LoseReply, "00000000000000000001.json");
    let table = readings_table(&faulty, "lost");
    let at = table.load().await.unwrap();
    let files = put_all(&table, &encoded(partition(0), 0..10)).await;

    let error = table
        .append(&at, files, &[mark(partition(0), 9)])
        .await
        .unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    let now = table.load().await.unwrap();
    assert_eq!(now.mark(&app(partition(0))), Some(9), "the mark says done");
    assert_eq!(table.count().await.unwrap(), 10);
}

pub(crate) async fn a_refused_commit_is_unknown_and_reading_finds_nothing(lake: &Lake) {
    let faulty = losing(lake, Fault::Refuse, "00000000000000000001.json");
    let table = readings_table(&faulty, "refused");
    let at = table.load().await.unwrap();
    let files = put_all(&table, &encoded(partition(0), 0..10)).await;

    let error = table
        .append(&at, files, &[mark(partition(0), 9)])
        .await
        .unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    let now = table.load().await.unwrap();
    assert_eq!(now.mark(&app(partition(0))), None);
    assert_eq!(table.count().await.unwrap(), 0);
}

pub(crate) async fn a_lost_create_reply_is_found_by_loading_again(lake: &Lake) {
    let faulty = losing(lake, Fault::LoseReply, "00000000000000000000.json");
    let table = readings_table(&faulty, "created");

    let error = table.load().await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Unknown, "{error:?}");
    assert_eq!(table.load().await.unwrap().version(), 0);
}

pub(crate) async fn a_failed_load_changes_nothing(lake: &Lake) {
    write(&readings_table(lake, "unread"), partition(0), 0..1).await;
    let faulty = lake.with_faults(|request| {
        let asks = request.kind == stamp_lake::faults::RequestKind::Read;
        if asks && request.path.ends_with("00000000000000000001.json") {
            Fault::Refuse
        } else {
            Fault::None
        }
    });

    let error = readings_table(&faulty, "unread").load().await.unwrap_err();

    assert_eq!(error.kind(), FailureKind::Transient, "{error:?}");
    let found = readings_table(lake, "unread").load().await.unwrap();
    assert_eq!(found.version(), 1);
}

pub(crate) async fn a_mark_alone_can_be_committed(lake: &Lake) {
    let table = readings_table(lake, "marked");
    let at = table.load().await.unwrap();

    let after = table
        .append(&at, Vec::new(), &[mark(partition(0), 41)])
        .await
        .unwrap();

    assert_eq!(after.mark(&app(partition(0))), Some(41));
    assert_eq!(table.count().await.unwrap(), 0);
}

async fn add(table: &Table, files: &[EncodedFile]) {
    let at = table.load().await.unwrap();
    let files = put_all(table, files).await;
    table
        .append(&at, files, &[mark(partition(2), 9)])
        .await
        .unwrap();
}

fn raw_row(tenant: Option<&str>) -> RawRow {
    RawRow {
        reason: "wrong_type",
        detail: "temp is a text at byte 12".into(),
        rule: String::new(),
        tenant: tenant.map(str::to_owned),
        device_id: None,
        partition: partition(2),
        sequence: 9,
        offset: "4294967296".into(),
        enqueued_at_us: START_US,
        content_type: Some("application/json".into()),
        properties: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
        body: bytes::Bytes::from_static(b"{\"temp\":\"x\"}\xff"),
    }
}

pub(crate) async fn every_table_of_a_lake_takes_rows(lake: &Lake) {
    let root = lake.tenant(&tenant("every"));
    let options = EncodeOptions::default();
    let mut partial = RollupRows {
        partition: 2,
        window_s: 60,
        count: vec![2],
        sum: vec![3.5],
        min: vec![-1.0],
        max: vec![4.5],
        first: vec![-1.0],
        first_ts_us: vec![START_US],
        last: vec![4.5],
        last_ts_us: vec![START_US + 1],
        m2: vec![15.125],
        late_count: vec![0],
        sequence_first: vec![8],
        sequence_last: vec![9],
        window_start_us: vec![START_US],
        ..RollupRows::default()
    };
    partial.device.push(partial.devices.intern("press-7"));
    partial.metric.push(partial.metrics.intern("temp"));
    add(
        &root.rollups(),
        &encode_rollups(&partial, &options).unwrap(),
    )
    .await;
    let found = printed(
        &root.rollups(),
        &["device_id", "metric", "count", "m2", "date"],
    )
    .await;
    assert_eq!(
        found,
        ["[Text(\"press-7\"), Text(\"temp\"), I64(2), F64(15.125), Day(20781)]"]
    );

    let row = raw_row(None);
    let files = encode_raw(std::slice::from_ref(&row), RawKind::Rejected, &options).unwrap();
    add(&root.rejected(), &files).await;
    let columns = ["reason", "rule", "device_id", "properties", "body"];
    let found = printed(&root.rejected(), &columns).await;
    let body: &[u8] = &row.body;
    assert_eq!(
        found,
        [format!(
            "[Text(\"wrong_type\"), Null, Null, Map([(\"k\", \"v\"), (\"k#2\", \"w\")]), Bytes({body:?})]"
        )]
    );

    let quarantine = lake.stamp().quarantine();
    let rows = [raw_row(Some("acme"))];
    let files = encode_raw(&rows, RawKind::Quarantine, &options).unwrap();
    add(&quarantine, &files).await;
    let found = printed(&quarantine, &["tenant", "sequence"]).await;
    assert_eq!(found, ["[Text(\"acme\"), I64(9)]"]);

    let gap = GapRow {
        partition: partition(2),
        sequence_first: 3,
        sequence_last: 9,
        next_enqueued_at_us: START_US,
        reason: "retention",
    };
    add(
        &lake.stamp().gaps(),
        &encode_gaps(&[gap], &options).unwrap(),
    )
    .await;
    let found = printed(
        &lake.stamp().gaps(),
        &["sequence_first", "sequence_last", "reason"],
    )
    .await;
    assert_eq!(found, ["[I64(3), I64(9), Text(\"retention\")]"]);
}
