//! Reads the tables of a demo stamp back and compares them with the senders' ledger.
//!
//! Nothing of the running service is asked: only files count, as any reader would see them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use stamp_lake::{Lake, LakeError};
use stamp_model::TenantId;
use stamp_schema::Schema;

use crate::demo::fleet::Customer;
use crate::demo::ledger::{Expected, Ledger, Total};
use crate::exit::Failure;
use crate::output;

/// Length of the demo's rollup windows, in microseconds: the default of one minute.
const WINDOW_US: i64 = 60_000_000;

/// What was found in one tenant's tables, in the ledger's terms.
#[derive(Debug, Default, Serialize)]
struct Found {
    #[serde(flatten)]
    totals: Expected,
    rollup_rows: u64,
    windows: u64,
}

/// What was found for one stamp.
#[derive(Debug, Serialize)]
pub(crate) struct StampReport {
    stamp: &'static str,
    sent: u64,
    found: u64,
    tenants: BTreeMap<&'static str, Found>,
    expected: BTreeMap<&'static str, Expected>,
    quarantine: BTreeMap<String, u64>,
    /// One line each; empty when everything agrees.
    differences: Vec<String>,
}

impl StampReport {
    pub(crate) fn differences(&self) -> u64 {
        self.differences.len() as u64
    }
}

/// Distinct events over all tables of a stamp: an event may be in one table only.
#[derive(Default)]
struct Events {
    seen: HashSet<(i64, i64)>,
    twice: u64,
}

impl Events {
    /// Counts an event of which a table may have several rows.
    fn in_table(&mut self, table: &mut HashSet<(i64, i64)>, event: (i64, i64)) {
        if table.insert(event) && !self.seen.insert(event) {
            self.twice += 1;
        }
    }

    /// Counts an event of which a table has one row.
    fn one_row(&mut self, event: (i64, i64)) {
        if !self.seen.insert(event) {
            self.twice += 1;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    total: Total,
    min: f64,
    max: f64,
}

impl Window {
    const NONE: Self = Self {
        total: Total { count: 0, sum: 0.0 },
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    fn agrees(&self, other: &Self) -> bool {
        self.total.agrees(&other.total) && self.min == other.min && self.max == other.max
    }
}

/// By device, metric and start of the window.
type Windows = BTreeMap<(String, String, i64), Window>;

/// Compares the tables of a stamp with its ledger.
pub(crate) async fn verify(
    stamp: &'static str,
    ledger: &Ledger,
    lake: &Lake,
    tenants: &[(TenantId, Customer)],
) -> Result<StampReport, LakeError> {
    let mut events = Events::default();
    let mut report = StampReport {
        stamp,
        sent: ledger.sent,
        found: 0,
        tenants: BTreeMap::new(),
        expected: ledger.tenants.clone(),
        quarantine: BTreeMap::new(),
        differences: Vec::new(),
    };
    for (tenant, customer) in tenants {
        let mut found = Found::default();
        let windows =
            read_readings(lake, tenant, *customer, &mut events, &mut found.totals).await?;
        let merged = read_rollups(lake, tenant, &mut found.rollup_rows).await?;
        read_rejected(lake, tenant, &mut events, &mut found.totals).await?;
        found.windows = windows.len() as u64;
        let expected = ledger
            .tenants
            .get(customer.name())
            .cloned()
            .unwrap_or_default();
        compare(
            customer.name(),
            &expected,
            &found.totals,
            &mut report.differences,
        );
        compare_windows(customer.name(), &windows, &merged, &mut report.differences);
        report.tenants.insert(customer.name(), found);
    }
    read_quarantine(lake, &mut events, &mut report.quarantine).await?;
    report.found = events.seen.len() as u64;
    finish(ledger, &events, &mut report);
    Ok(report)
}

fn finish(ledger: &Ledger, events: &Events, report: &mut StampReport) {
    let expected: BTreeMap<String, u64> = ledger
        .quarantine
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect();
    if report.quarantine != expected {
        let line = format!(
            "quarantine: sent {expected:?}, found {:?}",
            report.quarantine
        );
        report.differences.push(line);
    }
    if report.found != report.sent {
        report.differences.push(format!(
            "events: sent {}, found {}",
            report.sent, report.found
        ));
    }
    if events.twice > 0 {
        report.differences.push(format!(
            "events: {} are in more than one table",
            events.twice
        ));
    }
}

async fn read_readings(
    lake: &Lake,
    tenant: &TenantId,
    customer: Customer,
    events: &mut Events,
    found: &mut Expected,
) -> Result<Windows, LakeError> {
    let schema = Schema::parse(customer.schema()).expect("the demo's schemas are tested");
    let shape = schema.shape();
    let metrics: Vec<&str> = shape
        .fields
        .iter()
        .filter(|f| f.rollup)
        .map(|f| f.name.as_str())
        .collect();
    let fixed = [
        "partition",
        "sequence",
        "late",
        "clock_suspect",
        "device_id",
        "ts",
        "enqueued_at",
    ];
    let columns: Vec<&str> = fixed
        .iter()
        .copied()
        .chain(metrics.iter().copied())
        .collect();
    let mut windows = Windows::new();
    let mut table = HashSet::new();
    let yes = |value: stamp_lake::Value<'_>| u64::from(value == stamp_lake::Value::Bool(true));
    lake.tenant(tenant)
        .readings(shape)
        .scan(&columns, |rows| {
            for row in 0..rows.rows() {
                found.rows += 1;
                events.in_table(&mut table, position(rows, row, 0, 1));
                found.late += yes(rows.value(2, row));
                let suspect = yes(rows.value(3, row));
                found.clock_suspect += suspect;
                let time = rows
                    .timestamp_us(if suspect == 1 { 6 } else { 5 }, row)
                    .unwrap_or(0);
                let start = time.div_euclid(WINDOW_US) * WINDOW_US;
                let device = rows.text(4, row).unwrap_or("");
                for (at, metric) in metrics.iter().enumerate() {
                    if let Some(value) = rows.f64(fixed.len() + at, row) {
                        let key = (device.to_owned(), (*metric).to_owned(), start);
                        let window = windows.entry(key).or_insert(Window::NONE);
                        window.total.add(value);
                        window.min = window.min.min(value);
                        window.max = window.max.max(value);
                        if let Some(known) = metric_name(customer, metric) {
                            found.metrics.entry(known).or_default().add(value);
                        }
                    }
                }
            }
        })
        .await?;
    found.events = table.len() as u64;
    Ok(windows)
}

/// The ledger's own spelling of a metric, which lives as long as the program.
fn metric_name(customer: Customer, metric: &str) -> Option<&'static str> {
    customer
        .metrics()
        .iter()
        .copied()
        .find(|name| *name == metric)
}

fn position(
    rows: &stamp_lake::Columns,
    row: usize,
    partition: usize,
    sequence: usize,
) -> (i64, i64) {
    (
        rows.i64(partition, row).unwrap_or(-1),
        rows.i64(sequence, row).unwrap_or(-1),
    )
}

async fn read_rollups(
    lake: &Lake,
    tenant: &TenantId,
    partials: &mut u64,
) -> Result<Windows, LakeError> {
    let columns = [
        "device_id",
        "metric",
        "window_start",
        "count",
        "sum",
        "min",
        "max",
    ];
    let mut windows = Windows::new();
    lake.tenant(tenant)
        .rollups()
        .scan(&columns, |rows| {
            for row in 0..rows.rows() {
                *partials += 1;
                let text = |column| rows.text(column, row).unwrap_or("").to_owned();
                let number = |column| rows.f64(column, row).unwrap_or(f64::NAN);
                let key = (text(0), text(1), rows.timestamp_us(2, row).unwrap_or(0));
                let window = windows.entry(key).or_insert(Window::NONE);
                window.total.count += u64::try_from(rows.i64(3, row).unwrap_or(0)).unwrap_or(0);
                window.total.sum += number(4);
                window.min = window.min.min(number(5));
                window.max = window.max.max(number(6));
            }
        })
        .await?;
    Ok(windows)
}

async fn read_rejected(
    lake: &Lake,
    tenant: &TenantId,
    events: &mut Events,
    found: &mut Expected,
) -> Result<(), LakeError> {
    lake.tenant(tenant)
        .rejected()
        .scan(&["partition", "sequence", "reason"], |rows| {
            for row in 0..rows.rows() {
                events.one_row(position(rows, row, 0, 1));
                let reason = rows.text(2, row).unwrap_or("");
                *found.rejected.entry(reason_name(reason)).or_default() += 1;
            }
        })
        .await
}

/// A reason in a spelling that lives as long as the program; one that nobody knows is a difference.
fn reason_name(reason: &str) -> &'static str {
    let known = stamp_schema::RejectionCode::ALL
        .iter()
        .map(|code| code.code());
    known
        .into_iter()
        .find(|code| *code == reason)
        .unwrap_or("(unknown reason)")
}

async fn read_quarantine(
    lake: &Lake,
    events: &mut Events,
    found: &mut BTreeMap<String, u64>,
) -> Result<(), LakeError> {
    lake.stamp()
        .quarantine()
        .scan(&["partition", "sequence", "reason"], |rows| {
            for row in 0..rows.rows() {
                events.one_row(position(rows, row, 0, 1));
                *found
                    .entry(rows.text(2, row).unwrap_or("").to_owned())
                    .or_default() += 1;
            }
        })
        .await
}

fn compare(tenant: &str, sent: &Expected, found: &Expected, differences: &mut Vec<String>) {
    for (what, sent, found) in [
        ("events in readings", sent.events, found.events),
        ("rows in readings", sent.rows, found.rows),
        ("late rows", sent.late, found.late),
        (
            "rows with a suspect clock",
            sent.clock_suspect,
            found.clock_suspect,
        ),
    ] {
        if sent != found {
            differences.push(format!("{tenant}: {what}: sent {sent}, found {found}"));
        }
    }
    if sent.rejected != found.rejected {
        differences.push(format!(
            "{tenant}: rejected: sent {:?}, found {:?}",
            sent.rejected, found.rejected
        ));
    }
    let names: HashSet<_> = sent.metrics.keys().chain(found.metrics.keys()).collect();
    for name in names {
        let (sent, found) = (
            sent.metrics.get(name).copied().unwrap_or_default(),
            found.metrics.get(name).copied().unwrap_or_default(),
        );
        if !sent.agrees(&found) {
            differences.push(format!("{tenant}: {name}: sent {sent:?}, found {found:?}"));
        }
    }
}

fn compare_windows(
    tenant: &str,
    readings: &Windows,
    rollups: &Windows,
    differences: &mut Vec<String>,
) {
    /// A broken rollup breaks every window; a person needs to see a few.
    const LINES_MAX: usize = 5;
    let keys: HashSet<_> = readings.keys().chain(rollups.keys()).collect();
    let mut wrong = 0;
    for key in keys {
        let (ours, theirs) = (readings.get(key), rollups.get(key));
        if !matches!((ours, theirs), (Some(a), Some(b)) if a.agrees(b)) {
            wrong += 1;
            if wrong <= LINES_MAX {
                differences.push(format!(
                    "{tenant}: window {key:?}: readings say {ours:?}, rollups {theirs:?}"
                ));
            }
        }
    }
    if wrong > LINES_MAX {
        differences.push(format!("{tenant}: {wrong} windows differ in all"));
    }
}

pub(crate) fn print_json(reports: &[StampReport]) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(reports)
        .map_err(|cause| Failure::failed("cannot print the report", cause))?;
    output::line(&text);
    Ok(())
}

pub(crate) fn print(reports: &[StampReport], folder: &Path, took: Duration) {
    let sent: u64 = reports.iter().map(|report| report.sent).sum();
    output::line(&format!(
        "{sent} messages sent, read and committed in {:.1} s\n",
        took.as_secs_f64()
    ));
    output::line(
        "stamp  tenant      events sent  readings   (rows)  rejected  quarantine  rollup rows  windows",
    );
    for report in reports {
        for (tenant, found) in &report.tenants {
            let expected = report.expected.get(tenant).cloned().unwrap_or_default();
            let rejected: u64 = found.totals.rejected.values().sum();
            let sent = expected.events + expected.rejected.values().sum::<u64>();
            output::line(&format!(
                "{:<6} {tenant:<11} {sent:>11} {:>9} {:>8} {rejected:>9} {:>11} {:>12} {:>8}",
                report.stamp,
                found.totals.events,
                found.totals.rows,
                "-",
                found.rollup_rows,
                found.windows
            ));
        }
        let quarantined: u64 = report.quarantine.values().sum();
        output::line(&format!(
            "{:<6} {:<11} {:>11} {:>39}",
            report.stamp, "(no tenant)", quarantined, quarantined
        ));
        output::line(&format!(
            "{:<6} {:<11} {:>11}   found {}",
            report.stamp, "in all", report.sent, report.found
        ));
    }
    let differences: Vec<&String> = reports
        .iter()
        .flat_map(|report| &report.differences)
        .collect();
    output::line(&format!("\ndifference: {}", differences.len()));
    for line in &differences {
        output::line(&format!("  {line}"));
    }
    output::line(&format!("\ntables: {}", folder.display()));
    output::line("Query them with DuckDB:");
    output::line(&format!(
        "  duckdb -c \"SELECT device_id, count(*), avg(machine_temperature) FROM \
         read_parquet('{}/eu-1/tables/contoso/readings/date=*/*.parquet') GROUP BY 1 ORDER BY 1 LIMIT 10\"",
        folder.display()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        let mut ledger = Ledger::default();
        let rows = vec![vec![("speed", 10.0)]];
        ledger.note(
            "t",
            &crate::demo::ledger::Fate::Readings {
                rows,
                late: false,
                clock_suspect: false,
            },
        );
        ledger.note("t", &crate::demo::ledger::Fate::Rejected("missing_field"));
        ledger.tenants["t"].clone()
    }

    fn differences(change: impl Fn(&mut Expected)) -> usize {
        let (sent, mut found, mut lines) = (expected(), expected(), Vec::new());
        change(&mut found);
        compare("t", &sent, &found, &mut lines);
        lines.len()
    }

    #[test]
    fn equal_totals_make_no_difference_and_any_other_total_makes_one() {
        assert_eq!(differences(|_| {}), 0);
        assert_eq!(differences(|found| found.events += 1), 1);
        assert_eq!(differences(|found| found.rows = 0), 1);
        assert_eq!(differences(|found| found.late = 1), 1);
        assert_eq!(differences(|found| found.rejected.clear()), 1);
        assert_eq!(
            differences(|found| found.metrics.retain(|name, _| *name != "speed")),
            1
        );
        let other = ("other", Total { count: 1, sum: 0.0 });
        assert_eq!(differences(|found| found.metrics.extend([other])), 1);
    }

    #[test]
    fn an_event_in_two_tables_is_a_difference_and_two_rows_of_a_batch_are_none() {
        let mut events = Events::default();
        let mut readings = HashSet::new();
        events.in_table(&mut readings, (0, 1));
        events.in_table(&mut readings, (0, 1));
        assert_eq!((events.twice, events.seen.len()), (0, 1));

        events.one_row((0, 1));
        assert_eq!(events.twice, 1);
    }

    #[test]
    fn a_rollup_that_misses_a_window_is_a_difference() {
        let window = Window {
            total: Total { count: 1, sum: 2.0 },
            min: 2.0,
            max: 2.0,
        };
        let readings = Windows::from([(("d".into(), "m".into(), 0), window)]);
        let mut lines = Vec::new();
        compare_windows("t", &readings, &Windows::new(), &mut lines);
        compare_windows("t", &readings, &readings.clone(), &mut lines);
        assert_eq!(lines.len(), 1);
    }
}
