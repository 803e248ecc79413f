//! The DPS emulator as the published clients see it: PyPI `azure-iot-device`, npm
//! `azure-iot-provisioning-device` over HTTP and MQTT, `azure-iot-provisioning-service`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cloud;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use cloud::{Cloud, address, of_source, status};
use serde_json::{Value, json};
use stamp_emulator::{
    Allocation, DpsConfig, DpsEmulator, IotHub, IotHubEmulator, LinkedHub, Listen, Operation,
    ServiceRefusal, WebhookSpelling, derive_device_key,
};

const KEY: &str = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
const OTHER: &str = "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM=";
const SCOPE: &str = "0ne000A247E";

/// A DPS with a test hub and a production hub.
struct Provisioning {
    cloud: Cloud,
    dps: DpsEmulator,
    test: IotHubEmulator,
    production: IotHubEmulator,
}

impl Provisioning {
    fn start(spelling: WebhookSpelling) -> Self {
        let cloud = Cloud::start(&["test", "production"]);
        let test = cloud.iot_hub(1, "test");
        let production = cloud.iot_hub(2, "production");
        let config = DpsConfig {
            linked_hubs: [&test, &production]
                .map(|hub| LinkedHub::new(hub.hub()))
                .into(),
            default_allocation: Allocation::Hashed,
            retry_after: Duration::from_secs(1),
            webhook_timeout: Duration::from_secs(2),
            webhook_spelling: spelling,
            ..DpsConfig::new(Listen::on(address(0)), Arc::clone(&cloud.authority), SCOPE)
        };
        let dps = cloud.runtime.block_on(DpsEmulator::start(config)).unwrap();
        Self {
            cloud,
            dps,
            test,
            production,
        }
    }

    /// An individual enrolment with known keys.
    fn enroll(&self, id: &str, more: &Value) {
        let record = with_keys(more);
        self.dps.put_enrollment(id, &record).unwrap();
    }

    /// Devices of the published Python client: register, connect, send one message.
    fn python(&self, devices: &[(&str, &str)]) -> Vec<Value> {
        let mut arguments = vec![self.dps.host_name(), SCOPE];
        arguments.extend(devices.iter().flat_map(|(id, key)| [*id, *key]));
        let said = self.cloud.python("dps_device.py", &arguments);
        said.as_array().unwrap().clone()
    }

    fn hosts(&self) -> [String; 2] {
        [self.test.hub(), self.production.hub()].map(|hub| hub.host_name().to_owned())
    }

    fn stop(self) {
        self.cloud.runtime.block_on(async {
            self.dps.stop().await;
            self.test.stop().await;
            self.production.stop().await;
        });
    }
}

fn with_keys(more: &Value) -> Value {
    let mut record = more.clone();
    record["attestation"] = json!({
        "type": "symmetricKey",
        "symmetricKey": { "primaryKey": KEY, "secondaryKey": OTHER },
    });
    record
}

fn to_hub(host: &str) -> Value {
    json!({ "allocationPolicy": "static", "iotHubs": [host] })
}

/// A webhook that gives each call its next answer, a status and a body, and reports the calls.
fn webhook(answers: Vec<(u16, Value)>) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://{}/allocate?code=secret",
        listener.local_addr().unwrap()
    );
    let (sender, calls) = sync_channel(answers.len());
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_ascii_lowercase());
            }
            let length = head
                .iter()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let mut call: Value = serde_json::from_slice(&body).unwrap();
            call["request"] = head[0].clone().into();
            sender.send(call).unwrap();
            let answer = answer.to_string();
            let length = answer.len();
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{answer}");
            reader.get_mut().write_all(text.as_bytes()).unwrap();
        }
    });
    (url, calls)
}

/// Fails loudly when nobody called.
fn next(calls: &Receiver<Value>) -> Value {
    calls.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn senders(cloud: &Cloud, event_hub: &str) -> Vec<String> {
    let events = cloud.events(event_hub);
    let telemetry = of_source(&events, "Telemetry");
    let device = |event: &&Value| {
        let id = &event["system"]["iothub-connection-device-id"];
        id.as_str().unwrap().to_owned()
    };
    telemetry.iter().map(device).collect()
}

#[test]
fn python_devices_get_their_hub_and_send_to_it() {
    let service = Provisioning::start(WebhookSpelling::IotHub);
    let [test, production] = service.hosts();
    let twin = json!({"tags": {"tenant": "acme"}, "properties": {"desired": {"rate": 5}}});
    let mut one = to_hub(&test);
    one["initialTwin"] = twin;
    service.enroll("pump-1", &one);
    let mut off = to_hub(&test);
    off["provisioningStatus"] = "disabled".into();
    service.enroll("pump-2", &off);
    let group = with_keys(&to_hub(&production));
    service.dps.put_enrollment_group("fleet", &group).unwrap();
    let derived = derive_device_key(KEY, "valve-9").unwrap();
    // Throttled once: this client waits as it is told and asks again.
    let refusal = ServiceRefusal::throttled(Some(1));
    service.dps.faults().refuse(Operation::Register, 1, refusal);

    let said = service.python(&[
        ("pump-1", KEY),
        ("valve-9", &derived),
        ("valve-9", KEY),
        ("pump-2", OTHER),
    ]);

    assert_eq!(
        said[0],
        json!({"status": "assigned", "hub": test, "device": "pump-1",
            "substatus": "initialAssignment", "payload": "null"})
    );
    assert_eq!(
        (&said[1]["hub"], &said[1]["device"]),
        (&json!(production), &json!("valve-9"))
    );
    // The group's own key is no device's key; a disabled enrolment is refused for good.
    assert_eq!(said[2]["error"], "CredentialError", "{said:?}");
    assert!(
        said[3]["text"].as_str().unwrap().contains("disabled"),
        "{said:?}"
    );
    // Throttled, then one for each device that was let in.
    assert_eq!(service.dps.faults().seen(Operation::Register), 4);
    let device = service.test.hub().twin("pump-1").unwrap();
    assert_eq!(device["tags"]["tenant"], "acme");
    assert_eq!(device["properties"]["desired"]["rate"], 5);
    assert_eq!(service.test.hub().device("pump-2"), None);
    assert_eq!(senders(&service.cloud, "test"), ["pump-1"]);
    assert_eq!(senders(&service.cloud, "production"), ["valve-9"]);
    service.stop();
}

#[test]
fn a_device_moves_from_test_to_production_with_its_twin() {
    let service = Provisioning::start(WebhookSpelling::IotHub);
    let [test, production] = service.hosts();
    let mut first = to_hub(&test);
    first["initialTwin"] = json!({"tags": {"site": "north"}});
    service.enroll("pump-1", &first);
    service.python(&[("pump-1", KEY)]);

    service.enroll("pump-1", &to_hub(&production));
    let migrated = service.python(&[("pump-1", KEY)]);
    let mut reset = to_hub(&test);
    reset["reprovisionPolicy"] = json!({"updateHubAssignment": true, "migrateDeviceData": false});
    service.enroll("pump-1", &reset);
    let after_reset = service.python(&[("pump-1", KEY)]);
    let mut never = to_hub(&production);
    never["reprovisionPolicy"] = json!({"updateHubAssignment": false, "migrateDeviceData": false});
    service.enroll("pump-1", &never);
    let stayed = service.python(&[("pump-1", KEY)]);

    assert_eq!(migrated[0]["hub"], production);
    assert_eq!(migrated[0]["substatus"], "deviceDataMigrated");
    assert_eq!(
        (&after_reset[0]["hub"], &stayed[0]["hub"]),
        (&json!(test), &json!(test))
    );
    assert_eq!(after_reset[0]["substatus"], "deviceDataReset");
    let (old, new): (IotHub, IotHub) = (service.production.hub(), service.test.hub());
    assert_eq!(
        (status(&old, "pump-1"), status(&new, "pump-1").is_some()),
        (None, true)
    );
    assert_eq!(new.twin("pump-1").unwrap()["tags"], json!({}));
    let events = service.cloud.events("production");
    let lifecycle = of_source(&events, "deviceLifecycleEvents");
    assert_eq!(lifecycle[0]["body"]["tags"], json!({"site": "north"}));
    assert_eq!(lifecycle[1]["properties"]["opType"], "deleteDeviceIdentity");
    service.stop();
}

#[test]
fn a_webhook_is_asked_as_the_service_asks_and_its_faults_fail_the_registration() {
    let service = Provisioning::start(WebhookSpelling::IoTHub);
    let [test, production] = service.hosts();
    let (url, calls) = webhook(vec![
        (
            200,
            json!({"iotHubHostName": test, "initialTwin": {"tags": {"stamp": "eu-1"}},
            "payload": {"stamp": "eu-1"}}),
        ),
        (200, json!({"iotHubHostname": production})),
        (403, json!({"message": "not in this geography"})),
        (500, json!({})),
        (200, json!({"iotHubHostName": "elsewhere.example"})),
    ]);
    let custom = json!({
        "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2021-10-01"},
    });
    service.enroll("pump-1", &custom);

    let said = service.python(&[("pump-1", KEY); 5]);

    assert_eq!(
        (&said[0]["hub"], &said[1]["hub"]),
        (&json!(test), &json!(production))
    );
    // This client gives the payload as text.
    assert_eq!(said[0]["payload"], r#"{"stamp": "eu-1"}"#);
    for answer in &said[2..] {
        assert!(answer.to_string().contains("failed"), "{answer}");
    }
    let last = service.dps.registration("pump-1").unwrap();
    assert_eq!(
        (&last["status"], &last["errorCode"]),
        (&json!("failed"), &json!(400_207))
    );
    let first = next(&calls);
    assert_eq!(first["request"], "post /allocate?code=secret http/1.1");
    assert_eq!(first["linkedHubs"], json!([test, production]));
    assert_eq!(
        first["deviceRuntimeContext"],
        json!({"registrationId": "pump-1", "symmetricKey": {}, "payload": {"firmware": "1.2"}})
    );
    assert_eq!(first["individualEnrollment"]["registrationId"], "pump-1");
    assert!(!first.to_string().contains(KEY), "keys stay in the service");
    let second = next(&calls);
    assert_eq!(
        second["deviceRuntimeContext"]["currentIoTHubHostName"],
        test
    );
    assert_eq!(second["deviceRuntimeContext"]["currentDeviceId"], "pump-1");
    // The twin went along to production, and the failed calls changed nothing.
    let twin = service.production.hub().twin("pump-1").unwrap();
    assert_eq!(twin["tags"], json!({"stamp": "eu-1"}));
    service.stop();
}

#[test]
fn a_webhook_that_does_not_answer_fails_the_registration_in_time() {
    let service = Provisioning::start(WebhookSpelling::IotHub);
    // The kernel takes the connection; nobody reads it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/allocate", silent.local_addr().unwrap());
    let custom = json!({
        "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2021-10-01"},
    });
    service.enroll("pump-1", &custom);

    let said = service.python(&[("pump-1", KEY)]);

    assert!(said[0].to_string().contains("failed"), "{said:?}");
    let last = service.dps.registration("pump-1").unwrap();
    assert_eq!(last["errorCode"], 400_207, "{last}");
    assert_eq!(service.test.hub().device("pump-1"), None);
    service.stop();
}

#[test]
fn node_devices_get_their_hub_over_http_and_mqtt() {
    let service = Provisioning::start(WebhookSpelling::IotHub);
    let [test, production] = service.hosts();
    service.enroll("over-http", &to_hub(&test));
    service.enroll("over-mqtt", &to_hub(&production));
    let devices = ["http", "over-http", KEY, "mqtt", "over-mqtt", OTHER];
    let strangers = ["http", "nobody", KEY, "mqtt", "nobody", KEY];

    let mut arguments = vec![service.dps.host_name(), SCOPE];
    arguments.extend(devices.iter().chain(&strangers));
    let said = service.cloud.node("dps_device.cjs", &arguments);

    assert_eq!(
        said[0],
        json!({"hub": test, "device": "over-http", "payload": null})
    );
    assert_eq!(
        said[1],
        json!({"hub": production, "device": "over-mqtt", "payload": null})
    );
    // Over MQTT this client names every refusal the same.
    let refusals = [&said[2]["error"], &said[3]["error"]];
    assert_eq!(refusals, ["UnauthorizedError", "Error"]);
    assert!(status(&service.test.hub(), "over-http").is_some());
    service.stop();
}

#[test]
fn node_keeps_enrolments_and_groups() {
    let service = Provisioning::start(WebhookSpelling::IotHub);
    let [test, _] = service.hosts();

    let arguments = [&service.dps.connection_string(), test.as_str()];
    let said = service.cloud.node("dps_service.cjs", &arguments);

    let wanted = json!({
        "status": ["enabled", "disabled"],
        "device": "Pump-One",
        "twin": 5,
        "stale": ["InvalidEtagError", 412],
        "group": "fleet",
        "key": 88,
        "bulk": [false, [["pump-1", 409_201]]],
        "pages": [["a", "b", "c"], ["pump-1"]],
        "groups": [["fleet"]],
        "bad": ["ArgumentError", 400],
        "missing": ["Error", 404],
    });
    assert_eq!(said, wanted);
    service.stop();
}
