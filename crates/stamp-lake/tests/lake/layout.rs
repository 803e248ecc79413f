//! Nothing of a tenant is ever read or written outside its root.

use std::sync::{Arc, Mutex};

use crate::suite::{encoded, mark, partition, put_all};
use proptest::prelude::*;
use stamp_lake::{Lake, StoreConfig, Table};
use stamp_model::{FieldKind, PartitionId, Shape, TenantId};

fn any_tenant() -> impl Strategy<Value = TenantId> {
    let hostile = prop::sample::select(vec![
        "quarantine",
        "gaps",
        "readings",
        "stamp",
        "probe",
        "checkpoint",
        "delta-log",
        "0",
    ]);
    prop_oneof![
        hostile.prop_map(str::to_owned),
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    ]
    .prop_map(|text| TenantId::parse(&text).unwrap())
}

/// Runs `work` on a lake and returns every key it asked the store for.
fn asked<F: Future<Output = ()>>(work: impl FnOnce(Lake) -> F) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let lake = Lake::open(&StoreConfig::new("memory:"), runtime.handle().clone()).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        work(lake.with_faults(move |request| {
            log.lock().unwrap().push(request.path.to_owned());
            stamp_lake::faults::Fault::None
        }))
        .await;
        seen.lock().unwrap().clone()
    })
}

/// Loads, puts, appends and reads back. What the table takes does not matter here.
async fn use_table(table: Table, number: PartitionId) {
    let at = table.load().await.unwrap();
    let files = put_all(&table, &encoded(number, 0..3)).await;
    let _schema_may_not_fit = table.append(&at, files, &[mark(number, 2)]).await;
    table.scan(&["partition"], |_| {}).await.unwrap();
    table.load().await.unwrap();
}

fn check(paths: &[String], root: &str) {
    assert!(paths.len() > 3, "{paths:?}");
    for path in paths {
        let inside = path
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        assert!(inside, "{path} is outside {root}");
        assert!(
            !path.split('/').any(|part| part == ".." || part == "."),
            "{path}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tenants_tables_stay_below_its_root(
        tenant in any_tenant(),
        number in (0_u32..1_024).prop_map(partition),
        which in 0_usize..3,
    ) {
        let name = ["readings", "rollups", "rejected"][which];
        let paths = asked(|lake| {
            let root = lake.tenant(&tenant);
            let table = match which {
                0 => root.readings(&crate::suite::shape()),
                1 => root.rollups(),
                _ => root.rejected(),
            };
            use_table(table, number)
        });
        check(&paths, &format!("{tenant}/{name}"));
    }

    #[test]
    fn a_field_name_never_becomes_part_of_a_path(name in "\\PC{1,20}") {
        let shape = Shape { fields: vec![crate::suite::field(&name, FieldKind::F64)] };
        let paths = asked(|lake| async move {
            let table = lake.tenant(&crate::suite::tenant("acme")).readings(&shape);
            // A name that cannot be a column is refused; that is another promise's business.
            let _loaded = table.load().await;
        });
        for path in &paths {
            prop_assert!(path.starts_with("acme/readings"), "{path}");
        }
    }

    #[test]
    fn checkpoints_stay_below_their_group(names in prop::array::uniform3("\\PC{1,12}|\\.\\.|\\.|a/b|%2e%2e")) {
        let paths = asked(|lake| async move {
            let group = lake.checkpoints(&names[0], &names[1], &names[2]);
            let to = stamp_lake::Checkpoint { sequence: 1, offset: "7".into(), hub_created_at_ms: None };
            group.advance(partition(9), &to).await.unwrap();
            assert_eq!(group.read(partition(9)).await.unwrap(), Some(to));
        });
        for path in &paths {
            let parts: Vec<_> = path.split('/').collect();
            prop_assert_eq!(parts.len(), 5, "{}", path);
            prop_assert_eq!(&parts[3..], ["checkpoint", "9"]);
            prop_assert!(!parts.contains(&"..") && !parts.contains(&"."), "{path}");
        }
    }
}

#[test]
fn the_stamps_tables_are_where_no_tenant_can_be() {
    let paths = asked(|lake| async move {
        use_table(lake.stamp().quarantine(), partition(0)).await;
    });
    check(&paths, "_stamp/quarantine");
    let paths = asked(|lake| async move { use_table(lake.stamp().gaps(), partition(0)).await });
    check(&paths, "_stamp/gaps");
    assert!(TenantId::parse("_stamp").is_err());
}
