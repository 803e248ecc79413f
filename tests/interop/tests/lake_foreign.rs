//! Another Delta engine works on a table between our commits: rows and marks stay.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stamp_interop::{Language, run_script};
use stamp_lake::{EncodeOptions, Lake, LakeError, Snapshot, StoreConfig, Table, encode_readings};
use stamp_model::{
    AppId, FieldDef, FieldKind, HubIdentity, Mark, PartitionId, Readings, Shape, StampId, TenantId,
    Values,
};

const SCRIPT_MAX: Duration = Duration::from_secs(120);
/// Rows of one commit of ours.
const ROWS: i64 = 50;

fn partition() -> PartitionId {
    PartitionId::new(0).unwrap()
}

fn app() -> AppId {
    let hub = HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1,
    };
    AppId::new(&StampId::parse("s").unwrap(), &hub, partition())
}

fn shape() -> Shape {
    let field = FieldDef {
        name: "temp".into(),
        kind: FieldKind::F64,
        unit: None,
        required: true,
        rollup: true,
    };
    Shape {
        fields: vec![field],
    }
}

struct Stamp {
    folder: tempfile::TempDir,
    table: Table,
}

impl Stamp {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path());
        Self { folder, table }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("acme/readings")
    }

    /// Appends rows `first..first + ROWS` and their mark after `at`.
    async fn append(&self, at: &Snapshot, first: i64) -> Result<Snapshot, LakeError> {
        let mut rows = Readings::new(&shape(), partition());
        for sequence in first..first + ROWS {
            rows.device.push(rows.devices.intern("press-7"));
            rows.ts_us.push(1_795_478_400_000_000 + sequence);
            rows.enqueued_at_us.push(1_795_478_400_000_000);
            rows.late.push(false);
            rows.clock_suspect.push(false);
            rows.sequence.push(sequence);
            if let Values::F64(values) = &mut rows.columns[0].values {
                values.push(0.5);
            }
        }
        let order: Vec<u32> = (0..u32::try_from(ROWS).unwrap()).collect();
        let files = encode_readings(&shape(), &rows, &order, &EncodeOptions::default()).unwrap();
        let mut put = Vec::new();
        for file in &files {
            put.push(self.table.put(file).await?);
        }
        let mark = Mark {
            app: app(),
            sequence: first + ROWS - 1,
        };
        self.table.append(at, put, &[mark]).await
    }

    /// The other engine does `actions`, one after the other.
    fn foreign(&self, actions: &[&str]) -> serde_json::Value {
        let path = self.path();
        let mut arguments = vec![path.to_str().unwrap()];
        arguments.extend(actions);
        run_script(
            Language::Python,
            "scripts/lake_foreign.py",
            &arguments,
            SCRIPT_MAX,
        )
    }
}

/// As a process that has never seen the table.
fn table(folder: &Path) -> Table {
    let config = StoreConfig::new(format!("file://{}", folder.display()));
    let lake = Lake::open(&config, tokio::runtime::Handle::current()).unwrap();
    lake.tenant(&TenantId::parse("acme").unwrap())
        .readings(&shape())
}

async fn sequences(table: &Table) -> BTreeSet<i64> {
    let found = table.sequences(partition(), -1, i64::MAX).await.unwrap();
    found.ascending().collect()
}

/// Fault scenarios 48 and 50.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_that_appends_and_compacts_costs_one_conflict_and_no_row_and_no_mark() {
    let stamp = Stamp::new();
    let mut at = stamp.table.load().await.unwrap();
    for first in [0, ROWS, 2 * ROWS] {
        at = stamp.append(&at, first).await.unwrap();
    }

    let answer = stamp.foreign(&["append", "compact"]);
    assert_eq!(answer["rows"], 3 * ROWS + 1, "{answer}");
    assert_eq!(answer["files"], 1, "compacted: {answer}");
    let late = stamp.append(&at, 3 * ROWS).await.unwrap_err();
    assert!(matches!(late, LakeError::Conflict { .. }), "{late:?}");

    let at = stamp.table.load().await.unwrap();
    assert_eq!(at.mark(&app()), Some(3 * ROWS - 1));
    stamp.append(&at, 3 * ROWS).await.unwrap();
    assert_eq!(sequences(&stamp.table).await, (0..4 * ROWS).collect());
    assert_eq!(
        stamp.table.count().await.unwrap(),
        u64::try_from(4 * ROWS + 1).unwrap()
    );
}

/// Fault scenario 48.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_outlive_a_log_that_another_engine_checkpointed_and_cut() {
    let stamp = Stamp::new();
    let mut at = stamp.table.load().await.unwrap();
    for first in [0, ROWS, 2 * ROWS] {
        at = stamp.append(&at, first).await.unwrap();
    }

    stamp.foreign(&["compact", "forget-log", "vacuum"]);
    let first_entry = stamp.path().join("_delta_log/00000000000000000001.json");
    assert!(!first_entry.exists(), "the log was not cut");

    for table in [stamp.table.clone(), table(stamp.folder.path())] {
        let at = table.load().await.unwrap();
        assert_eq!(at.mark(&app()), Some(3 * ROWS - 1));
    }
    let at = stamp.table.load().await.unwrap();
    stamp.append(&at, 3 * ROWS).await.unwrap();
    assert_eq!(sequences(&stamp.table).await, (0..4 * ROWS).collect());
}

/// Fault scenario 49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_file_that_somebody_removed_is_named_and_stops_no_append() {
    let stamp = Stamp::new();
    let at = stamp.table.load().await.unwrap();
    let at = stamp.append(&at, 0).await.unwrap();
    let day = stamp.path().join("date=2026-11-24");
    let file = std::fs::read_dir(&day).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(file.path()).unwrap();

    let error = stamp.table.count().await.unwrap_err();
    let told = format!("{error} {:?}", std::error::Error::source(&error));
    let name = file.file_name().into_string().unwrap();
    assert!(told.contains(&name), "{told}");

    let at = stamp.append(&at, ROWS).await.unwrap();
    assert_eq!(at.mark(&app()), Some(2 * ROWS - 1));
}
