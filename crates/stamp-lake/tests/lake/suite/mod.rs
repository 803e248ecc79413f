//! Promises that hold on every store. Run on memory and local files here, and on a blob service
//! in the interop tests; only the public API is used.

pub(crate) mod checkpoints;
pub(crate) mod ownerships;
pub(crate) mod tables;

use std::collections::BTreeMap;

use stamp_lake::{EncodeOptions, EncodedFile, Lake, Table, Value, encode_readings};
use stamp_model::{
    AppId, FieldDef, FieldKind, HubIdentity, Mark, PartitionId, Readings, Shape, StampId, TenantId,
    Values,
};

/// 2026-11-24T00:00:00Z
pub(crate) const START_US: i64 = 1_795_478_400_000_000;

pub(crate) fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub(crate) fn field(name: &str, kind: FieldKind) -> FieldDef {
    FieldDef {
        name: name.to_owned(),
        kind,
        unit: None,
        required: false,
        rollup: false,
    }
}

/// One metric.
pub(crate) fn shape() -> Shape {
    let mut temp = field("temp", FieldKind::F64);
    temp.unit = Some("Cel".to_owned());
    Shape { fields: vec![temp] }
}

pub(crate) fn app(partition: PartitionId) -> AppId {
    let hub = HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1_790_000_000_000,
    };
    AppId::new(&StampId::parse("stamp-01").unwrap(), &hub, partition)
}

pub(crate) fn mark(partition: PartitionId, sequence: i64) -> Mark {
    Mark {
        app: app(partition),
        sequence,
    }
}

/// One reading for each sequence number, of one device, a second apart.
pub(crate) fn readings(partition: PartitionId, sequences: impl Iterator<Item = i64>) -> Readings {
    let mut readings = Readings::new(&shape(), partition);
    for sequence in sequences {
        let device = readings.devices.intern("press-7");
        readings.device.push(device);
        readings.ts_us.push(START_US + sequence * 1_000_000);
        readings
            .enqueued_at_us
            .push(START_US + sequence * 1_000_000 + 120_000);
        readings.late.push(false);
        readings.clock_suspect.push(false);
        readings.sequence.push(sequence);
        if let Values::F64(values) = &mut readings.columns[0].values {
            values.push(value_of(sequence));
        }
        readings.columns[0].pushed();
    }
    readings
}

/// The metric of the reading with this sequence number.
pub(crate) fn value_of(sequence: i64) -> f64 {
    f64::from(i32::try_from(sequence).unwrap()) / 4.0
}

pub(crate) fn encoded(
    partition: PartitionId,
    sequences: impl Iterator<Item = i64>,
) -> Vec<EncodedFile> {
    let readings = readings(partition, sequences);
    let order: Vec<u32> = (0..).take(readings.len()).collect();
    encode_readings(&shape(), &readings, &order, &EncodeOptions::default()).unwrap()
}

pub(crate) fn readings_table(lake: &Lake, name: &str) -> Table {
    lake.tenant(&tenant(name)).readings(&shape())
}

/// Puts rows and commits them with the mark of the highest sequence number.
pub(crate) async fn write(table: &Table, partition: PartitionId, sequences: std::ops::Range<i64>) {
    let at = table.load().await.unwrap();
    let to = sequences.end - 1;
    let files = put_all(table, &encoded(partition, sequences)).await;
    table
        .append(&at, files, &[mark(partition, to)])
        .await
        .unwrap();
}

pub(crate) async fn put_all(table: &Table, files: &[EncodedFile]) -> Vec<stamp_lake::DataFile> {
    let mut put = Vec::new();
    for file in files {
        put.push(table.put(file).await.unwrap());
    }
    put
}

/// How often each (partition, sequence) is in the table.
pub(crate) async fn rows(table: &Table) -> BTreeMap<(i64, i64), usize> {
    let mut rows = BTreeMap::new();
    table
        .scan(&["partition", "sequence"], |columns| {
            for row in 0..columns.rows() {
                let key = (columns.i64(0, row).unwrap(), columns.i64(1, row).unwrap());
                *rows.entry(key).or_default() += 1;
            }
        })
        .await
        .unwrap();
    rows
}

/// Each row of some columns as owned text, in the order of the table.
pub(crate) async fn printed(table: &Table, columns: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    table
        .scan(columns, |found| {
            for row in 0..found.rows() {
                let values: Vec<Value<'_>> = (0..columns.len())
                    .map(|column| found.value(column, row))
                    .collect();
                lines.push(format!("{values:?}"));
            }
        })
        .await
        .unwrap();
    lines
}
