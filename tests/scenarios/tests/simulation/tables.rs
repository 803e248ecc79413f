//! What lies in the tables and checkpoints, read back as any reader would.

use std::collections::BTreeMap;

use stamp_lake::{Columns, Lake, Table};
use stamp_model::{AppId, PartitionId, StampId, TenantId};
use stamp_schema::Schema;

use crate::oracle::{GAP, Place, Texts};
use crate::workload::{SCHEMA, TENANTS};
use crate::world::{STAMP, identity};

/// Count and sum by tenant, device, metric and window.
pub(crate) type Sums = BTreeMap<String, (i64, i64)>;

/// Length of a rollup's window, the default of the configuration.
const WINDOW_US: i64 = 60_000_000;

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) items: BTreeMap<Place, Texts>,
    /// What the rollups say.
    pub(crate) rolled: Sums,
    /// What they would say of the readings that are there.
    pub(crate) read: Sums,
    pub(crate) checkpoints: Vec<Option<i64>>,
    /// Table as the items name it, partition, mark.
    pub(crate) marks: Vec<(String, i64, i64)>,
}

impl Found {
    fn add(&mut self, place: Place, text: String) {
        *self
            .items
            .entry(place)
            .or_default()
            .entry(text)
            .or_default() += 1;
    }

    fn has(&self, name: &str) -> bool {
        let mut texts = self.items.values().flat_map(BTreeMap::keys);
        texts.any(|text| text.starts_with(name))
    }
}

pub(crate) async fn find(lake: &Lake, partitions: u32) -> Found {
    let mut found = Found::default();
    for tenant in TENANTS {
        find_tenant(&mut found, lake, tenant, partitions).await;
    }
    let (quarantine, gaps) = (lake.stamp().quarantine(), lake.stamp().gaps());
    raw(&mut found, &quarantine, "quarantine").await;
    note_marks(&mut found, &quarantine, "quarantine ", partitions).await;
    let names = ["partition", "sequence_first", "sequence_last"];
    scan(&gaps, &names, |c, row| {
        for sequence in c.i64(1, row).unwrap()..=c.i64(2, row).unwrap() {
            found.add((c.i64(0, row).unwrap(), sequence), GAP.into());
        }
    })
    .await;
    found.checkpoints = checkpoints(lake, partitions).await;
    found
}

/// The positions of the checkpoints, by partition.
pub(crate) async fn checkpoints(lake: &Lake, partitions: u32) -> Vec<Option<i64>> {
    let hub = identity();
    let blobs = lake.checkpoints(&hub.namespace, &hub.hub, "$Default");
    let mut positions = Vec::new();
    for number in 0..partitions {
        let at = blobs.read(PartitionId::new(number).unwrap()).await.unwrap();
        positions.push(at.map(|at| at.sequence));
    }
    positions
}

async fn find_tenant(found: &mut Found, lake: &Lake, tenant: &str, partitions: u32) {
    let root = lake.tenant(&TenantId::parse(tenant).unwrap());
    let shape = Schema::parse(SCHEMA).unwrap().shape().clone();
    let names = ["partition", "sequence", "device_id", "ts", "value", "level"];
    let readings = root.readings(&shape);
    scan(&readings, &names, |c, row| {
        add_reading(found, tenant, c, row)
    })
    .await;
    note_marks(found, &readings, &format!("readings {tenant} "), partitions).await;
    let (rejected, name) = (root.rejected(), format!("rejected {tenant}"));
    raw(found, &rejected, &name).await;
    note_marks(found, &rejected, &format!("{name} "), partitions).await;
    let names = ["device_id", "metric", "window_start", "count", "sum"];
    scan(&root.rollups(), &names, |c, row| {
        let (device, metric) = (c.text(0, row).unwrap(), c.text(1, row).unwrap());
        let window = c.timestamp_us(2, row).unwrap();
        let key = format!("{tenant} {device} {metric} {window}");
        add_sum(
            &mut found.rolled,
            key,
            c.i64(3, row).unwrap(),
            whole(c.f64(4, row)),
        );
    })
    .await;
}

async fn raw(found: &mut Found, table: &Table, name: &str) {
    let names = ["partition", "sequence", "reason"];
    scan(table, &names, |c, row| {
        let place = (c.i64(0, row).unwrap(), c.i64(1, row).unwrap());
        found.add(place, format!("{name} {}", c.text(2, row).unwrap()));
    })
    .await;
}

fn add_reading(found: &mut Found, tenant: &str, c: &Columns, row: usize) {
    let place = (c.i64(0, row).unwrap(), c.i64(1, row).unwrap());
    let (device, ts) = (c.text(2, row).unwrap(), c.timestamp_us(3, row).unwrap());
    let (value, level) = (whole(c.f64(4, row)), c.i64(5, row));
    let text = format!("readings {tenant} {device} {ts} {value} {level:?}");
    found.add(place, text);
    add_metrics(&mut found.read, (tenant, device, ts), value, level);
}

fn add_metrics(sums: &mut Sums, of: (&str, &str, i64), value: i64, level: Option<i64>) {
    let (tenant, device, ts) = of;
    let window = ts - ts.rem_euclid(WINDOW_US);
    for (metric, value) in [("value", Some(value)), ("level", level)] {
        if let Some(value) = value {
            let key = format!("{tenant} {device} {metric} {window}");
            add_sum(sums, key, 1, value);
        }
    }
}

fn add_sum(sums: &mut Sums, key: String, count: i64, sum: i64) {
    let of = sums.entry(key).or_default();
    *of = (of.0 + count, of.1 + sum);
}

#[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
fn whole(number: Option<f64>) -> i64 {
    let number = number.unwrap();
    assert!(number.fract() == 0.0, "{number} is no whole number");
    number as i64
}

async fn scan(table: &Table, names: &[&str], mut visit: impl FnMut(&Columns, usize)) {
    let visit = |columns: &Columns| (0..columns.rows()).for_each(|row| visit(columns, row));
    table.scan(names, visit).await.unwrap();
}

/// The marks of a table that has rows; a table that nobody made stays unmade.
async fn note_marks(found: &mut Found, table: &Table, name: &str, partitions: u32) {
    if !found.has(name) {
        return;
    }
    let snapshot = table.load().await.unwrap();
    for number in 0..partitions {
        let partition = PartitionId::new(number).unwrap();
        let app = AppId::new(&StampId::parse(STAMP).unwrap(), &identity(), partition);
        if let Some(mark) = snapshot.mark(&app) {
            found.marks.push((name.to_owned(), i64::from(number), mark));
        }
    }
}
