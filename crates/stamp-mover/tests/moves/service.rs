//! Many moves in a service: begun twice, refused, paused over a restart, taken back, forgotten.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stamp_http::{Access, AccessConfig, Limits};
use stamp_iothub::memory::{MemoryDps, MemoryIotHub};
use stamp_model::StampId;
use stamp_mover::service::{
    Estate, EstateError, MoveLimits, MoverService, OpenOf, STATES, ServiceError, ServiceParts,
    Survey,
};
use stamp_mover::{MemorySightings, Open, PeerPolicy, Plan};
use stamp_placement::Usage;
use stamp_placement::catalogue::{Source, read};
use stamp_resilience::NoObserver;
use stamp_telemetry::{MoverMetrics, Registry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, wait};

const KEY: &str = "a-key-of-these-tests";

/// The world's services, and a catalogue that fits them.
struct InMemory(World);

fn catalogue() -> String {
    let stamp = |id: &str, environment: &str| {
        format!(
            "[[stamps]]\nid = \"{id}\"\nregion = \"r\"\ngeography = \"europe\"\nkind = \"shared\"\n\
            environment = \"{environment}\"\nring = \"general\"\nversion = \"1\"\n\
            storage-root = \"file:///tables/{id}\"\n\
            [stamps.iot-hub]\nname = \"{id}.example\"\ntier = \"S3\"\nunits = 2\n\
            [stamps.event-hub]\nnamespace = \"{id}.servicebus.windows.net\"\nhub = \"telemetry\"\n\
            tier = \"standard\"\nthroughput-units = 1\npartitions = 2\n\
            [stamps.capacity]\ndevices = 50\ntenants = 5\n"
        )
    };
    format!(
        "version = 1\n{}{}{}[[tenants]]\nid = \"contoso\"\ngeographies = [\"europe\"]\n\
        tier = \"gold\"\nschema = \"contoso.toml\"\ndevices = [\"press-*\"]\n",
        stamp("test", "test"),
        stamp("prod-1", "production"),
        stamp("prod-2", "production"),
    )
}

impl Estate for InMemory {
    type Hub = MemoryIotHub;
    type Dps = MemoryDps;
    type Tables = MemorySightings;

    fn survey(&self) -> Result<Survey, EstateError> {
        let text = catalogue();
        let source = Source {
            name: "fleet.toml",
            text: &text,
        };
        let fleet = read(&[source]).map_err(|found| EstateError(format!("{found:?}")))?;
        let fleet = fleet.fleet;
        Ok(Survey {
            usage: Usage::none(&fleet),
            homes: [].into(),
            fleet,
        })
    }

    fn hub(&self, stamp: &StampId) -> Result<MemoryIotHub, EstateError> {
        Ok(self.0.hubs[stamp].clone())
    }

    fn open(&self, _plan: &Plan) -> Result<OpenOf<Self>, EstateError> {
        Ok(Open {
            dps: self.0.dps.clone(),
            hubs: self.0.hubs.clone(),
            sightings: self.0.sightings.clone(),
        })
    }

    fn policy(&self) -> PeerPolicy {
        PeerPolicy::new(7)
    }
}

/// A service in this process.
struct Running {
    address: SocketAddr,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Answer {
    status: u16,
    body: Value,
}

fn state(world: &World) -> PathBuf {
    world.journal_path().with_file_name("moves")
}

async fn try_start(world: &World) -> Result<Running, ServiceError> {
    let keys = world.journal_path().with_file_name("keys");
    std::fs::write(&keys, KEY).unwrap();
    let access = AccessConfig {
        keys_env: None,
        keys_file: Some(keys),
    };
    let registry = Registry::new();
    let name = StampId::parse("mover").unwrap();
    let parts = ServiceParts {
        estate: Arc::new(InMemory(world.clone())),
        state: state(world),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        access: Access::load(access).unwrap(),
        watched: Vec::new(),
        http: Limits {
            connections_max: 8,
            body_bytes_max: 64 << 10,
            request_max: Duration::from_secs(3_600),
            idle_max: Duration::from_secs(3_600),
            age_max: Duration::from_secs(300),
            drain_max: Duration::from_secs(3_600),
        },
        limits: MoveLimits {
            kept_max: 3,
            at_once_max: 2,
            again_every: Duration::from_millis(200),
        },
        metrics: MoverMetrics::new(&registry, &name, &STATES).unwrap(),
        observer: Arc::new(NoObserver),
        clock: world.clock(),
    };
    let stop = CancellationToken::new();
    let service = MoverService::start(parts, &stop).await?;
    let address = service.address();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move { service.run(&Notify::new(), &stop).await }
    });
    Ok(Running {
        address,
        registry,
        stop,
        task,
    })
}

async fn start(world: &World) -> Running {
    try_start(world).await.unwrap()
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    async fn ask(&self, method: &str, target: &str, key: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
             x-functions-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let _sent = stream.write_all(request.as_bytes()).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    async fn order(&self, order: &Value) -> Answer {
        let body = order.to_string();
        self.ask("POST", "/v1/moves", KEY, &body).await
    }

    async fn get(&self, id: &str) -> Value {
        let answer = self.ask("GET", &format!("/v1/moves/{id}"), KEY, "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    async fn post(&self, id: &str, what: &str, body: &str) -> Answer {
        let target = format!("/v1/moves/{id}/{what}");
        self.ask("POST", &target, KEY, body).await
    }

    /// Waits until a move stands there.
    async fn until(&self, id: &str, state: &str) -> Value {
        for _ in 0..3_600 {
            let now = self.get(id).await;
            if now["state"] == state {
                return now;
            }
            wait(Duration::from_millis(20)).await;
        }
        panic!("{id} is never {state}: {}", self.get(id).await);
    }
}

fn order(id: &str, devices: &[&str]) -> Value {
    json!({ "id": id, "from": "test", "to": "prod-1", "devices": devices,
        "options": { "keep-source": "2s", "look-every": "1s" } })
}

/// A world whose devices live, on a real runtime: its clock runs.
fn world(devices: usize) -> World {
    let world = World::new(devices);
    world.live_fast();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_becomes_a_move_once_and_ends_with_a_whole_report() {
    let world = world(3);
    let running = start(&world).await;
    let order = order("line-7", &["press-0", "press-1"]);
    let mut dry = order.clone();
    dry["dry-run"] = true.into();
    let said = running.order(&dry).await;
    assert_eq!((said.status, &said.body["devices"]), (200, &json!(2)));
    assert_eq!(
        running.ask("GET", "/v1/moves", KEY, "").await.body["moves"],
        json!([])
    );
    let begun = running.order(&order).await;
    assert_eq!(
        (begun.status, &begun.body["id"]),
        (201, &json!("line-7")),
        "{}",
        begun.body
    );
    let again = running.order(&order).await;
    assert_eq!((again.status, &again.body["id"]), (200, &json!("line-7")));
    let mut other = order.clone();
    other["to"] = "prod-2".into();
    let other = running.order(&other).await;
    assert_eq!(
        (other.status, &other.body["code"]),
        (409, &json!("id-taken"))
    );
    let ended = running.until("line-7", "ended").await;
    let report = &ended["report"];
    assert_eq!(report["verdict"], "complete", "{ended}");
    assert_eq!(
        (&report["before"], &report["after"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(ended["stages"], json!({ "erased": 2 }));
    let list = ended["list"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[1]["at-target"], "enabled");
    assert!(list[0]["telemetry"]["rows"].as_u64().unwrap() > 0);
    let part = running
        .ask("GET", "/v1/moves/line-7?first=1&count=1", KEY, "")
        .await;
    assert_eq!(part.body["list"][0]["device"], "press-1");
    assert!(world.hub("test").admits("press-2"), "nobody ordered it");
    assert!(
        running
            .registry
            .text()
            .contains("stamp_mover_moves{stamp=\"mover\",state=\"ended\"} 1\n")
    );
    // Another process finds it ended, knows its order, and forgets it.
    running.stop().await;
    let running = start(&world).await;
    let found = running.get("line-7").await;
    assert_eq!(
        (&found["state"], &found["report"]),
        (&json!("ended"), report)
    );
    assert_eq!(running.order(&order).await.status, 200);
    let ended = running.post("line-7", "pause", "").await;
    assert_eq!((ended.status, &ended.body["code"]), (409, &json!("ended")));
    let gone = running.ask("DELETE", "/v1/moves/line-7", KEY, "").await;
    assert_eq!(gone.status, 204);
    let missing = running.ask("GET", "/v1/moves/line-7", KEY, "").await;
    assert_eq!(
        (missing.status, &missing.body["code"]),
        (404, &json!("no-such-move"))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_are_refused_with_every_reason_and_leave_nothing_behind() {
    let world = world(6);
    world
        .dark
        .lock()
        .unwrap()
        .extend((0..6).map(|number| format!("press-{number}")));
    let running = start(&world).await;
    let ask = |id: &'static str, devices: &'static [&'static str]| order(id, devices);
    let wrong = running
        .order(&ask("a", &["lamp-1", "press-1", "press-1"]))
        .await;
    assert_eq!(
        (wrong.status, &wrong.body["code"]),
        (409, &json!("refused"))
    );
    assert_eq!(
        wrong.body["problems"].as_array().unwrap().len(),
        2,
        "{}",
        wrong.body
    );
    let mut query = ask("a", &[]);
    query.as_object_mut().unwrap().remove("devices");
    query["query"] = "SELECT nothing".into();
    let query = running.order(&query).await;
    assert_eq!(
        (query.status, &query.body["code"]),
        (409, &json!("refused"))
    );
    let first = running.order(&ask("a", &["press-0", "press-1"])).await;
    assert_eq!(first.status, 201, "{}", first.body);
    // Without a dry run and with one.
    for dry in [false, true] {
        let mut both = ask("b", &["press-1", "press-2"]);
        both["dry-run"] = dry.into();
        let both = running.order(&both).await;
        assert_eq!(
            (both.status, &both.body["code"]),
            (409, &json!("device-in-move"))
        );
        assert_eq!(
            both.body["problems"],
            json!(["device press-1 is in move a"])
        );
    }
    assert_eq!(running.order(&ask("b", &["press-2"])).await.status, 201);
    let third = running.order(&ask("c", &["press-3"])).await;
    assert_eq!(
        (third.status, &third.body["code"]),
        (409, &json!("moves-at-once"))
    );
    let early = running.ask("DELETE", "/v1/moves/b", KEY, "").await;
    assert_eq!(
        (early.status, &early.body["code"]),
        (409, &json!("not-ended"))
    );
    let stranger = running
        .post("a", "pause", r#"{"devices":["press-2"]}"#)
        .await;
    assert_eq!(
        (stranger.status, &stranger.body["code"]),
        (409, &json!("no-such-device"))
    );
    // Taken back before anything was seen: both end, their devices are free, and the third is the
    // last that is kept.
    world.dark.lock().unwrap().clear();
    for id in ["a", "b"] {
        assert_eq!(running.post(id, "roll-back", "").await.status, 202);
        assert_eq!(
            running.until(id, "ended").await["report"]["taken-back"],
            json!(if id == "a" { 2 } else { 1 })
        );
    }
    assert_eq!(
        running
            .order(&ask("c", &["press-1", "press-2"]))
            .await
            .status,
        201
    );
    let fourth = running.order(&ask("d", &["press-5"])).await;
    assert_eq!(
        (fourth.status, &fourth.body["code"]),
        (409, &json!("moves-kept"))
    );
    for (key, target) in [("", "/v1/moves"), ("another-key-of-others", "/v1/moves/a")] {
        let answer = running.ask("GET", target, key, "").await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (401, &json!("unauthorized"))
        );
    }
    let long = running
        .ask("POST", "/v1/moves", KEY, &"x".repeat(70_000))
        .await;
    assert_eq!(
        (long.status, &long.body["code"]),
        (413, &json!("too-large"))
    );
    assert_eq!(running.ask("PUT", "/v1/moves", KEY, "").await.status, 405);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_over_restarts_until_it_is_taken_back() {
    let world = world(3);
    let running = start(&world).await;
    // They do not register, so that the move cannot end before it is paused.
    world
        .dark
        .lock()
        .unwrap()
        .extend((0..3).map(|number| format!("press-{number}")));
    let order = order("line-7", &["press-0", "press-1", "press-2"]);
    assert_eq!(running.order(&order).await.status, 201);
    assert_eq!(running.post("line-7", "pause", "").await.status, 202);
    let paused = running.until("line-7", "paused").await;
    assert_eq!(paused["paused"], 3);
    world.dark.lock().unwrap().clear();
    let mut running = running;
    for _ in 0..2 {
        running.stop().await;
        running = start(&world).await;
        let paused = running.until("line-7", "paused").await;
        assert_eq!(
            (&paused["paused"], &paused["devices"]),
            (&json!(3), &json!(3))
        );
    }
    assert!(matches!(
        try_start(&world).await,
        Err(ServiceError::Folder(_))
    ));
    assert_eq!(running.post("line-7", "resume", "").await.status, 202);
    let ended = running.until("line-7", "ended").await;
    assert_eq!(ended["report"]["moved"], 3, "{ended}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_holds_up_no_other_move() {
    let world = world(2);
    std::fs::create_dir(state(&world)).unwrap();
    std::fs::write(state(&world).join("broken.jsonl"), "{}\n").unwrap();
    let running = start(&world).await;
    let broken = running.get("broken").await;
    assert_eq!(broken["state"], "failed");
    assert!(
        broken["why"].as_str().unwrap().contains("line 1"),
        "{broken}"
    );
    let asked = running.post("broken", "resume", "").await;
    assert_eq!(
        (asked.status, &asked.body["code"]),
        (409, &json!("unusable"))
    );
    assert_eq!(
        running.order(&order("good", &["press-0"])).await.status,
        201
    );
    running.until("good", "ended").await;
    running.stop().await;
}
