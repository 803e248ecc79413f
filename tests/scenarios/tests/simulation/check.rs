//! Compares what is in the tables with what the oracle knows.

use std::collections::BTreeMap;

use stamp_lake::{Columns, Lake, Snapshot, Table};
use stamp_model::{AppId, PartitionId, StampId, TenantId};
use stamp_schema::Schema;

use crate::workload::{End, Oracle, Place, Row, SCHEMA, TENANTS};
use crate::world::{STAMP, identity};

/// What lies where, with the number of times it is there.
type Items = BTreeMap<(Place, String), u64>;

/// Count and sum by tenant, device, metric and window.
type Sums = BTreeMap<String, (i64, i64)>;

/// Length of a rollup's window, the default of the configuration.
const WINDOW_US: i64 = 60_000_000;

/// Most differences that are told.
const TOLD_MAX: usize = 12;

struct Found {
    items: Items,
    sums: Sums,
    checkpoints: Vec<Option<i64>>,
    /// Table as the items name it, partition, mark.
    marks: Vec<(String, i64, i64)>,
}

/// What differs. While consumers may still come, rows above the checkpoint may be missing;
/// `settled` says that none may.
pub(crate) async fn differences(
    lake: &Lake,
    oracle: &Oracle,
    partitions: u32,
    settled: bool,
) -> Vec<String> {
    let found = find(lake, partitions).await;
    let expected = expected_items(oracle);
    let mut told = Vec::new();
    for (key, &count) in &found.items {
        let wanted = expected.get(key).copied().unwrap_or(0);
        if count > wanted {
            told.push(format!("{count} times instead of {wanted}: {key:?}"));
        }
    }
    for (key, &wanted) in &expected {
        let count = found.items.get(key).copied().unwrap_or(0);
        if count < wanted
            && let Some(why) = must_be_there(&found, key, settled)
        {
            told.push(format!(
                "{count} times instead of {wanted} although {why}: {key:?}"
            ));
        }
    }
    if settled {
        told.extend(sum_differences(&found.sums, &expected_sums(oracle)));
        for partition in 0..partitions {
            let (at, last) = (
                found.checkpoints[partition as usize],
                oracle.last(i64::from(partition)),
            );
            if at.unwrap_or(-1) != last {
                told.push(format!(
                    "checkpoint of {partition} is {at:?}, the last event {last}"
                ));
            }
        }
    }
    told.truncate(TOLD_MAX);
    told
}

/// Why an item that is missing should not be.
fn must_be_there(found: &Found, key: &(Place, String), settled: bool) -> Option<String> {
    let ((partition, sequence), text) = key;
    let checkpoint = found.checkpoints[usize::try_from(*partition).unwrap()];
    if settled {
        return Some("all is settled".into());
    }
    if checkpoint.is_some_and(|at| at >= *sequence) {
        return Some(format!("the checkpoint is {checkpoint:?}"));
    }
    let covers = |(table, p, mark): &&(String, i64, i64)| {
        text.starts_with(table.as_str()) && p == partition && mark >= sequence
    };
    let mark = found.marks.iter().find(covers)?;
    Some(format!("the mark is {}", mark.2))
}

fn expected_items(oracle: &Oracle) -> Items {
    let mut items = Items::new();
    for (&place, end) in &oracle.ends {
        let texts = match end {
            End::Readings(rows) => rows.iter().map(reading).collect(),
            End::Rejected(tenant, reason) => {
                vec![format!("rejected {} {reason}", TENANTS[*tenant])]
            }
            End::Quarantine(reason) => vec![format!("quarantine {reason}")],
            End::Gap => vec!["gap".to_owned()],
        };
        for text in texts {
            *items.entry((place, text)).or_default() += 1;
        }
    }
    items
}

fn reading((tenant, device, ts, value, level): &Row) -> String {
    format!(
        "readings {} {device} {ts} {value} {level:?}",
        TENANTS[*tenant]
    )
}

fn expected_sums(oracle: &Oracle) -> Sums {
    let mut sums = Sums::new();
    let rows = oracle.ends.values().filter_map(|end| match end {
        End::Readings(rows) => Some(rows),
        _ => None,
    });
    for (tenant, device, ts, value, level) in rows.flatten() {
        let window = ts - ts.rem_euclid(WINDOW_US);
        for (metric, value) in [("value", Some(*value)), ("level", *level)] {
            if let Some(value) = value {
                let key = format!("{} {device} {metric} {window}", TENANTS[*tenant]);
                let sum = sums.entry(key).or_default();
                *sum = (sum.0 + 1, sum.1 + value);
            }
        }
    }
    sums
}

fn sum_differences(found: &Sums, expected: &Sums) -> Vec<String> {
    let keys = found
        .keys()
        .chain(expected.keys().filter(|key| !found.contains_key(*key)));
    keys.filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| {
            format!(
                "rollup {key}: {:?} instead of {:?}",
                found.get(key),
                expected.get(key)
            )
        })
        .collect()
}

async fn find(lake: &Lake, partitions: u32) -> Found {
    let mut found = Found {
        items: Items::new(),
        sums: Sums::new(),
        checkpoints: Vec::new(),
        marks: Vec::new(),
    };
    let shape = Schema::parse(SCHEMA).unwrap().shape().clone();
    for tenant in TENANTS {
        let root = lake.tenant(&TenantId::parse(tenant).unwrap());
        let names = ["partition", "sequence", "device_id", "ts", "value", "level"];
        let readings = root.readings(&shape);
        scan(&readings, &names, |c, row| {
            add(&mut found.items, c, row, &read_reading(tenant, c, row))
        })
        .await;
        note_marks(
            &mut found,
            &readings,
            &format!("readings {tenant} "),
            partitions,
        )
        .await;
        let rejected = root.rejected();
        scan(&rejected, &["partition", "sequence", "reason"], |c, row| {
            add(
                &mut found.items,
                c,
                row,
                &format!("rejected {tenant} {}", c.text(2, row).unwrap()),
            );
        })
        .await;
        note_marks(
            &mut found,
            &rejected,
            &format!("rejected {tenant} "),
            partitions,
        )
        .await;
        let names = ["device_id", "metric", "window_start", "count", "sum"];
        scan(&root.rollups(), &names, |c, row| {
            add_sum(&mut found.sums, tenant, c, row)
        })
        .await;
    }
    let (quarantine, gaps) = (lake.stamp().quarantine(), lake.stamp().gaps());
    scan(
        &quarantine,
        &["partition", "sequence", "reason"],
        |c, row| {
            add(
                &mut found.items,
                c,
                row,
                &format!("quarantine {}", c.text(2, row).unwrap()),
            );
        },
    )
    .await;
    note_marks(&mut found, &quarantine, "quarantine ", partitions).await;
    scan(
        &gaps,
        &["partition", "sequence_first", "sequence_last"],
        |c, row| {
            for sequence in c.i64(1, row).unwrap()..=c.i64(2, row).unwrap() {
                let place = (c.i64(0, row).unwrap(), sequence);
                *found.items.entry((place, "gap".into())).or_default() += 1;
            }
        },
    )
    .await;
    let hub = identity();
    let checkpoints = lake.checkpoints(&hub.namespace, &hub.hub, "$Default");
    for number in 0..partitions {
        let at = checkpoints
            .read(PartitionId::new(number).unwrap())
            .await
            .unwrap();
        found.checkpoints.push(at.map(|at| at.sequence));
    }
    found
}

fn read_reading(tenant: &str, c: &Columns, row: usize) -> String {
    let value = c.f64(4, row).unwrap();
    format!(
        "readings {tenant} {} {} {value} {:?}",
        c.text(2, row).unwrap(),
        c.timestamp_us(3, row).unwrap(),
        c.i64(5, row)
    )
}

fn add(items: &mut Items, c: &Columns, row: usize, text: &str) {
    let place = (c.i64(0, row).unwrap(), c.i64(1, row).unwrap());
    *items.entry((place, text.to_owned())).or_default() += 1;
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sums of small whole numbers"
)]
fn add_sum(sums: &mut Sums, tenant: &str, c: &Columns, row: usize) {
    let (device, metric) = (c.text(0, row).unwrap(), c.text(1, row).unwrap());
    let window = c.timestamp_us(2, row).unwrap();
    let sum = sums
        .entry(format!("{tenant} {device} {metric} {window}"))
        .or_default();
    let of_row = c.f64(4, row).unwrap();
    assert!(of_row.fract() == 0.0, "{of_row} is no sum of whole numbers");
    *sum = (sum.0 + c.i64(3, row).unwrap(), sum.1 + of_row as i64);
}

async fn scan(table: &Table, names: &[&str], mut visit: impl FnMut(&Columns, usize)) {
    let visit = |columns: &Columns| (0..columns.rows()).for_each(|row| visit(columns, row));
    table.scan(names, visit).await.unwrap();
}

/// The marks of a table that has rows; a table that nobody made stays unmade.
async fn note_marks(found: &mut Found, table: &Table, name: &str, partitions: u32) {
    if !found.items.keys().any(|(_, text)| text.starts_with(name)) {
        return;
    }
    let snapshot: Snapshot = table.load().await.unwrap();
    for number in 0..partitions {
        let partition = PartitionId::new(number).unwrap();
        let app = AppId::new(&StampId::parse(STAMP).unwrap(), &identity(), partition);
        if let Some(mark) = snapshot.mark(&app) {
            found.marks.push((name.to_owned(), i64::from(number), mark));
        }
    }
}
