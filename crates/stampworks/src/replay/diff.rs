//! The rows of two generations of a table, compared event by event.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use stamp_lake::{Filter, LakeError, Table, Value};
use stamp_model::PartitionId;

use super::range::Range;

/// Sequence numbers that are compared at a time: what bounds the memory.
const WINDOW: i64 = 20_000;

/// How the shadow's rows differ from the live ones.
#[derive(Debug, Default, Serialize)]
pub(super) struct Diff {
    /// Events with the same rows in both.
    pub(super) same: u64,
    pub(super) only_live: u64,
    pub(super) only_shadow: u64,
    /// Events whose rows differ.
    pub(super) differing: u64,
    /// Of these, by column.
    pub(super) columns: BTreeMap<String, u64>,
    /// The first ones, one line each.
    pub(super) examples: Vec<String>,
}

/// Two generations of one table.
pub(super) struct Pair<'a> {
    pub(super) live: &'a Table,
    pub(super) shadow: &'a Table,
    /// Live events that are left out: partition, sequence and enqueued time.
    pub(super) without: &'a BTreeSet<(i64, i64, i64)>,
    /// Rows that were enqueued before are of an earlier hub of the same name.
    pub(super) since_us: i64,
    pub(super) examples_max: usize,
}

impl Diff {
    pub(super) fn events(&self) -> u64 {
        self.only_live + self.only_shadow + self.differing
    }

    /// Adds what a range of a partition has.
    pub(super) async fn add(
        &mut self,
        pair: &Pair<'_>,
        partition: PartitionId,
        range: Range,
    ) -> Result<(), LakeError> {
        let columns = all_columns(pair).await?;
        let mut first = range.first;
        while first <= range.last {
            let last = range.last.min(first + WINDOW - 1);
            let filter = Filter::Sequences {
                partition,
                above: first - 1,
                up_to: last,
            };
            let part = Range { first, last };
            let mut live =
                rows(pair.live, &columns, partition, part, &filter, pair.since_us).await?;
            let shadow = rows(
                pair.shadow,
                &columns,
                partition,
                part,
                &filter,
                pair.since_us,
            )
            .await?;
            let number = i64::from(partition.number());
            live.retain(|&(sequence, at), _| !pair.without.contains(&(number, sequence, at)));
            self.compare(&columns, partition, &live, &shadow, pair.examples_max);
            first = last + 1;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        columns: &[String],
        partition: PartitionId,
        live: &Rows,
        shadow: &Rows,
        examples_max: usize,
    ) {
        for key in live
            .keys()
            .chain(shadow.keys().filter(|key| !live.contains_key(key)))
        {
            let what = match (live.get(key), shadow.get(key)) {
                (Some(live), Some(shadow)) if live == shadow => {
                    self.same += 1;
                    continue;
                }
                (Some(_), None) => {
                    self.only_live += 1;
                    "only live".to_owned()
                }
                (None, _) => {
                    self.only_shadow += 1;
                    "only in the shadow".to_owned()
                }
                (Some(live), Some(shadow)) => {
                    self.differing += 1;
                    self.differs(columns, live, shadow)
                }
            };
            if self.examples.len() < examples_max {
                self.examples
                    .push(format!("partition {partition}, sequence {}: {what}", key.0));
            }
        }
    }

    fn differs(&mut self, columns: &[String], live: &[Cells], shadow: &[Cells]) -> String {
        if live.len() != shadow.len() {
            return format!("{} rows live, {} in the shadow", live.len(), shadow.len());
        }
        let mut what = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            let pairs = live.iter().zip(shadow);
            if let Some((live, shadow)) = pairs.map(|(a, b)| (&a[at], &b[at])).find(|(a, b)| a != b)
            {
                *self.columns.entry(column.clone()).or_default() += 1;
                what.push(format!(
                    "{column} is {live} live and {shadow} in the shadow"
                ));
            }
        }
        what.join(", ")
    }
}

/// The values of a row, as they print.
type Cells = Vec<String>;
/// Rows by sequence and enqueued time, the rows of a device batch sorted.
type Rows = BTreeMap<(i64, i64), Vec<Cells>>;

/// The columns that either generation has.
async fn all_columns(pair: &Pair<'_>) -> Result<Vec<String>, LakeError> {
    let mut columns = Vec::new();
    for table in [pair.live, pair.shadow] {
        if let Some(snapshot) = table.newest().await? {
            for column in snapshot.columns() {
                if !columns.contains(&column.name) {
                    columns.push(column.name);
                }
            }
        }
    }
    Ok(columns)
}

async fn rows(
    table: &Table,
    columns: &[String],
    partition: PartitionId,
    range: Range,
    filter: &Filter,
    since_us: i64,
) -> Result<Rows, LakeError> {
    let mut found = Rows::new();
    let Some(snapshot) = table.newest().await? else {
        return Ok(found);
    };
    let key = ["partition", "sequence", "enqueued_at"];
    let here = columns.iter().map(String::as_str);
    let here: Vec<&str> = here.filter(|name| snapshot.has_column(name)).collect();
    // Places in the question; the key's columns come first and once.
    let asked: Vec<&str> = key
        .into_iter()
        .chain(here.iter().copied().filter(|name| !key.contains(name)))
        .collect();
    let places: Vec<Option<usize>> = columns
        .iter()
        .map(|name| asked.iter().position(|asked| asked == name))
        .collect();
    let scanned = table.scan_where(&asked, filter, |rows| {
        for row in 0..rows.rows() {
            let (of, sequence) = (rows.i64(0, row), rows.i64(1, row).unwrap_or(-1));
            let at = rows.timestamp_us(2, row).unwrap_or(0);
            if of == Some(i64::from(partition.number()))
                && (range.first..=range.last).contains(&sequence)
                && at >= since_us
            {
                let value =
                    |place: Option<usize>| place.map_or(Value::Null, |at| rows.value(at, row));
                let cells = places.iter().map(|&place| printed(&value(place))).collect();
                found.entry((sequence, at)).or_default().push(cells);
            }
        }
    });
    scanned.await?;
    found.values_mut().for_each(|rows| rows.sort_unstable());
    Ok(found)
}

fn printed(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Value::TimestampUs(us) => crate::opened::time(*us),
        Value::Day(day) => format!("day {day}"),
        Value::Map(pairs) => format!("{pairs:?}"),
    }
}
