//! Counts what is in a stamp's tables, by partition and by tenant.

use std::collections::BTreeMap;

use serde::Serialize;
use stamp_consumer::TenantPlan;
use stamp_lake::{Columns, Lake, LakeError, Table, Value};
use stamp_model::{QuarantineReason, Sequences};
use stamp_rollup::Windows;

/// Events of one partition over all tables.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Events in any table, and sequence numbers in `gaps`.
    pub(super) all: Sequences,
    /// Events that are in more than one table, or in one that has one row an event, twice.
    pub(super) twice: Sequences,
}

/// Count, sum, min and max of a metric's values in one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Total {
    pub(super) count: i64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Total {
    const NONE: Self = Self {
        count: 0,
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Sums may differ by the rounding of adding in another order, everything else is exact.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a bound, far below 2^53")]
        let bound = f64::EPSILON
            * self.count.max(1) as f64
            * self.min.abs().max(self.max.abs()).max(1.0)
            * self.count.max(1) as f64;
        self.count == other.count
            && self.min.total_cmp(&other.min).is_eq()
            && self.max.total_cmp(&other.max).is_eq()
            && (self.sum - other.sum).abs() <= bound
    }
}

/// Totals by metric and start of the window.
pub(super) type Totals = BTreeMap<(String, i64), Total>;

/// What one tenant's tables hold.
#[derive(Debug, Default, Serialize)]
pub(super) struct TenantCount {
    pub(super) readings_events: u64,
    pub(super) readings_rows: u64,
    pub(super) rejected: u64,
    /// Of these, events that a replay has brought into `readings`.
    pub(super) rejected_returned: u64,
    pub(super) rollup_rows: u64,
    #[serde(skip)]
    pub(super) from_readings: Totals,
    #[serde(skip)]
    pub(super) from_rollups: Totals,
}

/// What a stamp's tables hold.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) partitions: BTreeMap<i64, Partition>,
    pub(super) tenants: BTreeMap<String, TenantCount>,
    pub(super) quarantine: u64,
    pub(super) quarantine_returned: u64,
    pub(super) gap_events: u64,
}

/// Events that the tenants' `replays` have, by partition.
#[derive(Debug, Default)]
struct Replayed {
    rejected: BTreeMap<i64, Sequences>,
    quarantine: BTreeMap<i64, Sequences>,
}

impl Replayed {
    /// Adds what one tenant's table has.
    async fn read(&mut self, table: &Table) -> Result<(), LakeError> {
        self.rejected.clear();
        table
            .scan(&["partition", "sequence", "source"], |rows| {
                for row in 0..rows.rows() {
                    let (partition, sequence) = position(rows, row);
                    let of = match rows.text(2, row) {
                        Some("quarantine") => &mut self.quarantine,
                        _ => &mut self.rejected,
                    };
                    of.entry(partition).or_default().insert(sequence);
                }
            })
            .await
    }
}

impl Counts {
    /// Reads every table of the stamp once.
    pub(super) async fn read(
        lake: &Lake,
        tenants: &[TenantPlan],
        windows: Windows,
    ) -> Result<Self, LakeError> {
        let mut counts = Self::default();
        let mut replayed = Replayed::default();
        for plan in tenants {
            let mut count = TenantCount::default();
            counts.readings(plan, windows, &mut count).await?;
            let root = plan.lake.tenant(&plan.id);
            // After the readings: what was decided by now may be in them or not.
            replayed.read(&root.replays()).await?;
            let returned = |partition: i64, sequence: i64, _: &str| {
                has(&replayed.rejected, partition, sequence)
            };
            (count.rejected, count.rejected_returned) =
                counts.one_row_each(&root.rejected(), returned).await?;
            read_rollups(&root.rollups(), &mut count).await?;
            counts.tenants.insert(plan.id.to_string(), count);
        }
        let own = lake.stamp();
        let returned = |partition: i64, sequence: i64, reason: &str| {
            let reason = QuarantineReason::parse(reason);
            reason.is_some_and(QuarantineReason::depends_on_moment)
                || has(&replayed.quarantine, partition, sequence)
        };
        (counts.quarantine, counts.quarantine_returned) =
            counts.one_row_each(&own.quarantine(), returned).await?;
        counts.gaps(&own.gaps()).await?;
        Ok(counts)
    }

    async fn readings(
        &mut self,
        plan: &TenantPlan,
        windows: Windows,
        count: &mut TenantCount,
    ) -> Result<(), LakeError> {
        let shape = plan.schema.shape();
        let table = plan.lake.tenant(&plan.id).readings(shape);
        let Some(snapshot) = table.newest().await? else {
            return Ok(());
        };
        // A field that was added to the schema is no column until the service loads the table.
        let metrics: Vec<&str> = shape
            .fields
            .iter()
            .filter(|field| field.rollup && snapshot.has_column(&field.name))
            .map(|field| field.name.as_str())
            .collect();
        let fixed = [
            "partition",
            "sequence",
            "ts",
            "enqueued_at",
            "clock_suspect",
        ];
        let columns: Vec<&str> = fixed
            .iter()
            .copied()
            .chain(metrics.iter().copied())
            .collect();
        // Rows of a device batch share their event, so an event counts once for the table.
        let mut events: BTreeMap<i64, Sequences> = BTreeMap::new();
        table
            .scan(&columns, |rows| {
                for row in 0..rows.rows() {
                    count.readings_rows += 1;
                    let (partition, sequence) = position(rows, row);
                    events.entry(partition).or_default().insert(sequence);
                    let suspect = rows.value(4, row) == Value::Bool(true);
                    let time = rows
                        .timestamp_us(if suspect { 3 } else { 2 }, row)
                        .unwrap_or(0);
                    let window = windows.window_start(time);
                    for (at, metric) in metrics.iter().enumerate() {
                        if let Some(value) = rows.f64(fixed.len() + at, row) {
                            let one = Total {
                                count: 1,
                                sum: value,
                                min: value,
                                max: value,
                            };
                            add(&mut count.from_readings, metric, window, &one);
                        }
                    }
                }
            })
            .await?;
        for (partition, sequences) in events {
            count.readings_events += sequences.len();
            sequences
                .ascending()
                .for_each(|sequence| self.note(partition, sequence));
        }
        Ok(())
    }

    /// Counts the rows, and of these the events that are in a table that was read before and may be:
    /// `returned` says so by partition, sequence and reason.
    async fn one_row_each(
        &mut self,
        table: &Table,
        returned: impl Fn(i64, i64, &str) -> bool,
    ) -> Result<(u64, u64), LakeError> {
        let (mut rows_seen, mut rows_returned) = (0, 0);
        table
            .scan(&["partition", "sequence", "reason"], |rows| {
                for row in 0..rows.rows() {
                    rows_seen += 1;
                    let (partition, sequence) = position(rows, row);
                    let known = self.partitions.get(&partition);
                    let is_there = known.is_some_and(|known| known.all.contains(sequence));
                    if is_there && returned(partition, sequence, rows.text(2, row).unwrap_or("")) {
                        rows_returned += 1;
                    } else {
                        self.note(partition, sequence);
                    }
                }
            })
            .await?;
        Ok((rows_seen, rows_returned))
    }

    async fn gaps(&mut self, table: &Table) -> Result<(), LakeError> {
        table
            .scan(&["partition", "sequence_first", "sequence_last"], |rows| {
                for row in 0..rows.rows() {
                    let (partition, first) = position(rows, row);
                    for sequence in first..=rows.i64(2, row).unwrap_or(first - 1) {
                        self.gap_events += 1;
                        self.note(partition, sequence);
                    }
                }
            })
            .await
    }

    fn note(&mut self, partition: i64, sequence: i64) {
        let partition = self.partitions.entry(partition).or_default();
        if !partition.all.insert(sequence) {
            partition.twice.insert(sequence);
        }
    }
}

fn has(events: &BTreeMap<i64, Sequences>, partition: i64, sequence: i64) -> bool {
    events
        .get(&partition)
        .is_some_and(|events| events.contains(sequence))
}

async fn read_rollups(table: &Table, count: &mut TenantCount) -> Result<(), LakeError> {
    let columns = ["metric", "window_start", "count", "sum", "min", "max"];
    table
        .scan(&columns, |rows| {
            for row in 0..rows.rows() {
                count.rollup_rows += 1;
                let number = |column| rows.f64(column, row).unwrap_or(f64::NAN);
                let part = Total {
                    count: rows.i64(2, row).unwrap_or(0),
                    sum: number(3),
                    min: number(4),
                    max: number(5),
                };
                let metric = rows.text(0, row).unwrap_or("");
                add(
                    &mut count.from_rollups,
                    metric,
                    rows.timestamp_us(1, row).unwrap_or(0),
                    &part,
                );
            }
        })
        .await
}

fn add(totals: &mut Totals, metric: &str, window: i64, part: &Total) {
    totals
        .entry((metric.to_owned(), window))
        .or_insert(Total::NONE)
        .add(part);
}

fn position(rows: &Columns, row: usize) -> (i64, i64) {
    (
        rows.i64(0, row).unwrap_or(-1),
        rows.i64(1, row).unwrap_or(-1),
    )
}
