use serde_json::json;

use super::*;
use crate::Reason;

/// As DPS sends it for a group, in one of the two published spellings.
fn call(current: &str) -> Value {
    json!({
        "enrollmentGroup": {
            "enrollmentGroupId": "fleet",
            "attestation": {"type": "symmetricKey"},
            "capabilities": {"iotEdge": false},
            "provisioningStatus": "enabled",
            "allocationPolicy": "custom",
            "initialTwin": {"tags": {"site": "north"}, "properties": {"desired": {"rate": 5}}},
            "customAllocationDefinition": {
                "webhookUrl": "https://place.example/v1/allocate", "apiVersion": "2021-10-01",
            },
        },
        "deviceRuntimeContext": {
            "registrationId": "press-7",
            current: "Weu-1.azure-devices.net",
            "currentDeviceId": "press-7",
            "symmetricKey": {},
            "payload": {"tenant": "somebody-else"},
        },
        "linkedHubs": ["Weu-1.azure-devices.net", "eus-1.azure-devices.net"],
    })
}

fn read(body: &Value) -> Result<Registration, Refused> {
    Registration::parse(body.to_string().as_bytes())
}

#[test]
fn both_published_spellings_say_the_same() {
    let [one, other] = ["currentIotHubHostName", "currentIoTHubHostName"]
        .map(|spelling| read(&call(spelling)).unwrap());
    assert_eq!(one, other);
    assert_eq!(one.device.as_str(), "press-7");
    assert_eq!(one.current_hub.as_deref(), Some("weu-1.azure-devices.net"));
    assert_eq!(one.linked_hubs.len(), 2);
    assert_eq!(
        (one.enrolled_tenant, one.enrolled_environment),
        (None, None)
    );
}

/// Else one device could take a place for each spelling of its name.
#[test]
fn a_device_that_asks_again_in_another_spelling_is_the_same_one() {
    let mut body = call("currentIotHubHostName");
    body["deviceRuntimeContext"]["registrationId"] = "PRESS-7".into();
    assert_eq!(read(&body).unwrap().device.as_str(), "press-7");
    body["deviceRuntimeContext"]["currentDeviceId"] = "press-8".into();
    assert_eq!(read(&body).unwrap().device.as_str(), "PRESS-7");
}

#[test]
fn the_answer_names_the_hub_as_dps_does_and_adds_two_tags_to_the_twin() {
    let registration = read(&call("currentIotHubHostName")).unwrap();
    let tenant = TenantId::parse("contoso").unwrap();
    let stamp = StampId::parse("weu-1").unwrap();
    let answer = registration.answer("weu-1.azure-devices.net", &tenant, &stamp);
    assert_eq!(
        answer,
        json!({
            "iotHubHostName": "Weu-1.azure-devices.net",
            "initialTwin": {
                "tags": {"site": "north", "tenant": "contoso", "stamp": "weu-1"},
                "properties": {"desired": {"rate": 5}},
            },
        })
    );
}

#[test]
fn an_enrolment_without_a_twin_gets_one_with_the_two_tags() {
    let mut body = call("currentIotHubHostName");
    body["enrollmentGroup"]["initialTwin"] = Value::Null;
    let tenant = TenantId::parse("contoso").unwrap();
    let stamp = StampId::parse("weu-1").unwrap();
    let answer = read(&body).unwrap().answer("h", &tenant, &stamp);
    assert_eq!(
        answer["initialTwin"],
        json!({"tags": {"tenant": "contoso", "stamp": "weu-1"}, "properties": {"desired": {}}})
    );
}

#[test]
fn the_name_of_an_individual_enrolments_device_is_the_devices_name() {
    let mut body = call("currentIotHubHostName");
    let group = body["enrollmentGroup"].take();
    body["individualEnrollment"] = group;
    body["individualEnrollment"]["deviceId"] = "Press-Seven".into();
    body["individualEnrollment"]["initialTwin"]["tags"] =
        json!({"tenant": "contoso", "environment": "test"});
    let registration = read(&body).unwrap();
    assert_eq!(registration.device.as_str(), "Press-Seven");
    assert_eq!(registration.enrolled_tenant.unwrap().as_str(), "contoso");
    assert_eq!(registration.enrolled_environment, Some(Environment::Test));
}

#[test]
fn what_is_wrong_is_named() {
    let without = |pointer: &str| {
        let mut body = call("currentIotHubHostName");
        *body.pointer_mut(pointer).unwrap() = Value::Null;
        body
    };
    let with = |pointer: &str, value: Value| {
        let mut body = call("currentIotHubHostName");
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let mut both = call("currentIotHubHostName");
    both["individualEnrollment"] = json!({});
    for (body, named) in [
        (json!(7), "deviceRuntimeContext"),
        (without("/deviceRuntimeContext"), "deviceRuntimeContext"),
        (
            without("/deviceRuntimeContext/registrationId"),
            "registrationId",
        ),
        (without("/enrollmentGroup"), "enrollmentGroup"),
        (without("/linkedHubs"), "linkedHubs"),
        (with("/linkedHubs", json!([])), "linkedHubs"),
        (with("/linkedHubs/1", json!(3)), "linkedHubs[1]"),
        (with("/linkedHubs/0", json!("a b")), "linkedHubs[0]"),
        (with("/enrollmentGroup", json!("x")), "enrollmentGroup"),
        (
            with("/enrollmentGroup/initialTwin", json!(1)),
            "initialTwin",
        ),
        (with("/enrollmentGroup/initialTwin/tags/site", json!(1)), ""),
        (
            with(
                "/enrollmentGroup/initialTwin/tags",
                json!({"tenant": "No Tenant"}),
            ),
            "tags.tenant",
        ),
        (
            with(
                "/enrollmentGroup/initialTwin/tags",
                json!({"environment": "moon"}),
            ),
            "tags.environment",
        ),
        (
            with("/enrollmentGroup/initialTwin/tags", json!("x")),
            "tags",
        ),
        (
            with("/enrollmentGroup/initialTwin/tags", json!({"tenant": 3})),
            "tenant",
        ),
        (with("/enrollmentGroup/initialTwin/tags", Value::Null), ""),
        (both, "both"),
        (
            with("/deviceRuntimeContext/registrationId", json!("a/b")),
            "device id",
        ),
    ] {
        match read(&body) {
            Ok(_) => assert_eq!(named, "", "{body} is good"),
            Err(refused) => {
                assert_eq!(refused.reason, Reason::BadRequest);
                assert!(
                    !named.is_empty() && refused.message.contains(named),
                    "{refused:?}"
                );
            }
        }
    }
    let broken = Registration::parse(b"{\"a\":").unwrap_err();
    assert!(broken.message.contains("not JSON"), "{broken:?}");
}
