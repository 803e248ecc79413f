//! Devices of the published Python client, DPS, and the real provisioner behind its webhook.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cloud;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloud::{Cloud, address, of_source, status};
use serde_json::{Value, json};
use stamp_emulator::{
    DpsConfig, DpsEmulator, IotHubEmulator, LinkedHub, Listen, WebhookSpelling, derive_device_key,
};
use stamp_provisioner::{ProvisionConfig, ProvisionParts, Provisioner, wall_clock};
use stamp_resilience::NoObserver;
use stamp_telemetry::{ProvisionMetrics, Registry};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GROUP_KEY: &str = "cHJpbWFyeS1wcmltYXJ5LXByaW1hcnk=";
const OTHER: &str = "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWM=";
const SCOPE: &str = "0ne000A247E";
const KEY: &str = "a+key/of=these tests";

/// A test stamp and a production stamp, a DPS, and a provisioner over TLS.
struct World {
    cloud: Cloud,
    dps: DpsEmulator,
    test: IotHubEmulator,
    production: IotHubEmulator,
    folder: tempfile::TempDir,
    webhook: String,
    stop: CancellationToken,
    provisioner: JoinHandle<()>,
}

impl World {
    fn start(spelling: WebhookSpelling) -> Self {
        let cloud = Cloud::start(&["test", "production"]);
        let test = cloud.iot_hub(1, "test");
        let production = cloud.iot_hub(2, "production");
        let config = DpsConfig {
            linked_hubs: [&test, &production]
                .map(|hub| LinkedHub::new(hub.hub()))
                .into(),
            retry_after: Duration::from_secs(1),
            webhook_spelling: spelling,
            ..DpsConfig::new(Listen::on(address(0)), Arc::clone(&cloud.authority), SCOPE)
        };
        let dps = cloud.runtime.block_on(DpsEmulator::start(config)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        cloud
            .authority
            .issue(&["127.0.0.1"], &certificate, &key)
            .unwrap();
        let hubs = [test.hub(), production.hub()].map(|hub| hub.host_name().to_owned());
        std::fs::write(folder.path().join("fleet.toml"), catalogue(&hubs)).unwrap();
        std::fs::write(folder.path().join("keys"), KEY).unwrap();
        let file = folder.path().join("provision.toml");
        let text = "fleet = \"fleet.toml\"\nlisten = \"127.0.0.1:0\"\n\
            tls = { certificate = \"tls.crt\", key = \"tls.key\" }\naccess.keys-file = \"keys\"\n\
            resilience.look-every = \"100ms\"\nreservations.url = \"sqlite:fleet.db\"\n";
        std::fs::write(&file, text).unwrap();
        let stop = CancellationToken::new();
        let (port, provisioner) = cloud.runtime.block_on(provision(file, stop.clone()));
        Self {
            cloud,
            dps,
            test,
            production,
            folder,
            webhook: format!("https://127.0.0.1:{port}/v1/allocate"),
            stop,
            provisioner,
        }
    }

    /// The fleet's enrolment group, linked to these hubs.
    fn enroll(&self, query: &str, hubs: &[&IotHubEmulator]) {
        let hubs: Vec<String> = hubs
            .iter()
            .map(|hub| hub.hub().host_name().to_owned())
            .collect();
        let record = json!({
            "attestation": {
                "type": "symmetricKey",
                "symmetricKey": {"primaryKey": GROUP_KEY, "secondaryKey": OTHER},
            },
            "allocationPolicy": "custom",
            "iotHubs": hubs,
            "customAllocationDefinition": {
                "webhookUrl": format!("{}{query}", self.webhook), "apiVersion": "2021-10-01",
            },
            "initialTwin": {"tags": {"site": "north"}, "properties": {"desired": {"rate": 5}}},
        });
        self.dps.put_enrollment_group("fleet", &record).unwrap();
    }

    /// Devices of the published Python client: register, connect, send one message.
    fn devices(&self, names: &[&str]) -> Vec<Value> {
        let mut arguments = vec![self.dps.host_name().to_owned(), SCOPE.to_owned()];
        for name in names {
            arguments.push((*name).to_owned());
            arguments.push(derive_device_key(GROUP_KEY, name).unwrap());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = self.cloud.python("dps_device.py", &arguments);
        said.as_array().unwrap().clone()
    }

    fn stop(self) {
        self.stop.cancel();
        self.cloud.runtime.block_on(async {
            self.provisioner.await.unwrap();
            self.dps.stop().await;
            self.test.stop().await;
            self.production.stop().await;
        });
        drop(self.folder);
    }
}

/// Two stamps; the test stamp takes two devices.
fn catalogue([test, production]: &[String; 2]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (id, hub, environment, devices) in [
        ("try-1", test, "test", 2),
        ("eu-1", production, "production", 100),
    ] {
        write!(
            text,
            r#"
[[stamps]]
id = "{id}"
region = "westeurope"
geography = "europe"
kind = "shared"
environment = "{environment}"
ring = "general"
version = "0.1.0"
storage-root = "az://{id}/telemetry"
iot-hub = {{ name = "{hub}", tier = "S1", units = 1 }}
capacity = {{ devices = {devices}, tenants = 5 }}
[stamps.event-hub]
namespace = "{id}.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 1
partitions = 1
"#
        )
        .unwrap();
    }
    text.push_str(
        "\n[[tenants]]\nid = \"contoso\"\ngeographies = [\"europe\"]\ntier = \"standard\"\n\
         schema = \"schema.toml\"\ndevices = [\"press-*\"]\n",
    );
    text
}

async fn provision(file: PathBuf, stop: CancellationToken) -> (u16, JoinHandle<()>) {
    let config = ProvisionConfig::load(&file).unwrap();
    let parts = ProvisionParts {
        metrics: ProvisionMetrics::new(&Registry::new(), &config.name).unwrap(),
        observer: Arc::new(NoObserver),
        seed: 7,
        clock: wall_clock(),
    };
    let provisioner = Provisioner::start(config, parts, &stop).await.unwrap();
    let port = provisioner.address().port();
    let task = tokio::spawn(async move { provisioner.run(&Notify::new(), &stop).await });
    (port, task)
}

fn registered_on<'a>(said: &'a Value, hub: &IotHubEmulator) -> &'a Value {
    assert_eq!(said["hub"], hub.hub().host_name(), "{said}");
    &said["substatus"]
}

fn test_to_production(spelling: WebhookSpelling) {
    let world = World::start(spelling);
    world.enroll("?code=a%2Bkey%2Fof%3Dthese%20tests", &[&world.test]);

    let said = world.devices(&["press-1", "press-2", "press-3", "stranger"]);
    registered_on(&said[0], &world.test);
    registered_on(&said[1], &world.test);
    // The stamp is full, and the last one is nobody's: DPS tells the device that it failed.
    for refused in &said[2..] {
        assert!(refused.to_string().contains("failed"), "{refused}");
    }
    let codes = ["press-3", "stranger"].map(|id| world.dps.registration(id).unwrap());
    for (registration, status) in codes.iter().zip(["409", "403"]) {
        assert_eq!(registration["errorCode"], 400_207);
        assert!(
            registration["errorMessage"]
                .as_str()
                .unwrap()
                .ends_with(status),
            "{registration}"
        );
    }
    let twin = world.test.hub().twin("press-1").unwrap();
    assert_eq!(
        twin["tags"],
        json!({"site": "north", "tenant": "contoso", "stamp": "try-1"})
    );
    assert_eq!(twin["properties"]["desired"]["rate"], 5);

    world.enroll("?code=a%2Bkey%2Fof%3Dthese%20tests", &[&world.production]);
    let said = world.devices(&["press-1", "press-1", "press-3"]);
    assert_eq!(
        registered_on(&said[0], &world.production),
        "deviceDataMigrated"
    );
    registered_on(&said[1], &world.production);
    registered_on(&said[2], &world.production);
    assert_eq!(status(&world.test.hub(), "press-1"), None);
    assert!(status(&world.test.hub(), "press-2").is_some());

    // Its place in the test stamp is free, because it has arrived.
    world.enroll("?code=a%2Bkey%2Fof%3Dthese%20tests", &[&world.test]);
    let said = world.devices(&["press-4", "press-5"]);
    registered_on(&said[0], &world.test);
    assert!(said[1].to_string().contains("failed"), "{}", said[1]);

    // What each device sent went to the stamp that it was told.
    let senders = |hub: &str| -> Vec<String> {
        let events = world.cloud.events(hub);
        let id = |event: &&Value| event["system"]["iothub-connection-device-id"].to_string();
        of_source(&events, "Telemetry").iter().map(id).collect()
    };
    assert_eq!(
        senders("test"),
        ["press-1", "press-2", "press-4"].map(|id| format!("{id:?}"))
    );
    let to_production = ["press-1", "press-1", "press-3"].map(|id| format!("{id:?}"));
    assert_eq!(senders("production"), to_production);

    // Without the key nobody is placed.
    world.enroll("", &[&world.production]);
    assert!(
        world.devices(&["press-9"])[0]
            .to_string()
            .contains("failed")
    );
    let message = world.dps.registration("press-9").unwrap()["errorMessage"].to_string();
    assert!(message.contains("401"), "{message}");
    world.stop();
}

/// Fault scenario 52.
#[test]
fn devices_go_from_test_to_production_as_the_provisioner_says() {
    test_to_production(WebhookSpelling::IotHub);
}

#[test]
fn devices_go_the_same_way_when_dps_spells_the_other_way() {
    test_to_production(WebhookSpelling::IoTHub);
}
