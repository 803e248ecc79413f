//! The suite on a store in memory and on local files.

use std::time::Duration;

use stamp_lake::faults::Fault;
use stamp_lake::{Lake, LakeError, StoreConfig, Table};
use stamp_model::TenantId;
use tokio::runtime::Handle;
use tokio::time::timeout;

fn memory() -> Lake {
    Lake::open(&StoreConfig::new("memory:"), Handle::current()).unwrap()
}

struct Files {
    lake: Lake,
    _folder: tempfile::TempDir,
}

fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    // A space, a letter beyond ASCII and a folder that is not there yet.
    let root = url::Url::from_directory_path(folder.path().join("a b/länge/lake")).unwrap();
    let lake = Lake::open(&StoreConfig::new(root.as_str()), Handle::current()).unwrap();
    Files {
        lake,
        _folder: folder,
    }
}

macro_rules! promises {
    ($($area:ident :: $promise:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::suite::$area::$promise(&super::memory()).await;
            })*

            /// The blocking work needs no second runtime thread, so simulations can use it.
            #[tokio::test(start_paused = true)]
            async fn all_promises_hold_on_one_thread_with_a_paused_clock() {
                crate::suite::tables::all(&super::memory()).await;
                crate::suite::checkpoints::all(&super::memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_two_writers_at_once_one_must_read_again() {
                crate::suite::checkpoints::all_with_compare_and_set(&super::memory()).await;
            }
        }

        mod on_local_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::suite::$area::$promise(&super::files().lake).await;
            })*

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn all_promises_hold_side_by_side() {
                let files = super::files();
                crate::suite::tables::all(&files.lake).await;
                crate::suite::checkpoints::all(&files.lake).await;
            }
        }
    };
}

promises!(
    tables::a_new_table_has_no_rows_and_no_marks,
    tables::rows_and_their_mark_become_visible_together,
    tables::a_mark_never_stays_or_goes_back,
    tables::a_commit_after_a_stale_version_does_nothing,
    tables::putting_the_same_file_again_is_harmless,
    tables::a_grown_schema_adds_nullable_columns,
    tables::a_column_keeps_its_type_and_unit,
    tables::eight_writers_write_every_row_once,
    tables::two_writers_of_the_same_rows_write_them_once,
    tables::sequences_are_found_by_range,
    tables::a_log_checkpoint_keeps_rows_and_marks,
    tables::a_lost_commit_reply_is_found_by_reading,
    tables::a_refused_commit_is_unknown_and_reading_finds_nothing,
    tables::a_lost_create_reply_is_found_by_loading_again,
    tables::a_failed_load_changes_nothing,
    tables::a_mark_alone_can_be_committed,
    tables::every_table_of_a_lake_takes_rows,
    checkpoints::a_checkpoint_only_moves_forward,
    checkpoints::a_hub_that_was_made_again_starts_its_checkpoint_again,
    checkpoints::names_are_in_lower_case_and_groups_are_apart,
    checkpoints::a_lost_reply_is_unknown_and_found_by_reading,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ownership_keeps_its_promises_in_memory() {
    crate::suite::ownerships::all(&memory()).await;
}

#[tokio::test]
async fn ownership_is_refused_where_nothing_can_be_compared_and_set() {
    let files = files();
    let error = files.lake.ownerships("n", "h", "g").unwrap_err();
    assert!(
        matches!(&error, LakeError::Config { key: "url", reason } if reason.contains("one process only")),
        "{error:?}"
    );
}

fn rejected(lake: &Lake, tenant: &str) -> Table {
    lake.tenant(&TenantId::parse(tenant).unwrap()).rejected()
}

/// Each load holds a thread and needs another one for its requests.
#[test]
fn more_tables_at_once_than_the_runtime_has_threads_are_all_loaded() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(300)
        .build()
        .unwrap();
    runtime.block_on(async {
        let Files { lake, _folder } = files();
        let mut loads = tokio::task::JoinSet::new();
        for number in 0..600 {
            let table = rejected(&lake, &format!("t-{number}"));
            loads.spawn(async move { table.load().await });
        }
        while let Some(loaded) = loads.join_next().await {
            assert_eq!(loaded.unwrap().unwrap().version(), 0);
        }
    });
}

/// An attempt that is given up leaves its thread waiting.
#[test]
fn a_table_whose_store_hangs_takes_few_of_the_threads_that_all_tables_have() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Files { lake, _folder } = files();
        let lake = lake.with_faults(|request| {
            if request.path.contains("/hangs/") {
                Fault::Hang
            } else {
                Fault::None
            }
        });
        let hangs = rejected(&lake, "hangs");
        for _ in 0..100 {
            let given_up = timeout(Duration::ZERO, hangs.load()).await;
            assert!(given_up.is_err(), "{given_up:?}");
        }
        let loaded = rejected(&lake, "answers").load().await.unwrap();
        assert_eq!(loaded.version(), 0);
    });
    // Who hangs is not waited for.
    runtime.shutdown_background();
}
