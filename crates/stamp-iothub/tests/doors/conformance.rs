//! What a program may rely on, whichever hub or DPS it talks to.

use serde_json::{Value, json};
use stamp_iothub::memory::{MemoryDps, MemoryIotHub};
use stamp_iothub::{
    Attestation, BulkMode, Device, DeviceRegistry, DeviceStatus, Enrollment, EnrollmentKind,
    ImportEntry, ImportMode, PageRequest, ProvisioningService, ServiceError,
};
use stamp_model::DeviceId;

use crate::emulated::Emulated;

const KEY: &str = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text.into()).unwrap()
}

async fn every_promise_of_a_hub(hub: &impl DeviceRegistry) {
    let press = id("press-7");
    let missing = hub.device(&press).await.unwrap_err();
    assert!(matches!(missing, ServiceError::NotFound(_)), "{missing}");
    assert_eq!(missing.refusal().unwrap().code, Some(404_001));

    let record = Device::record_of(&press, DeviceStatus::Enabled);
    let made = hub.create(&press, &record).await.unwrap();
    assert_eq!(
        (made.id.clone(), made.status),
        (press.clone(), DeviceStatus::Enabled)
    );
    let again = hub.create(&press, &record).await.unwrap_err();
    assert!(matches!(again, ServiceError::Exists(_)), "{again}");

    status_changes_only_with_the_right_etag(hub, &made).await;
    twins_change_only_with_the_right_etag(hub, &press).await;
    imports_do_what_they_can(hub).await;
    pages_have_everything_once(hub).await;

    let counted = hub.statistics().await.unwrap();
    assert_eq!(
        (counted.devices, counted.enabled, counted.disabled),
        (4, 3, 1)
    );
    let device = hub.device(&press).await.unwrap();
    let stale = hub.delete(&press, &made.etag).await.unwrap_err();
    assert!(matches!(stale, ServiceError::Changed(_)), "{stale}");
    hub.delete(&press, &device.etag).await.unwrap();
    let gone = hub.delete(&press, &device.etag).await.unwrap_err();
    assert!(matches!(gone, ServiceError::NotFound(_)), "{gone}");
    let anew = hub.create(&press, &record).await.unwrap();
    assert_ne!(
        anew.generation_id, made.generation_id,
        "registered again, another device"
    );
}

async fn status_changes_only_with_the_right_etag(hub: &impl DeviceRegistry, made: &Device) {
    let off = made.with_status(DeviceStatus::Disabled, "a move");
    let written = hub.update(&made.id, &made.etag, &off).await.unwrap();
    assert_eq!(written.status, DeviceStatus::Disabled);
    assert_ne!(written.etag, made.etag);
    let late = made.with_status(DeviceStatus::Enabled, "");
    let late = hub.update(&made.id, &made.etag, &late).await.unwrap_err();
    assert!(matches!(late, ServiceError::Changed(_)), "{late}");
    let read = hub.device(&made.id).await.unwrap();
    assert_eq!(read.status, DeviceStatus::Disabled);
    assert_eq!(read.status_reason(), Some("a move"));
    assert_eq!(read.generation_id, made.generation_id);
    // The same again is a change: whoever holds the older tag has lost.
    let same = read.with_status(DeviceStatus::Disabled, "a move");
    let same = hub.update(&made.id, &read.etag, &same).await.unwrap();
    assert_ne!(same.etag, read.etag);
}

async fn twins_change_only_with_the_right_etag(hub: &impl DeviceRegistry, device: &DeviceId) {
    let before = hub.twin(device).await.unwrap();
    let patch =
        json!({ "tags": { "site": "a", "line": 4 }, "properties": { "desired": { "rate": 5 } } });
    let after = hub.patch_twin(device, &before.etag, &patch).await.unwrap();
    assert_eq!(after.tags["site"], "a");
    assert_eq!(after.desired["rate"], 5);
    assert!(after.version > before.version);
    let stale = hub
        .patch_twin(device, &before.etag, &patch)
        .await
        .unwrap_err();
    assert!(matches!(stale, ServiceError::Changed(_)), "{stale}");
    let less = json!({ "tags": { "line": null } });
    let less = hub.patch_twin(device, &after.etag, &less).await.unwrap();
    assert_eq!(Value::from(less.tags), json!({ "site": "a" }));
}

async fn imports_do_what_they_can(hub: &impl DeviceRegistry) {
    let entry = |name: &str, mode| ImportEntry {
        id: id(name),
        mode,
        etag: None,
        status: DeviceStatus::Enabled,
        tags: Some(json!({ "site": "b" }).as_object().cloned().unwrap()),
    };
    let all = ["oven-1", "oven-2", "oven-3"].map(|name| entry(name, ImportMode::Create));
    assert_eq!(hub.import(&all).await.unwrap().problems, []);
    assert_eq!(hub.twin(&id("oven-1")).await.unwrap().tags["site"], "b");
    let stale = ImportEntry {
        etag: Some("none".to_owned()),
        ..entry("oven-2", ImportMode::UpdateIfMatch)
    };
    let mixed = [
        entry("oven-1", ImportMode::Create),
        stale,
        entry("oven-3", ImportMode::CreateOrUpdate),
    ];
    let answer = hub.import(&mixed).await.unwrap();
    let problems: Vec<&str> = answer
        .problems
        .iter()
        .map(|problem| problem.id.as_str())
        .collect();
    assert_eq!(problems, ["oven-1", "oven-2"]);
    let many = vec![all[0].clone(); ImportEntry::BULK_MAX + 1];
    let refused = hub.import(&many).await.unwrap_err();
    assert!(
        matches!(refused, ServiceError::BadConfig { .. }),
        "{refused}"
    );
}

async fn pages_have_everything_once(hub: &impl DeviceRegistry) {
    let mut found = Vec::new();
    let mut page = PageRequest {
        items_max: 3,
        continuation: None,
    };
    loop {
        let answer = hub.query("SELECT * FROM devices", &page).await.unwrap();
        assert!(answer.items.len() <= 3);
        let ids = answer
            .items
            .iter()
            .filter_map(|twin| twin["deviceId"].as_str());
        found.extend(ids.map(str::to_owned));
        page.continuation = answer.continuation;
        if page.continuation.is_none() {
            break;
        }
    }
    assert_eq!(found, ["oven-1", "oven-2", "oven-3", "press-7"]);
    let wrong = hub
        .query("SELECT nothing", &PageRequest::first())
        .await
        .unwrap_err();
    assert!(matches!(wrong, ServiceError::Refused(_)), "{wrong}");
}

async fn every_promise_of_a_dps(dps: &impl ProvisioningService, hubs: [&str; 2]) {
    let individual = EnrollmentKind::Individual;
    let missing = dps.enrollment(individual, "press-7").await.unwrap_err();
    assert!(matches!(missing, ServiceError::NotFound(_)), "{missing}");

    let keys = Attestation::symmetric(KEY, KEY);
    let wanted = Enrollment::individual("press-7", Some(&keys)).pointed_to(hubs[0]);
    // A bulk is the only way to enrol that refuses one who is there.
    let created = dps
        .bulk(individual, BulkMode::Create, std::slice::from_ref(&wanted))
        .await;
    assert_eq!(created.unwrap().problems, []);
    let again = dps
        .bulk(individual, BulkMode::Create, std::slice::from_ref(&wanted))
        .await
        .unwrap();
    assert_eq!(again.problems[0].id, "press-7");

    let read = dps.enrollment(individual, "press-7").await.unwrap();
    assert_eq!(
        (read.only_hub(), read.device_id()),
        (Some(hubs[0]), "press-7")
    );
    assert!(read.is_enabled() && read.lacks_keys());
    assert_eq!(dps.attestation(individual, "press-7").await.unwrap(), keys);

    let pointed = read.clone().with_attestation(&keys).pointed_to(hubs[1]);
    let written = dps.put(&pointed, Some(&read.etag)).await.unwrap();
    assert_ne!(written.etag, read.etag);
    let late = dps.put(&wanted, Some(&read.etag)).await.unwrap_err();
    assert!(matches!(late, ServiceError::Changed(_)), "{late}");
    let read = dps.enrollment(individual, "press-7").await.unwrap();
    assert_eq!(read.only_hub(), Some(hubs[1]));
    assert_eq!(
        dps.attestation(individual, "press-7").await.unwrap(),
        keys,
        "keys are kept"
    );

    groups_and_pages(dps, &keys).await;

    let unregistered = dps.registration("press-7").await.unwrap_err();
    assert!(
        matches!(unregistered, ServiceError::NotFound(_)),
        "{unregistered}"
    );
    let stale = dps.delete(individual, "press-7", "none").await.unwrap_err();
    assert!(matches!(stale, ServiceError::Changed(_)), "{stale}");
    dps.delete(individual, "press-7", &read.etag).await.unwrap();
    let gone = dps
        .delete(individual, "press-7", &read.etag)
        .await
        .unwrap_err();
    assert!(matches!(gone, ServiceError::NotFound(_)), "{gone}");
}

async fn groups_and_pages(dps: &impl ProvisioningService, keys: &Attestation) {
    let group = json!({ "enrollmentGroupId": "line", "attestation": {
        "type": "symmetricKey",
        "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY },
    }});
    let group = Enrollment::parse(EnrollmentKind::Group, group).unwrap();
    dps.put(&group, None).await.unwrap();
    assert_eq!(
        dps.attestation(EnrollmentKind::Group, "line")
            .await
            .unwrap(),
        *keys
    );
    let groups = dps
        .query(EnrollmentKind::Group, &PageRequest::first())
        .await
        .unwrap();
    assert_eq!(groups.items.len(), 1);
    let none = dps
        .registrations_of("line", &PageRequest::first())
        .await
        .unwrap();
    assert_eq!((none.items.len(), none.continuation), (0, None));

    let more = ["a", "b"].map(|id| Enrollment::individual(id, Some(keys)));
    dps.bulk(EnrollmentKind::Individual, BulkMode::Create, &more)
        .await
        .unwrap();
    let page = PageRequest {
        items_max: 2,
        continuation: None,
    };
    let first = dps.query(EnrollmentKind::Individual, &page).await.unwrap();
    let rest = PageRequest {
        continuation: first.continuation.clone(),
        ..page
    };
    let second = dps.query(EnrollmentKind::Individual, &rest).await.unwrap();
    let ids: Vec<&str> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|e| e.id.as_str())
        .collect();
    assert_eq!(
        (ids, second.continuation),
        (vec!["a", "b", "press-7"], None)
    );
    let deleted = dps
        .bulk(EnrollmentKind::Individual, BulkMode::Delete, &more)
        .await
        .unwrap();
    assert_eq!(deleted.problems, []);
    let mixed = dps
        .bulk(EnrollmentKind::Group, BulkMode::Create, &more)
        .await
        .unwrap_err();
    assert!(matches!(mixed, ServiceError::BadConfig { .. }), "{mixed}");
}

#[tokio::test]
async fn a_hub_in_memory_keeps_every_promise() {
    every_promise_of_a_hub(&MemoryIotHub::new("h")).await;
}

#[tokio::test]
async fn the_emulated_hub_keeps_every_promise_over_tls() {
    let emulated = Emulated::start().await;
    every_promise_of_a_hub(&emulated.hub_client()).await;
}

#[tokio::test]
async fn a_dps_in_memory_keeps_every_promise() {
    let hubs = ["a.example", "b.example"];
    let linked = hubs.map(MemoryIotHub::new).to_vec();
    every_promise_of_a_dps(&MemoryDps::new("dps", linked), hubs).await;
}

#[tokio::test]
async fn the_emulated_dps_keeps_every_promise_over_tls() {
    let emulated = Emulated::start().await;
    let names = [0, 1].map(|number: usize| emulated.hubs[number].hub());
    let hubs = [names[0].host_name(), names[1].host_name()];
    every_promise_of_a_dps(&emulated.dps_client(), hubs).await;
}
