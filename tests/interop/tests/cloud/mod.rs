//! What the tests of IoT Hub and DPS share: addresses of their own, a certificate authority, an
//! Event Hubs namespace behind the hubs, and clients that trust it all.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stamp_emulator::{
    Authority, EmulatorConfig, Enrichment, EventHubsEmulator, Hub, HubConfig, IotHub, IotHubConfig,
    IotHubEmulator, Listen, Route, RouteSource, Routing,
};
use stamp_interop::{Language, run_script_with};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Far more than a script takes: they share the machine with builds.
const SCRIPT_MAX: Duration = Duration::from_secs(300);

/// An address that no other test uses at the same time: published clients have fixed ports, so each
/// process has four addresses of its own, made of its id (at most 22 bits on Linux).
pub(crate) fn address(n: u32) -> Ipv4Addr {
    assert!(n < 4, "a process has four addresses");
    Ipv4Addr::from_bits(127 << 24 | (std::process::id() << 2 | n) & 0x00ff_ffff)
}

/// A certificate authority, an Event Hubs namespace with one hub for each IoT Hub, and scripts.
pub(crate) struct Cloud {
    pub(crate) runtime: Runtime,
    pub(crate) authority: Arc<Authority>,
    pub(crate) events: EventHubsEmulator,
    folder: TempDir,
}

impl Cloud {
    /// With an Event Hub of one partition for each name.
    pub(crate) fn start(hubs: &[&str]) -> Self {
        let runtime = Runtime::new().unwrap();
        let authority = Arc::new(Authority::generate().unwrap());
        let folder = TempDir::new().unwrap();
        authority.write_pem(&folder.path().join("ca.pem")).unwrap();
        let hub = |name: &&str| HubConfig {
            name: (*name).to_owned(),
            partitions: 1,
            ..HubConfig::default()
        };
        let config = EmulatorConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            hubs: hubs.iter().map(hub).collect(),
            ..EmulatorConfig::default()
        };
        let events = runtime.block_on(EventHubsEmulator::start(config)).unwrap();
        Self {
            runtime,
            authority,
            events,
            folder,
        }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// An IoT Hub on the published clients' ports, which routes everything to an Event Hub.
    pub(crate) fn iot_hub(&self, n: u32, event_hub: &str) -> IotHubEmulator {
        let config = IotHubConfig {
            routing: routing(&self.events.hub(event_hub).unwrap()),
            ..IotHubConfig::new(Listen::on(address(n)), Arc::clone(&self.authority))
        };
        match self.runtime.block_on(IotHubEmulator::start(config)) {
            Ok(hub) => hub,
            Err(error) => panic!(
                "{error}: published clients only use ports 443 and 8883, so these tests need the \
                 right to bind them (root, or net.ipv4.ip_unprivileged_port_start=443): {error:?}"
            ),
        }
    }

    pub(crate) fn run(&self, language: Language, script: &str, arguments: &[&str]) -> Value {
        let ca = self.ca_file();
        let ca = ca.to_str().unwrap();
        let trust = [("NODE_EXTRA_CA_CERTS", ca), ("REQUESTS_CA_BUNDLE", ca)];
        run_script_with(language, script, arguments, &trust, SCRIPT_MAX)
    }

    pub(crate) fn python(&self, script: &str, arguments: &[&str]) -> Value {
        self.run(Language::Python, &format!("python/{script}"), arguments)
    }

    pub(crate) fn node(&self, script: &str, arguments: &[&str]) -> Value {
        self.run(Language::Node, &format!("node/{script}"), arguments)
    }

    /// Every event of an Event Hub, read by the published Node.js client.
    pub(crate) fn events(&self, event_hub: &str) -> Vec<Value> {
        let count = self.events.hub(event_hub).unwrap().last_sequence(0) + 1;
        let connection_string = self.events.connection_string(event_hub);
        let arguments = [connection_string.as_str(), "0", &count.to_string(), "0"];
        let read = self.node("eventhubs_receive.cjs", &arguments);
        assert_eq!(read["errors"], serde_json::json!([]));
        read["events"].as_array().unwrap().clone()
    }
}

/// Everything to the built-in endpoint, with the enrichments of a stamp.
fn routing(hub: &Hub) -> Routing {
    let enrich = |key: &str, value: &str| Enrichment {
        key: key.to_owned(),
        value: value.to_owned(),
        endpoints: vec!["events".to_owned()],
    };
    let sources = [
        RouteSource::DeviceMessages,
        RouteSource::TwinChangeEvents,
        RouteSource::DeviceLifecycleEvents,
        RouteSource::DeviceConnectionStateEvents,
    ];
    Routing {
        built_in: Some(hub.clone()),
        routes: sources.map(|source| Route::all(source, "events")).into(),
        fallback: true,
        enrichments: vec![
            enrich("tenant", "$twin.tags.tenant"),
            enrich("hub", "$iothubname"),
            enrich("kind", "emulated"),
        ],
        ..Routing::default()
    }
}

/// The events of one kind.
pub(crate) fn of_source<'a>(events: &'a [Value], source: &str) -> Vec<&'a Value> {
    let of = |event: &&Value| event["system"]["iothub-message-source"] == source;
    events.iter().filter(of).collect()
}

/// A device's status in a hub, and whether it is there at all.
pub(crate) fn status(hub: &IotHub, id: &str) -> Option<String> {
    Some(hub.device(id)?["status"].as_str().unwrap().to_owned())
}
