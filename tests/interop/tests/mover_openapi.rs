//! The service of moves keeps what its OpenAPI description promises, as a program finds that reads
//! nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stamp_http::{Access, AccessConfig, Limits};
use stamp_interop::schemathesis;
use stamp_iothub::memory::{MemoryDps, MemoryIotHub};
use stamp_model::StampId;
use stamp_mover::service::{
    Estate, EstateError, MoveLimits, MoverService, OPENAPI, OpenOf, STATES, ServiceParts, Survey,
};
use stamp_mover::{Clock, MemorySightings, Open, PeerPolicy, Plan};
use stamp_placement::{Fleet, Usage};
use stamp_provisioner::{read_catalogue, wall_clock};
use stamp_resilience::NoObserver;
use stamp_telemetry::{MoverMetrics, Registry};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: &str = "a-key-of-these-tests";

/// The example fleet, with hubs and a DPS that know no device: a move waits for a person at once.
struct Empty;

fn fleet() -> Fleet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/fleet");
    read_catalogue(&path).unwrap().fleet
}

fn hub(fleet: &Fleet, stamp: &StampId) -> MemoryIotHub {
    MemoryIotHub::new(&fleet.stamp(stamp).unwrap().iot_hub.name)
}

impl Estate for Empty {
    type Hub = MemoryIotHub;
    type Dps = MemoryDps;
    type Tables = MemorySightings;

    fn survey(&self) -> Result<Survey, EstateError> {
        let fleet = fleet();
        Ok(Survey {
            usage: Usage::none(&fleet),
            homes: BTreeMap::new(),
            fleet,
        })
    }

    fn hub(&self, stamp: &StampId) -> Result<MemoryIotHub, EstateError> {
        Ok(hub(&fleet(), stamp))
    }

    fn open(&self, plan: &Plan) -> Result<OpenOf<Self>, EstateError> {
        let fleet = fleet();
        let stamps = std::iter::once(&plan.source.stamp).chain(plan.targets.keys());
        let hubs: BTreeMap<_, _> = stamps
            .map(|stamp| (stamp.clone(), hub(&fleet, stamp)))
            .collect();
        Ok(Open {
            dps: MemoryDps::new("dps.example", hubs.values().cloned().collect()),
            hubs,
            sightings: MemorySightings::default(),
        })
    }

    fn policy(&self) -> PeerPolicy {
        PeerPolicy::new(7)
    }
}

struct World {
    runtime: Runtime,
    folder: tempfile::TempDir,
    url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Orders a move, as a caller would.
fn begin(address: SocketAddr, order: &Value) {
    let order = order.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = order.len();
    write!(
        stream,
        "POST /v1/moves HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-functions-key: {KEY}\r\n\
         content-length: {length}\r\n\r\n{order}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

impl World {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, KEY).unwrap();
        let access = AccessConfig {
            keys_env: None,
            keys_file: Some(keys),
        };
        let name = StampId::parse("mover").unwrap();
        let clock: Clock = wall_clock();
        let parts = ServiceParts {
            estate: Arc::new(Empty),
            state: folder.path().join("moves"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            access: Access::load(access).unwrap(),
            watched: Vec::new(),
            http: Limits {
                connections_max: 16,
                body_bytes_max: 64 << 10,
                request_max: Duration::from_secs(60),
                idle_max: Duration::from_secs(60),
                age_max: Duration::from_secs(300),
                drain_max: Duration::from_secs(10),
            },
            limits: MoveLimits {
                kept_max: 8,
                at_once_max: 4,
                again_every: Duration::from_secs(60),
            },
            metrics: MoverMetrics::new(&Registry::new(), &name, &STATES).unwrap(),
            observer: Arc::new(NoObserver),
            clock,
        };
        let stop = CancellationToken::new();
        let (address, task) = runtime.block_on(async {
            let service = MoverService::start(parts, &stop).await.unwrap();
            let (address, stop) = (service.address(), stop.clone());
            let run = async move { service.run(&Notify::new(), &stop).await };
            (address, tokio::spawn(run))
        });
        // The example of the description, in earnest: so there is a move to ask about.
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        let content = "/paths/~1v1~1moves/post/requestBody/content/application~1json/example";
        let mut order = description.pointer(content).unwrap().clone();
        order["dry-run"] = json!(false);
        begin(address, &order);
        // And one that nothing but its devices ends: what is asked to forget a move meets it.
        order["id"] = json!("line-8");
        order["devices"] = json!(["press-108"]);
        begin(address, &order);
        Self {
            runtime,
            folder,
            url: format!("http://{address}"),
            stop,
            task,
        }
    }

    /// What is found when the server is held to a description.
    fn held_to(&self, description: &str, examples: u32) -> Result<(), String> {
        let header = format!("x-functions-key: {KEY}");
        schemathesis(
            "schemathesis-mover.toml",
            description,
            &self.url,
            &header,
            examples,
        )
    }

    fn stop(self) {
        self.stop.cancel();
        self.runtime.block_on(self.task).unwrap();
    }
}

#[test]
fn what_the_description_of_moves_promises_is_kept() {
    let world = World::start();
    let served = format!("{}/openapi.json", world.url);
    if let Err(found) = world.held_to(&served, 10) {
        panic!("{found}");
    }
    world.stop();
}

/// So that the test above can fail.
#[test]
fn a_description_of_moves_that_lies_is_found_out() {
    let world = World::start();
    let lie = world.folder.path().join("openapi.json");
    let mut description: Value = serde_json::from_str(OPENAPI).unwrap();
    let schemas = &mut description["components"]["schemas"];
    schemas["Move"]["properties"]["devices"] = json!({ "type": "string" });
    std::fs::write(&lie, description.to_string()).unwrap();
    let found = world.held_to(lie.to_str().unwrap(), 1).unwrap_err();
    assert!(found.contains("Response violates schema"), "{found}");
    world.stop();
}
