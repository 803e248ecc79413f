//! What DPS, or whoever reaches the webhook, sends.

use serde_json::Value;
use stamp_model::{StampId, TenantId};
use stamp_provisioner::{LINKED_HUBS_MAX, Reason, Registration};

/// A call is read or refused as `bad-request` with a message; what was read gives an answer that is
/// JSON, names a hub as the call spelled it, and keeps every tag of the enrolment but the two that are
/// ours. Names in any case mean the same.
///
/// # Panics
/// When one of these is not so.
pub fn webhook(bytes: &[u8]) {
    let registration = match Registration::parse(bytes) {
        Ok(registration) => registration,
        Err(refused) => {
            assert_eq!(refused.reason, Reason::BadRequest);
            assert!(!refused.message.is_empty());
            return;
        }
    };
    assert!((1..=LINKED_HUBS_MAX).contains(&registration.linked_hubs.len()));
    let tenant = TenantId::parse("contoso").expect("a literal that is an id");
    let stamp = StampId::parse("weu-1").expect("a literal that is an id");
    for hub in &registration.linked_hubs {
        let answer = registration.answer(&hub.to_ascii_uppercase(), &tenant, &stamp);
        let text = answer.to_string();
        let read: Value = serde_json::from_str(&text).expect("an answer is JSON");
        let named = read["iotHubHostName"]
            .as_str()
            .expect("an answer names a hub");
        assert!(named.eq_ignore_ascii_case(hub));
        assert!(
            registration
                .linked_hubs
                .iter()
                .any(|linked| linked == named)
        );
        let tags = &answer["initialTwin"]["tags"];
        assert_eq!(
            (&tags["tenant"], &tags["stamp"]),
            (&"contoso".into(), &"weu-1".into())
        );
        let before = registration
            .initial_twin
            .get("tags")
            .and_then(Value::as_object);
        for (name, value) in before.into_iter().flatten() {
            assert!(
                name == "tenant" || name == "stamp" || tags[name] == *value,
                "{name}"
            );
        }
    }
    same_in_other_spelling(bytes, &registration);
}

/// The other published spelling of the one name that has two.
fn same_in_other_spelling(bytes: &[u8], registration: &Registration) {
    let Ok(mut call) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let context = call
        .get_mut("deviceRuntimeContext")
        .and_then(Value::as_object_mut);
    let Some(context) = context else { return };
    let one_spelling = context
        .keys()
        .filter(|name| name.eq_ignore_ascii_case("currentIotHubHostName"));
    if one_spelling.count() != 1 {
        return;
    }
    if let Some(current) = context.remove("currentIotHubHostName") {
        context.insert("currentIoTHubHostName".into(), current);
        let other = Registration::parse(call.to_string().as_bytes()).expect("it was read before");
        assert_eq!(other.current_hub, registration.current_hub);
        assert_eq!(other.device, registration.device);
        assert_eq!(other.linked_hubs, registration.linked_hubs);
    }
}
