//! The IoT Hub emulator as the published clients see it: PyPI `azure-iot-hub` and
//! `azure-iot-device`, npm `azure-iothub`, `azure-iot-device` and `azure-iot-device-mqtt`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cloud;

use std::sync::Arc;

use cloud::{Cloud, of_source, status};
use serde_json::{Value, json};
use stamp_emulator::{
    IotHubConfig, IotHubEmulator, Listen, Operation, Route, RouteSource, Routing, ServiceRefusal,
};

#[test]
fn python_keeps_the_registry_and_reads_every_error() {
    let cloud = Cloud::start(&["stamp"]);
    let emulator = cloud.iot_hub(0, "stamp");
    let hub = emulator.hub();

    let said = cloud.python("iothub_registry.py", &[&hub.connection_string()]);

    assert_eq!((&said["keys"], &said["bulk"]), (&json!(true), &json!(true)));
    let refusals = [
        ("again", 409, "DeviceAlreadyExists"),
        ("missing", 404, "DeviceNotFound"),
        ("stale", 412, "PreconditionFailed"),
        ("stale_twin", 412, "PreconditionFailed"),
        ("bad_query", 400, "ArgumentInvalid"),
        ("wrong_key", 401, "IotHubUnauthorized"),
    ];
    for (name, status, code) in refusals {
        assert_eq!(said[name]["status"], status, "{name}: {said}");
        assert!(
            said[name]["text"].as_str().unwrap().contains(code),
            "{name}: {said}"
        );
    }
    assert_eq!(
        said["updated"],
        json!({"status": "disabled", "reason": "moved"})
    );
    assert_eq!(said["same_generation"], true);
    assert_eq!(
        said["twin"],
        json!({"tags": {"tenant": "acme"}, "version": 3, "rate": 5})
    );
    assert_eq!(said["desired_version"], 2);
    let pages = said["pages"].as_array().unwrap();
    let sizes: Vec<usize> = pages
        .iter()
        .map(|page| page.as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(said["by_tag"], json!(["pump-1"]));
    assert_eq!(said["statistics"], json!([26, 25, 1]));
    assert_eq!(said["listed"], 7);
    assert_eq!(status(&hub, "pump-1").as_deref(), Some("disabled"));

    let events = cloud.events("stamp");
    let lifecycle = of_source(&events, "deviceLifecycleEvents");
    // 26 created, one of them deleted and created again.
    assert_eq!(lifecycle.len(), 28);
    assert_eq!(lifecycle[0]["properties"]["opType"], "createDeviceIdentity");
    assert_eq!(
        lifecycle[26]["properties"]["opType"],
        "deleteDeviceIdentity"
    );
    assert_eq!(lifecycle[26]["properties"]["deviceId"], "bulk-00");
    cloud.runtime.block_on(emulator.stop());
}

#[test]
fn python_devices_send_talk_about_their_twin_and_are_refused_when_they_must() {
    let cloud = Cloud::start(&["stamp"]);
    let emulator = cloud.iot_hub(0, "stamp");
    let hub = emulator.hub();

    let arguments = [&hub.connection_string(), hub.host_name()];
    let said = cloud.python("iothub_device.py", &arguments);

    assert_eq!(said["twin"]["desired"], json!({"rate": 5, "$version": 2}));
    assert_eq!(said["reported"], "1.2");
    assert_eq!(said["patch"], json!({"rate": 9, "$version": 3}));
    assert_eq!(
        said["method"],
        json!({"status": 200, "payload": {"heard": {"why": "move"}}})
    );
    assert_eq!(
        (&said["connected"], &said["cut"]),
        (&json!("Connected"), &json!(true))
    );
    for name in ["disabled", "unknown", "wrong_key"] {
        assert_eq!(said[name]["type"], "CredentialError", "{name}: {said}");
    }

    // So that the hub has heard the end of every connection.
    cloud.runtime.block_on(emulator.stop());
    let events = cloud.events("stamp");
    let telemetry = of_source(&events, "Telemetry");
    let bodies: Vec<&Value> = telemetry.iter().map(|event| &event["body"]["n"]).collect();
    assert_eq!(bodies, [0, 1, 2, 3, 4, 5]);
    let event = telemetry[0];
    assert_eq!(
        event["properties"],
        json!({"site": "north & south", "tenant": "acme", "hub": hub.host_name(), "kind": "emulated"})
    );
    let system = &event["system"];
    assert_eq!(system["iothub-connection-device-id"], "dev-7");
    let generation = hub.device("dev-7").unwrap()["generationId"].clone();
    assert_eq!(system["iothub-connection-auth-generation-id"], generation);
    let method = system["iothub-connection-auth-method"].as_str().unwrap();
    assert!(method.contains(r#""scope":"device""#), "{method}");
    assert!(system["iothub-enqueuedtime"].as_i64().is_some(), "{system}");
    assert_eq!(event["partitionKey"], "dev-7");

    let connections = of_source(&events, "deviceConnectionStateEvents");
    let operations: Vec<&str> = connections
        .iter()
        .map(|event| event["properties"]["opType"].as_str().unwrap())
        .collect();
    let (on, off) = ("deviceConnected", "deviceDisconnected");
    assert_eq!(operations, [on, off, on, off]);
    let numbers: Vec<&str> = connections
        .iter()
        .map(|event| event["body"]["sequenceNumber"].as_str().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers[0].len() == 62, "{numbers:?}");
    assert_eq!(of_source(&events, "twinChangeEvents").len(), 3);
}

#[test]
fn messages_go_by_the_conditions_of_routes_and_the_rest_by_the_fallback_route() {
    let cloud = Cloud::start(&["rest", "hot", "connections"]);
    let event_hub = |name: &str| cloud.events.hub(name).unwrap();
    let by_condition = Route {
        source: RouteSource::DeviceMessages,
        condition: "$body.n >= 3 AND site = 'north & south' AND $twin.tags.tenant = 'acme'"
            .to_owned(),
        endpoint: "hot".to_owned(),
    };
    let routing = Routing {
        built_in: Some(event_hub("rest")),
        endpoints: ["hot", "connections"]
            .map(|name| (name.to_owned(), event_hub(name)))
            .into(),
        routes: vec![
            by_condition,
            Route::all(RouteSource::DeviceConnectionStateEvents, "connections"),
        ],
        fallback: true,
        ..Routing::default()
    };
    let config = IotHubConfig {
        routing,
        ..IotHubConfig::new(Listen::on(cloud::address(0)), Arc::clone(&cloud.authority))
    };
    let emulator = cloud
        .runtime
        .block_on(IotHubEmulator::start(config))
        .unwrap();
    let hub = emulator.hub();
    let arguments = [&hub.connection_string(), hub.host_name()];
    cloud.python("iothub_device.py", &arguments);
    // So that the hub has heard the end of every connection.
    cloud.runtime.block_on(emulator.stop());

    let numbers = |event_hub: &str| -> Vec<i64> {
        let events = cloud.events(event_hub);
        let telemetry = of_source(&events, "Telemetry");
        telemetry
            .iter()
            .map(|event| event["body"]["n"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers("rest"), [0, 1, 2]);
    assert_eq!(numbers("hot"), [3, 4, 5]);
    assert_eq!(numbers("connections"), [] as [i64; 0]);
    assert_eq!(cloud.events("connections").len(), 4);
}

#[test]
fn node_keeps_the_registry_and_a_second_connection_displaces_the_first() {
    let cloud = Cloud::start(&["stamp"]);
    let emulator = cloud.iot_hub(0, "stamp");
    let hub = emulator.hub();

    let said = cloud.node("iothub.cjs", &[&hub.connection_string(), hub.host_name()]);

    let wanted = json!({
        "created": "enabled",
        "exists": "DeviceAlreadyExistsError",
        "missing": "DeviceNotFoundError",
        "bulk": true,
        "pages": [["bulk-1", "bulk-2"], ["node-1"]],
        "desired": 3,
        "heard": 8,
        "reported": "2.0",
        "lost": true,
        "unknown": "UnauthorizedError",
        "total": 2,
    });
    assert_eq!(said, wanted);
    let events = cloud.events("stamp");
    let telemetry = of_source(&events, "Telemetry");
    assert_eq!(telemetry.len(), 2);
    assert_eq!(telemetry[1]["properties"]["tenant"], "acme");
    assert_eq!(telemetry[1]["properties"]["site"], "west");
    cloud.runtime.block_on(emulator.stop());
}

#[test]
fn a_throttled_registry_says_so_and_how_long_to_wait() {
    let cloud = Cloud::start(&["stamp"]);
    let emulator = cloud.iot_hub(0, "stamp");
    let hub = emulator.hub();
    let throttle = |wait| {
        let refusal = ServiceRefusal::throttled(wait);
        hub.faults().refuse(Operation::Registry, 1, refusal);
    };

    throttle(None);
    let refused = cloud.python("iothub_create.py", &[&hub.connection_string(), "a"]);
    // With a pause in the answer this client waits and repeats by itself.
    throttle(Some(1));
    let created = cloud.python("iothub_create.py", &[&hub.connection_string(), "b"]);

    assert_eq!(refused["error"]["status"], 429);
    let text = refused["error"]["text"].as_str().unwrap();
    assert!(text.contains("429001"), "{text}");
    assert_eq!(created["status"], "enabled");
    assert_eq!(
        (status(&hub, "a"), hub.faults().seen(Operation::Registry)),
        (None, 3)
    );
    cloud.runtime.block_on(emulator.stop());
}
