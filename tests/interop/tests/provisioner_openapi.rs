//! The provisioner keeps what its OpenAPI description promises, as a program finds that reads
//! nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stamp_interop::schemathesis;
use stamp_provisioner::{OPENAPI, ProvisionConfig, ProvisionParts, Provisioner, wall_clock};
use stamp_resilience::NoObserver;
use stamp_telemetry::{ProvisionMetrics, Registry};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: &str = "a-key-of-these-tests";

/// A provisioner of the example fleet, with one device on it.
struct World {
    runtime: Runtime,
    folder: tempfile::TempDir,
    url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/fleet");
        std::fs::write(folder.path().join("keys"), KEY).unwrap();
        let text = format!(
            "fleet = {fleet:?}\nlisten = \"127.0.0.1:0\"\naccess.keys-file = \"keys\"\n\
             reservations.url = \"sqlite:fleet.db\"\n"
        );
        let file = folder.path().join("provision.toml");
        std::fs::write(&file, text).unwrap();
        let stop = CancellationToken::new();
        let (address, task) = runtime.block_on(async {
            let config = ProvisionConfig::load(&file).unwrap();
            let parts = ProvisionParts {
                metrics: ProvisionMetrics::new(&Registry::new(), &config.name).unwrap(),
                observer: Arc::new(NoObserver),
                seed: 7,
                clock: wall_clock(),
            };
            let provisioner = Provisioner::start(config, parts, &stop).await.unwrap();
            let (address, stop) = (provisioner.address(), stop.clone());
            let run = async move { provisioner.run(&Notify::new(), &stop).await };
            (address, tokio::spawn(run))
        });
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        let content = "/paths/~1v1~1allocate/post/requestBody/content/application~1json/example";
        let example = description.pointer(content).unwrap().to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        let length = example.len();
        write!(
            stream,
            "POST /v1/allocate HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-functions-key: {KEY}\r\n\
             content-length: {length}\r\n\r\n{example}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Self {
            runtime,
            folder,
            url: format!("http://{address}"),
            stop,
            task,
        }
    }

    /// What is found when the server is held to a description.
    fn held_to(&self, description: &str) -> Result<(), String> {
        let header = format!("x-functions-key: {KEY}");
        schemathesis("schemathesis.toml", description, &self.url, &header, 60)
    }

    fn stop(self) {
        self.stop.cancel();
        self.runtime.block_on(self.task).unwrap();
    }
}

#[test]
fn what_the_description_promises_is_kept() {
    let world = World::start();
    let served = format!("{}/openapi.json", world.url);
    if let Err(found) = world.held_to(&served) {
        panic!("{found}");
    }
    world.stop();
}

/// So that the test above can fail.
#[test]
fn a_description_that_lies_is_found_out() {
    let world = World::start();
    let lie = world.folder.path().join("openapi.json");
    for (path, replacement, named) in [
        (
            "/paths/~1v1~1allocate/post/responses/409",
            None,
            "Undocumented status code",
        ),
        (
            "/components/schemas/Location/properties/sinceUs/type",
            Some("string"),
            "Response violates schema",
        ),
    ] {
        let mut description: Value = serde_json::from_str(OPENAPI).unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let parent = description
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap();
        match replacement {
            None => drop(parent.remove(last).unwrap()),
            Some(text) => drop(parent.insert(last.to_owned(), text.into()).unwrap()),
        }
        std::fs::write(&lie, description.to_string()).unwrap();
        let found = world.held_to(lie.to_str().unwrap()).unwrap_err();
        assert!(found.contains(named), "{path}: {found}");
    }
    world.stop();
}
