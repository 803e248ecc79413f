//! Whatever a device writes, no row of it lands in another tenant's root.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use stamp_lake::faults::{Fault, RequestKind};
use stamp_model::{Event, TenantId};

use crate::P0;
use crate::support::{Stamp, TENANTS, event, hub, partition};

/// Ids that look like a device of `alpha` or `beta`, and those that are.
const IDS: [&str; 18] = [
    "a-1",
    "b-1",
    "a-beta",
    "b-alpha",
    "A-1",
    "B-1",
    " a-1",
    "a\u{200b}-1",
    // Cyrillic letters, a full-width one and another hyphen.
    "\u{430}-1",
    "\u{432}-1",
    "\u{ff41}-1",
    "a\u{2010}1",
    "../beta/readings/x",
    "a-/../../beta/x",
    "a-%2e%2e%2fbeta",
    "a-\\..\\beta",
    "a-1\u{0}b-1",
    "",
];

/// What a device may set: its own properties, under every name that means something to somebody.
fn properties() -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all = vec![vec![]];
    for name in [
        "tenant",
        "Tenant",
        "iothub-connection-device-id",
        "IoTHub-Connection-Device-Id",
        "iothub-message-source",
        "hub-tenant",
        "x-opt-sequence-number",
    ] {
        for value in ["beta", "b-1", "../beta", "alpha"] {
            all.push(vec![(name, value)]);
        }
    }
    all
}

const BODIES: [&str; 3] = [
    r#"{"value":1,"tenant":"beta","deviceId":"b-1"}"#,
    r#"{"iothub-connection-device-id":"b-1","value":"warm"}"#,
    r#"[{"value":1},{"value":2,"device_id":"b-1","path":"../beta"}]"#,
];

/// The tenant by the one thing that counts, as the text says it and no more.
fn owner(id: &str) -> Option<&'static str> {
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.%_".contains(&byte));
    match id.get(..2) {
        Some("a-") if plain => Some("alpha"),
        Some("b-") if plain => Some("beta"),
        _ => None,
    }
}

async fn devices(stamp: &Stamp, tenant: &str, table: &str) -> BTreeMap<String, u64> {
    let root = stamp.lake.tenant(&TenantId::parse(tenant).unwrap());
    let shape = stamp_model::Shape::default();
    let table = match table {
        "readings" => root.readings(&shape),
        _ => root.rejected(),
    };
    let mut found = BTreeMap::new();
    let mut events = std::collections::BTreeSet::new();
    table
        .scan(&["device_id", "sequence"], |rows| {
            for row in 0..rows.rows() {
                // A batch has several rows.
                if events.insert(rows.i64(1, row)) {
                    *found
                        .entry(rows.text(0, row).unwrap().to_owned())
                        .or_default() += 1;
                }
            }
        })
        .await
        .unwrap();
    found
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_device_writes_moves_its_rows_to_another_tenant() {
    let hub = hub(1);
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    let mut last = -1;
    for id in IDS {
        for properties in properties() {
            for body in BODIES {
                let event = Event {
                    properties: properties
                        .iter()
                        .map(|&(name, value)| (name.into(), value.into()))
                        .collect(),
                    ..event(id, body.into())
                };
                hub.append(partition(P0), event);
                *sent.entry(id).or_default() += 1;
                last += 1;
            }
        }
    }
    let mut stamp = Stamp::new(&hub);
    let whole = stamp.lake.clone();
    let written = Arc::new(Mutex::new(Vec::new()));
    for tenant in TENANTS {
        let log = written.clone();
        let lake = whole.with_faults(move |request| {
            if matches!(request.kind, RequestKind::Create | RequestKind::Write) {
                log.lock().unwrap().push((tenant, request.path.to_owned()));
            }
            Fault::None
        });
        stamp.tenant_lakes.insert(tenant, lake);
    }

    let running = stamp.start().await;
    running.until_settled(last).await;
    running.stop().await.unwrap();

    let mut in_tables = 0;
    for tenant in TENANTS {
        let mut found = devices(&stamp, tenant, "readings").await;
        for (id, count) in devices(&stamp, tenant, "rejected").await {
            *found.entry(id).or_default() += count;
        }
        let wanted = sent.iter().filter(|(id, _)| owner(id) == Some(tenant));
        let wanted: BTreeMap<String, u64> =
            wanted.map(|(&id, &count)| (id.to_owned(), count)).collect();
        assert_eq!(found, wanted, "{tenant}");
        in_tables += found.values().sum::<u64>();
    }
    let mut kept = 0;
    for reason in ["no_device", "bad_device_id", "unknown_tenant"] {
        kept += stamp.quarantined(reason).await.len();
    }
    assert_eq!(in_tables + kept as u64, sent.values().sum::<u64>());
    let written = written.lock().unwrap();
    assert!(written.len() > 6, "{written:?}");
    for (tenant, path) in written.iter() {
        assert!(
            path.starts_with(&format!("{tenant}/")),
            "{path} of {tenant}"
        );
        assert!(!path.contains(".."), "{path}");
    }
}
