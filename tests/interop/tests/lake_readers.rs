//! Readers that nobody here wrote agree on a lake, and the documented view merges its rollups.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::Duration;

use stamp_interop::{Language, run_script};
use stamp_lake::{EncodeOptions, Lake, StoreConfig, Table, encode_readings, encode_rollups};
use stamp_model::{
    AppId, FieldDef, FieldKind, HubIdentity, Mark, PartitionId, Readings, RollupRows, Shape,
    StampId, TenantId, Values,
};

const SCRIPT_MAX: Duration = Duration::from_secs(120);
const TABLES: &str = include_str!("../../../docs/tables.md");

fn partition() -> PartitionId {
    PartitionId::new(0).unwrap()
}

fn mark(sequence: i64) -> Mark {
    let hub = HubIdentity {
        namespace: "contoso.servicebus.windows.net".into(),
        hub: "telemetry".into(),
        created_at_ms: 1,
    };
    Mark {
        app: AppId::new(&StampId::parse("s").unwrap(), &hub, partition()),
        sequence,
    }
}

/// One value of a device: what rollups are made of.
#[derive(Debug, Clone, Copy)]
struct Sample {
    value: f64,
    ts_us: i64,
    sequence: i64,
}

/// Large values that differ little, with equal times among them.
fn samples(count: i64) -> Vec<Sample> {
    (0..count)
        .map(|sequence| Sample {
            value: 1.0e6 + f64::from(u32::try_from(sequence * 7_919 % 31).unwrap()) / 8.0,
            ts_us: sequence * 5 % 7 * 1_000,
            sequence,
        })
        .collect()
}

fn partial(device: &str, samples: &[Sample]) -> RollupRows {
    let fold = |pick: fn(f64, f64) -> f64| samples.iter().map(|s| s.value).reduce(pick).unwrap();
    let count = i64::try_from(samples.len()).unwrap();
    let sum: f64 = samples.iter().map(|s| s.value).sum();
    let mean = sum / f64::from(i32::try_from(count).unwrap());
    let first = samples
        .iter()
        .min_by_key(|s| (s.ts_us, s.sequence))
        .unwrap();
    let last = samples
        .iter()
        .max_by_key(|s| (s.ts_us, s.sequence))
        .unwrap();
    let mut rows = RollupRows {
        window_s: 60,
        window_start_us: vec![0],
        count: vec![count],
        sum: vec![sum],
        min: vec![fold(f64::min)],
        max: vec![fold(f64::max)],
        first: vec![first.value],
        first_ts_us: vec![first.ts_us],
        last: vec![last.value],
        last_ts_us: vec![last.ts_us],
        m2: vec![samples.iter().map(|s| (s.value - mean).powi(2)).sum()],
        late_count: vec![1],
        sequence_first: vec![samples[0].sequence],
        sequence_last: vec![samples[samples.len() - 1].sequence],
        ..RollupRows::default()
    };
    rows.device.push(rows.devices.intern(device));
    rows.metric.push(rows.metrics.intern("temp"));
    rows
}

async fn write_rollups(table: &Table, parts: &[RollupRows]) {
    let mut at = table.load().await.unwrap();
    for (part, sequence) in parts.iter().zip(0..) {
        let file = &encode_rollups(part, &EncodeOptions::default()).unwrap()[0];
        let file = table.put(file).await.unwrap();
        at = table
            .append(&at, vec![file], &[mark(sequence)])
            .await
            .unwrap();
    }
}

/// 300 readings over two days in two commits, and a file that no commit names.
async fn write_readings(lake: &Lake, tenant: &TenantId) {
    let field = FieldDef {
        name: "temp".into(),
        kind: FieldKind::F64,
        unit: Some("Cel".into()),
        required: true,
        rollup: true,
    };
    let shape = Shape {
        fields: vec![field],
    };
    let table = lake.tenant(tenant).readings(&shape);
    let mut at = table.load().await.unwrap();
    for (start, committed) in [(0, true), (100, true), (200, true), (300, false)] {
        let mut rows = Readings::new(&shape, partition());
        for sequence in start..start + 100 {
            rows.device.push(rows.devices.intern("press-7"));
            rows.ts_us
                .push(1_795_478_400_000_000 + sequence * 500_000_123);
            rows.enqueued_at_us.push(1_795_478_400_000_000);
            rows.late.push(false);
            rows.clock_suspect.push(false);
            rows.sequence.push(sequence);
            if let Values::F64(values) = &mut rows.columns[0].values {
                values.push(f64::from(i32::try_from(sequence).unwrap()) / 4.0);
            }
        }
        let order: Vec<u32> = (0..100).collect();
        let files = encode_readings(&shape, &rows, &order, &EncodeOptions::default()).unwrap();
        let mut put = Vec::new();
        for file in &files {
            put.push(table.put(file).await.unwrap());
        }
        if committed {
            at = table.append(&at, put, &[mark(start + 99)]).await.unwrap();
        }
    }
}

/// The fenced block of docs/tables.md that is the view for DuckDB.
fn merge_view() -> &'static str {
    let (_, after) = TABLES.split_once("```sql merge-view\n").unwrap();
    after.split_once("```").unwrap().0
}

fn is_close(found: &serde_json::Value, expected: f64) -> bool {
    let found = found.as_f64().unwrap();
    (found - expected).abs() <= 1.0e-9 * expected.abs().max(1.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_agree_and_the_documented_view_merges_partials() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let config = StoreConfig::new(url);
    let lake = Lake::open(&config, tokio::runtime::Handle::current()).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    write_readings(&lake, &tenant).await;
    let (many, one) = (samples(40), samples(1));
    let mut parts: Vec<_> = [&many[..7], &many[7..8], &many[8..21], &many[21..]]
        .map(|part| partial("many", part))
        .into();
    parts.push(partial("one", &one));
    write_rollups(&lake.tenant(&tenant).rollups(), &parts).await;
    let view = folder.path().join("merge-view.sql");
    std::fs::write(&view, merge_view()).unwrap();

    let root = folder.path().join("acme");
    let args = [root.to_str().unwrap(), view.to_str().unwrap()];
    let answer = run_script(
        Language::Python,
        "scripts/lake_readers.py",
        &args,
        SCRIPT_MAX,
    );

    let sum: f64 = (0..300).map(|sequence| f64::from(sequence) / 4.0).sum();
    for reader in ["pyarrow", "polars", "duckdb"] {
        assert_eq!(answer[reader][0], 300, "{reader}: {answer}");
        assert!(is_close(&answer[reader][1], sum), "{reader}: {answer}");
    }
    assert_eq!(answer["deltalake"][0], 300, "{answer}");
    assert_eq!(answer["unit"], "Cel", "{answer}");

    let whole = partial("many", &many);
    let merged = &answer["merged"][0];
    assert_eq!(merged[0], "many", "{answer}");
    assert_eq!(merged[1], 40, "{answer}");
    for (place, expected) in [
        (2, whole.sum[0]),
        (3, whole.sum[0] / 40.0),
        (4, whole.min[0]),
        (5, whole.max[0]),
        (6, whole.first[0]),
        (8, whole.last[0]),
        (10, whole.m2[0]),
        (11, whole.m2[0] / 39.0),
    ] {
        assert!(
            is_close(&merged[place], expected),
            "{place}: {expected} in {answer}"
        );
    }
    assert_eq!(merged[7], whole.first_ts_us[0], "{answer}");
    assert_eq!(merged[9], whole.last_ts_us[0], "{answer}");
    assert_eq!(
        (&merged[12], &merged[13], &merged[14]),
        (&4.into(), &0.into(), &39.into())
    );
    assert!(
        answer["merged"][1][11].is_null(),
        "the variance of one value: {answer}"
    );
}
